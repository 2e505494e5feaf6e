"""Starts the processes of workers with Twisted: their descriptors, and two pipes to the supervisor."""

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

from econed.process.generations import FIRST_SOCKET, IWorker, WorkerEvents
from econed.process.listening import BoundSocket
from econed.process.messages import Command, InvalidMessage, LineBuffer, encode, parse_report

COMMANDS: Final = 3
"""The descriptor from which a worker reads commands. End of file means that the supervisor has exited."""

REPORTS: Final = 4
"""The descriptor to which a worker writes reports."""

_PARENT_OF_PACKAGE: Final = str(Path(__file__).parent.parent.parent)

_MEMORY: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""For glibc (mallopt(3)): large documents are parsed in threads, and an arena for each would keep their memory."""


class Spawner:
    """Starts workers: the same Python and econed as the supervisor's, in its environment."""

    def __init__(self, reactor: IReactorProcess, environ: Mapping[str, str], log: Logger) -> None:
        self._reactor = reactor
        self._environ = environ
        self._log = log

    def __call__(self, sockets: Sequence[BoundSocket], events: WorkerEvents) -> IWorker:
        """Start a worker (`Spawn`)."""
        descriptors: dict[int, int | str] = {0: 0, 1: 1, 2: 2, COMMANDS: "w", REPORTS: "r"}
        descriptors |= {descriptor: bound.socket.fileno() for descriptor, bound in enumerate(sockets, FIRST_SOCKET)}
        protocol = WorkerProcess(events, self._log)
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
    """The supervisor's end of the pipes to one worker."""

    transport: Any

    def __init__(self, events: WorkerEvents, log: Logger) -> None:
        self._events = events
        self._log = log
        self._lines = LineBuffer()

    @property
    def pid(self) -> int:
        """Its process id, also after it has exited."""
        return self._pid

    def connectionMade(self) -> None:
        """Keep the process id: the transport forgets it when the process exits."""
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
        """Pass on the reports; kill a worker that sends anything else."""
        try:
            for line in self._lines.feed(data):
                self._events.reported(parse_report(line))
        except InvalidMessage as error:
            self._log.error("killing worker with pid {pid}: invalid report: {error}", pid=self.pid, error=error)
            self.kill()

    def processEnded(self, reason: Failure) -> None:
        """Report the exit of the process."""
        self._events.exited(_describe_exit(reason.value))


def _describe_exit(reason: BaseException | None) -> str:
    if isinstance(reason, ProcessTerminated):
        return f"signal {Signals(reason.signal).name}" if reason.signal else f"exit code {reason.exitCode}"
    return "exit code 0"
