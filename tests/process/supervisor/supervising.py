"""A supervisor with a clock and stand-ins for workers that the tests control."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from zope.interface import implementer

from econed.config.loading import Source
from econed.config.settings import Settings
from econed.process.generations import IWorker, Plan, WorkerEvents
from econed.process.listening import BoundSocket
from econed.process.messages import Command, Drain, Heartbeat, Ready
from econed.process.supervisor import CHECK_INTERVAL, Supervisor
from econed.telemetry import logs
from econed.telemetry.metrics import Metrics
from tests.support.service_manager import RecordingNotifier

DRAIN_TIMEOUT = 30.0


@implementer(IWorker)
class FakeWorker:
    """The process of a worker, which reports and exits when the test calls `reports` and `exits`."""

    def __init__(self, pid: int, sockets: tuple[BoundSocket, ...], events: WorkerEvents) -> None:
        self.pid = pid
        self.sockets = sockets
        self.reports = events.reported
        self.commands: list[Command] = []
        self.was_killed = False
        self.has_exited = False
        self._events = events

    def send(self, command: Command) -> None:
        """Record the command."""
        self.commands.append(command)

    def exits(self, how: str) -> None:
        """Exit, as described by `how`."""
        self.has_exited = True
        self._events.exited(how)

    def kill(self) -> None:
        """Exit by SIGKILL."""
        self.was_killed = True
        self.exits("signal SIGKILL")

    @property
    def was_told_to_drain(self) -> bool:
        """Whether `Drain` was sent to it."""
        return Drain() in self.commands


@dataclass
class SupervisorHarness:
    """A supervisor with stand-ins for its environment."""

    clock: Clock = field(default_factory=Clock)
    fake_workers: list[FakeWorker] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    events: list[LogEvent] = field(default_factory=list)
    plans_in_use: list[Plan] = field(default_factory=list)
    notifier: RecordingNotifier = field(default_factory=RecordingNotifier)
    metrics: Metrics = field(default_factory=Metrics)
    next_plan: Plan | Exception | None = None
    cannot_spawn: bool = False
    supervisor: Supervisor = field(init=False)

    def start(self, workers: int = 2) -> SupervisorHarness:
        """Start the supervisor."""
        self.supervisor = Supervisor(
            plan(workers),
            self.spawn,
            self.load,
            self.clock,
            jitter=lambda: 1.0,
            notifier=self.notifier,
            metrics=self.metrics,
            on_exit=self.exit_codes.append,
            on_reload=self.plans_in_use.append,
            log=Logger(namespace="econed.supervisor", observer=self.events.append),  # type: ignore[arg-type]
        )
        self.supervisor.start()
        return self

    def spawn(self, sockets: tuple[BoundSocket, ...], events: WorkerEvents) -> IWorker:
        """Start a worker (`Spawn`)."""
        if self.cannot_spawn:
            raise OSError(11, "Resource temporarily unavailable")
        fake_worker = FakeWorker(1000 + len(self.fake_workers), sockets, events)
        self.fake_workers.append(fake_worker)
        return fake_worker

    def load(self, current: tuple[BoundSocket, ...]) -> Plan:
        """Return or raise `next_plan` (`Load`)."""
        if isinstance(self.next_plan, Exception):
            raise self.next_plan
        assert self.next_plan is not None
        return self.next_plan

    def serve(self, workers: int = 2) -> SupervisorHarness:
        """Start the supervisor, and have all workers listen."""
        self.start(workers)
        for fake_worker in self.fake_workers:
            fake_worker.reports(Ready())
        return self

    def run_checks(self, count: int, *silent: FakeWorker) -> None:
        """Run health checks; before each, all running workers but `silent` report."""
        for _ in range(count):
            for fake_worker in self.fake_workers:
                if not fake_worker.has_exited and fake_worker not in silent:
                    fake_worker.reports(Heartbeat())
            self.clock.advance(CHECK_INTERVAL)

    def logged(self, level: LogLevel) -> list[str]:
        """Return the messages logged at a level."""
        return [formatEvent(event) for event in self.events if event["log_level"] is level]


def plan(workers: int = 2, text: str = ":port: 4567\n", sockets: tuple[BoundSocket, ...] = ()) -> Plan:
    """Return a plan for so many workers."""
    settings = Settings(workers=workers, drain_timeout=DRAIN_TIMEOUT)
    return Plan(Source(Path("/etc/one/econe.conf"), text), settings, sockets, logs.TwistdLogTarget("stdout"))


def reloaded(harness: SupervisorHarness, new: Plan) -> list[FakeWorker]:
    """Reload the configuration, and return the workers that start on it."""
    before = len(harness.fake_workers)
    harness.next_plan = new
    harness.supervisor.reload()
    return harness.fake_workers[before:]
