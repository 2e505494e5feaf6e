"""A serving process from its first connection to its exit, on a clock that the tests advance."""

from __future__ import annotations

import signal
from collections.abc import Callable
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
from econed.process.listening import Listener
from econed.process.services import OneProcess, Stop
from tests.support.process_parts import Connections, Endpoint, Reactor
from tests.support.service_manager import RecordingNotifier
from tests.support.serving import Server

TIMEOUT = 30.0


@dataclass
class ProcessHarness:
    """A process with stand-ins for its environment."""

    reactor: Reactor = field(default_factory=Reactor)
    connections: Connections = field(default_factory=Connections)
    endpoints: list[Endpoint] = field(default_factory=lambda: [Endpoint(), Endpoint()])
    background_services: MultiService = field(default_factory=MultiService)
    changes: WorkInProgress = field(default_factory=WorkInProgress)
    events: list[LogEvent] = field(default_factory=list)
    exits: list[tuple[Any, ...]] = field(default_factory=list)
    manager: RecordingNotifier = field(default_factory=lambda: RecordingNotifier(watchdog=10.0))
    process: Process = field(init=False)
    service: OneProcess = field(init=False)
    renewals: int = 0

    def __post_init__(self) -> None:
        self.background_service = Service()
        self.background_service.setServiceParent(self.background_services)
        log = Logger(observer=self.events.append)  # type: ignore[arg-type]
        self.process = Process(
            self.connections,
            [Listener(endpoint, False, "here") for endpoint in self.endpoints],  # type: ignore[arg-type]
            self.background_services,
            self.reactor,
            TIMEOUT,
            log,
            pending_work=(self.changes.drained,),
        )
        self.service = OneProcess(
            self.process,
            Signals(self.reactor, self.reactor.install),
            self.manager,
            self.reactor,
            process_log=None,
            renew_certificates=self.renew,
            stop_reactor=Stop(self.reactor, lambda *call: self.exits.append(call)),
            log=log,
        )

    async def renew(self) -> None:
        """Count the call."""
        self.renewals += 1

    def begin(self) -> ProcessHarness:
        """Listen and serve."""
        Deferred.fromCoroutine(self.process.listen())
        self.service.startService()
        return self


@pytest.fixture
def harness() -> ProcessHarness:
    """A process that serves."""
    return ProcessHarness().begin()


def test_the_site_and_its_stand_in_provide_the_interface() -> None:
    """`IDrainable`."""
    assert verifyObject(IDrainable, Connections())
    server = Server(Settings())
    try:
        assert verifyObject(IDrainable, server.site)
    finally:
        server.close()


def test_signals_are_handled_before_the_reactor_runs_and_after_it_has_installed_its_own_handlers() -> None:
    """SIGUSR1 between the start of the service and that of the reactor would end the process."""
    reactor, waiting, reloads = Reactor(), list[Callable[[], None]](), list[str]()
    reactor.callWhenRunning = lambda work, *arguments: waiting.append(lambda: work(*arguments))  # type: ignore[method-assign]
    Signals(reactor, reactor.install).install({signal.SIGUSR1: lambda: reloads.append("reopened")})
    reactor.signal(signal.SIGUSR1)
    assert reloads == ["reopened"]
    reactor.handlers.clear()
    for work in waiting:
        work()
    reactor.signal(signal.SIGUSR1)
    assert reloads == ["reopened"] * 2


def test_listening_fails_if_one_endpoint_fails() -> None:
    """With the error of that endpoint."""
    harness = ProcessHarness()
    harness.begin()
    assert all(endpoint.is_listening for endpoint in harness.endpoints)
    failed = ProcessHarness(endpoints=[Endpoint(), Endpoint(CannotListenError("127.0.0.1", 80, OSError(98, "in use")))])
    failures: list[Any] = []
    Deferred.fromCoroutine(failed.process.listen()).addErrback(failures.append)
    assert "127.0.0.1:80" in failures[0].getErrorMessage()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_on_a_stop_signal_it_closes_its_ports_and_exits_when_all_connections_are_closed(
    harness: ProcessHarness, number: signal.Signals
) -> None:
    """The background services stop at once."""
    harness.connections.connections = 2
    harness.reactor.signal(number)
    assert not any(endpoint.is_listening for endpoint in harness.endpoints)
    assert harness.connections.is_draining
    assert not harness.background_service.running
    assert {"STOPPING=1", "EXTEND_TIMEOUT_USEC=40000000"} <= {*harness.manager.lines}
    assert harness.reactor.stops == []
    harness.connections.go()
    assert harness.reactor.stops == ["stopped"]
    assert harness.exits == [], "the exit code is 0"
    assert not harness.connections.is_aborted
    assert [call for call in harness.reactor.getDelayedCalls() if call.getTime() >= TIMEOUT] == []


def test_connections_are_closed_after_the_drain_timeout(harness: ProcessHarness) -> None:
    """That is logged as a warning if a request was in progress."""
    harness.connections.connections, harness.connections.busy = 2, 1
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.advance(TIMEOUT - 1)
    assert not harness.connections.is_aborted
    harness.reactor.advance(1)
    assert harness.connections.is_aborted
    assert harness.reactor.stops == ["stopped"]
    expected = "closing 2 connections, 1 with a request in progress: not finished after 30 s"
    (closing,) = (event for event in harness.events if formatEvent(event) == expected)
    assert closing["log_level"] is LogLevel.warn


def test_closing_only_idle_connections_is_not_a_warning(harness: ProcessHarness) -> None:
    """Clients may keep idle connections open."""
    harness.connections.connections = 2
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.advance(TIMEOUT)
    expected = "closing 2 connections, 0 with a request in progress: not finished after 30 s"
    (closing,) = (event for event in harness.events if formatEvent(event) == expected)
    assert closing["log_level"] is LogLevel.info


def test_the_drain_timeout_includes_the_time_to_close_the_ports() -> None:
    """A port that never closes does not prevent the exit."""
    harness = ProcessHarness(endpoints=[Endpoint(stopped=Deferred())]).begin()
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.advance(TIMEOUT)
    assert harness.reactor.stops == ["stopped"]


def test_a_change_whose_client_has_disconnected_is_finished_before_the_exit(harness: ProcessHarness) -> None:
    """Oned may have carried out part of it."""
    running: Deferred[str] = Deferred()
    harness.changes.shielded(running).cancel()
    harness.reactor.signal(signal.SIGTERM)
    assert harness.reactor.stops == []
    running.callback("done")
    assert harness.reactor.stops == ["stopped"]


def test_a_second_stop_signal_ends_it_immediately(harness: ProcessHarness) -> None:
    """Also with requests in progress."""
    harness.connections.connections = 1
    harness.reactor.signal(signal.SIGTERM)
    harness.reactor.signal(signal.SIGINT)
    assert harness.reactor.stops == ["stopped"]


def test_an_error_while_draining_is_logged_and_does_not_prevent_the_exit(harness: ProcessHarness) -> None:
    """No second signal is needed."""
    harness.endpoints[0].stopListening = lambda: fail(ValueError("a fault"))  # type: ignore[method-assign]
    harness.reactor.signal(signal.SIGTERM)
    assert harness.reactor.stops == ["stopped"]
    assert [event["log_failure"].type for event in harness.events if "log_failure" in event] == [ValueError]


def test_sighup_reloads_certificates_but_not_the_configuration(harness: ProcessHarness) -> None:
    """Systemd is notified of the begin and the end."""
    harness.manager.lines.clear()
    harness.reactor.signal(signal.SIGHUP)
    assert harness.renewals == 1
    assert [word for word in harness.manager.lines if word.endswith("=1")] == ["RELOADING=1", "READY=1"]


def test_the_watchdog_is_notified_twice_in_its_interval(harness: ProcessHarness) -> None:
    """As long as the reactor runs."""
    harness.manager.lines.clear()
    harness.reactor.pump([5.0] * 4)
    assert harness.manager.lines == ["WATCHDOG=1"] * 4


def test_stopping_the_service_stops_the_background_services(harness: ProcessHarness) -> None:
    """Twistd stops services when the reactor stops, whatever the reason."""
    harness.service.stopService()
    assert not harness.background_service.running


def test_the_first_exit_code_is_used_when_python_exits() -> None:
    """Twistd removes its pid file before."""
    reactor, exits = Reactor(), []
    stop = Stop(reactor, lambda *call: exits.append(call))
    stop(1)
    stop(0)
    assert reactor.stops == ["stopped"]
    assert [code for _, code in exits] == [1]


# Work in progress


def test_draining_waits_for_all_shielded_changes_which_return_their_results() -> None:
    """And their failures."""
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
