"""The daemon as a process: its start by twistd, its port, its log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from econed.cli.installation import Installation
from econed.process.pid_file import PidFile

_TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
"""twistd of this very Python, wherever its script may be."""

_PAUSE = 0.1
_CONNECT = 2.0
_LAST_LINES = 15
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  the addresses that stand for all, and where to knock


class Gone(Exception):
    """The daemon ended instead of starting, or never came to listen."""


def twistd(installation: Installation, *options: str) -> list[str]:
    """Return the command that runs the daemon by twistd."""
    return [sys.executable, "-c", _TWISTD, *options, "econe", "--config", str(installation.conf)]


def spawn(installation: Installation, environ: Mapping[str, str]) -> None:
    """Start the daemon in the background; raises `Gone` with what it said if twistd does not bring it up."""
    options = (f"--pidfile={installation.pid_file}", f"--logfile={installation.log_file}", "--rundir=/")
    command = twistd(installation, *options)
    begun = subprocess.run(  # noqa: S603  our own argv
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=dict(environ)
    )
    if begun.returncode != 0:
        said = (begun.stderr or begun.stdout).strip()
        raise Gone(said or f"it says why in {installation.log_file}")


def start(installation: Installation, pid_file: PidFile, environ: Mapping[str, str], patience: float) -> int:
    """Start the daemon in the background, wait until it serves, and return its process id; raises `Gone`.

    It says that it serves as it says so to systemd (sd_notify(3)): that its port is open does not show that there is
    anybody to serve.
    """
    with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
        address = os.path.join(directory, "notify")
        said.bind(address)
        said.setblocking(False)
        spawn(installation, {**environ, "NOTIFY_SOCKET": address})
        for _ in _moments(patience):
            pid = pid_file.holder()
            if _says_ready(said) and pid is not None:
                return pid
            if pid is None and not pid_file.is_there:
                raise Gone("\n".join(("it ended; its last words:", *last_lines(installation.log_file))))
    raise Gone(f"it does not serve after {patience:g} s; it says more in {installation.log_file}")


def _says_ready(said: socket.socket) -> bool:
    try:
        while True:
            if b"READY=1" in said.recv(4096).split(b"\n"):
                return True
    except BlockingIOError:
        return False


def answers(host: str, port: int) -> bool:
    """Whether something takes connections there."""
    try:
        socket.create_connection((_ANYWHERE.get(host, host), port), timeout=_CONNECT).close()
    except OSError:
        return False
    return True


def last_lines(path: Path) -> Sequence[str]:
    """Return the end of a log."""
    try:
        return path.read_text("utf-8", "replace").splitlines()[-_LAST_LINES:]
    except OSError:
        return ()


def _moments(patience: float, now: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Yield now and again for so many seconds."""
    until = now() + patience
    while True:
        yield
        if now() >= until:
            return
        time.sleep(_PAUSE)
