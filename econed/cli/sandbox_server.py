"""A `twistd econe --sandbox` of one's own, in a child process, for as long as a block runs."""

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
"""The OpenNebula that the sandbox can be like."""

USER: Final = "demo"

_STARTED = re.compile(r"EC2Site starting on ([0-9]+)")
_PATIENCE: Final = 60.0
"""Seconds that a server may take until it listens."""

_FAREWELL: Final = 10.0
"""Seconds that a server may take to end."""

_LAST_LINES: Final = 20


class ServerFailed(Exception):
    """The server did not start, or ended by itself."""


@dataclass(frozen=True)
class Endpoint:
    """Where an EC2 client finds a server, and who it is there."""

    url: str
    access_key: str
    secret_key: str = field(repr=False)


class ServerLog:
    """What a server says, read on a thread of its own: the last lines, and the port that it listens on.

    Every line is also written to `echo`, if there is one.
    """

    def __init__(self, lines: IO[str], echo: TextIO | None = None) -> None:
        self._lines = lines
        self._echo = echo
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._port: int | None = None
        self._told = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self._last)

    def port(self) -> int:
        """Return the port once the server listens; raises `ServerFailed` if it ends before, or never does."""
        self._told.wait(_PATIENCE)
        if self._port is None:
            raise ServerFailed("the server did not start")
        return self._port

    def join(self) -> None:
        """Wait until the server has nothing more to say."""
        self._thread.join(_FAREWELL)

    def _read(self) -> None:
        with self._lines:
            for line in self._lines:
                self._last.append(line.rstrip("\n"))
                if self._echo is not None:
                    print(line, end="", file=self._echo, flush=True)
                if self._port is None and (started := _STARTED.search(line)):
                    self._port = int(started[1])
                    self._told.set()
        self._told.set()


@dataclass(frozen=True)
class SandboxServer:
    """A server that listens, and what it says."""

    endpoint: Endpoint
    process: subprocess.Popen[str]
    log: ServerLog


@contextmanager
def sandbox_server(form: str, port: int = 0, echo: TextIO | None = None) -> Iterator[SandboxServer]:
    """Run a server over an empty sandbox of this form, on loopback; it ends with the block, however that ends.

    Port 0 is one that the system chooses. The user's secret key is as a real OpenNebula has it, a hash, and new every
    time. Raises `ServerFailed` if the server does not come to listen, with its last lines.
    """
    secret = secrets.token_hex(20)
    process = _start(form, port, f"{USER}:{secret}")
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    log = ServerLog(process.stdout, echo)
    try:
        try:
            url = f"http://127.0.0.1:{log.port()}"
        except ServerFailed as error:
            raise ServerFailed("\n".join((str(error), *log.last))) from None
        yield SandboxServer(Endpoint(url, USER, secret), process, log)
    finally:
        _end(process)
        log.join()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as ctrl-C does: by an exception, so that its own server ends with it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(form: str, port: int, user: str) -> subprocess.Popen[str]:
    """Start twistd; not in our process group, or ctrl-C would end it behind our back."""
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


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_FAREWELL)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
