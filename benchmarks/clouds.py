"""The clouds of the benchmarks: a sandbox as a process of its own, or a real oned."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.furniture import Furniture, furnish
from benchmarks.population import fill, user_data
from benchmarks.sandbox import ONEADMIN, SERVERADMIN
from tests.support.processes import Process

USER_DATA_BYTES = 180
"""Bytes of the user data of each machine, with which oned 5.12 sends a document of about 9 KB."""

_CONTROL_TIMEOUT = 300.0

Report = Callable[[str], None]


@dataclass
class Cloud:
    """An oned with what the benchmarks need; `machines` are the ids of the running machines of their user.

    `name` is that of the file of results. `sandbox` is the sandbox's process id, None for a real oned.
    """

    name: str
    url: str
    auth_file: Path
    directory: Path
    furniture: Furniture
    user_data: bytes
    report: Report
    sandbox: int | None = None
    machines: tuple[int, ...] = ()

    @property
    def is_real(self) -> bool:
        """Whether it is a real oned."""
        return self.sandbox is None

    def fill(self, count: int) -> None:
        """Create machines until at least `count` are running."""
        self.report(f"{self.name}: {count} running machines")
        self.machines = tuple(fill(self.furniture, count, self.user_data, self.report))

    def add_ended_machines(self, count: int) -> None:
        """Add machines of the user that ended long ago; only the sandbox can."""
        if not count:
            return
        self.report(f"{self.name}: {count} ended machines")
        url = self.url.replace("/RPC2", f"/ended/{self.machines[0]}/{count}")
        with urllib.request.urlopen(url, b"", _CONTROL_TIMEOUT):
            pass


@contextmanager
def sandbox_cloud(directory: Path, form: str, report: Report) -> Iterator[Cloud]:
    """Run a sandbox of a form of oned in a process of its own, for the duration of the block."""
    auth_file = _auth_file(directory, SERVERADMIN)
    process = Process("sandbox", ["-m", "benchmarks.sandbox", form, "0"], directory)
    try:
        url = f"http://127.0.0.1:{process.await_output(r'listening on ([0-9]+)[.]')}/RPC2"
        furniture = furnish(url, ONEADMIN, SERVERADMIN)
        yield Cloud("sandbox", url, auth_file, directory, furniture, user_data(USER_DATA_BYTES), report, process.pid)
    finally:
        process.stop()


@contextmanager
def real_cloud(directory: Path, url: str, oneadmin: str, auth_file: Path, report: Report) -> Iterator[Cloud]:
    """Use a real oned for the duration of the block; what is created in it stays for the next run."""
    credentials = auth_file.read_text("ascii").strip()
    furniture = furnish(url, oneadmin, credentials)
    name = ".".join(furniture.version.split(".")[:2])
    copy = _auth_file(directory, credentials)
    yield Cloud(name, url, copy, directory, furniture, user_data(USER_DATA_BYTES), report)


def _auth_file(directory: Path, credentials: str) -> Path:
    path = directory / "server_auth"
    path.touch(mode=0o600)
    path.write_text(f"{credentials}\n", "ascii")
    return path
