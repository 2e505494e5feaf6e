"""The forms of oned that an end-to-end test can run on: the sandbox like 5.12 or like 7.4, or a real oned."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.econed_process import LoggedCall, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import Process

LIVE = "live"
FORMS = ("5.12", "7.4", LIVE)

_SERVERADMIN = "serveradmin:serverpassword"


class SandboxCloud(FurnishedCloud):
    """A sandbox in a process of its own, in the form of 5.12 or of 7.4."""

    has_call_log = True

    def __init__(self, form: str, directory: Path) -> None:
        auth_file = directory / "server_auth"
        auth_file.touch(mode=0o600)
        auth_file.write_text(f"{_SERVERADMIN}\n", encoding="ascii")
        process = Process("oned", ["-m", "tests.support.sandbox_process", form, "0"], directory)
        port = process.await_output(r"listening on (\d+)\.")
        super().__init__(form, f"http://127.0.0.1:{port}/RPC2", "oneadmin:opennebula", auth_file, directory)
        self._processes.append(process)

    def call_count(self) -> int:
        return int(self._control("calls/1000000000")[0])

    def calls(self, since: int = 0) -> list[LoggedCall]:
        return [
            LoggedCall(user, method, tuple(args), code == 0)
            for user, method, args, code in self._control(f"calls/{since}")[1]
        ]

    def authentications(self, person: Person) -> int:
        return int(self._control("authentications").get(person.name, 0))

    def fail_next_deployment(self) -> None:
        self._control("fail-next-deployment", b"")

    def skip_where_machines_are_slow(self) -> None:
        """Do not skip: the sandbox's machines boot immediately."""

    def remove(self) -> None:
        """Stop all processes; the sandbox keeps its objects in memory only."""
        for process in reversed(self._processes):
            process.stop()

    def _control(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(self.url.replace("/RPC2", f"/control/{path}"), data, MAX_WAIT) as response:
            return json.load(response)


class LiveCloud(FurnishedCloud):
    """A real oned, given by environment variables (`make test-live`)."""

    def __init__(self, directory: Path) -> None:
        url, oneadmin, given = (os.environ.get(f"ECONED_LIVE_{name}") for name in ("ONED", "ONEADMIN", "AUTH_FILE"))
        if not (url and oneadmin and given):
            pytest.skip("no real oned to test with: make test-live ONED=URL ONEADMIN=user:password AUTH_FILE=path")
        auth_file = directory / "server_auth"
        auth_file.touch(mode=0o600)
        shutil.copyfile(given, auth_file)
        super().__init__(LIVE, url, oneadmin, auth_file, directory)


@contextmanager
def furnished_cloud(form: str, directory: Path) -> Iterator[FurnishedCloud]:
    """Return a furnished cloud of a form, for as long as the block runs; its objects are removed at the end."""
    cloud = LiveCloud(directory) if form == LIVE else SandboxCloud(form, directory)
    try:
        cloud.furnish()
        yield cloud
    finally:
        cloud.remove()
