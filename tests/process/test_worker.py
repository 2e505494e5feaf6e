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

from econed.process import messages
from econed.process.lifecycle import Process, Signals
from econed.process.listening import Listening
from econed.process.messages import (
    Ask,
    Beat,
    Begin,
    Command,
    Counted,
    Drain,
    Draining,
    Failed,
    Ready,
    ReopenLog,
    Report,
)
from econed.process.worker import BEAT_EVERY, LAST_WORDS, CannotStart, Made, WorkerProtocol
from tests.support.process_parts import Connections, Endpoint, Reactor

TIMEOUT = 30.0
BEGIN = Begin(":port: 1\n", "/etc/one/econe.conf", 0, 2, (), {"kind": "stdout", "name": ""})


@dataclass
class WorkerHarness:
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

    def told(self, *commands: Command) -> WorkerHarness:
        """Have the supervisor say something."""
        self.worker.dataReceived(b"".join(map(messages.encode, commands)))
        return self

    def reports(self) -> list[Report]:
        """Return what it has reported since this was asked."""
        said = self.transport.value()
        self.transport.clear()
        return [messages.report(line) for line in said.splitlines()]

    def read(self) -> None:
        """Have the supervisor read the last report."""
        assert self.transport.disconnecting
        self.worker.connectionLost()


@pytest.fixture
def harness() -> WorkerHarness:
    """One that serves."""
    made = WorkerHarness().told(BEGIN)
    made.reports()
    return made


def test_it_listens_as_it_is_told_and_says_so() -> None:
    """And reports from then on, with what it has counted."""
    harness = WorkerHarness().told(BEGIN)
    assert harness.begun == [BEGIN]
    assert harness.endpoint.is_listening
    assert harness.beside.running
    assert [type(report) for report in harness.reports()] == [Ready, Beat]
    harness.reactor.pump([BEAT_EVERY] * 3)
    assert harness.reports() == [Beat({"econed_uploads": [[["ok"], [1.0]]]})] * 3


def test_one_that_cannot_start_says_why_and_ends_with_an_error() -> None:
    """When the supervisor has read it."""
    harness = WorkerHarness(cannot=CannotStart("m1.small.erb: cannot be read"))
    harness.told(BEGIN)
    assert harness.reports() == [Failed("m1.small.erb: cannot be read")]
    assert harness.exits == []
    harness.read()
    assert harness.exits == [1]


def test_a_fault_of_ours_is_no_different_but_for_the_traceback() -> None:
    """It must not hang half-made."""
    harness = WorkerHarness(cannot=KeyError("oops"))
    harness.told(BEGIN)
    harness.read()
    assert harness.exits == [1]
    assert any("log_failure" in event for event in harness.events)


def test_told_to_drain_it_ends_when_nothing_is_left(harness: WorkerHarness) -> None:
    """With what it has counted to the last."""
    harness.connections.connections = 1
    harness.told(Drain(), Drain())
    assert not harness.endpoint.is_listening
    harness.reactor.advance(BEAT_EVERY)
    assert isinstance(harness.reports()[-1], Beat), "it goes on to report"
    harness.connections.go()
    assert isinstance(harness.reports()[-1], Beat)
    harness.read()
    assert harness.exits == [0]


def test_a_supervisor_that_does_not_read_does_not_keep_it(harness: WorkerHarness) -> None:
    """Not for long."""
    harness.told(Drain())
    assert harness.exits == []
    harness.reactor.advance(LAST_WORDS)
    assert harness.exits == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_by_somebody_else_it_says_so_and_drains(harness: WorkerHarness, number: signal.Signals) -> None:
    """So that another takes its place; what the supervisor says after it changes nothing."""
    harness.connections.connections = 1
    harness.reactor.signal(number)
    assert harness.reports()[0] == Draining()
    harness.told(Drain())
    assert harness.exits == []
    harness.connections.go()
    harness.read()
    assert harness.exits == [0]


def test_a_signal_that_comes_with_the_supervisors_word_is_not_a_second_one(harness: WorkerHarness) -> None:
    """ctrl-C reaches all processes of a terminal; only when it comes again it means at once."""
    harness.connections.connections = 1
    harness.told(Drain())
    harness.reactor.signal(signal.SIGINT)
    assert harness.exits == []
    harness.reactor.signal(signal.SIGINT)
    assert harness.exits == [0]


def test_without_a_supervisor_it_finishes_and_ends(harness: WorkerHarness) -> None:
    """However the supervisor came to be gone."""
    harness.connections.connections = 1
    harness.worker.connectionLost(Failure(ConnectionError()))
    assert harness.exits == []
    harness.connections.go()
    assert harness.exits == [0]


def test_without_a_supervisor_before_it_has_begun_it_ends() -> None:
    """There is nothing to finish."""
    harness = WorkerHarness()
    harness.worker.connectionLost(Failure(ConnectionError()))
    assert harness.exits == [0]


def test_nonsense_from_the_supervisor_is_as_if_it_were_gone(harness: WorkerHarness) -> None:
    """It is said, and the worker drains."""
    harness.worker.dataReceived(b"nonsense\n")
    assert any("talks nonsense" in str(formatEvent(event)) for event in harness.events)
    harness.read()
    assert harness.exits == [0]


def test_it_tells_what_it_has_counted_when_it_is_asked(harness: WorkerHarness) -> None:
    """With the number of the question."""
    harness.told(Ask(7))
    assert harness.reports() == [Counted(7, {"econed_uploads": [[["ok"], [1.0]]]})]


def test_the_log_is_opened_anew_when_the_supervisor_says_so_and_on_signals(harness: WorkerHarness) -> None:
    """A SIGHUP that comes to a worker alone does not end it."""
    harness.told(ReopenLog())
    harness.reactor.signal(signal.SIGUSR1)
    harness.reactor.signal(signal.SIGHUP)
    assert harness.reopened == 3
    assert harness.exits == []


def test_commands_may_come_before_it_is_made() -> None:
    """Told to drain while it starts, it ends."""
    waiting: Deferred[Any] = Deferred()
    harness = WorkerHarness()

    async def slowly(begin: Begin) -> Made:
        await waiting
        return await harness.make(begin)

    harness.worker._make = slowly
    harness.told(BEGIN, ReopenLog(), Ask(1), Drain())
    assert harness.reports() == [Counted(1, {})]
    harness.read()
    assert harness.exits == [0]
