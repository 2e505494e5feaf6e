"""A worker at its end of the pipes, with the tests in the part of the supervisor."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.python.failure import Failure

from econed import control
from econed.control import Ask, Beat, Begin, Command, Counted, Drain, Draining, Failed, Ready, ReopenLog, Report
from econed.lifecycle import Process, Signals
from econed.listening import Listening
from econed.worker import BEAT_EVERY, LAST_WORDS, CannotStart, Made, WorkerProtocol
from tests.support.process_parts import Connections, Endpoint, Reactor

TIMEOUT = 30.0
BEGIN = Begin(":port: 1\n", "/etc/one/econe.conf", 0, 2, (), {"kind": "stdout", "name": ""})


@dataclass
class House:
    """A worker with what is around it."""

    reactor: Reactor = field(default_factory=Reactor)
    connections: Connections = field(default_factory=Connections)
    endpoint: Endpoint = field(default_factory=Endpoint)
    transport: StringTransport = field(default_factory=StringTransport)
    beside: MultiService = field(default_factory=MultiService)
    exits: list[int] = field(default_factory=list)
    begun: list[Begin] = field(default_factory=list)
    events: list[LogEvent] = field(default_factory=list)
    reopened: int = 0
    cannot: Exception | None = None

    def __post_init__(self) -> None:
        log = Logger(observer=self.events.append)  # type: ignore[arg-type]
        place = Listening(self.endpoint, False, "here")  # type: ignore[arg-type]
        self.process = Process(self.connections, [place], self.beside, self.reactor, TIMEOUT, log)
        signals = Signals(self.reactor, self.reactor.install)
        self.worker = WorkerProtocol(self.make, signals, self.reactor, self.exits.append, log)
        self.worker.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    async def make(self, begin: Begin) -> Made:
        """Put it together."""
        self.begun.append(begin)
        if self.cannot is not None:
            raise self.cannot
        return Made(self.process, lambda: {"econed_uploads": [[["ok"], [1.0]]]}, self.reopen)

    def reopen(self) -> None:
        """Open the log anew."""
        self.reopened += 1

    def told(self, *commands: Command) -> House:
        """Have the supervisor say something."""
        self.worker.dataReceived(b"".join(map(control.encode, commands)))
        return self

    def reports(self) -> list[Report]:
        """Return what it has reported since this was asked."""
        said = self.transport.value()
        self.transport.clear()
        return [control.report(line) for line in said.splitlines()]

    def read(self) -> None:
        """Have the supervisor read the last report."""
        assert self.transport.disconnecting
        self.worker.connectionLost()


@pytest.fixture
def house() -> House:
    """One that serves."""
    made = House().told(BEGIN)
    made.reports()
    return made


def test_it_listens_as_it_is_told_and_says_so() -> None:
    """And reports from then on, with what it has counted."""
    house = House().told(BEGIN)
    assert house.begun == [BEGIN]
    assert house.endpoint.is_listening
    assert house.beside.running
    assert [type(report) for report in house.reports()] == [Ready, Beat]
    house.reactor.pump([BEAT_EVERY] * 3)
    assert house.reports() == [Beat({"econed_uploads": [[["ok"], [1.0]]]})] * 3


def test_one_that_cannot_start_says_why_and_ends_with_an_error() -> None:
    """When the supervisor has read it."""
    house = House(cannot=CannotStart("m1.small.erb: cannot be read"))
    house.told(BEGIN)
    assert house.reports() == [Failed("m1.small.erb: cannot be read")]
    assert house.exits == []
    house.read()
    assert house.exits == [1]


def test_a_fault_of_ours_is_no_different_but_for_the_traceback() -> None:
    """It must not hang half-made."""
    house = House(cannot=KeyError("oops"))
    house.told(BEGIN)
    house.read()
    assert house.exits == [1]
    assert any("log_failure" in event for event in house.events)


def test_told_to_drain_it_ends_when_nothing_is_left(house: House) -> None:
    """With what it has counted to the last."""
    house.connections.connections = 1
    house.told(Drain(), Drain())
    assert not house.endpoint.is_listening
    house.reactor.advance(BEAT_EVERY)
    assert isinstance(house.reports()[-1], Beat), "it goes on to report"
    house.connections.go()
    assert isinstance(house.reports()[-1], Beat)
    house.read()
    assert house.exits == [0]


def test_a_supervisor_that_does_not_read_does_not_keep_it(house: House) -> None:
    """Not for long."""
    house.told(Drain())
    assert house.exits == []
    house.reactor.advance(LAST_WORDS)
    assert house.exits == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_by_somebody_else_it_says_so_and_drains(house: House, number: signal.Signals) -> None:
    """So that another takes its place; what the supervisor says after it changes nothing."""
    house.connections.connections = 1
    house.reactor.signal(number)
    assert house.reports()[0] == Draining()
    house.told(Drain())
    assert house.exits == []
    house.connections.go()
    house.read()
    assert house.exits == [0]


def test_a_signal_that_comes_with_the_supervisors_word_is_not_a_second_one(house: House) -> None:
    """ctrl-C reaches all processes of a terminal; only when it comes again it means at once."""
    house.connections.connections = 1
    house.told(Drain())
    house.reactor.signal(signal.SIGINT)
    assert house.exits == []
    house.reactor.signal(signal.SIGINT)
    assert house.exits == [0]


def test_without_a_supervisor_it_finishes_and_ends(house: House) -> None:
    """However the supervisor came to be gone."""
    house.connections.connections = 1
    house.worker.connectionLost(Failure(ConnectionError()))
    assert house.exits == []
    house.connections.go()
    assert house.exits == [0]


def test_without_a_supervisor_before_it_has_begun_it_ends() -> None:
    """There is nothing to finish."""
    house = House()
    house.worker.connectionLost(Failure(ConnectionError()))
    assert house.exits == [0]


def test_nonsense_from_the_supervisor_is_as_if_it_were_gone(house: House) -> None:
    """It is said, and the worker drains."""
    house.worker.dataReceived(b"nonsense\n")
    assert any("talks nonsense" in str(formatEvent(event)) for event in house.events)
    house.read()
    assert house.exits == [0]


def test_it_tells_what_it_has_counted_when_it_is_asked(house: House) -> None:
    """With the number of the question."""
    house.told(Ask(7))
    assert house.reports() == [Counted(7, {"econed_uploads": [[["ok"], [1.0]]]})]


def test_the_log_is_opened_anew_when_the_supervisor_says_so_and_on_signals(house: House) -> None:
    """A SIGHUP that comes to a worker alone does not end it."""
    house.told(ReopenLog())
    house.reactor.signal(signal.SIGUSR1)
    house.reactor.signal(signal.SIGHUP)
    assert house.reopened == 3
    assert house.exits == []


def test_commands_may_come_before_it_is_made() -> None:
    """Told to drain while it starts, it ends."""
    waiting: Deferred[Any] = Deferred()
    house = House()

    async def slowly(begin: Begin) -> Made:
        await waiting
        return await house.make(begin)

    house.worker._make = slowly
    house.told(BEGIN, ReopenLog(), Ask(1), Drain())
    assert house.reports() == [Counted(1, {})]
    house.read()
    assert house.exits == [0]
