"""An econed process of an end-to-end test, and the records of what it and oned have done."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import Process
from tests.support.raw_oned import RawOned


@dataclass(frozen=True)
class Person:
    """A user of the cloud: `name` is the access key, `secret` the secret key, `oned` their own session with oned.

    `session_token` is that of temporary credentials.
    """

    name: str
    id: int
    secret: str
    oned: RawOned
    session_token: str | None = None


@dataclass(frozen=True)
class LoggedCall:
    """A call that oned served: by which user, and whether it succeeded."""

    user: str | None
    method: str
    args: tuple[Any, ...]
    ok: bool


@dataclass(frozen=True)
class ScriptRun:
    """The arguments of one run of a script for elastic IPs; `script` is `associate` or `disassociate`."""

    script: str
    elastic_ip: str
    private_ip: str
    network: str


class Econed:
    """An econed process; `url` is where it serves."""

    def __init__(self, process: Process, notes: Path | None) -> None:
        self.process = process
        self._notes = notes
        self.port = int(process.await_output(r"EC2Site(?: \(TLS\))? starting on (\d+)"))
        self.url = f"{'https' if 'EC2Site (TLS)' in process.text else 'http'}://127.0.0.1:{self.port}/"

    @property
    def elements_read(self) -> frozenset[str]:
        """The elements of oned's documents that it has read, if it was started to record them."""
        if self._notes is None or not self._notes.exists():
            return frozenset()
        return frozenset(self._notes.read_text(encoding="utf-8").split("\n")[:-1])


def twistd() -> str:
    """Return the path of the twistd that belongs to this Python."""
    path = Path(sys.executable).with_name("twistd")
    assert path.exists(), "twistd is not installed beside this Python"
    return str(path)
