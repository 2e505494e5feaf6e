"""One process from its first connection to its end, on a clock that is turned by hand."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from zope.interface.verify import verifyObject

from econed.config.settings import Settings
from econed.http.work_in_progress import WorkInProgress
from econed.interfaces import IDrainable
from econed.process.lifecycle import Process, Signals
from econed.process.listening import Listening
from econed.process.services import OneProcess, Stop
from tests.support.process_parts import Connections, Endpoint, Reactor
from tests.support.service_manager import RecordingNotifier
from tests.support.serving import Server

TIMEOUT = 30.0


@dataclass
class ProcessHarness:
    """A process with what is around it."""

    reactor: Reactor = field(default_factory=Reactor)
    connections: Connections = field(default_factory=Connections)
    endpoints: list[Endpoint] = field(default_factory=lambda: [Endpoint(), Endpoint()])
    beside: MultiService = field(default_factory=MultiService)
    changes: WorkInProgress = field(default_factory=WorkInProgress)
    events: list[LogEvent] = field(default_factory=list)
    exits: list[tuple[Any, ...]] = field(default_factory=list)
    manager: RecordingNotifier = field(default_factory=lambda: RecordingNotifier(watchdog=10.0))
    process: Process = field(init=False)
    service: OneProcess = field(init=False)
    renewals: int = 0

    def __post_init__(self) -> None:
        self.runs = Service()
        self.runs.setServiceParent(self.beside)
        self.process = Process(
            self.connections,
            [Listening(endpoint, False, "here") for endpoint in self.endpoints],  # type: ignore[arg-type]
            self.beside,
            self.reactor,
            TIMEOUT,
            Logger(observer=self.events.append),  # type: ignore[arg-type]
            work=(self.changes.drained,),
        )
        self.service = OneProcess(
            self.process,
            Signals(self.reactor, self.reactor.install),
            self.manager,
            self.reactor,
            log=None,
            renewed=self.renew,
            stop=Stop(self.reactor, lambda *given: self.exits.append(given)),
        )

    async def renew(self) -> None:
        """Read certificates."""
        self.renewals += 1

    def begin(self) -> ProcessHarness:
        """Listen and serve."""
        Deferred.fromCoroutine(self.process.listen())
        self.service.startService()
        return self


@pytest.fixture
def harness() -> ProcessHarness:
    """One that serves."""
    return ProcessHarness().begin()


def test_the_site_and_its_stand_in_are_what_a_process_drains() -> None:
    """By the interface."""
    assert verifyObject(IDrainable, Connections())
    server = Server(Settings())
    try:
        assert verifyObject(IDrainable, server.site)
    finally:
        server.close()


def test_it_listens_everywhere_or_says_why_not() -> None:
    """A place that cannot be had is an error, whatever there is beside it."""
    harness = ProcessHarness()
    harness.begin()
    assert all(endpoint.is_listening for endpoint in harness.endpoints)
    failed = ProcessHarness(endpoints=[Endpoint(), Endpoint(CannotListenError("127.0.0.1", 80, OSError(98, "in use")))])
    failures: list[Any] = []
    Deferred.fromCoroutine(failed.process.listen()).addErrback(failures.append)
    assert "127.0.0.1:80" in failures[0].getErrorMessage()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_closes_its_ports_and_ends_when_nothing_is_left(
    harness: ProcessHarness, number: signal.Signals
) -> None:
    """What runs beside the requests stops at once."""
    harness.connections.connections = 2
    harness.reactor.signal(number)
    assert not any(endpoint.is_listening for endpoint in harness.endpoints)
    assert harness.connections.is_draining
    assert not harness.runs.running
    assert {"STOPPING=1", "EXTEND_TIMEOUT_USEC=40000000"} <= {*harness.manager.said}
    assert harness.reactor.stops == []
    harness.connections.go()
    assert harness.reactor.stops == ["stopped"]
    assert harness.exits == [], "the exit code is 0"
    assert not harness.connections.is_aborted
    assert [call for call in harness.reactor.getDelayedCalls() if call.getTime() >= TIMEOUT] == []


def test_what_is_left_after_the_drain_timeout_is_cut(harness: ProcessHarness) -> None:
    """With a word in the log: a warning if a request was under way."""
    harness.connections.connections, harness.connections.busy = 2, 1
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.advance(TIMEOUT - 1)
    assert not harness.connections.is_aborted
    harness.reactor.advance(1)
    assert harness.connections.is_aborted
    assert harness.reactor.stops == ["stopped"]
    (cut,) = (event for event in harness.events if "cut after 30 s: 2 connections were left" in str(formatEvent(event)))
    assert cut["log_level"] is LogLevel.warn


def test_that_only_idle_connections_are_cut_is_no_warning(harness: ProcessHarness) -> None:
    """Clients keep theirs for as long as they like."""
    harness.connections.connections = 2
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.advance(TIMEOUT)
    (cut,) = (event for event in harness.events if "2 connections were left, 0 of them" in str(formatEvent(event)))
    assert cut["log_level"] is LogLevel.info


def test_a_port_that_does_not_close_holds_nobody_up_for_longer() -> None:
    """The time is for all of it."""
    harness = ProcessHarness(endpoints=[Endpoint(stopped=Deferred())]).begin()
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.advance(TIMEOUT)
    assert harness.reactor.stops == ["stopped"]


def test_a_change_whose_client_has_gone_is_finished_first(harness: ProcessHarness) -> None:
    """It has no connection any more, and oned may be half-way through."""
    running: Deferred[str] = Deferred()
    harness.changes.shielded(running).cancel()
    harness.reactor.signal(signal.SIGTERM)
    assert harness.reactor.stops == []
    running.callback("done")
    assert harness.reactor.stops == ["stopped"]


def test_a_second_signal_ends_it_at_once(harness: ProcessHarness) -> None:
    """Whatever is under way."""
    harness.connections.connections = 1
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.signal(signal.SIGINT)
    assert harness.reactor.stops == ["stopped"]


def test_what_goes_wrong_on_the_way_out_is_in_the_log_and_holds_nothing_up(harness: ProcessHarness) -> None:
    """It was to end, and nobody would end it a second time."""
    harness.endpoints[0].stopListening = lambda: fail(ValueError("a fault"))  # type: ignore[method-assign]
    harness.reactor.signal(signal.SIGTERM)
    assert harness.reactor.stops == ["stopped"]
    assert [event["log_failure"].type for event in harness.events if "log_failure" in event] == [ValueError]


def test_a_hangup_renews_what_can_be_renewed_and_says_that_the_settings_stay(harness: ProcessHarness) -> None:
    """Without a supervisor there is nobody who could start another."""
    harness.manager.said.clear()
    harness.reactor.signal(signal.SIGHUP)
    assert harness.renewals == 1
    assert [word for word in harness.manager.said if word.endswith("=1")] == ["RELOADING=1", "READY=1"]


def test_the_watchdog_hears_of_it_twice_in_its_time(harness: ProcessHarness) -> None:
    """As long as the reactor runs."""
    harness.manager.said.clear()
    harness.reactor.pump([5.0] * 4)
    assert harness.manager.said == ["WATCHDOG=1"] * 4


def test_stopped_by_its_reactor_it_stops_what_runs_beside(harness: ProcessHarness) -> None:
    """Twistd stops services so, whatever the reason."""
    harness.service.stopService()
    assert not harness.runs.running


def test_an_exit_code_is_left_for_the_very_end_and_told_once() -> None:
    """Twistd has its pid file to remove first."""
    reactor, exits = Reactor(), []
    stop = Stop(reactor, lambda *given: exits.append(given))
    stop(1)
    stop(0)
    assert reactor.stops == ["stopped"]
    assert [given[1] for given in exits] == [1]


# What is under way


def test_a_change_goes_on_when_nobody_waits_for_it_and_gives_its_result_to_who_does() -> None:
    """Failures too."""
    changes = WorkInProgress()
    first, second = Deferred[str](), Deferred[str]()
    results: list[Any] = []
    changes.shielded(first).addBoth(results.append)
    changes.shielded(second).addBoth(lambda failure: results.append(failure.type))
    waits: list[None] = []
    Deferred.fromCoroutine(changes.drained()).addCallback(waits.append)
    first.callback("done")
    assert waits == []
    second.errback(ValueError("no"))
    assert results == ["done", ValueError]
    assert waits == [None]
    Deferred.fromCoroutine(changes.drained()).addCallback(waits.append)
    assert waits == [None, None]
