"""The processes of workers, by Twisted: their descriptors, and the two pipes between them and the supervisor."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals
from typing import Any, Final, cast

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.process.generations import FIRST_SOCKET, Hears, IWorker
from econed.process.listening import Bound
from econed.process.messages import Command, Garbled, Lines, encode, report

COMMANDS: Final = 3
"""The descriptor by which a worker is told what to do; its end says that there is no supervisor any more."""

REPORTS: Final = 4
"""The descriptor by which it reports."""

_PARENT_OF_PACKAGE: Final = str(Path(__file__).parent.parent.parent)

_MEMORY: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""For glibc (mallopt(3)): large documents are parsed in threads, and an arena for each would keep what they took."""


class Spawner:
    """Starts workers: this very Python and econed, with the environment of the supervisor, whose word counts."""

    def __init__(self, reactor: IReactorProcess, environ: Mapping[str, str], log: Logger) -> None:
        self._reactor = reactor
        self._environ = environ
        self._log = log

    def __call__(self, sockets: Sequence[Bound], hears: Hears) -> IWorker:
        """Start one (`Spawn`)."""
        descriptors: dict[int, int | str] = {0: 0, 1: 1, 2: 2, COMMANDS: "w", REPORTS: "r"}
        descriptors |= {FIRST_SOCKET + number: each.socket.fileno() for number, each in enumerate(sockets)}
        protocol = WorkerProcess(hears, self._log)
        argv = (sys.executable, "-P", "-m", "econed.worker_main")
        environ = {**_MEMORY, **with_econed_importable(self._environ)}
        spawn: Any = self._reactor.spawnProcess
        spawn(protocol, sys.executable, argv, environ, childFDs=descriptors)
        return cast(IWorker, protocol)


def with_econed_importable(
    environ: Mapping[str, str], parent: str = _PARENT_OF_PACKAGE, installed: Sequence[str] | None = None
) -> Mapping[str, str]:
    """Return an environment in which Python finds the econed in the directory `parent`.

    twistd imports econed also from its working directory; `-P` keeps that out of `sys.path`. `installed` are the
    directories that Python searches by itself (those of `site` by default).
    """
    if parent in (site.getsitepackages() if installed is None else installed):
        return environ
    paths = [*filter(None, [environ.get("PYTHONPATH")]), parent]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths)}


@implementer(IWorker)
class WorkerProcess(ProcessProtocol):
    """A worker's process, and what it reports."""

    transport: Any

    def __init__(self, hears: Hears, log: Logger) -> None:
        self._hears = hears
        self._log = log
        self._lines = Lines()

    @property
    def pid(self) -> int:
        """Its process id; 0 when it has ended."""
        return self._pid

    def connectionMade(self) -> None:
        """Keep its process id, which the transport forgets."""
        self._pid: int = self.transport.pid

    def send(self, command: Command) -> None:
        """See `IWorker`."""
        if COMMANDS in self.transport.pipes:
            self.transport.writeToChild(COMMANDS, encode(command))

    def kill(self) -> None:
        """See `IWorker`."""
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        """Pass on what it reports; one that talks nonsense is not ours any more."""
        try:
            for line in self._lines.of(data):
                self._hears.told(report(line))
        except Garbled as error:
            self._log.error("worker with pid {pid} reports nonsense, it is killed: {error}", pid=self.pid, error=error)
            self.kill()

    def processEnded(self, reason: Failure) -> None:
        """Say that it has ended."""
        self._hears.ended(_how(reason.value))


def _how(end: BaseException | None) -> str:
    if isinstance(end, ProcessTerminated):
        return f"signal {Signals(end.signal).name}" if end.signal else f"exit code {end.exitCode}"
    return "exit code 0"
