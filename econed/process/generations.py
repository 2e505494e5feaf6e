"""The workers as the supervisor sees them. A generation is all workers on one configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from itertools import count
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface

from econed.config.loading import Source
from econed.config.settings import Settings
from econed.process.listening import BoundSocket
from econed.process.messages import Begin, Command, GetCounts, PassedSocket, Report
from econed.telemetry.logs import TwistdLogTarget
from econed.telemetry.merging import ProcessSnapshots
from econed.telemetry.metrics import Snapshot

FIRST_SOCKET = 5
"""The descriptor of the first listening socket in a worker, after the standard ones and those of two pipes."""

MIN_RESTART_DELAY = 0.5
"""Maximum seconds before a worker is replaced that exited for the first time in a while."""

MAX_RESTART_DELAY = 60.0
"""Maximum seconds before a worker is replaced that exits repeatedly."""

COUNTS_TIMEOUT = 1.0
"""Seconds that workers have to report their counts."""

STABLE_AFTER = 60
"""Health checks that a worker must have served for its restart delay to begin at `MIN_RESTART_DELAY` again."""


@dataclass(frozen=True)
class Plan:
    """What workers run on: econe.conf, its settings, and the listening sockets. `log` is where twistd logs."""

    source: Source
    settings: Settings
    sockets: tuple[BoundSocket, ...]
    log: TwistdLogTarget

    def begin(self, index: int) -> Begin:
        """Return the first command to worker `index`, with the descriptors that it is spawned with."""
        sockets = tuple(
            PassedSocket(descriptor, bound.is_tls, bound.where)
            for descriptor, bound in enumerate(self.sockets, FIRST_SOCKET)
        )
        return Begin(self.source.text, str(self.source.path), index, self.settings.workers, sockets, asdict(self.log))


class IWorker(Interface):
    """The process of a worker."""

    pid: int = Attribute("Its process id.")

    def send(command: Command) -> None:
        """Send a command; does nothing if the process has exited."""

    def kill() -> None:
        """Send SIGKILL."""


class WorkerEvents(Protocol):
    """Receives the reports of one worker, and its exit."""

    def reported(self, report: Report) -> None:
        """The worker sent a report."""

    def exited(self, how: str) -> None:
        """The process exited; `how` is its exit code or signal in words. No event follows."""


class Spawn(Protocol):
    """Starts the process of a worker, with these sockets as its descriptors from `FIRST_SOCKET` on."""

    def __call__(self, sockets: tuple[BoundSocket, ...], events: WorkerEvents) -> IWorker:
        """Return the process; raises `OSError` if it cannot be started."""


class State(Enum):
    """The state of a worker."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    ENDED = "ended"


class Worker:
    """One worker, from its start to its exit.

    `serial` is unique in this daemon; `index` is its place in its generation, which its replacement takes over.
    """

    def __init__(self, serial: int, generation: Generation, index: int) -> None:
        self.serial = serial
        self.generation = generation
        self.index = index
        self.state = State.STARTING
        self.process: IWorker | None = None
        self.missed_reports = 0
        """Health checks since its last report. Counted in checks, not seconds, so that neither setting the clock nor
        suspending the machine looks like a hang."""
        self.checks_served = 0
        """Health checks during which it has served."""
        self.failure_reason = ""
        """Why it cannot start, from its report."""

    def __str__(self) -> str:
        pid = "" if self.process is None else f" (pid {self.process.pid})"
        return f"worker {self.index + 1} of {self.generation.size}{pid}"

    def send(self, command: Command) -> None:
        """Send a command to the process, if there is one."""
        if self.process is not None:
            self.process.send(command)


class Generation:
    """The workers on one plan: an index for each, and the outcome of the first attempt to start it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.size = plan.settings.workers
        self.outcomes: dict[int, bool] = {}
        self.consecutive_deaths = dict.fromkeys(range(self.size), 0)
        """Unexpected exits in a row, by index."""

    @property
    def is_settled(self) -> bool:
        """Whether the first attempt of every worker has succeeded or failed."""
        return len(self.outcomes) == self.size

    def restart_delay(self, worker: Worker, jitter: Callable[[], float]) -> float:
        """Return the seconds to wait before `worker` is replaced: exponential backoff with jitter."""
        deaths = 0 if worker.checks_served >= STABLE_AFTER else self.consecutive_deaths[worker.index]
        self.consecutive_deaths[worker.index] = deaths + 1
        delay = min(MAX_RESTART_DELAY, MIN_RESTART_DELAY * 2 ** min(deaths, 16))
        return float(delay * (0.5 + 0.5 * jitter()))


class Counts:
    """The counts of all workers, including exited workers: their replies to a request, else their last reports."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._snapshots = ProcessSnapshots()
        self._numbers = count(1)
        self._pending: dict[tuple[int, int], Deferred[None]] = {}

    def record(self, worker: Worker, counts: Mapping[str, Any]) -> None:
        """Store the counts that a worker has reported."""
        self._snapshots.update(worker.serial, dict(counts))

    def record_reply(self, worker: Worker, number: int, counts: Mapping[str, Any]) -> None:
        """Store the counts that a worker has reported in reply to the `GetCounts` with this number."""
        self.record(worker, counts)
        pending = self._pending.pop((worker.serial, number), None)
        if pending is not None:
            pending.callback(None)

    def record_exit(self, worker: Worker) -> None:
        """Keep the last counts of a worker that has exited."""
        self._snapshots.process_exited(worker.serial)

    async def collect(self, workers: Iterable[Worker]) -> tuple[Snapshot, ...]:
        """Request the counts of `workers` and return the counts of all, after at most `COUNTS_TIMEOUT` seconds."""
        await DeferredList([self._request(worker) for worker in workers])
        return self._snapshots.all()

    def _request(self, worker: Worker) -> Deferred[None]:
        number = next(self._numbers)
        key = (worker.serial, number)

        def use_last_report(_: object) -> None:
            self._pending.pop(key, None)

        reply = self._pending[key] = Deferred()
        reply.addTimeout(COUNTS_TIMEOUT, self._clock)
        reply.addErrback(use_last_report)
        worker.send(GetCounts(number))
        return reply


def worker_share(settings: Settings, index: int, of: int) -> Settings:
    """Return the settings of worker `index` of `of`, with its share of the limits that are for the whole daemon.

    The shares of one_calls add up to the whole. Every worker may make at least one call and one request at a time.
    """
    return replace(
        settings,
        one_calls=max(1, _share(settings.one_calls, index, of)),
        rate_limit=None if settings.rate_limit is None else settings.rate_limit / of,
        rate_burst=max(1, _share(settings.rate_burst, index, of)),
    )


def _share(total: int, index: int, of: int) -> int:
    return total // of + (index < total % of)
