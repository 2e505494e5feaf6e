"""econed as a user starts it: twistd, a supervisor and its workers."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.usage import cpu_seconds
from tests.soak.sampling import children
from tests.support.econed_process import twistd
from tests.support.ports import free_port
from tests.support.processes import Process, until

_START_TIMEOUT = 120.0
_POLL = 0.005


@dataclass(frozen=True)
class Econed:
    """A running econed: its URL, its processes, and the seconds from its start until it was ready."""

    url: str
    supervisor: int
    workers: tuple[int, ...]
    start_seconds: float

    @property
    def cpu(self) -> float:
        """The processor time of all its processes so far, in seconds."""
        return cpu_seconds((self.supervisor, *self.workers))


@contextmanager
def running_econed(
    directory: Path, oned: str, auth_file: Path, settings: Mapping[str, object] | None = None
) -> Iterator[Econed]:
    """Run econed in front of an oned for the duration of the block; `settings` go into its econe.conf."""
    port, admin = free_port(), free_port()
    uploads = directory / "uploads"
    uploads.mkdir(exist_ok=True)
    conf: dict[str, object] = {
        "host": "127.0.0.1",
        "port": port,
        "admin_port": admin,
        "one_xmlrpc": oned,
        "tmpdir": uploads,
        **(settings or {}),
    }
    path = directory / f"econe-{port}.conf"
    path.write_text("".join(f":{name}: {value}\n" for name, value in conf.items()), "utf-8")
    arguments = [twistd(), "-n", "--pidfile=", "econe", "--config", str(path)]
    start = time.perf_counter()
    process = Process(f"econed-{port}", arguments, directory, {"ONE_CIPHER_AUTH": str(auth_file)})
    try:
        until(lambda: _is_ready(admin) or not process.is_running, "econed to be ready", _START_TIMEOUT, every=_POLL)
        if not process.is_running:
            raise RuntimeError(f"econed has exited:\n{process.text}")
        seconds = time.perf_counter() - start
        yield Econed(f"http://127.0.0.1:{port}/", process.pid, tuple(children(process.pid)), seconds)
    finally:
        process.stop()


def _is_ready(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
        return bool(response.status == 200)
    return False
