"""The supervisor with a clock and workers that the tests control."""

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
    ASK_FOR,
    FIRST_SOCKET,
    FIRST_WAIT,
    LONGEST_WAIT,
    STEADY,
    Hears,
    IWorker,
    Plan,
    share,
)
from econed.process.interfaces import IWatched
from econed.process.listening import Bound, CannotListen
from econed.process.messages import Ask, Beat, Begin, Command, Counted, Drain, Draining, Failed, Ready, ReopenLog
from econed.process.supervisor import GRACE, LOOK_EVERY, QUIET, STARTING, Supervisor
from econed.telemetry import logs
from econed.telemetry.merging import gauge, merged
from econed.telemetry.metrics import Metrics
from tests.support.service_manager import RecordingNotifier

DRAIN_TIMEOUT = 30.0


@implementer(IWorker)
class FakeWorker:
    """A worker whose part a test plays."""

    def __init__(self, pid: int, sockets: tuple[Bound, ...], hears: Hears) -> None:
        self.pid = pid
        self.sockets = sockets
        self.says = hears.told
        self.hears = hears
        self.told: list[Command] = []
        self.is_killed = False
        self.is_dead = False

    def send(self, command: Command) -> None:
        """Take note."""
        self.told.append(command)

    def dies(self, how: str) -> None:
        """Be dead."""
        self.is_dead = True
        self.hears.ended(how)

    def kill(self) -> None:
        """Take note, and be dead."""
        self.is_killed = True
        self.dies("signal SIGKILL")

    @property
    def is_told_to_drain(self) -> bool:
        """Whether it is to end."""
        return Drain() in self.told


@dataclass
class SupervisorHarness:
    """A supervisor with all that is around it."""

    clock: Clock = field(default_factory=Clock)
    fake_workers: list[FakeWorker] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    events: list[LogEvent] = field(default_factory=list)
    taken: list[Plan] = field(default_factory=list)
    notifier: RecordingNotifier = field(default_factory=RecordingNotifier)
    metrics: Metrics = field(default_factory=Metrics)
    next: Plan | Exception | None = None
    no_more_processes: bool = False
    supervisor: Supervisor = field(init=False)

    def begin(self, workers: int = 2) -> SupervisorHarness:
        """Start it."""
        self.supervisor = Supervisor(
            plan(workers),
            self.spawn,
            self.load,
            self.clock,
            jitter=lambda: 1.0,
            notifier=self.notifier,
            metrics=self.metrics,
            ended=self.ended.append,
            taken=self.taken.append,
            log=Logger(namespace="econed.supervisor", observer=self.events.append),  # type: ignore[arg-type]
        )
        self.supervisor.start()
        return self

    def spawn(self, sockets: tuple[Bound, ...], hears: Hears) -> IWorker:
        """Start a worker."""
        if self.no_more_processes:
            raise OSError(11, "Resource temporarily unavailable")
        fake_worker = FakeWorker(1000 + len(self.fake_workers), sockets, hears)
        self.fake_workers.append(fake_worker)
        return fake_worker

    def load(self, before: tuple[Bound, ...]) -> Plan:
        """Read the configuration."""
        if isinstance(self.next, Exception):
            raise self.next
        assert self.next is not None
        return self.next

    def serving(self, workers: int = 2) -> SupervisorHarness:
        """Start it, and let all workers come to listen."""
        self.begin(workers)
        for fake_worker in self.fake_workers:
            fake_worker.says(Ready())
        return self

    def looks(self, count: int, *silent: FakeWorker) -> None:
        """Let so many looks pass, before each of which all workers but those that are dead or `silent` report."""
        for _ in range(count):
            for fake_worker in self.fake_workers:
                if not fake_worker.is_dead and fake_worker not in silent:
                    fake_worker.says(Beat())
            self.clock.advance(LOOK_EVERY)

    def said(self, level: LogLevel) -> list[str]:
        """Return what the log has of a level."""
        return [formatEvent(event) for event in self.events if event["log_level"] is level]


def plan(workers: int = 2, text: str = ":port: 4567\n", sockets: tuple[Bound, ...] = ()) -> Plan:
    """Return what workers are to run on."""
    settings = Settings(workers=workers, drain_timeout=DRAIN_TIMEOUT)
    return Plan(Source(Path("/etc/one/econe.conf"), text), settings, sockets, logs.LogPlace("stdout"))


@pytest.fixture
def harness() -> SupervisorHarness:
    """A supervisor that has not begun."""
    return SupervisorHarness()


@pytest.fixture
def listener() -> Iterator[Bound]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield Bound(made, False)


def test_it_is_what_the_administrators_port_asks_and_its_workers_are_what_it_expects(
    harness: SupervisorHarness,
) -> None:
    """The real thing and the stand-in, by their interfaces."""
    harness.serving()
    assert verifyObject(IWatched, harness.supervisor)
    assert verifyObject(IWorker, harness.fake_workers[0])


# The start


def test_every_worker_is_told_the_configuration_its_number_and_its_sockets(
    harness: SupervisorHarness, listener: Bound
) -> None:
    """The text, not the file: what stands there later is for the next generation."""
    harness.supervisor = Supervisor(
        plan(2, ":workers: 2\n", (listener,)),
        harness.spawn,
        harness.load,
        harness.clock,
        jitter=lambda: 1.0,
        notifier=harness.notifier,
        metrics=harness.metrics,
        ended=harness.ended.append,
        log=Logger(observer=harness.events.append),  # type: ignore[arg-type]
    )
    harness.supervisor.start()
    begins = [fake_worker.told[0] for fake_worker in harness.fake_workers]
    assert all(isinstance(begin, Begin) for begin in begins)
    told = [(begin.index, begin.of, begin.text, begin.path) for begin in begins if isinstance(begin, Begin)]
    assert told == [(number, 2, ":workers: 2\n", "/etc/one/econe.conf") for number in (0, 1)]
    assert [each.descriptor for begin in begins if isinstance(begin, Begin) for each in begin.sockets] == [
        FIRST_SOCKET
    ] * 2
    assert all(fake_worker.sockets == (listener,) for fake_worker in harness.fake_workers)


def test_systemd_is_told_when_all_workers_listen_and_not_before(harness: SupervisorHarness) -> None:
    """READY is after listening."""
    harness.begin()
    harness.fake_workers[0].says(Ready())
    assert "READY=1" not in harness.notifier.said
    assert harness.supervisor.unready() is None, "one of them serves"
    harness.fake_workers[1].says(Ready())
    assert harness.notifier.said[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]


def test_if_no_worker_can_start_the_daemon_ends_with_an_error(harness: SupervisorHarness) -> None:
    """And with their reason in the log, once each."""
    harness.begin()
    for fake_worker in list(harness.fake_workers):
        fake_worker.says(Failed("/etc/one/ec2query_templates/m1.small.erb: cannot be read"))
        fake_worker.dies("exit code 1")
    assert harness.ended == [1]
    assert sum("m1.small.erb: cannot be read" in line for line in harness.said(LogLevel.error)) == 2
    assert len(harness.fake_workers) == 2, "none is tried again"
    assert "READY=1" not in harness.notifier.said


def test_if_the_system_has_no_process_to_give_that_is_a_worker_that_cannot_start(harness: SupervisorHarness) -> None:
    """Not a traceback."""
    harness.no_more_processes = True
    harness.begin()
    assert harness.ended == [1]
    assert "no process can be started: Resource temporarily unavailable" in harness.said(LogLevel.error)[0]


def test_if_only_some_can_start_the_daemon_serves_and_the_others_are_tried_again(harness: SupervisorHarness) -> None:
    """Better than nothing, and said."""
    harness.begin()
    harness.fake_workers[0].says(Ready())
    harness.fake_workers[1].dies("signal SIGSEGV")
    assert harness.ended == []
    assert harness.notifier.said[-1] == "STATUS=1 of 2 workers serve"
    harness.clock.advance(FIRST_WAIT)
    assert len(harness.fake_workers) == 3


# Workers that die or hang


def test_a_worker_that_dies_is_replaced_on_the_same_configuration(harness: SupervisorHarness) -> None:
    """Also where another stands in the file by now, which nobody has asked to be read."""
    harness.serving()
    harness.next = plan(2, ":port: 1\n")
    harness.looks(STEADY)
    harness.fake_workers[1].dies("signal SIGKILL")
    harness.clock.advance(FIRST_WAIT)
    (begin,) = harness.fake_workers[2].told
    assert begin == harness.fake_workers[1].told[0]


def test_one_that_dies_again_and_again_is_replaced_ever_more_slowly_up_to_a_limit(harness: SupervisorHarness) -> None:
    """So that the daemon does not do nothing but start processes."""
    harness.serving()
    waits = []
    for _ in range(12):
        count = len(harness.fake_workers)
        harness.fake_workers[-1].dies("exit code 1")
        waited = 0.0
        while len(harness.fake_workers) == count:
            harness.clock.advance(0.25)
            harness.fake_workers[0].says(Beat())
            waited += 0.25
        waits.append(waited)
    assert waits[:4] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    assert waits == sorted(waits)


def test_after_a_steady_time_a_death_is_the_first_again(harness: SupervisorHarness) -> None:
    """A worker that dies once a day is back at once."""
    harness.serving(1)
    for _ in range(3):
        harness.fake_workers[-1].dies("exit code 1")
        harness.clock.advance(LONGEST_WAIT)
    harness.fake_workers[-1].says(Ready())
    harness.looks(STEADY)
    count = len(harness.fake_workers)
    harness.fake_workers[-1].dies("exit code 1")
    harness.clock.advance(FIRST_WAIT)
    assert len(harness.fake_workers) == count + 1


def test_the_wait_is_spread_so_that_workers_do_not_start_in_step(harness: SupervisorHarness) -> None:
    """From half of it to all of it."""
    harness.serving()
    harness.supervisor._jitter = lambda: 0.0
    harness.fake_workers[0].dies("exit code 1")
    harness.clock.advance(FIRST_WAIT / 2)
    assert len(harness.fake_workers) == 3


def test_a_worker_that_does_not_report_is_killed_and_replaced(harness: SupervisorHarness) -> None:
    """Its reactor hangs; one that reports is left alone."""
    harness.serving()
    harness.looks(QUIET, harness.fake_workers[1])
    assert [fake_worker.is_killed for fake_worker in harness.fake_workers[:2]] == [False, True]
    assert f"has not reported for {QUIET} s: it is killed" in harness.said(LogLevel.error)[0]
    harness.clock.advance(FIRST_WAIT)
    assert len(harness.fake_workers) == 3


def test_silence_is_counted_in_looks_so_that_a_machine_that_slept_kills_nobody(harness: SupervisorHarness) -> None:
    """And a clock that was set forward neither."""
    harness.serving()
    harness.clock.advance(QUIET * 100)
    assert not any(fake_worker.is_killed for fake_worker in harness.fake_workers)


def test_a_worker_that_never_comes_to_listen_is_killed(harness: SupervisorHarness) -> None:
    """It has more time for it than one that serves may be silent."""
    harness.begin(1)
    harness.looks(STARTING - 1, harness.fake_workers[0])
    assert not harness.fake_workers[0].is_killed
    harness.looks(1, harness.fake_workers[0])
    assert harness.fake_workers[0].is_killed
    assert harness.ended == [1]


def test_a_worker_that_somebody_else_told_to_end_is_replaced_at_once(harness: SupervisorHarness) -> None:
    """It says so when it begins to drain; its end is no death."""
    harness.serving()
    harness.fake_workers[0].says(Draining())
    assert len(harness.fake_workers) == 3
    harness.fake_workers[2].says(Ready())
    harness.fake_workers[0].dies("exit code 0")
    harness.clock.advance(LONGEST_WAIT)
    assert len(harness.fake_workers) == 3
    assert harness.said(LogLevel.error) == []


# A new configuration


def reloaded(harness: SupervisorHarness, new: Plan) -> list[FakeWorker]:
    """Have the configuration read anew, and return the workers that start on it."""
    before = len(harness.fake_workers)
    harness.next = new
    harness.supervisor.reload()
    return harness.fake_workers[before:]


def test_the_old_workers_drain_when_all_the_new_ones_listen_and_not_before(harness: SupervisorHarness) -> None:
    """There is no moment in which nobody listens."""
    old = list(harness.serving().fake_workers)
    new = reloaded(harness, plan(3, ":workers: 3\n"))
    assert [begin.text for fake_worker in new for begin in fake_worker.told if isinstance(begin, Begin)] == [
        ":workers: 3\n"
    ] * 3
    for fake_worker in new[:2]:
        fake_worker.says(Ready())
    assert not any(fake_worker.is_told_to_drain for fake_worker in old)
    new[2].says(Ready())
    assert all(fake_worker.is_told_to_drain for fake_worker in old)
    assert not any(fake_worker.is_told_to_drain for fake_worker in new)
    assert harness.taken == [harness.next]
    for fake_worker in old:
        fake_worker.dies("exit code 0")
    harness.clock.advance(LONGEST_WAIT)
    assert len(harness.fake_workers) == 5, "those that drained are not replaced"


def test_systemd_sees_the_reading_and_its_end(harness: SupervisorHarness) -> None:
    """RELOADING with the time, then READY (Type=notify-reload)."""
    harness.serving()
    harness.notifier.said.clear()
    new = reloaded(harness, plan())
    assert harness.notifier.said[0] == "RELOADING=1"
    assert harness.notifier.said[1].startswith("MONOTONIC_USEC=")
    assert "READY=1" not in harness.notifier.said
    for fake_worker in new:
        fake_worker.says(Ready())
    assert "READY=1" in harness.notifier.said


@pytest.mark.parametrize(
    "wrong",
    [
        ConfigError((ConfigProblem("/etc/one/econe.conf", "expected a number", 3, "port"),)),
        CannotListen("nothing can listen on 0.0.0.0:80: Permission denied"),
        RecursionError("whatever nobody has thought of"),
    ],
)
def test_a_bad_configuration_is_refused_and_the_old_workers_go_on(harness: SupervisorHarness, wrong: Exception) -> None:
    """With what is wrong with it in the log."""
    harness.serving()
    harness.next = wrong
    harness.supervisor.reload()
    assert len(harness.fake_workers) == 2
    assert not any(fake_worker.is_told_to_drain for fake_worker in harness.fake_workers)
    assert str(wrong) in harness.said(LogLevel.error)[-1]
    assert harness.notifier.said[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]
    assert harness.supervisor.unready() is None


def test_a_configuration_on_which_one_worker_cannot_start_is_not_used(harness: SupervisorHarness) -> None:
    """Those that did start on it end, and the old ones go on."""
    old = list(harness.serving().fake_workers)
    new = reloaded(harness, plan())
    new[0].says(Ready())
    new[1].says(Failed("no such file"))
    new[1].dies("exit code 1")
    assert new[0].is_told_to_drain
    assert not any(fake_worker.is_told_to_drain for fake_worker in old)
    assert any("the old one stays" in line for line in harness.said(LogLevel.error))
    new[0].dies("exit code 0")
    harness.clock.advance(LONGEST_WAIT)
    assert len(harness.fake_workers) == 4


def test_one_that_dies_before_all_the_others_listen_counts_as_one_that_cannot_start(harness: SupervisorHarness) -> None:
    """Nobody would be there in its place."""
    old = list(harness.serving().fake_workers)
    new = reloaded(harness, plan())
    new[0].says(Ready())
    new[0].dies("signal SIGKILL")
    new[1].says(Ready())
    assert new[1].is_told_to_drain
    assert not any(fake_worker.is_told_to_drain for fake_worker in old)


def test_an_old_worker_that_dies_meanwhile_is_replaced_until_the_new_ones_take_over(harness: SupervisorHarness) -> None:
    """One configuration is read, the other still serves; a replacement that is due then is not made any more."""
    old = list(harness.serving().fake_workers)
    new = reloaded(harness, plan(2, ":workers: 2\n"))
    old[0].dies("signal SIGKILL")
    harness.clock.advance(FIRST_WAIT)
    again = harness.fake_workers[-1]
    assert again.told == [old[0].told[0]]
    old[1].dies("signal SIGKILL")
    for fake_worker in new:
        fake_worker.says(Ready())
    count = len(harness.fake_workers)
    harness.clock.advance(LONGEST_WAIT)
    assert again.is_told_to_drain
    assert len(harness.fake_workers) == count


def test_a_second_hangup_while_the_first_is_under_way_is_done_after_it(harness: SupervisorHarness) -> None:
    """What stands in the file last is what counts in the end."""
    harness.serving()
    first = reloaded(harness, plan(1, "first\n"))
    assert reloaded(harness, plan(1, "second\n")) == []
    first[0].says(Ready())
    (begin,) = harness.fake_workers[-1].told
    assert isinstance(begin, Begin)
    assert begin.text == "second\n"


def test_sockets_that_the_new_configuration_does_not_have_are_closed(harness: SupervisorHarness) -> None:
    """Here; the old workers close their own when they drain. Those of a configuration that failed are closed too."""
    first, second, third = (Bound(socket.create_server(("127.0.0.1", 0)), False) for _ in range(3))
    harness.serving()
    for fake_worker in reloaded(harness, plan(1, sockets=(first, second))):
        fake_worker.says(Ready())
    (fake_worker,) = reloaded(harness, plan(1, sockets=(first, third)))
    fake_worker.dies("exit code 1")
    assert third.socket.fileno() == -1
    (fake_worker,) = reloaded(harness, plan(1, sockets=(first,)))
    fake_worker.says(Ready())
    assert second.socket.fileno() == -1
    assert first.socket.fileno() != -1
    harness.supervisor.end()
    assert first.socket.fileno() == -1


# The end


def test_at_the_end_all_workers_drain_and_the_exit_code_is_0_when_the_last_has_ended(
    harness: SupervisorHarness,
) -> None:
    """What systemd is told comes first."""
    harness.serving()
    harness.supervisor.end()
    assert "STOPPING=1" in harness.notifier.said
    assert f"EXTEND_TIMEOUT_USEC={round((DRAIN_TIMEOUT + 20) * 1e6)}" in harness.notifier.said, (
        "a kill after it included"
    )
    assert all(fake_worker.is_told_to_drain for fake_worker in harness.fake_workers)
    assert harness.supervisor.unready() == DRAINING
    assert "draining" in str(harness.supervisor.unready())
    harness.fake_workers[0].dies("exit code 0")
    assert harness.ended == []
    harness.fake_workers[1].dies("exit code 0")
    assert harness.ended == [0]


def test_told_a_second_time_it_ends_at_once(harness: SupervisorHarness) -> None:
    """With its workers."""
    harness.serving()
    harness.supervisor.end()
    harness.supervisor.end()
    assert all(fake_worker.is_killed for fake_worker in harness.fake_workers)
    assert harness.ended == [0]


def test_a_worker_that_does_not_end_in_time_is_killed(harness: SupervisorHarness) -> None:
    """It has its drain_timeout, and a little more to put its things away."""
    harness.serving(1)
    harness.supervisor.end()
    harness.looks(int(DRAIN_TIMEOUT + GRACE) - 1)
    assert not harness.fake_workers[0].is_killed
    harness.looks(1)
    assert harness.fake_workers[0].is_killed
    assert harness.ended == [0]


def test_at_the_end_nobody_is_started_any_more(harness: SupervisorHarness) -> None:
    """Neither for one that has died, nor for a new configuration, of which the workers end too."""
    harness.serving()
    harness.fake_workers[0].dies("signal SIGKILL")
    new = reloaded(harness, plan())
    harness.supervisor.end()
    for fake_worker in new:
        assert fake_worker.is_told_to_drain
        fake_worker.says(Ready())
        fake_worker.dies("exit code 0")
    harness.fake_workers[1].dies("exit code 0")
    harness.supervisor.reload()
    harness.clock.advance(LONGEST_WAIT)
    assert len(harness.fake_workers) == 4
    assert harness.ended == [0]


def test_when_all_is_over_nothing_is_left_on_the_clock_that_starts_anything(harness: SupervisorHarness) -> None:
    """The looks have ended."""
    harness.serving(1)
    harness.supervisor.end()
    harness.fake_workers[0].dies("exit code 0")
    harness.clock.advance(DRAIN_TIMEOUT + GRACE)
    assert harness.clock.getDelayedCalls() == []


# Logs and numbers


def test_the_log_is_opened_anew_in_all_workers(harness: SupervisorHarness) -> None:
    """Those that drain too: they write until they end."""
    harness.serving()
    harness.fake_workers[0].says(Draining())
    harness.supervisor.reopen_log()
    assert all(ReopenLog() in fake_worker.told for fake_worker in harness.fake_workers)


def numbers(harness: SupervisorHarness) -> Deferred[Any]:
    """Ask for what has been counted."""
    return Deferred.fromCoroutine(harness.supervisor.snapshots())


def test_what_workers_counted_is_asked_of_all_and_what_dead_ones_counted_is_kept(harness: SupervisorHarness) -> None:
    """The sum never goes down."""
    harness.serving()
    harness.fake_workers[0].says(Beat({"econed_uploads": [[["ok"], [5.0]]]}))
    harness.fake_workers[0].dies("signal SIGKILL")
    asked = numbers(harness)
    (ask,) = [command for command in harness.fake_workers[1].told if isinstance(command, Ask)]
    harness.fake_workers[1].says(Counted(ask.number, {"econed_uploads": [[["ok"], [2.0]]]}))
    found: list[Any] = []
    asked.addCallback(found.append)
    together = merged(found[0])
    assert together["econed_uploads"] == [(["ok"], [7.0])]
    assert gauge(together, "econed_workers") == 1
    assert together["econed_worker_restarts"] == [([], [1.0])]


def test_a_worker_that_does_not_answer_counts_with_what_it_said_last(harness: SupervisorHarness) -> None:
    """In bounded time."""
    harness.serving(1)
    harness.fake_workers[0].says(Beat({"econed_uploads": [[["ok"], [5.0]]]}))
    found: list[Any] = []
    numbers(harness).addCallback(found.append)
    assert found == []
    harness.clock.advance(ASK_FOR)
    assert merged(found[0])["econed_uploads"] == [(["ok"], [5.0])]


def test_without_a_worker_that_serves_it_is_not_ready(harness: SupervisorHarness) -> None:
    """Which /readyz tells; it is no reason to restart the supervisor."""
    harness.serving(1)
    harness.fake_workers[0].dies("signal SIGKILL")
    assert harness.supervisor.unready() == "no worker takes connections"
    assert harness.notifier.said[-1] == "STATUS=0 of 1 workers serve"


# Budgets


@pytest.mark.parametrize(("whole", "of"), [(8, 1), (8, 2), (8, 3), (15, 4), (5, 5)])
def test_the_shares_of_the_calls_to_oned_add_up_to_the_whole(whole: int, of: int) -> None:
    """Nobody has none, and nobody much more than another."""
    shares = [share(Settings(one_calls=whole), index, of).one_calls for index in range(of)]
    assert sum(shares) == whole
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1


def test_the_rate_of_requests_is_divided_and_what_is_for_each_process_is_not() -> None:
    """A burst is at least one request."""
    mine = share(Settings(rate_limit=9.0, rate_burst=2), 2, 3)
    assert (mine.rate_limit, mine.rate_burst) == (3.0, 1)
    assert share(Settings(rate_limit=None), 0, 3).rate_limit is None
    assert mine.max_connections_per_address == Settings().max_connections_per_address
