"""A worker at its end of the pipes; the tests take the part of the supervisor."""

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
from econed.process.listening import Listener
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
    Report,
)
from econed.process.worker import FINAL_REPORT_TIMEOUT, HEARTBEAT_INTERVAL, CannotStart, WorkerParts, WorkerProtocol
from tests.support.process_parts import Connections, Endpoint, Reactor

TIMEOUT = 30.0
BEGIN = Begin(":port: 1\n", "/etc/one/econe.conf", 0, 2, (), {"kind": "stdout", "name": ""})


@dataclass
class WorkerHarness:
    """A worker with stand-ins for its environment."""

    reactor: Reactor = field(default_factory=Reactor)
    connections: Connections = field(default_factory=Connections)
    endpoint: Endpoint = field(default_factory=Endpoint)
    transport: StringTransport = field(default_factory=StringTransport)
    background_services: MultiService = field(default_factory=MultiService)
    exit_codes: list[int] = field(default_factory=list)
    begins: list[Begin] = field(default_factory=list)
    events: list[LogEvent] = field(default_factory=list)
    times_reopened: int = 0
    error: Exception | None = None

    def __post_init__(self) -> None:
        log = Logger(observer=self.events.append)  # type: ignore[arg-type]
        listening = Listener(self.endpoint, False, "here")  # type: ignore[arg-type]
        self.process = Process(self.connections, [listening], self.background_services, self.reactor, TIMEOUT, log)
        signals = Signals(self.reactor, self.reactor.install)
        self.worker = WorkerProtocol(self.make, signals, self.reactor, self.exit_codes.append, log)
        self.worker.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    async def make(self, begin: Begin) -> WorkerParts:
        """Set the worker up, or raise `error`."""
        self.begins.append(begin)
        if self.error is not None:
            raise self.error
        return WorkerParts(self.process, lambda: {"econed_uploads": [[["ok"], [1.0]]]}, self.reopen)

    def reopen(self) -> None:
        """Count the call."""
        self.times_reopened += 1

    def send(self, *commands: Command) -> WorkerHarness:
        """Send commands to the worker."""
        self.worker.dataReceived(b"".join(map(messages.encode, commands)))
        return self

    def reports(self) -> list[Report]:
        """Return the reports since the last call."""
        data = self.transport.value()
        self.transport.clear()
        return [messages.parse_report(line) for line in data.splitlines()]

    def read_final_report(self) -> None:
        """Read the final report, and see the worker close the pipe."""
        assert self.transport.disconnecting
        self.worker.connectionLost()


@pytest.fixture
def harness() -> WorkerHarness:
    """A worker that serves."""
    serving = WorkerHarness().send(BEGIN)
    serving.reports()
    return serving


def test_it_listens_and_reports_that_it_does() -> None:
    """From then on it sends heartbeats with its counts."""
    harness = WorkerHarness().send(BEGIN)
    assert harness.begins == [BEGIN]
    assert harness.endpoint.is_listening
    assert harness.background_services.running
    assert [type(report) for report in harness.reports()] == [Ready, Heartbeat]
    harness.reactor.pump([HEARTBEAT_INTERVAL] * 3)
    assert harness.reports() == [Heartbeat({"econed_uploads": [[["ok"], [1.0]]]})] * 3


def test_a_worker_that_cannot_start_reports_the_reason_and_exits_with_1() -> None:
    """When the supervisor has read the report."""
    harness = WorkerHarness(error=CannotStart("m1.small.erb: cannot be read"))
    harness.send(BEGIN)
    assert harness.reports() == [Failed("m1.small.erb: cannot be read")]
    assert harness.exit_codes == []
    harness.read_final_report()
    assert harness.exit_codes == [1]


def test_an_unexpected_error_at_the_start_is_logged_with_a_traceback() -> None:
    """And the worker exits with 1."""
    harness = WorkerHarness(error=KeyError("oops"))
    harness.send(BEGIN)
    harness.read_final_report()
    assert harness.exit_codes == [1]
    assert any("log_failure" in event for event in harness.events)


def test_when_it_drains_it_exits_after_the_last_connection(harness: WorkerHarness) -> None:
    """With its final counts."""
    harness.connections.connections = 1
    harness.send(Drain(), Drain())
    assert not harness.endpoint.is_listening
    harness.reactor.advance(HEARTBEAT_INTERVAL)
    assert isinstance(harness.reports()[-1], Heartbeat), "it continues to report"
    harness.connections.go()
    assert isinstance(harness.reports()[-1], Heartbeat)
    harness.read_final_report()
    assert harness.exit_codes == [0]


def test_it_exits_although_the_supervisor_does_not_read_the_final_report(harness: WorkerHarness) -> None:
    """After `FINAL_REPORT_TIMEOUT`."""
    harness.send(Drain())
    assert harness.exit_codes == []
    harness.reactor.advance(FINAL_REPORT_TIMEOUT)
    assert harness.exit_codes == [0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_on_a_stop_signal_it_reports_that_it_drains(harness: WorkerHarness, number: signal.Signals) -> None:
    """So that it is replaced. A `Drain` command after it has no effect."""
    harness.connections.connections = 1
    harness.reactor.signal(number)
    assert harness.reports()[0] == Draining()
    harness.send(Drain())
    assert harness.exit_codes == []
    harness.connections.go()
    harness.read_final_report()
    assert harness.exit_codes == [0]


def test_a_stop_signal_after_the_command_to_drain_is_not_a_second_signal(harness: WorkerHarness) -> None:
    """ctrl-C reaches all processes of a terminal; only the second one ends the worker immediately."""
    harness.connections.connections = 1
    harness.send(Drain())
    harness.reactor.signal(signal.SIGINT)
    assert harness.exit_codes == []
    harness.reactor.signal(signal.SIGINT)
    assert harness.exit_codes == [0]


def test_it_drains_and_exits_when_the_supervisor_has_exited(harness: WorkerHarness) -> None:
    """For any reason."""
    harness.connections.connections = 1
    harness.worker.connectionLost(Failure(ConnectionError()))
    assert harness.exit_codes == []
    harness.connections.go()
    assert harness.exit_codes == [0]


def test_it_exits_when_the_supervisor_exits_before_the_first_command() -> None:
    """There is no request to finish."""
    harness = WorkerHarness()
    harness.worker.connectionLost(Failure(ConnectionError()))
    assert harness.exit_codes == [0]


def test_an_invalid_command_makes_it_drain(harness: WorkerHarness) -> None:
    """And is logged."""
    harness.worker.dataReceived(b"nonsense\n")
    assert any("draining: invalid command" in str(formatEvent(event)) for event in harness.events)
    harness.read_final_report()
    assert harness.exit_codes == [0]


def test_it_replies_with_its_counts_on_request(harness: WorkerHarness) -> None:
    """With the number of the request."""
    harness.send(GetCounts(7))
    assert harness.reports() == [CountsReply(7, {"econed_uploads": [[["ok"], [1.0]]]})]


def test_it_reopens_the_log_file_on_command_and_on_signals(harness: WorkerHarness) -> None:
    """SIGHUP does not end it."""
    harness.send(ReopenLog())
    harness.reactor.signal(signal.SIGUSR1)
    harness.reactor.signal(signal.SIGHUP)
    assert harness.times_reopened == 3
    assert harness.exit_codes == []


def test_it_accepts_commands_while_it_starts() -> None:
    """`Drain` makes it exit."""
    never: Deferred[Any] = Deferred()
    harness = WorkerHarness()

    async def make_slowly(begin: Begin) -> WorkerParts:
        await never
        return await harness.make(begin)

    harness.worker._set_up = make_slowly
    harness.send(BEGIN, ReopenLog(), GetCounts(1), Drain())
    assert harness.reports() == [CountsReply(1, {})]
    harness.read_final_report()
    assert harness.exit_codes == [0]
