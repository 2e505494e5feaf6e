"""Runs `twistd econe --sandbox` in a child process for the duration of a `with` block."""

from __future__ import annotations

import re
import secrets
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Final, TextIO

FORMS: Final = ("5.12", "7.4")
"""Versions of OpenNebula that the sandbox can imitate."""

USER: Final = "demo"

_STARTED = re.compile(r"EC2Site starting on ([0-9]+)")
_START_TIMEOUT: Final = 60.0
"""Seconds that the server may take until it listens."""

_STOP_TIMEOUT: Final = 10.0
"""Seconds that the server may take to exit."""

_MAX_LINES: Final = 20


class ServerFailed(Exception):
    """The server did not start, or exited unexpectedly."""


@dataclass(frozen=True)
class ServerAccess:
    """The URL of an EC2 server and the keys of a user."""

    url: str
    access_key: str
    secret_key: str = field(repr=False)


class ServerLog:
    """Reads a server's log in a thread; keeps the last lines and the port on which the server listens.

    Every line is also written to `echo`, if given.
    """

    def __init__(self, lines: IO[str], echo: TextIO | None = None) -> None:
        self._lines = lines
        self._echo = echo
        self._last_lines: deque[str] = deque(maxlen=_MAX_LINES)
        self._port: int | None = None
        self._port_known_or_log_ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self._last_lines)

    def port(self) -> int:
        """Return the port once the server listens; raises `ServerFailed` if it exits before, or on a timeout."""
        self._port_known_or_log_ended.wait(_START_TIMEOUT)
        if self._port is None:
            raise ServerFailed("the server did not start")
        return self._port

    def join(self) -> None:
        """Wait for the end of the log."""
        self._thread.join(_STOP_TIMEOUT)

    def _read(self) -> None:
        with self._lines:
            for line in self._lines:
                self._last_lines.append(line.rstrip("\n"))
                if self._echo is not None:
                    print(line, end="", file=self._echo, flush=True)
                if self._port is None and (started := _STARTED.search(line)):
                    self._port = int(started[1])
                    self._port_known_or_log_ended.set()
        self._port_known_or_log_ended.set()


@dataclass(frozen=True)
class SandboxServer:
    """A server that listens, and its log."""

    access: ServerAccess
    process: subprocess.Popen[str]
    log: ServerLog


@contextmanager
def sandbox_server(form: str, port: int = 0, echo: TextIO | None = None) -> Iterator[SandboxServer]:
    """Run a server on a loopback port, with an empty sandbox of this form; stop it at the end of the block.

    With port 0 the system chooses the port. The user's secret key is a new random hash, in the form that oned stores.
    Raises `ServerFailed`, with the last lines of the log, if the server does not listen.
    """
    secret = secrets.token_hex(20)
    process = _start(form, port, f"{USER}:{secret}")
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    log = ServerLog(process.stdout, echo)
    try:
        try:
            url = f"http://127.0.0.1:{log.port()}"
        except ServerFailed as error:
            raise ServerFailed("\n".join((str(error), *log.last_lines))) from None
        yield SandboxServer(ServerAccess(url, USER, secret), process, log)
    finally:
        _stop(process)
        log.join()


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, so that the server is stopped before this process exits."""

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous_handler = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


def _start(form: str, port: int, user: str) -> subprocess.Popen[str]:
    """Start twistd in a session of its own: ctrl-C must interrupt only this process, which then stops twistd."""
    twistd = Path(sys.executable).with_name("twistd")
    options = ("--sandbox", "--sandbox-form", form, "--sandbox-user", user)
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    return subprocess.Popen(  # noqa: S603 - an argv of our own, no shell
        [twistd, "--nodaemon", "--pidfile=", "econe", *options, *listen],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
