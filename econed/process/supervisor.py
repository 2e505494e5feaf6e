"""Keeps workers running: replaces those that die or hang, brings in a new configuration, and ends them in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.application.internet import TimerService
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from econed.config.loading import ConfigError
from econed.process.admin import DRAINING
from econed.process.generations import Counts, Generation, Plan, Spawn, State, Worker
from econed.process.interfaces import IWatched
from econed.process.listening import Bound, CannotListen, close
from econed.process.messages import Beat, Counted, Drain, Draining, Failed, Ready, ReopenLog, Report
from econed.process.systemd import Notifier
from econed.telemetry.metrics import Metrics, Snapshot

LOOK_EVERY = 1.0
"""Seconds between two looks at the workers; they report as often."""

STARTING = 60
"""Looks that a worker may take until it listens."""

QUIET = 30
"""Looks for which one that serves may not report: its reactor hangs."""

GRACE = 10.0
"""Seconds beyond drain_timeout after which a worker that should have ended is killed."""


class Load(Protocol):
    """Reads the configuration: what workers are to run on, `before` being the sockets that there are already."""

    def __call__(self, before: tuple[Bound, ...]) -> Plan:
        """Return a plan; raises `ConfigError`, or `CannotListen`."""


@implementer(IWatched)
class Supervisor:
    """The workers of one daemon.

    `ended` is told the exit code when all is over, `taken` a plan when its workers have taken over. `jitter` returns a
    number from 0 to 1.
    """

    def __init__(
        self,
        plan: Plan,
        spawn: Spawn,
        load: Load,
        clock: IReactorTime,
        *,
        jitter: Callable[[], float],
        notifier: Notifier,
        metrics: Metrics,
        ended: Callable[[int], None],
        taken: Callable[[Plan], None] = lambda plan: None,
        log: Logger,
    ) -> None:
        self._spawn = spawn
        self._load = load
        self._clock = clock
        self._jitter = jitter
        self._notifier = notifier
        self._metrics = metrics
        self._ended = ended
        self._taken = taken
        self._log = log
        self._current = Generation(plan)
        self._next: Generation | None = None
        self._alive: list[Worker] = []
        self._to_come: set[IDelayedCall] = set()
        self._started = 0
        self._is_ending = False
        self._is_over = False
        self._reload_again = False
        self._counts = Counts(clock)
        self._looks = TimerService(LOOK_EVERY, self._look)
        self._looks.clock = clock

    # What it is told to do

    def start(self) -> None:
        """Start the first workers; when they listen, systemd is told. If none can start, all is over."""
        self._looks.startService()
        for place in range(self._current.size):
            self._start_worker(self._current, place)

    def reload(self) -> None:
        """Have workers on a new configuration take over from the ones there are.

        One that is bad, or on which not all workers can start, is refused: the log says why, and the old ones go on.
        """
        if self._is_ending:
            self._log.info("no new configuration is read: the daemon ends")
            return
        if self._next is not None or not self._current.is_settled:
            self._reload_again = True
            return
        self._notifier.reloading()
        try:
            plan = self._load(self._current.plan.sockets)
        except Exception as error:  # noqa: BLE001 - systemd waits for the end of the reading, whatever is wrong
            if not isinstance(error, ConfigError | CannotListen):
                self._log.failure("the new configuration could not be read")
            self._refuse(str(error))
            return
        self._log.info("a new configuration is read: new workers start")
        self._next = Generation(plan)
        for place in range(self._next.size):
            self._start_worker(self._next, place)

    def reopen_log(self) -> None:
        """Have all workers open the log anew."""
        for worker in tuple(self._alive):
            worker.send(ReopenLog())

    def end(self) -> None:
        """Have all workers finish what they have and end; told so again, end them at once."""
        if self._is_ending:
            self._log.warn("told to end a second time: ends at once")
            self.kill()
            return
        self._is_ending = True
        self._log.info("ends: {count} workers finish the requests under way", count=len(self._alive))
        longest = max(worker.generation.plan.settings.drain_timeout for worker in self._alive) if self._alive else 0.0
        self._notifier.stopping("finishes the requests under way", longest + 2 * GRACE)
        self._replace_nobody()
        close(self._current.plan.sockets)
        if self._next is not None:
            close(self._next.plan.sockets)
        for worker in tuple(self._alive):
            self._drain(worker)
        self._end_if_nothing_is_left()

    def kill(self) -> None:
        """End all workers at once."""
        self._is_ending = True
        for worker in tuple(self._alive):
            if worker.process is not None:
                worker.process.kill()
        self._over(0)

    # How it is

    @property
    def serving(self) -> int:
        """How many workers take connections."""
        return sum(worker.state is State.SERVING for worker in self._alive)

    def unready(self) -> str | None:
        """See `IWatched`."""
        if self._is_ending:
            return DRAINING
        return None if self.serving else "no worker takes connections"

    async def snapshots(self) -> Sequence[Snapshot]:
        """See `IWatched`."""
        counted = await self._counts.asked(worker for worker in self._alive if worker.state is not State.STARTING)
        return (self._metrics.snapshot(), *counted)

    # What workers do

    def _start_worker(self, generation: Generation, place: int) -> None:
        self._started += 1
        worker = Worker(self._started, generation, place)
        try:
            worker.process = self._spawn(generation.plan.sockets, _Ear(self, worker))
        except OSError as error:
            self._alive.append(worker)
            self.lost(worker, f"no process can be started: {error.strerror}")
            return
        self._alive.append(worker)
        worker.send(generation.plan.begin(place))

    def told(self, worker: Worker, report: Report) -> None:
        """Take a worker's report."""
        worker.quiet = 0
        match report:
            case Ready():
                self._log.info("{worker} serves", worker=str(worker))
                if worker.state is State.STARTING:
                    worker.state = State.SERVING
                self._count()
                self._filled(worker, True)
            case Failed(reason):
                worker.reason = reason
            case Draining():
                self._leaves(worker)
            case Beat(counted):
                self._counts.heard(worker, counted)
            case Counted(number, counted):
                self._counts.answered(worker, number, counted)

    def lost(self, worker: Worker, how: str) -> None:
        """Take a worker's end."""
        before, worker.state = worker.state, State.ENDED
        self._alive.remove(worker)
        self._counts.ended(worker)
        self._count()
        if before is State.DRAINING:
            self._log.info("{worker} has ended: {how}", worker=str(worker), how=how)
        else:
            self._log.error("{worker} has died: {how}", worker=str(worker), how=worker.reason or how)
            self._metrics.worker_restarted()
        if self._is_ending:
            self._end_if_nothing_is_left()
        elif before is not State.DRAINING:
            self._replace_later(worker)
            self._filled(worker, False)

    def _leaves(self, worker: Worker) -> None:
        """A worker was told to end by somebody else: another takes its place at once."""
        if worker.state is State.DRAINING:
            return
        was_starting = worker.state is State.STARTING
        self._log.info("{worker} was told to end: it is replaced", worker=str(worker))
        self._is_to_end(worker)
        if was_starting:
            self._filled(worker, False)
        elif not self._is_ending and worker.generation in (self._current, self._next):
            self._start_worker(worker.generation, worker.place)

    def _replace_later(self, worker: Worker) -> None:
        generation = worker.generation
        if generation is not self._current or not generation.is_settled:
            return
        seconds = generation.wait(worker, self._jitter)
        self._log.info("another takes its place in {seconds:.1f} s", seconds=seconds)
        self._later(seconds, lambda: self._start_worker(generation, worker.place))

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        def run() -> None:
            self._to_come.discard(call)
            work()

        call = self._clock.callLater(seconds, run)
        self._to_come.add(call)

    def _replace_nobody(self) -> None:
        """Start none of those workers whose time was still to come."""
        for call in self._to_come:
            call.cancel()
        self._to_come.clear()

    def _filled(self, worker: Worker, well: bool) -> None:
        """Take note of what came of a first attempt, and go on when there is an outcome for each place."""
        generation = worker.generation
        if generation.is_settled or self._is_ending:
            return
        generation.outcomes[worker.place] = well
        if not generation.is_settled:
            return
        if generation is self._next and all(generation.outcomes.values()):
            self._take_over(generation)
        elif generation is self._next:
            self._give_up(generation)
        elif any(generation.outcomes.values()):
            self._serve_with_what_there_is()
        else:
            self._log.critical("no worker can start: the daemon ends")
            self._over(1)

    def _serve_with_what_there_is(self) -> None:
        self._say_ready()
        for place, well in self._current.outcomes.items():
            if not well:
                self._replace_later(Worker(0, self._current, place))
        self._go_on()

    def _take_over(self, new: Generation) -> None:
        old, self._current, self._next = self._current, new, None
        self._replace_nobody()
        self._drain_all(old)
        close(old.plan.sockets, but=self._current.plan.sockets)
        self._metrics.reloaded("configuration", "taken")
        self._log.info("the new configuration is in use")
        self._taken(self._current.plan)
        self._say_ready()
        self._go_on()

    def _give_up(self, failed: Generation) -> None:
        self._next = None
        self._drain_all(failed)
        close(failed.plan.sockets, but=self._current.plan.sockets)
        self._refuse("not all workers can start on it")
        self._go_on()

    def _refuse(self, why: str) -> None:
        self._metrics.reloaded("configuration", "refused")
        self._log.error("the new configuration is not used, the old one stays: {why}", why=why)
        self._say_ready()

    def _go_on(self) -> None:
        if self._reload_again:
            self._reload_again = False
            self.reload()

    def _say_ready(self) -> None:
        self._notifier.ready(f"{self.serving} of {self._current.size} workers serve")

    def _count(self) -> None:
        self._metrics.set_worker_count(self.serving)
        if self._current.is_settled and not self._is_ending and self._next is None:
            self._notifier.status(f"{self.serving} of {self._current.size} workers serve")

    # The end of workers

    def _drain_all(self, generation: Generation) -> None:
        for worker in tuple(self._alive):
            if worker.generation is generation:
                self._drain(worker)

    def _drain(self, worker: Worker) -> None:
        worker.send(Drain())
        self._is_to_end(worker)

    def _is_to_end(self, worker: Worker) -> None:
        """Kill a worker that has not ended when it should have."""
        if worker.state is State.DRAINING:
            return
        worker.state = State.DRAINING
        self._count()

        def kill() -> None:
            if worker.state is not State.ENDED:
                self._kill(worker, "has not ended in time")

        self._clock.callLater(worker.generation.plan.settings.drain_timeout + GRACE, kill)

    def _kill(self, worker: Worker, why: str) -> None:
        self._log.error("{worker} {why}: it is killed", worker=str(worker), why=why)
        if worker.process is not None:
            worker.process.kill()

    def _look(self) -> None:
        for worker in tuple(self._alive):
            worker.quiet += 1
            worker.served += worker.state is State.SERVING
            if worker.state is State.STARTING and worker.quiet == STARTING:
                self._kill(worker, "does not come to listen")
            elif worker.state is not State.STARTING and worker.quiet == QUIET:
                self._kill(worker, f"has not reported for {QUIET} s")

    def _end_if_nothing_is_left(self) -> None:
        if not self._alive:
            self._log.info("all workers have ended")
            self._over(0)

    def _over(self, code: int) -> None:
        if not self._is_over:
            self._is_over = self._is_ending = True
            if self._looks.running:
                self._looks.stopService()
            self._ended(code)


class _Ear:
    """Hears one worker for the supervisor."""

    def __init__(self, supervisor: Supervisor, worker: Worker) -> None:
        self._supervisor = supervisor
        self._worker = worker

    def told(self, report: Report) -> None:
        """See `Hears`."""
        self._supervisor.told(self._worker, report)

    def ended(self, how: str) -> None:
        """See `Hears`."""
        self._supervisor.lost(self._worker, how)
