"""The supervisor, with a clock and stand-ins for workers that the tests control."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.config.loading import ConfigError, ConfigProblem, Source
from econed.config.settings import Settings
from econed.process.admin import DRAINING
from econed.process.generations import (
    COUNTS_TIMEOUT,
    FIRST_SOCKET,
    MAX_RESTART_DELAY,
    MIN_RESTART_DELAY,
    STABLE_AFTER,
    IWorker,
    Plan,
    WorkerEvents,
    worker_share,
)
from econed.process.interfaces import IWatched
from econed.process.listening import BoundSocket, CannotListen
from econed.process.messages import (
    Begin,
    Command,
    CountsReply,
    Drain,
    Draining,
    Failed,
    GetCounts,
    Heartbeat,
    Ready,
    ReopenLog,
)
from econed.process.supervisor import CHECK_INTERVAL, EXIT_GRACE, MAX_MISSED_REPORTS, MAX_START_CHECKS, Supervisor
from econed.telemetry import logs
from econed.telemetry.merging import gauge, merged
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
    return Plan(Source(Path("/etc/one/econe.conf"), text), settings, sockets, logs.LogPlace("stdout"))


@pytest.fixture
def harness() -> SupervisorHarness:
    """A supervisor that is not started."""
    return SupervisorHarness()


@pytest.fixture
def listener() -> Iterator[BoundSocket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield BoundSocket(server, False)


def test_the_supervisor_and_the_stand_in_for_workers_provide_their_interfaces(
    harness: SupervisorHarness,
) -> None:
    """`IWatched` and `IWorker`."""
    harness.serve()
    assert verifyObject(IWatched, harness.supervisor)
    assert verifyObject(IWorker, harness.fake_workers[0])


# The start


def test_every_worker_is_sent_the_configuration_its_index_and_its_sockets(
    harness: SupervisorHarness, listener: BoundSocket
) -> None:
    """The text, not the path: a changed file is for the next generation."""
    harness.supervisor = Supervisor(
        plan(2, ":workers: 2\n", (listener,)),
        harness.spawn,
        harness.load,
        harness.clock,
        jitter=lambda: 1.0,
        notifier=harness.notifier,
        metrics=harness.metrics,
        on_exit=harness.exit_codes.append,
        log=Logger(observer=harness.events.append),  # type: ignore[arg-type]
    )
    harness.supervisor.start()
    begins = [command for worker in harness.fake_workers for command in worker.commands if isinstance(command, Begin)]
    assert [(begin.index, begin.of, begin.text, begin.path) for begin in begins] == [
        (index, 2, ":workers: 2\n", "/etc/one/econe.conf") for index in (0, 1)
    ]
    assert [[passed.descriptor for passed in begin.sockets] for begin in begins] == [[FIRST_SOCKET]] * 2
    assert all(fake_worker.sockets == (listener,) for fake_worker in harness.fake_workers)


def test_systemd_is_notified_when_all_workers_listen_and_not_before(harness: SupervisorHarness) -> None:
    """By READY."""
    harness.start()
    harness.fake_workers[0].reports(Ready())
    assert "READY=1" not in harness.notifier.lines
    assert harness.supervisor.unready() is None, "one worker serves"
    harness.fake_workers[1].reports(Ready())
    assert harness.notifier.lines[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]


def test_if_no_worker_can_start_the_daemon_exits_with_1(harness: SupervisorHarness) -> None:
    """The log has the reason of each."""
    harness.start()
    for fake_worker in list(harness.fake_workers):
        fake_worker.reports(Failed("/etc/one/ec2query_templates/m1.small.erb: cannot be read"))
        fake_worker.exits("exit code 1")
    assert harness.exit_codes == [1]
    assert sum("m1.small.erb: cannot be read" in line for line in harness.logged(LogLevel.error)) == 2
    assert len(harness.fake_workers) == 2, "no worker is started again"
    assert "READY=1" not in harness.notifier.lines


def test_a_process_that_cannot_be_started_is_a_worker_that_cannot_start(harness: SupervisorHarness) -> None:
    """Without a traceback."""
    harness.cannot_spawn = True
    harness.start()
    assert harness.exit_codes == [1]
    assert "starting the process failed: Resource temporarily unavailable" in harness.logged(LogLevel.error)[0]


def test_if_only_some_workers_can_start_the_daemon_serves_and_the_others_are_started_again(
    harness: SupervisorHarness,
) -> None:
    """Systemd is notified of the number of workers."""
    harness.start()
    harness.fake_workers[0].reports(Ready())
    harness.fake_workers[1].exits("signal SIGSEGV")
    assert harness.exit_codes == []
    assert harness.notifier.lines[-1] == "STATUS=1 of 2 workers serve"
    harness.clock.advance(MIN_RESTART_DELAY)
    assert len(harness.fake_workers) == 3


# Workers that die or hang


def test_a_worker_that_dies_is_replaced_on_the_same_configuration(harness: SupervisorHarness) -> None:
    """Also if the file has changed without a reload."""
    harness.serve()
    harness.next_plan = plan(2, ":port: 1\n")
    harness.run_checks(STABLE_AFTER)
    harness.fake_workers[1].exits("signal SIGKILL")
    harness.clock.advance(MIN_RESTART_DELAY)
    (begin,) = harness.fake_workers[2].commands
    assert begin == harness.fake_workers[1].commands[0]


def test_the_restart_delay_of_a_worker_that_dies_repeatedly_doubles_up_to_a_limit(harness: SupervisorHarness) -> None:
    """So the daemon does not spend its time on starting processes."""
    harness.serve()
    delays = []
    for _ in range(12):
        count = len(harness.fake_workers)
        harness.fake_workers[-1].exits("exit code 1")
        delay = 0.0
        while len(harness.fake_workers) == count:
            harness.clock.advance(0.25)
            harness.fake_workers[0].reports(Heartbeat())
            delay += 0.25
        delays.append(delay)
    assert delays[:4] == [MIN_RESTART_DELAY, 2 * MIN_RESTART_DELAY, 4 * MIN_RESTART_DELAY, 8 * MIN_RESTART_DELAY]
    assert delays[-1] == MAX_RESTART_DELAY
    assert delays == sorted(delays)


def test_the_restart_delay_is_reset_when_a_worker_has_served_for_a_while(harness: SupervisorHarness) -> None:
    """A worker that dies once a day is replaced quickly."""
    harness.serve(1)
    for _ in range(3):
        harness.fake_workers[-1].exits("exit code 1")
        harness.clock.advance(MAX_RESTART_DELAY)
    harness.fake_workers[-1].reports(Ready())
    harness.run_checks(STABLE_AFTER)
    count = len(harness.fake_workers)
    harness.fake_workers[-1].exits("exit code 1")
    harness.clock.advance(MIN_RESTART_DELAY)
    assert len(harness.fake_workers) == count + 1


def test_the_restart_delay_has_jitter(harness: SupervisorHarness) -> None:
    """From half of the delay to the full delay, so that workers do not start at the same time."""
    harness.serve()
    harness.supervisor._jitter = lambda: 0.0
    harness.fake_workers[0].exits("exit code 1")
    harness.clock.advance(MIN_RESTART_DELAY / 2)
    assert len(harness.fake_workers) == 3


def test_a_worker_that_does_not_report_is_killed_and_replaced(harness: SupervisorHarness) -> None:
    """Its reactor hangs. A worker that reports is not killed."""
    harness.serve()
    harness.run_checks(MAX_MISSED_REPORTS, harness.fake_workers[1])
    assert [fake_worker.was_killed for fake_worker in harness.fake_workers[:2]] == [False, True]
    expected = f"killing worker 2 of 2 (pid 1001): no report for {MAX_MISSED_REPORTS} s"
    assert harness.logged(LogLevel.error)[0] == expected
    harness.clock.advance(MIN_RESTART_DELAY)
    assert len(harness.fake_workers) == 3


def test_no_worker_is_killed_when_the_machine_was_suspended(harness: SupervisorHarness) -> None:
    """Nor when the clock was set: missed reports are counted in health checks, not in seconds."""
    harness.serve()
    harness.clock.advance(MAX_MISSED_REPORTS * 100)
    assert not any(fake_worker.was_killed for fake_worker in harness.fake_workers)


def test_a_worker_that_never_listens_is_killed(harness: SupervisorHarness) -> None:
    """It has more time than a serving worker has between reports."""
    harness.start(1)
    harness.run_checks(MAX_START_CHECKS - 1, harness.fake_workers[0])
    assert not harness.fake_workers[0].was_killed
    harness.run_checks(1, harness.fake_workers[0])
    assert harness.fake_workers[0].was_killed
    assert harness.exit_codes == [1]


def test_a_worker_that_received_a_stop_signal_is_replaced_at_once(harness: SupervisorHarness) -> None:
    """It reports that it drains; its exit is not an error."""
    harness.serve()
    harness.fake_workers[0].reports(Draining())
    assert len(harness.fake_workers) == 3
    harness.fake_workers[2].reports(Ready())
    harness.fake_workers[0].exits("exit code 0")
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 3
    assert harness.logged(LogLevel.error) == []


# A new configuration


def reloaded(harness: SupervisorHarness, new: Plan) -> list[FakeWorker]:
    """Reload the configuration, and return the workers that start on it."""
    before = len(harness.fake_workers)
    harness.next_plan = new
    harness.supervisor.reload()
    return harness.fake_workers[before:]


def test_the_old_workers_drain_when_all_new_workers_listen_and_not_before(harness: SupervisorHarness) -> None:
    """There is always a worker that listens."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan(3, ":workers: 3\n"))
    texts = [command.text for worker in new for command in worker.commands if isinstance(command, Begin)]
    assert texts == [":workers: 3\n"] * 3
    for fake_worker in new[:2]:
        fake_worker.reports(Ready())
    assert not any(fake_worker.was_told_to_drain for fake_worker in old)
    new[2].reports(Ready())
    assert all(fake_worker.was_told_to_drain for fake_worker in old)
    assert not any(fake_worker.was_told_to_drain for fake_worker in new)
    assert harness.plans_in_use == [harness.next_plan]
    for fake_worker in old:
        fake_worker.exits("exit code 0")
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 5, "workers that drained are not replaced"


def test_systemd_is_notified_of_the_begin_and_the_end_of_a_reload(harness: SupervisorHarness) -> None:
    """RELOADING with the time, then READY (Type=notify-reload)."""
    harness.serve()
    harness.notifier.lines.clear()
    new = reloaded(harness, plan())
    assert harness.notifier.lines[0] == "RELOADING=1"
    assert harness.notifier.lines[1].startswith("MONOTONIC_USEC=")
    assert "READY=1" not in harness.notifier.lines
    for fake_worker in new:
        fake_worker.reports(Ready())
    assert "READY=1" in harness.notifier.lines


@pytest.mark.parametrize(
    "error",
    [
        ConfigError((ConfigProblem("/etc/one/econe.conf", "expected a number", 3, "port"),)),
        CannotListen("nothing can listen on 0.0.0.0:80: Permission denied"),
        RecursionError("an unexpected error"),
    ],
)
def test_an_invalid_configuration_is_refused_and_the_old_workers_go_on(
    harness: SupervisorHarness, error: Exception
) -> None:
    """The log has the error."""
    harness.serve()
    harness.next_plan = error
    harness.supervisor.reload()
    assert len(harness.fake_workers) == 2
    assert not any(fake_worker.was_told_to_drain for fake_worker in harness.fake_workers)
    assert str(error) in harness.logged(LogLevel.error)[-1]
    assert harness.notifier.lines[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]
    assert harness.supervisor.unready() is None


def test_a_configuration_on_which_one_worker_cannot_start_is_not_used(harness: SupervisorHarness) -> None:
    """The workers that did start on it drain, and the old workers go on."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan())
    new[0].reports(Ready())
    new[1].reports(Failed("no such file"))
    new[1].exits("exit code 1")
    assert new[0].was_told_to_drain
    assert not any(fake_worker.was_told_to_drain for fake_worker in old)
    expected = "new configuration refused, keeping the old one: not all workers can start with it"
    assert expected in harness.logged(LogLevel.error)
    new[0].exits("exit code 0")
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 4


def test_a_new_worker_that_dies_before_all_others_listen_counts_as_failed_to_start(harness: SupervisorHarness) -> None:
    """There is no replacement for it yet."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan())
    new[0].reports(Ready())
    new[0].exits("signal SIGKILL")
    new[1].reports(Ready())
    assert new[1].was_told_to_drain
    assert not any(fake_worker.was_told_to_drain for fake_worker in old)


def test_an_old_worker_that_dies_during_a_reload_is_replaced_until_the_new_workers_listen(
    harness: SupervisorHarness,
) -> None:
    """A replacement that is due later is not started."""
    old = list(harness.serve().fake_workers)
    new = reloaded(harness, plan(2, ":workers: 2\n"))
    old[0].exits("signal SIGKILL")
    harness.clock.advance(MIN_RESTART_DELAY)
    replacement = harness.fake_workers[-1]
    assert replacement.commands == [old[0].commands[0]]
    old[1].exits("signal SIGKILL")
    for fake_worker in new:
        fake_worker.reports(Ready())
    count = len(harness.fake_workers)
    harness.clock.advance(MAX_RESTART_DELAY)
    assert replacement.was_told_to_drain
    assert len(harness.fake_workers) == count


def test_a_second_reload_during_the_first_is_carried_out_after_it(harness: SupervisorHarness) -> None:
    """So the last content of the file is used."""
    harness.serve()
    first = reloaded(harness, plan(1, "first\n"))
    assert reloaded(harness, plan(1, "second\n")) == []
    first[0].reports(Ready())
    (begin,) = harness.fake_workers[-1].commands
    assert isinstance(begin, Begin)
    assert begin.text == "second\n"


def test_sockets_that_the_new_configuration_does_not_have_are_closed(harness: SupervisorHarness) -> None:
    """In the supervisor; the old workers close theirs when they drain. Also those of a refused configuration."""
    first, second, third = (BoundSocket(socket.create_server(("127.0.0.1", 0)), False) for _ in range(3))
    harness.serve()
    for fake_worker in reloaded(harness, plan(1, sockets=(first, second))):
        fake_worker.reports(Ready())
    (fake_worker,) = reloaded(harness, plan(1, sockets=(first, third)))
    fake_worker.exits("exit code 1")
    assert third.socket.fileno() == -1
    (fake_worker,) = reloaded(harness, plan(1, sockets=(first,)))
    fake_worker.reports(Ready())
    assert second.socket.fileno() == -1
    assert first.socket.fileno() != -1
    harness.supervisor.stop()
    assert first.socket.fileno() == -1


# Draining and exit


def test_on_a_stop_signal_all_workers_drain_and_the_daemon_exits_with_0_after_the_last_one(
    harness: SupervisorHarness,
) -> None:
    """Systemd is notified first."""
    harness.serve()
    harness.supervisor.stop()
    assert "STOPPING=1" in harness.notifier.lines
    assert f"EXTEND_TIMEOUT_USEC={round((DRAIN_TIMEOUT + 20) * 1e6)}" in harness.notifier.lines, (
        "includes the time until the workers are killed"
    )
    assert all(fake_worker.was_told_to_drain for fake_worker in harness.fake_workers)
    assert harness.supervisor.unready() == DRAINING
    assert "draining" in str(harness.supervisor.unready())
    harness.fake_workers[0].exits("exit code 0")
    assert harness.exit_codes == []
    harness.fake_workers[1].exits("exit code 0")
    assert harness.exit_codes == [0]


def test_a_second_stop_signal_kills_the_workers(harness: SupervisorHarness) -> None:
    """And the daemon exits."""
    harness.serve()
    harness.supervisor.stop()
    harness.supervisor.stop()
    assert all(fake_worker.was_killed for fake_worker in harness.fake_workers)
    assert harness.exit_codes == [0]


def test_a_draining_worker_that_does_not_exit_in_time_is_killed(harness: SupervisorHarness) -> None:
    """It has `EXIT_GRACE` seconds beyond drain_timeout."""
    harness.serve(1)
    harness.supervisor.stop()
    harness.run_checks(int(DRAIN_TIMEOUT + EXIT_GRACE) - 1)
    assert not harness.fake_workers[0].was_killed
    harness.run_checks(1)
    assert harness.fake_workers[0].was_killed
    assert harness.exit_codes == [0]


def test_no_worker_is_started_after_a_stop_signal(harness: SupervisorHarness) -> None:
    """Neither as a replacement nor on a new configuration, whose workers drain too."""
    harness.serve()
    harness.fake_workers[0].exits("signal SIGKILL")
    new = reloaded(harness, plan())
    harness.supervisor.stop()
    for fake_worker in new:
        assert fake_worker.was_told_to_drain
        fake_worker.reports(Ready())
        fake_worker.exits("exit code 0")
    harness.fake_workers[1].exits("exit code 0")
    harness.supervisor.reload()
    harness.clock.advance(MAX_RESTART_DELAY)
    assert len(harness.fake_workers) == 4
    assert harness.exit_codes == [0]


def test_after_the_exit_no_delayed_call_is_left(harness: SupervisorHarness) -> None:
    """Also no health check."""
    harness.serve(1)
    harness.supervisor.stop()
    harness.fake_workers[0].exits("exit code 0")
    harness.clock.advance(DRAIN_TIMEOUT + EXIT_GRACE)
    assert harness.clock.getDelayedCalls() == []


# Log and counts


def test_all_workers_reopen_the_log_file(harness: SupervisorHarness) -> None:
    """Also draining workers: they log until they exit."""
    harness.serve()
    harness.fake_workers[0].reports(Draining())
    harness.supervisor.reopen_log()
    assert all(ReopenLog() in fake_worker.commands for fake_worker in harness.fake_workers)


def snapshots(harness: SupervisorHarness) -> Deferred[Any]:
    """Request the counts of all workers."""
    return Deferred.fromCoroutine(harness.supervisor.snapshots())


def test_the_counts_of_running_workers_are_requested_and_those_of_dead_workers_kept(
    harness: SupervisorHarness,
) -> None:
    """The sum never decreases."""
    harness.serve()
    harness.fake_workers[0].reports(Heartbeat({"econed_uploads": [[["ok"], [5.0]]]}))
    harness.fake_workers[0].exits("signal SIGKILL")
    requested = snapshots(harness)
    (request,) = [command for command in harness.fake_workers[1].commands if isinstance(command, GetCounts)]
    harness.fake_workers[1].reports(CountsReply(request.number, {"econed_uploads": [[["ok"], [2.0]]]}))
    results: list[Any] = []
    requested.addCallback(results.append)
    counts = merged(results[0])
    assert counts["econed_uploads"] == [(["ok"], [7.0])]
    assert gauge(counts, "econed_workers") == 1
    assert counts["econed_worker_restarts"] == [([], [1.0])]


def test_of_a_worker_that_does_not_reply_the_last_reported_counts_are_used(harness: SupervisorHarness) -> None:
    """After `COUNTS_TIMEOUT`."""
    harness.serve(1)
    harness.fake_workers[0].reports(Heartbeat({"econed_uploads": [[["ok"], [5.0]]]}))
    results: list[Any] = []
    snapshots(harness).addCallback(results.append)
    assert results == []
    harness.clock.advance(COUNTS_TIMEOUT)
    assert merged(results[0])["econed_uploads"] == [(["ok"], [5.0])]


def test_without_a_serving_worker_the_daemon_is_not_ready(harness: SupervisorHarness) -> None:
    """As /readyz reports; the supervisor need not be restarted."""
    harness.serve(1)
    harness.fake_workers[0].exits("signal SIGKILL")
    assert harness.supervisor.unready() == "no worker accepts connections"
    assert harness.notifier.lines[-1] == "STATUS=0 of 1 workers serve"


# Shares of limits


@pytest.mark.parametrize(("whole", "of"), [(8, 1), (8, 2), (8, 3), (15, 4), (5, 5)])
def test_the_shares_of_one_calls_add_up_to_the_whole(whole: int, of: int) -> None:
    """Each is at least one, and they differ by at most one."""
    shares = [worker_share(Settings(one_calls=whole), index, of).one_calls for index in range(of)]
    assert sum(shares) == whole
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1


def test_the_rate_of_requests_is_divided_and_limits_for_each_process_are_not() -> None:
    """A burst is at least one request."""
    share = worker_share(Settings(rate_limit=9.0, rate_burst=2), 2, 3)
    assert (share.rate_limit, share.rate_burst) == (3.0, 1)
    assert worker_share(Settings(rate_limit=None), 0, 3).rate_limit is None
    assert share.max_connections_per_address == Settings().max_connections_per_address
