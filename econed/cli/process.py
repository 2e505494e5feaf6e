"""Starting the daemon with twistd, and checking its port and its log."""

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

_POLL_INTERVAL = 0.1
_CONNECT_TIMEOUT = 2.0
_MAX_LINES = 15
_UMASK = 0o027
"""As in the systemd unit; the default of twistd would keep the group from reading the log."""
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  wildcard addresses, and where to connect instead


class StartFailed(Exception):
    """The daemon exited instead of starting, or did not listen in time."""


def twistd(installation: Installation, *options: str) -> list[str]:
    """Return the command that runs the daemon by twistd."""
    # The account of the daemon may have no access to root's current directory.
    options = ("--rundir=/", f"--umask={_UMASK:03o}", *options)
    return [sys.executable, "-P", "-m", "econed.cli.twistd", *options, "econe", "--config", str(installation.conf)]


def spawn(installation: Installation, environ: Mapping[str, str]) -> None:
    """Start the daemon in the background; raises `StartFailed` with twistd's output, if any, if twistd fails."""
    command = twistd(installation, f"--pidfile={installation.pid_file}", f"--logfile={installation.log_file}")
    completed = subprocess.run(  # noqa: S603  our own argv
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=dict(environ)
    )
    if completed.returncode != 0:
        output = (completed.stderr or completed.stdout).strip()
        raise StartFailed(output or f"twistd ended with exit code {completed.returncode}")


def start(installation: Installation, pid_file: PidFile, environ: Mapping[str, str], timeout: float, log: Path) -> int:
    """Start the daemon in the background, wait until it is ready, and return its process id; raises `StartFailed`.

    `log` is the file in which the daemon says why it does not start.
    The daemon reports that it is ready as it does to systemd (sd_notify(3)): an open port does not show that a worker
    serves it.
    """
    with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        address = os.path.join(directory, "notify")
        notifications.bind(address)
        notifications.setblocking(False)
        spawn(installation, {**environ, "NOTIFY_SOCKET": address})
        for _ in _polls(timeout):
            pid = pid_file.holder()
            if _is_ready(notifications) and pid is not None:
                return pid
            if pid is None and not pid_file.exists:
                raise StartFailed("\n".join(("the daemon exited; end of its log:", *last_lines(log))))
    raise StartFailed(f"not ready after {timeout:g} s; see {log}")


def _is_ready(notifications: socket.socket) -> bool:
    try:
        while True:
            if b"READY=1" in notifications.recv(4096).split(b"\n"):
                return True
    except BlockingIOError:
        return False


def accepts_connections(host: str, port: int) -> bool:
    """Whether a process accepts connections there."""
    try:
        socket.create_connection((_LOOPBACK.get(host, host), port), timeout=_CONNECT_TIMEOUT).close()
    except OSError:
        return False
    return True


def last_lines(path: Path) -> Sequence[str]:
    """Return the last lines of a log; none if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").splitlines()[-_MAX_LINES:]
    except OSError:
        return ()


def _polls(timeout: float, now: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Yield at intervals until `timeout` seconds have passed, at least once."""
    deadline = now() + timeout
    while True:
        yield
        if now() >= deadline:
            return
        time.sleep(_POLL_INTERVAL)
