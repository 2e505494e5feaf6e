"""Keeps workers running: replaces workers that exit or hang, applies a new configuration, and stops the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.application.internet import TimerService
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from econed.config.loading import ConfigError
from econed.process.generations import Counts, Generation, Plan, Spawn, State, Worker
from econed.process.interfaces import DRAINING, IWatched
from econed.process.listening import BoundSocket, CannotListen, close_all
from econed.process.messages import CountsReply, Drain, Draining, Failed, Heartbeat, Ready, ReopenLog, Report
from econed.process.systemd import Notifier
from econed.telemetry.metrics import Metrics, Snapshot

CHECK_INTERVAL = 1.0
"""Seconds between two health checks of the workers. Workers report at the same interval."""

MAX_START_CHECKS = 60
"""Health checks after which a worker that does not listen counts as hung."""

MAX_MISSED_REPORTS = 30
"""Health checks a serving worker may miss before it counts as hung."""

EXIT_GRACE = 10.0
"""Seconds beyond drain_timeout after which a worker that has not exited is killed."""


class Load(Protocol):
    """Reads the configuration into a plan. `current` are the sockets that are open already."""

    def __call__(self, current: tuple[BoundSocket, ...]) -> Plan:
        """Return a plan; raises `ConfigError`, or `CannotListen`."""


@implementer(IWatched)
class Supervisor:
    """The workers of one daemon.

    `on_exit` is called once with the exit code of the daemon, `on_reload` with each new plan when its workers have
    replaced the old ones. `jitter` returns a number from 0 to 1.
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
        on_exit: Callable[[int], None],
        on_reload: Callable[[Plan], None] = lambda plan: None,
        log: Logger,
    ) -> None:
        self._spawn = spawn
        self._load = load
        self._clock = clock
        self._jitter = jitter
        self._notifier = notifier
        self._metrics = metrics
        self._on_exit = on_exit
        self._on_reload = on_reload
        self._log = log
        self._current = Generation(plan)
        self._next: Generation | None = None
        self._alive: list[Worker] = []
        self._delayed_starts: set[IDelayedCall] = set()
        self._last_serial = 0
        self._is_stopping = False
        self._has_exited = False
        self._is_reload_pending = False
        self._counts = Counts(clock)
        self._checks = TimerService(CHECK_INTERVAL, self._check_workers)
        self._checks.clock = clock

    # Commands

    def start(self) -> None:
        """Start the first workers, and notify systemd when they listen. If none can start, the daemon exits with 1."""
        self._checks.startService()
        for index in range(self._current.size):
            self._start_worker(self._current, index)

    def reload(self) -> None:
        """Read the configuration, and replace the workers by workers that run on it.

        If it is invalid, or not all workers can start on it, the reason is logged and the old workers keep serving.
        """
        if self._is_stopping:
            self._log.info("not reloading the configuration: the daemon is stopping")
            return
        if self._next is not None or not self._current.is_settled:
            self._is_reload_pending = True
            return
        self._notifier.reloading()
        try:
            plan = self._load(self._current.plan.sockets)
        except Exception as error:  # noqa: BLE001 - systemd waits for the end of the reload after any error
            if not isinstance(error, ConfigError | CannotListen):
                self._log.failure("reading the new configuration failed")
            self._refuse(str(error))
            return
        self._log.info("starting workers on the new configuration")
        self._next = Generation(plan)
        for index in range(self._next.size):
            self._start_worker(self._next, index)

    def reopen_log(self) -> None:
        """Have all workers reopen the log file."""
        for worker in tuple(self._alive):
            worker.send(ReopenLog())

    def stop(self) -> None:
        """Have all workers finish their requests and exit. The second call kills them."""
        if self._is_stopping:
            self._log.warn("second stop signal: exiting immediately")
            self.kill()
            return
        self._is_stopping = True
        self._log.info("stopping: {count} workers finish the requests in progress", count=len(self._alive))
        longest = max(worker.generation.plan.settings.drain_timeout for worker in self._alive) if self._alive else 0.0
        self._notifier.stopping("finishing the requests in progress", longest + 2 * EXIT_GRACE)
        self._cancel_delayed_starts()
        close_all(self._current.plan.sockets)
        if self._next is not None:
            close_all(self._next.plan.sockets)
        for worker in tuple(self._alive):
            self._drain(worker)
        self._exit_if_no_worker_is_left()

    def kill(self) -> None:
        """Kill all workers and exit."""
        self._is_stopping = True
        for worker in tuple(self._alive):
            if worker.process is not None:
                worker.process.kill()
        self._exit(0)

    # Health and counts

    @property
    def serving(self) -> int:
        """The number of workers that accept connections."""
        return sum(worker.state is State.SERVING for worker in self._alive)

    def unready_reason(self) -> str | None:
        """See `IWatched`."""
        if self._is_stopping:
            return DRAINING
        return None if self.serving else "no worker accepts connections"

    async def snapshots(self) -> Sequence[Snapshot]:
        """See `IWatched`."""
        counts = await self._counts.collect(worker for worker in self._alive if worker.state is not State.STARTING)
        return (self._metrics.snapshot(), *counts)

    # Events of workers

    def _start_worker(self, generation: Generation, index: int) -> None:
        self._last_serial += 1
        worker = Worker(self._last_serial, generation, index)
        try:
            worker.process = self._spawn(generation.plan.sockets, _WorkerListener(self, worker))
        except OSError as error:
            self._alive.append(worker)
            self.worker_exited(worker, f"starting the process failed: {error.strerror}")
            return
        self._alive.append(worker)
        worker.send(generation.plan.begin(index))

    def worker_reported(self, worker: Worker, report: Report) -> None:
        """Handle a report."""
        worker.missed_reports = 0
        match report:
            case Ready():
                self._log.info("{process} listens", process=str(worker))
                if worker.state is State.STARTING:
                    worker.state = State.SERVING
                self._publish_serving()
                self._record_outcome(worker, has_started=True)
            case Failed(reason):
                worker.failure_reason = reason
            case Draining():
                self._replace_draining(worker)
            case Heartbeat(counts):
                self._counts.record(worker, counts)
            case CountsReply(number, counts):
                self._counts.record_reply(worker, number, counts)

    def worker_exited(self, worker: Worker, how: str) -> None:
        """Handle the exit of a worker, and replace it if it was not draining."""
        before, worker.state = worker.state, State.ENDED
        self._alive.remove(worker)
        self._counts.record_exit(worker)
        self._publish_serving()
        if before is State.DRAINING:
            self._log.info("{process} exited: {how}", process=str(worker), how=how)
        else:
            self._log.error("{process} died: {how}", process=str(worker), how=worker.failure_reason or how)
            self._metrics.worker_restarted()
        if self._is_stopping:
            self._exit_if_no_worker_is_left()
        elif before is not State.DRAINING:
            self._replace_later(worker)
            self._record_outcome(worker, has_started=False)

    def _replace_draining(self, worker: Worker) -> None:
        """Start the replacement of a worker that drains because it received a signal itself."""
        if worker.state is State.DRAINING:
            return
        was_starting = worker.state is State.STARTING
        self._log.info("replacing {process}: it received a stop signal", process=str(worker))
        self._kill_if_late(worker)
        if was_starting:
            self._record_outcome(worker, has_started=False)
        elif not self._is_stopping and worker.generation in (self._current, self._next):
            self._start_worker(worker.generation, worker.index)

    def _replace_later(self, worker: Worker) -> None:
        generation = worker.generation
        if generation is not self._current or not generation.is_settled:
            return
        seconds = generation.restart_delay(worker, self._jitter)
        self._log.info("starting its replacement in {seconds:.1f} s", seconds=seconds)
        self._call_later(seconds, lambda: self._start_worker(generation, worker.index))

    def _call_later(self, seconds: float, work: Callable[[], None]) -> None:
        def run() -> None:
            self._delayed_starts.discard(call)
            work()

        call = self._clock.callLater(seconds, run)
        self._delayed_starts.add(call)

    def _cancel_delayed_starts(self) -> None:
        for call in self._delayed_starts:
            call.cancel()
        self._delayed_starts.clear()

    # Generations

    def _record_outcome(self, worker: Worker, has_started: bool) -> None:
        """Record the outcome of a first attempt, and decide on the generation when all its outcomes are known."""
        generation = worker.generation
        if generation.is_settled or self._is_stopping:
            return
        generation.outcomes[worker.index] = has_started
        if not generation.is_settled:
            return
        if generation is self._next and all(generation.outcomes.values()):
            self._switch_to(generation)
        elif generation is self._next:
            self._abandon(generation)
        elif any(generation.outcomes.values()):
            self._serve_with_started_workers()
        else:
            self._log.critical("no worker can start: exiting")
            self._exit(1)

    def _serve_with_started_workers(self) -> None:
        self._notify_ready()
        for index, has_started in self._current.outcomes.items():
            if not has_started:
                self._replace_later(Worker(0, self._current, index))
        self._run_pending_reload()

    def _switch_to(self, new: Generation) -> None:
        old, self._current, self._next = self._current, new, None
        self._cancel_delayed_starts()
        self._drain_all(old)
        close_all(old.plan.sockets, but=self._current.plan.sockets)
        self._metrics.reloaded("configuration", "taken")
        self._log.info("the new configuration is in use")
        self._on_reload(self._current.plan)
        self._notify_ready()
        self._run_pending_reload()

    def _abandon(self, failed: Generation) -> None:
        self._next = None
        self._drain_all(failed)
        close_all(failed.plan.sockets, but=self._current.plan.sockets)
        self._refuse("not all workers can start with it")
        self._run_pending_reload()

    def _refuse(self, reason: str) -> None:
        self._metrics.reloaded("configuration", "refused")
        self._log.error("new configuration refused, keeping the old one: {why}", why=reason)
        self._notify_ready()

    def _run_pending_reload(self) -> None:
        if self._is_reload_pending:
            self._is_reload_pending = False
            self.reload()

    def _notify_ready(self) -> None:
        self._notifier.ready(f"{self.serving} of {self._current.size} workers serve")

    def _publish_serving(self) -> None:
        self._metrics.set_worker_count(self.serving)
        if self._current.is_settled and not self._is_stopping and self._next is None:
            self._notifier.status(f"{self.serving} of {self._current.size} workers serve")

    # Draining, killing, exiting

    def _drain_all(self, generation: Generation) -> None:
        for worker in tuple(self._alive):
            if worker.generation is generation:
                self._drain(worker)

    def _drain(self, worker: Worker) -> None:
        worker.send(Drain())
        self._kill_if_late(worker)

    def _kill_if_late(self, worker: Worker) -> None:
        """Mark a worker as draining, and kill it if it has not exited `EXIT_GRACE` seconds after its drain_timeout."""
        if worker.state is State.DRAINING:
            return
        worker.state = State.DRAINING
        self._publish_serving()
        deadline = worker.generation.plan.settings.drain_timeout + EXIT_GRACE

        def kill() -> None:
            if worker.state is not State.ENDED:
                self._kill(worker, f"not exited after {deadline:g} s")

        self._clock.callLater(deadline, kill)

    def _kill(self, worker: Worker, reason: str) -> None:
        self._log.error("killing {process}: {why}", process=str(worker), why=reason)
        if worker.process is not None:
            worker.process.kill()

    def _check_workers(self) -> None:
        """Kill the workers that hang (run every `CHECK_INTERVAL`)."""
        for worker in tuple(self._alive):
            worker.missed_reports += 1
            worker.checks_served += worker.state is State.SERVING
            if worker.state is State.STARTING and worker.missed_reports == MAX_START_CHECKS:
                self._kill(worker, f"not listening after {MAX_START_CHECKS} s")
            elif worker.state is not State.STARTING and worker.missed_reports == MAX_MISSED_REPORTS:
                self._kill(worker, f"no report for {MAX_MISSED_REPORTS} s")

    def _exit_if_no_worker_is_left(self) -> None:
        if not self._alive:
            self._log.info("all workers have exited")
            self._exit(0)

    def _exit(self, code: int) -> None:
        if not self._has_exited:
            self._has_exited = self._is_stopping = True
            if self._checks.running:
                self._checks.stopService()
            self._on_exit(code)


class _WorkerListener:
    """Passes the events of one worker on to the supervisor (`WorkerEvents`)."""

    def __init__(self, supervisor: Supervisor, worker: Worker) -> None:
        self._supervisor = supervisor
        self._worker = worker

    def reported(self, report: Report) -> None:
        """See `WorkerEvents`."""
        self._supervisor.worker_reported(self._worker, report)

    def exited(self, how: str) -> None:
        """See `WorkerEvents`."""
        self._supervisor.worker_exited(self._worker, how)
