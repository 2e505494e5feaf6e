"""The supervisor on a clock that is turned by hand, with workers that do what the tests say."""

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

from econed import logs
from econed.admin import DRAINING
from econed.config import ConfigError, Finding, Source
from econed.control import Ask, Beat, Begin, Command, Counted, Drain, Draining, Failed, Ready, ReopenLog
from econed.interfaces import IWatched
from econed.listening import Bound, CannotListen
from econed.metrics import Metrics
from econed.settings import Settings
from econed.snapshots import gauge, merged
from econed.supervisor import GRACE, LOOK_EVERY, QUIET, STARTING, Supervisor
from econed.workers import ASK_FOR, FIRST_SOCKET, FIRST_WAIT, LONGEST_WAIT, STEADY, Hears, IWorker, Plan, share
from tests.support.manager import Told

DRAIN_TIMEOUT = 30.0


@implementer(IWorker)
class Hand:
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
class House:
    """A supervisor with all that is around it."""

    clock: Clock = field(default_factory=Clock)
    hands: list[Hand] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    events: list[LogEvent] = field(default_factory=list)
    taken: list[Plan] = field(default_factory=list)
    notifier: Told = field(default_factory=Told)
    metrics: Metrics = field(default_factory=Metrics)
    next: Plan | Exception | None = None
    no_more_processes: bool = False
    supervisor: Supervisor = field(init=False)

    def begin(self, workers: int = 2) -> House:
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
        hand = Hand(1000 + len(self.hands), sockets, hears)
        self.hands.append(hand)
        return hand

    def load(self, before: tuple[Bound, ...]) -> Plan:
        """Read the configuration."""
        if isinstance(self.next, Exception):
            raise self.next
        assert self.next is not None
        return self.next

    def serving(self, workers: int = 2) -> House:
        """Start it, and let all workers come to listen."""
        self.begin(workers)
        for hand in self.hands:
            hand.says(Ready())
        return self

    def looks(self, count: int, *silent: Hand) -> None:
        """Let so many looks pass, before each of which all workers but those that are dead or `silent` report."""
        for _ in range(count):
            for hand in self.hands:
                if not hand.is_dead and hand not in silent:
                    hand.says(Beat())
            self.clock.advance(LOOK_EVERY)

    def said(self, level: LogLevel) -> list[str]:
        """Return what the log has of a level."""
        return [formatEvent(event) for event in self.events if event["log_level"] is level]


def plan(workers: int = 2, text: str = ":port: 4567\n", sockets: tuple[Bound, ...] = ()) -> Plan:
    """Return what workers are to run on."""
    settings = Settings(workers=workers, drain_timeout=DRAIN_TIMEOUT)
    return Plan(Source(Path("/etc/one/econe.conf"), text), settings, sockets, logs.LogPlace("stdout"))


@pytest.fixture
def house() -> House:
    """A supervisor that has not begun."""
    return House()


@pytest.fixture
def listener() -> Iterator[Bound]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield Bound(made, False)


def test_it_is_what_the_administrators_port_asks_and_its_workers_are_what_it_expects(house: House) -> None:
    """The real thing and the stand-in, by their interfaces."""
    house.serving()
    assert verifyObject(IWatched, house.supervisor)
    assert verifyObject(IWorker, house.hands[0])


# The start


def test_every_worker_is_told_the_configuration_its_number_and_its_sockets(house: House, listener: Bound) -> None:
    """The text, not the file: what stands there later is for the next generation."""
    house.supervisor = Supervisor(
        plan(2, ":workers: 2\n", (listener,)),
        house.spawn,
        house.load,
        house.clock,
        jitter=lambda: 1.0,
        notifier=house.notifier,
        metrics=house.metrics,
        ended=house.ended.append,
        log=Logger(observer=house.events.append),  # type: ignore[arg-type]
    )
    house.supervisor.start()
    begins = [hand.told[0] for hand in house.hands]
    assert all(isinstance(begin, Begin) for begin in begins)
    told = [(begin.index, begin.of, begin.text, begin.path) for begin in begins if isinstance(begin, Begin)]
    assert told == [(number, 2, ":workers: 2\n", "/etc/one/econe.conf") for number in (0, 1)]
    assert [each.descriptor for begin in begins if isinstance(begin, Begin) for each in begin.sockets] == [
        FIRST_SOCKET
    ] * 2
    assert all(hand.sockets == (listener,) for hand in house.hands)


def test_systemd_is_told_when_all_workers_listen_and_not_before(house: House) -> None:
    """READY is after listening."""
    house.begin()
    house.hands[0].says(Ready())
    assert "READY=1" not in house.notifier.said
    assert house.supervisor.unready() is None, "one of them serves"
    house.hands[1].says(Ready())
    assert house.notifier.said[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]


def test_if_no_worker_can_start_the_daemon_ends_with_an_error(house: House) -> None:
    """And with their reason in the log, once each."""
    house.begin()
    for hand in list(house.hands):
        hand.says(Failed("/etc/one/ec2query_templates/m1.small.erb: cannot be read"))
        hand.dies("exit code 1")
    assert house.ended == [1]
    assert sum("m1.small.erb: cannot be read" in line for line in house.said(LogLevel.error)) == 2
    assert len(house.hands) == 2, "none is tried again"
    assert "READY=1" not in house.notifier.said


def test_if_the_system_has_no_process_to_give_that_is_a_worker_that_cannot_start(house: House) -> None:
    """Not a traceback."""
    house.no_more_processes = True
    house.begin()
    assert house.ended == [1]
    assert "no process can be started: Resource temporarily unavailable" in house.said(LogLevel.error)[0]


def test_if_only_some_can_start_the_daemon_serves_and_the_others_are_tried_again(house: House) -> None:
    """Better than nothing, and said."""
    house.begin()
    house.hands[0].says(Ready())
    house.hands[1].dies("signal SIGSEGV")
    assert house.ended == []
    assert house.notifier.said[-1] == "STATUS=1 of 2 workers serve"
    house.clock.advance(FIRST_WAIT)
    assert len(house.hands) == 3


# Workers that die or hang


def test_a_worker_that_dies_is_replaced_on_the_same_configuration(house: House) -> None:
    """Also where another stands in the file by now, which nobody has asked to be read."""
    house.serving()
    house.next = plan(2, ":port: 1\n")
    house.looks(STEADY)
    house.hands[1].dies("signal SIGKILL")
    house.clock.advance(FIRST_WAIT)
    (begin,) = house.hands[2].told
    assert begin == house.hands[1].told[0]


def test_one_that_dies_again_and_again_is_replaced_ever_more_slowly_up_to_a_limit(house: House) -> None:
    """So that the daemon does not do nothing but start processes."""
    house.serving()
    waits = []
    for _ in range(12):
        count = len(house.hands)
        house.hands[-1].dies("exit code 1")
        waited = 0.0
        while len(house.hands) == count:
            house.clock.advance(0.25)
            house.hands[0].says(Beat())
            waited += 0.25
        waits.append(waited)
    assert waits[:4] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    assert waits == sorted(waits)


def test_after_a_steady_time_a_death_is_the_first_again(house: House) -> None:
    """A worker that dies once a day is back at once."""
    house.serving(1)
    for _ in range(3):
        house.hands[-1].dies("exit code 1")
        house.clock.advance(LONGEST_WAIT)
    house.hands[-1].says(Ready())
    house.looks(STEADY)
    count = len(house.hands)
    house.hands[-1].dies("exit code 1")
    house.clock.advance(FIRST_WAIT)
    assert len(house.hands) == count + 1


def test_the_wait_is_spread_so_that_workers_do_not_start_in_step(house: House) -> None:
    """From half of it to all of it."""
    house.serving()
    house.supervisor._jitter = lambda: 0.0
    house.hands[0].dies("exit code 1")
    house.clock.advance(FIRST_WAIT / 2)
    assert len(house.hands) == 3


def test_a_worker_that_does_not_report_is_killed_and_replaced(house: House) -> None:
    """Its reactor hangs; one that reports is left alone."""
    house.serving()
    house.looks(QUIET, house.hands[1])
    assert [hand.is_killed for hand in house.hands[:2]] == [False, True]
    assert f"has not reported for {QUIET} s: it is killed" in house.said(LogLevel.error)[0]
    house.clock.advance(FIRST_WAIT)
    assert len(house.hands) == 3


def test_silence_is_counted_in_looks_so_that_a_machine_that_slept_kills_nobody(house: House) -> None:
    """And a clock that was set forward neither."""
    house.serving()
    house.clock.advance(QUIET * 100)
    assert not any(hand.is_killed for hand in house.hands)


def test_a_worker_that_never_comes_to_listen_is_killed(house: House) -> None:
    """It has more time for it than one that serves may be silent."""
    house.begin(1)
    house.looks(STARTING - 1, house.hands[0])
    assert not house.hands[0].is_killed
    house.looks(1, house.hands[0])
    assert house.hands[0].is_killed
    assert house.ended == [1]


def test_a_worker_that_somebody_else_told_to_end_is_replaced_at_once(house: House) -> None:
    """It says so when it begins to drain; its end is no death."""
    house.serving()
    house.hands[0].says(Draining())
    assert len(house.hands) == 3
    house.hands[2].says(Ready())
    house.hands[0].dies("exit code 0")
    house.clock.advance(LONGEST_WAIT)
    assert len(house.hands) == 3
    assert house.said(LogLevel.error) == []


# A new configuration


def reloaded(house: House, new: Plan) -> list[Hand]:
    """Have the configuration read anew, and return the workers that start on it."""
    before = len(house.hands)
    house.next = new
    house.supervisor.reload()
    return house.hands[before:]


def test_the_old_workers_drain_when_all_the_new_ones_listen_and_not_before(house: House) -> None:
    """There is no moment in which nobody listens."""
    old = list(house.serving().hands)
    new = reloaded(house, plan(3, ":workers: 3\n"))
    assert [begin.text for hand in new for begin in hand.told if isinstance(begin, Begin)] == [":workers: 3\n"] * 3
    for hand in new[:2]:
        hand.says(Ready())
    assert not any(hand.is_told_to_drain for hand in old)
    new[2].says(Ready())
    assert all(hand.is_told_to_drain for hand in old)
    assert not any(hand.is_told_to_drain for hand in new)
    assert house.taken == [house.next]
    for hand in old:
        hand.dies("exit code 0")
    house.clock.advance(LONGEST_WAIT)
    assert len(house.hands) == 5, "those that drained are not replaced"


def test_systemd_sees_the_reading_and_its_end(house: House) -> None:
    """RELOADING with the time, then READY (Type=notify-reload)."""
    house.serving()
    house.notifier.said.clear()
    new = reloaded(house, plan())
    assert house.notifier.said[0] == "RELOADING=1"
    assert house.notifier.said[1].startswith("MONOTONIC_USEC=")
    assert "READY=1" not in house.notifier.said
    for hand in new:
        hand.says(Ready())
    assert "READY=1" in house.notifier.said


@pytest.mark.parametrize(
    "wrong",
    [
        ConfigError((Finding("/etc/one/econe.conf", "expected a number", 3, "port"),)),
        CannotListen("nothing can listen on 0.0.0.0:80: Permission denied"),
        RecursionError("whatever nobody has thought of"),
    ],
)
def test_a_bad_configuration_is_refused_and_the_old_workers_go_on(house: House, wrong: Exception) -> None:
    """With what is wrong with it in the log."""
    house.serving()
    house.next = wrong
    house.supervisor.reload()
    assert len(house.hands) == 2
    assert not any(hand.is_told_to_drain for hand in house.hands)
    assert str(wrong) in house.said(LogLevel.error)[-1]
    assert house.notifier.said[-2:] == ["READY=1", "STATUS=2 of 2 workers serve"]
    assert house.supervisor.unready() is None


def test_a_configuration_on_which_one_worker_cannot_start_is_not_used(house: House) -> None:
    """Those that did start on it end, and the old ones go on."""
    old = list(house.serving().hands)
    new = reloaded(house, plan())
    new[0].says(Ready())
    new[1].says(Failed("no such file"))
    new[1].dies("exit code 1")
    assert new[0].is_told_to_drain
    assert not any(hand.is_told_to_drain for hand in old)
    assert any("the old one stays" in line for line in house.said(LogLevel.error))
    new[0].dies("exit code 0")
    house.clock.advance(LONGEST_WAIT)
    assert len(house.hands) == 4


def test_one_that_dies_before_all_the_others_listen_counts_as_one_that_cannot_start(house: House) -> None:
    """Nobody would be there in its place."""
    old = list(house.serving().hands)
    new = reloaded(house, plan())
    new[0].says(Ready())
    new[0].dies("signal SIGKILL")
    new[1].says(Ready())
    assert new[1].is_told_to_drain
    assert not any(hand.is_told_to_drain for hand in old)


def test_an_old_worker_that_dies_meanwhile_is_replaced_until_the_new_ones_take_over(house: House) -> None:
    """One configuration is read, the other still serves; a replacement that is due then is not made any more."""
    old = list(house.serving().hands)
    new = reloaded(house, plan(2, ":workers: 2\n"))
    old[0].dies("signal SIGKILL")
    house.clock.advance(FIRST_WAIT)
    again = house.hands[-1]
    assert again.told == [old[0].told[0]]
    old[1].dies("signal SIGKILL")
    for hand in new:
        hand.says(Ready())
    count = len(house.hands)
    house.clock.advance(LONGEST_WAIT)
    assert again.is_told_to_drain
    assert len(house.hands) == count


def test_a_second_hangup_while_the_first_is_under_way_is_done_after_it(house: House) -> None:
    """What stands in the file last is what counts in the end."""
    house.serving()
    first = reloaded(house, plan(1, "first\n"))
    assert reloaded(house, plan(1, "second\n")) == []
    first[0].says(Ready())
    (begin,) = house.hands[-1].told
    assert isinstance(begin, Begin)
    assert begin.text == "second\n"


def test_sockets_that_the_new_configuration_does_not_have_are_closed(house: House) -> None:
    """Here; the old workers close their own when they drain. Those of a configuration that failed are closed too."""
    first, second, third = (Bound(socket.create_server(("127.0.0.1", 0)), False) for _ in range(3))
    house.serving()
    for hand in reloaded(house, plan(1, sockets=(first, second))):
        hand.says(Ready())
    (hand,) = reloaded(house, plan(1, sockets=(first, third)))
    hand.dies("exit code 1")
    assert third.socket.fileno() == -1
    (hand,) = reloaded(house, plan(1, sockets=(first,)))
    hand.says(Ready())
    assert second.socket.fileno() == -1
    assert first.socket.fileno() != -1
    house.supervisor.end()
    assert first.socket.fileno() == -1


# The end


def test_at_the_end_all_workers_drain_and_the_exit_code_is_0_when_the_last_has_ended(house: House) -> None:
    """What systemd is told comes first."""
    house.serving()
    house.supervisor.end()
    assert "STOPPING=1" in house.notifier.said
    assert f"EXTEND_TIMEOUT_USEC={round((DRAIN_TIMEOUT + 20) * 1e6)}" in house.notifier.said, "a kill after it included"
    assert all(hand.is_told_to_drain for hand in house.hands)
    assert house.supervisor.unready() == DRAINING
    assert "draining" in str(house.supervisor.unready())
    house.hands[0].dies("exit code 0")
    assert house.ended == []
    house.hands[1].dies("exit code 0")
    assert house.ended == [0]


def test_told_a_second_time_it_ends_at_once(house: House) -> None:
    """With its workers."""
    house.serving()
    house.supervisor.end()
    house.supervisor.end()
    assert all(hand.is_killed for hand in house.hands)
    assert house.ended == [0]


def test_a_worker_that_does_not_end_in_time_is_killed(house: House) -> None:
    """It has its drain_timeout, and a little more to put its things away."""
    house.serving(1)
    house.supervisor.end()
    house.looks(int(DRAIN_TIMEOUT + GRACE) - 1)
    assert not house.hands[0].is_killed
    house.looks(1)
    assert house.hands[0].is_killed
    assert house.ended == [0]


def test_at_the_end_nobody_is_started_any_more(house: House) -> None:
    """Neither for one that has died, nor for a new configuration, of which the workers end too."""
    house.serving()
    house.hands[0].dies("signal SIGKILL")
    new = reloaded(house, plan())
    house.supervisor.end()
    for hand in new:
        assert hand.is_told_to_drain
        hand.says(Ready())
        hand.dies("exit code 0")
    house.hands[1].dies("exit code 0")
    house.supervisor.reload()
    house.clock.advance(LONGEST_WAIT)
    assert len(house.hands) == 4
    assert house.ended == [0]


def test_when_all_is_over_nothing_is_left_on_the_clock_that_starts_anything(house: House) -> None:
    """The looks have ended."""
    house.serving(1)
    house.supervisor.end()
    house.hands[0].dies("exit code 0")
    house.clock.advance(DRAIN_TIMEOUT + GRACE)
    assert house.clock.getDelayedCalls() == []


# Logs and numbers


def test_the_log_is_opened_anew_in_all_workers(house: House) -> None:
    """Those that drain too: they write until they end."""
    house.serving()
    house.hands[0].says(Draining())
    house.supervisor.reopen_log()
    assert all(ReopenLog() in hand.told for hand in house.hands)


def numbers(house: House) -> Deferred[Any]:
    """Ask for what has been counted."""
    return Deferred.fromCoroutine(house.supervisor.snapshots())


def test_what_workers_counted_is_asked_of_all_and_what_dead_ones_counted_is_kept(house: House) -> None:
    """The sum never goes down."""
    house.serving()
    house.hands[0].says(Beat({"econed_uploads": [[["ok"], [5.0]]]}))
    house.hands[0].dies("signal SIGKILL")
    asked = numbers(house)
    (ask,) = [command for command in house.hands[1].told if isinstance(command, Ask)]
    house.hands[1].says(Counted(ask.number, {"econed_uploads": [[["ok"], [2.0]]]}))
    found: list[Any] = []
    asked.addCallback(found.append)
    together = merged(found[0])
    assert together["econed_uploads"] == [(["ok"], [7.0])]
    assert gauge(together, "econed_workers") == 1
    assert together["econed_worker_restarts"] == [([], [1.0])]


def test_a_worker_that_does_not_answer_counts_with_what_it_said_last(house: House) -> None:
    """In bounded time."""
    house.serving(1)
    house.hands[0].says(Beat({"econed_uploads": [[["ok"], [5.0]]]}))
    found: list[Any] = []
    numbers(house).addCallback(found.append)
    assert found == []
    house.clock.advance(ASK_FOR)
    assert merged(found[0])["econed_uploads"] == [(["ok"], [5.0])]


def test_without_a_worker_that_serves_it_is_not_ready(house: House) -> None:
    """Which /readyz tells; it is no reason to restart the supervisor."""
    house.serving(1)
    house.hands[0].dies("signal SIGKILL")
    assert house.supervisor.unready() == "no worker takes connections"
    assert house.notifier.said[-1] == "STATUS=0 of 1 workers serve"


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
