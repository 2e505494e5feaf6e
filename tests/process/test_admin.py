"""The administrator's port: what it says of whom, and that it always says something."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
import pytest_twisted
import treq
from treq.testing import StubTreq
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger
from twisted.web.client import ResponseNeverReceived
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.process.admin import PATIENCE, AdminResource, WatchedProcess, admin_service
from econed.process.interfaces import IWatched
from econed.process.listening import CannotListen
from econed.telemetry.metrics import Metrics, Snapshot
from tests.support.metrics import ACTION, parse_exposition, samples
from tests.support.twisted_privates import listening_port

reactor: Any = _reactor
HEARD = 1_800_000_000.0


@implementer(IWatched)
class FakeDaemon:
    """A daemon in the state that the test has it in."""

    def __init__(self) -> None:
        self.is_draining = False
        self.hangs = False
        self.raises: Exception | None = None
        self.asked: Deferred[None] = Deferred()
        self.given_up: Deferred[None] = Deferred()
        self.metrics = [Metrics([ACTION]), Metrics([ACTION])]
        self.metrics[0].track_oned_state(lambda: True, lambda: HEARD)

    def unready(self) -> str | None:
        return "draining" if self.is_draining else None

    async def snapshots(self) -> Sequence[Snapshot]:
        if self.hangs:
            self.asked.callback(None)
            await Deferred(lambda _: self.given_up.callback(None))
        if self.raises is not None:
            raise self.raises
        return [each.snapshot() for each in self.metrics]


class Port:
    """The administrator's port of a daemon, without a network."""

    def __init__(self) -> None:
        self.daemon = FakeDaemon()
        self.clock = Clock()
        self.logged: list[LogEvent] = []
        log = Logger("test", observer=self.logged.append)  # type: ignore[arg-type]
        self._treq: Any = StubTreq(AdminResource(self.daemon, self.clock, log))  # type: ignore[no-untyped-call]

    def asking(self, path: str, method: str = "GET", **more: Any) -> Deferred[Any]:
        """Ask, without waiting for the answer."""
        asked: Deferred[Any] = self._treq.request(method, f"http://127.0.0.1:9567{path}", **more)
        self._treq.flush()
        return asked

    def ask(self, path: str, method: str = "GET", **more: Any) -> tuple[int, str]:
        """Return status and text of an answer that comes at once."""
        return self.answered(self.asking(path, method, **more))

    def answered(self, asked: Deferred[Any]) -> tuple[int, str]:
        """Return status and text of an answer that has come."""
        self._treq.flush()
        response = _now(asked)
        return response.code, _now(self._treq.text_content(response))


def _now(waiting: Deferred[Any]) -> Any:
    results: list[Any] = []
    waiting.addBoth(results.append)
    assert results, "there is no answer"
    return results[0]


@pytest.fixture
def port() -> Port:
    """Return one of a daemon that is well."""
    return Port()


def test_all_that_can_be_watched_are_alike() -> None:
    assert verifyObject(IWatched, WatchedProcess(Metrics(), lambda: False))
    assert verifyObject(IWatched, FakeDaemon())


# Health


def test_a_daemon_that_lives_is_healthy_whatever_oned_does(port: Port) -> None:
    """A restart would not bring oned back."""
    port.daemon.metrics[0].track_oned_state(lambda: False, lambda: HEARD)
    port.daemon.is_draining = True
    assert port.ask("/healthz") == (200, "ok\n")


def test_health_waits_for_nobody(port: Port) -> None:
    port.daemon.hangs = True
    assert port.ask("/healthz") == (200, "ok\n")


# Readiness


def test_a_daemon_that_reaches_oned_is_ready(port: Port) -> None:
    """One process that does is enough: it is the same oned for all."""
    port.daemon.metrics[1].track_oned_state(lambda: False, lambda: None)
    assert port.ask("/readyz") == (200, "ok\n")


def test_a_daemon_that_drains_is_not_ready(port: Port) -> None:
    port.daemon.is_draining = True
    assert port.ask("/readyz") == (503, "draining\n")


def test_a_daemon_that_has_not_reached_oned_yet_is_not_ready(port: Port) -> None:
    port.daemon.metrics[0].track_oned_state(lambda: False, lambda: None)
    assert port.ask("/readyz") == (503, "oned has not answered yet\n")


def test_a_daemon_without_a_process_that_says_so_has_not_reached_oned(port: Port) -> None:
    port.daemon.metrics = []
    assert port.ask("/readyz") == (503, "oned has not answered yet\n")


def test_a_daemon_that_lost_oned_says_since_when(port: Port) -> None:
    port.daemon.metrics[0].track_oned_state(lambda: False, lambda: HEARD)
    port.daemon.metrics[1].track_oned_state(lambda: False, lambda: HEARD - 60)
    assert port.ask("/readyz") == (503, "oned last answered at 2027-01-15 08:00:00 UTC\n")


# Metrics


def test_the_numbers_of_all_processes_come_as_one(port: Port) -> None:
    for each in port.daemon.metrics:
        each.request_started()
        each.request_ended(ACTION, "", 0.1)
    status, text = port.ask("/metrics")
    found = parse_exposition(text)
    assert status == 200
    assert found["econed_requests_total", ACTION, "ok"] == 2
    assert found["econed_ready",] == 1


@pytest.mark.parametrize("is_draining", [True, False])
def test_whether_it_is_ready_is_a_number_too(port: Port, is_draining: bool) -> None:
    port.daemon.is_draining = is_draining
    port.daemon.metrics[0].track_oned_state(lambda: is_draining, lambda: HEARD)
    assert parse_exposition(port.ask("/metrics")[1])["econed_ready",] == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("*/*", "text/plain; version=0.0.4"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics")],
)
def test_the_scraper_chooses_the_format(port: Port, accept: str, expected: str) -> None:
    response = _now(port.asking("/metrics", headers={"Accept": accept}))
    assert response.headers.getRawHeaders("content-type")[0].startswith(expected)


# Whatever else is asked


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz/more", "/favicon.ico", "/../healthz"])
def test_there_are_three_pages(port: Port, path: str) -> None:
    assert port.ask(path) == (404, "There are /healthz, /readyz and /metrics.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_they_can_only_be_read(port: Port, method: str) -> None:
    response = _now(port.asking("/readyz", method))
    assert response.code == 405
    assert response.headers.getRawHeaders("allow") == ["GET, HEAD"]


def test_a_load_balancer_may_ask_for_the_status_alone(port: Port) -> None:
    assert port.ask("/readyz", "HEAD") == (200, "")
    port.daemon.is_draining = True
    assert port.ask("/readyz", "HEAD") == (503, "")


def test_a_query_makes_no_other_page(port: Port) -> None:
    assert port.ask("/healthz?from=haproxy") == (200, "ok\n")


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
def test_nobody_waits_long_for_processes_that_do_not_answer(port: Port, path: str) -> None:
    port.daemon.hangs = True
    asked = port.asking(path)
    port.clock.advance(PATIENCE)
    assert port.answered(asked) == (503, "The processes that serve do not answer.\n")
    assert port.clock.getDelayedCalls() == []


def test_a_fault_of_our_own_is_in_the_log_and_not_in_the_answer(port: Port) -> None:
    port.daemon.raises = ValueError("a secret")
    assert port.ask("/metrics") == (500, "What happened is in the log.\n")
    (event,) = port.logged
    assert event["log_failure"].check(ValueError)


def test_an_answer_is_never_kept_by_a_cache(port: Port) -> None:
    response = _now(port.asking("/readyz"))
    assert response.headers.getRawHeaders("cache-control") == ["no-store"]
    assert response.headers.getRawHeaders("content-type") == ["text/plain; charset=utf-8"]


# One process


def test_one_process_is_watched_by_its_own_numbers() -> None:
    draining = False
    metrics = Metrics([ACTION])
    watched = WatchedProcess(metrics, lambda: draining)
    assert watched.unready() is None
    draining = True
    assert "draining" in (watched.unready() or "")
    metrics.limit_exceeded("rate")
    (snapshot,) = _now(Deferred.fromCoroutine(watched.snapshots()))
    assert samples(snapshot)["econed_refusals_total", "rate"] == 1


# The port


@pytest_twisted.ensureDeferred
async def test_it_listens_on_loopback_alone_for_as_long_as_the_daemon_runs() -> None:
    service = admin_service(reactor, 0, FakeDaemon(), Logger("test"))
    service.privilegedStartService()
    service.startService()
    listening = await listening_port(service)
    try:
        host = listening.getHost()
        assert host.host == "127.0.0.1"
        response = await treq.get(f"http://127.0.0.1:{host.port}/healthz", persistent=False)
        assert (response.code, await response.text()) == (200, "ok\n")
    finally:
        await service.stopService()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", host.port)) != 0


def test_a_port_that_is_taken_is_found_before_anything_runs() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(CannotListen) as raised:
            admin_service(reactor, number, FakeDaemon(), Logger("test"))
    assert str(raised.value) == f"admin_port: nothing can listen on 127.0.0.1:{number}: Address already in use"


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_takes_nothing_with_it() -> None:
    """What was asked for it is given up, and the next one is answered."""
    daemon, logged = FakeDaemon(), list[LogEvent]()
    daemon.hangs = True
    service = admin_service(reactor, 0, daemon, Logger("test", observer=logged.append))  # type: ignore[arg-type]
    service.startService()
    url = f"http://127.0.0.1:{(await listening_port(service)).getHost().port}"
    try:
        asking = treq.get(f"{url}/metrics", persistent=False)
        await daemon.asked
        asking.cancel()
        with pytest.raises(ResponseNeverReceived):
            await asking
        await daemon.given_up
        response = await treq.get(f"{url}/healthz", persistent=False)
        assert await response.text() == "ok\n"
    finally:
        await service.stopService()
    assert logged == []
