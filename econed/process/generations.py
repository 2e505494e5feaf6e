"""The workers as their supervisor sees them: one after the other in its place, a generation on one configuration."""

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
from econed.process.listening import Bound
from econed.process.messages import Ask, Begin, Command, Handed, Report
from econed.telemetry.logs import LogPlace
from econed.telemetry.merging import ProcessSnapshots
from econed.telemetry.metrics import Snapshot

FIRST_SOCKET = 5
"""The descriptor of the first listening socket in a worker; before it are those of every process, and two pipes."""

FIRST_WAIT = 0.5
"""Seconds, at most, until a worker is replaced that died for the first time in a while."""

LONGEST_WAIT = 60.0
"""Seconds, at most, until one is replaced that always dies."""

ASK_FOR = 1.0
"""Seconds that workers have to say what they have counted."""

STEADY = 60
"""Looks for which a worker has to have served for its death to be the first in a while."""


@dataclass(frozen=True)
class Plan:
    """What workers run on: econe.conf, what it says, and where they listen. `log` is where twistd has its log."""

    source: Source
    settings: Settings
    sockets: tuple[Bound, ...]
    log: LogPlace

    def begin(self, index: int) -> Begin:
        """Return the first command to worker `index`, for the descriptors that it is spawned with."""
        sockets = tuple(
            Handed(FIRST_SOCKET + number, each.is_tls, each.where) for number, each in enumerate(self.sockets)
        )
        return Begin(self.source.text, str(self.source.path), index, self.settings.workers, sockets, asdict(self.log))


class IWorker(Interface):
    """A worker's process."""

    pid: int = Attribute("Its process id.")

    def send(command: Command) -> None:
        """Give it a command; nothing happens if it has ended."""

    def kill() -> None:
        """End it at once, whatever it does."""


class Hears(Protocol):
    """Is told of a worker."""

    def told(self, report: Report) -> None:
        """It has reported."""

    def ended(self, how: str) -> None:
        """It has ended, and how, in words; there is nothing after this."""


class Spawn(Protocol):
    """Starts the process of a worker, with these sockets as its descriptors from `FIRST_SOCKET` on."""

    def __call__(self, sockets: tuple[Bound, ...], hears: Hears) -> IWorker:
        """Return the process; raises `OSError` where there can be none."""


class State(Enum):
    """What a worker is doing."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    ENDED = "ended"


class Worker:
    """One worker, from its start to its end; `number` is that of no other."""

    def __init__(self, number: int, generation: Generation, place: int) -> None:
        self.number = number
        self.generation = generation
        self.place = place
        self.state = State.STARTING
        self.process: IWorker | None = None
        self.quiet = 0
        """Looks since it last reported. Looks, not seconds: that the clock is set, or the machine sleeps, is no
        silence."""
        self.served = 0
        """Looks for which it has served."""
        self.reason = ""
        """Why it cannot start, as it said itself."""

    def __str__(self) -> str:
        pid = "" if self.process is None else f" (pid {self.process.pid})"
        return f"worker {self.place + 1} of {self.generation.size}{pid}"

    def send(self, command: Command) -> None:
        """Give it a command."""
        if self.process is not None:
            self.process.send(command)


class Generation:
    """The workers that run on one plan: a place for each, and what came of the first attempt to fill it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.size = plan.settings.workers
        self.outcomes: dict[int, bool] = {}
        self.deaths = dict.fromkeys(range(self.size), 0)
        """Deaths in a row, by place."""

    @property
    def is_settled(self) -> bool:
        """Whether every place has once been filled, or could not be."""
        return len(self.outcomes) == self.size

    def wait(self, worker: Worker, jitter: Callable[[], float]) -> float:
        """Return the seconds to wait until a worker that died is replaced: longer each time, and never in step."""
        deaths = 0 if worker.served >= STEADY else self.deaths[worker.place]
        self.deaths[worker.place] = deaths + 1
        return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(deaths, 16)) * (0.5 + 0.5 * jitter()))


class Counts:
    """What workers have counted: what they say when they are asked, else what they said last, also before their end."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._snapshots = ProcessSnapshots()
        self._numbers = count(1)
        self._asked: dict[tuple[int, int], Deferred[None]] = {}

    def heard(self, worker: Worker, counted: Mapping[str, Any]) -> None:
        """Take what a worker says of itself."""
        self._snapshots.update(worker.number, dict(counted))

    def answered(self, worker: Worker, number: int, counted: Mapping[str, Any]) -> None:
        """Take what a worker says because it was asked, by `Ask` with this number."""
        self.heard(worker, counted)
        waiting = self._asked.pop((worker.number, number), None)
        if waiting is not None:
            waiting.callback(None)

    def ended(self, worker: Worker) -> None:
        """Keep what a worker counted that has ended."""
        self._snapshots.process_exited(worker.number)

    async def asked(self, workers: Iterable[Worker]) -> tuple[Snapshot, ...]:
        """Ask these, and return what all have counted, `ASK_FOR` seconds later at most."""
        await DeferredList([self._ask(worker) for worker in workers])
        return self._snapshots.all()

    def _ask(self, worker: Worker) -> Deferred[None]:
        number = next(self._numbers)
        key = (worker.number, number)

        def too_late(_: object) -> None:
            """What it said last has to do."""
            self._asked.pop(key, None)

        answer = self._asked[key] = Deferred()
        answer.addTimeout(ASK_FOR, self._clock)
        answer.addErrback(too_late)
        worker.send(Ask(number))
        return answer


def share(settings: Settings, index: int, of: int) -> Settings:
    """Return what worker `index` of `of` has of the budgets that are for the whole daemon.

    The shares of one_calls add up to the whole. Everybody has one call and one request at once, at least.
    """
    return replace(
        settings,
        one_calls=max(1, _part(settings.one_calls, index, of)),
        rate_limit=None if settings.rate_limit is None else settings.rate_limit / of,
        rate_burst=max(1, _part(settings.rate_burst, index, of)),
    )


def _part(whole: int, index: int, of: int) -> int:
    return whole // of + (index < whole % of)
