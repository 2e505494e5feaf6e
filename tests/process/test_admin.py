"""The administrator's port: health, readiness, metrics, and that it always responds."""

from __future__ import annotations

import socket
import subprocess
import sys
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
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.process.admin import TIMEOUT, AdminPages, admin_service
from econed.process.admin_port import WatchedProcess
from econed.process.interfaces import IWatched
from econed.process.listening import CannotListen
from econed.telemetry.metrics import Metrics, Snapshot
from tests.support.metrics import ACTION, parse_exposition, samples
from tests.support.twisted_privates import listening_port

reactor: Any = _reactor
REPLIED_AT = 1_800_000_000.0


@implementer(IWatched)
class FakeDaemon:
    """A daemon in the state that the test sets."""

    def __init__(self) -> None:
        self.is_draining = False
        self.is_hanging = False
        self.error: Exception | None = None
        self.requested: Deferred[None] = Deferred()
        self.cancelled: Deferred[None] = Deferred()
        self.metrics = [Metrics([ACTION]), Metrics([ACTION])]
        self.metrics[0].track_oned_state(lambda: True, lambda: REPLIED_AT)

    def unready_reason(self) -> str | None:
        return "draining" if self.is_draining else None

    async def snapshots(self) -> Sequence[Snapshot]:
        if self.is_hanging:
            self.requested.callback(None)
            await Deferred(lambda _: self.cancelled.callback(None))
        if self.error is not None:
            raise self.error
        return [metrics.snapshot() for metrics in self.metrics]


class PagesAsResource(Resource):
    """The pages as treq's stub takes them."""

    isLeaf = True

    def __init__(self, pages: AdminPages) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pages = pages

    def render(self, request: Request) -> int:
        self._pages.respond(request)
        return NOT_DONE_YET


class PortHarness:
    """The administrator's port of a daemon, without a network."""

    def __init__(self) -> None:
        self.daemon = FakeDaemon()
        self.clock = Clock()
        self.logged: list[LogEvent] = []
        log = Logger("test", observer=self.logged.append)  # type: ignore[arg-type]
        pages = AdminPages(self.daemon, self.clock, log)
        self._treq: Any = StubTreq(PagesAsResource(pages))  # type: ignore[no-untyped-call]

    def send(self, path: str, method: str = "GET", **more: Any) -> Deferred[Any]:
        """Send a request, without waiting for the response."""
        response: Deferred[Any] = self._treq.request(method, f"http://127.0.0.1:9567{path}", **more)
        self._treq.flush()
        return response

    def request(self, path: str, method: str = "GET", **more: Any) -> tuple[int, str]:
        """Send a request, and return the status and text of the immediate response."""
        return self.received(self.send(path, method, **more))

    def received(self, response: Deferred[Any]) -> tuple[int, str]:
        """Return the status and text of a response that has arrived."""
        self._treq.flush()
        headers = _result(response)
        return headers.code, _result(self._treq.text_content(headers))


def _result(deferred: Deferred[Any]) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "there is no result"
    return results[0]


@pytest.fixture
def port() -> PortHarness:
    """The port of a daemon that is ready."""
    return PortHarness()


def test_a_single_process_and_the_stand_in_provide_the_interface() -> None:
    assert verifyObject(IWatched, WatchedProcess(Metrics(), lambda: False))
    assert verifyObject(IWatched, FakeDaemon())


# Health


def test_a_running_daemon_is_healthy_also_without_oned(port: PortHarness) -> None:
    """A restart of econed would not fix oned."""
    port.daemon.metrics[0].track_oned_state(lambda: False, lambda: REPLIED_AT)
    port.daemon.is_draining = True
    assert port.request("/healthz") == (200, "ok\n")


def test_healthz_does_not_wait_for_other_processes(port: PortHarness) -> None:
    port.daemon.is_hanging = True
    assert port.request("/healthz") == (200, "ok\n")


# Readiness


def test_a_daemon_that_reaches_oned_is_ready(port: PortHarness) -> None:
    """One process that reaches oned is sufficient."""
    port.daemon.metrics[1].track_oned_state(lambda: False, lambda: None)
    assert port.request("/readyz") == (200, "ok\n")


def test_a_daemon_whose_credentials_oned_rejects_is_not_ready(port: PortHarness) -> None:
    """One process that oned accepts is sufficient: during a reload the others are stopping."""
    port.daemon.metrics[0].track_oned_state(lambda: True, lambda: REPLIED_AT, lambda: True)
    assert port.request("/readyz") == (503, "oned rejects the credentials of serveradmin\n")
    assert "econed_ready 0.0" in port.request("/metrics")[1]
    assert "econed_oned_credentials_rejected 1.0" in port.request("/metrics")[1]
    port.daemon.metrics[1].track_oned_state(lambda: True, lambda: REPLIED_AT, lambda: False)
    assert port.request("/readyz") == (200, "ok\n")


def test_a_daemon_that_drains_is_not_ready(port: PortHarness) -> None:
    port.daemon.is_draining = True
    assert port.request("/readyz") == (503, "draining\n")


def test_a_daemon_that_has_not_reached_oned_yet_is_not_ready(port: PortHarness) -> None:
    port.daemon.metrics[0].track_oned_state(lambda: False, lambda: None)
    assert port.request("/readyz") == (503, "oned has not replied yet\n")


def test_a_daemon_without_serving_processes_is_not_ready(port: PortHarness) -> None:
    port.daemon.metrics = []
    assert port.request("/readyz") == (503, "oned has not replied yet\n")


def test_readyz_has_the_time_of_the_last_reply_if_oned_is_unreachable(port: PortHarness) -> None:
    port.daemon.metrics[0].track_oned_state(lambda: False, lambda: REPLIED_AT)
    port.daemon.metrics[1].track_oned_state(lambda: False, lambda: REPLIED_AT - 60)
    assert port.request("/readyz") == (503, "oned last replied at 2027-01-15 08:00:00 UTC\n")


# Metrics


def test_the_metrics_of_all_processes_are_added_up(port: PortHarness) -> None:
    for metrics in port.daemon.metrics:
        metrics.request_started()
        metrics.request_ended(ACTION, "", 0.1)
    status, text = port.request("/metrics")
    values = parse_exposition(text)
    assert status == 200
    assert values["econed_requests_total", ACTION, "ok"] == 2
    assert values["econed_ready",] == 1


@pytest.mark.parametrize("is_draining", [True, False])
def test_readiness_is_a_metric_too(port: PortHarness, is_draining: bool) -> None:
    port.daemon.is_draining = is_draining
    port.daemon.metrics[0].track_oned_state(lambda: is_draining, lambda: REPLIED_AT)
    assert parse_exposition(port.request("/metrics")[1])["econed_ready",] == 0


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("*/*", "text/plain; version=0.0.4"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics")],
)
def test_the_scraper_chooses_the_format(port: PortHarness, accept: str, expected: str) -> None:
    response = _result(port.send("/metrics", headers={"Accept": accept}))
    assert response.headers.getRawHeaders("content-type")[0].startswith(expected)


# Other requests


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz/more", "/favicon.ico", "/../healthz"])
def test_other_paths_are_not_found(port: PortHarness, path: str) -> None:
    assert port.request(path) == (404, "The paths are /healthz, /readyz and /metrics.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_not_allowed(port: PortHarness, method: str) -> None:
    response = _result(port.send("/readyz", method))
    assert response.code == 405
    assert response.headers.getRawHeaders("allow") == ["GET, HEAD"]


def test_head_has_the_same_status_as_get(port: PortHarness) -> None:
    assert port.request("/readyz", "HEAD") == (200, "")
    port.daemon.is_draining = True
    assert port.request("/readyz", "HEAD") == (503, "")


def test_a_query_is_ignored(port: PortHarness) -> None:
    assert port.request("/healthz?from=haproxy") == (200, "ok\n")


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
def test_processes_that_do_not_reply_are_a_timeout(port: PortHarness, path: str) -> None:
    port.daemon.is_hanging = True
    response = port.send(path)
    port.clock.advance(TIMEOUT)
    assert port.received(response) == (503, "The serving processes do not reply.\n")
    assert port.clock.getDelayedCalls() == []


def test_an_unexpected_error_is_in_the_log_and_not_in_the_response(port: PortHarness) -> None:
    port.daemon.error = ValueError("a secret")
    assert port.request("/metrics") == (500, "The error is in the log.\n")
    (event,) = port.logged
    assert event["log_failure"].check(ValueError)


def test_responses_are_not_cacheable(port: PortHarness) -> None:
    response = _result(port.send("/readyz"))
    assert response.headers.getRawHeaders("cache-control") == ["no-store"]
    assert response.headers.getRawHeaders("content-type") == ["text/plain; charset=utf-8"]


# One process


def test_a_single_process_has_its_own_metrics() -> None:
    draining = False
    metrics = Metrics([ACTION])
    watched = WatchedProcess(metrics, lambda: draining)
    assert watched.unready_reason() is None
    draining = True
    assert "draining" in (watched.unready_reason() or "")
    metrics.limit_exceeded("rate")
    (snapshot,) = _result(Deferred.fromCoroutine(watched.snapshots()))
    assert samples(snapshot)["econed_refusals_total", "rate"] == 1


# The port


@pytest_twisted.ensureDeferred
async def test_it_listens_on_loopback_only_while_the_service_runs() -> None:
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


def test_a_port_in_use_is_an_error_before_the_service_starts() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotListen) as raised:
            admin_service(reactor, port, FakeDaemon(), Logger("test"))
    assert str(raised.value) == f"admin_port: nothing can listen on 127.0.0.1:{port}: Address already in use"


@pytest_twisted.ensureDeferred
async def test_the_http_server_responds_to_head_without_a_body_and_ignores_bodies_of_requests() -> None:
    service = admin_service(reactor, 0, FakeDaemon(), Logger("test"))
    service.startService()
    url = f"http://127.0.0.1:{(await listening_port(service)).getHost().port}"
    try:
        response = await treq.head(f"{url}/readyz", persistent=False)
        assert (response.code, response.length, await response.text()) == (200, 0, "")
        assert response.headers.hasHeader("date")
        response = await treq.post(f"{url}/readyz", data={"a": "b"}, persistent=False)
        assert (response.code, await response.text()) == (405, "The methods are GET and HEAD.\n")
    finally:
        await service.stopService()


@pytest_twisted.ensureDeferred
async def test_a_request_is_cancelled_when_its_client_disconnects() -> None:
    """The next request is answered."""
    daemon, logged = FakeDaemon(), list[LogEvent]()
    daemon.is_hanging = True
    service = admin_service(reactor, 0, daemon, Logger("test", observer=logged.append))  # type: ignore[arg-type]
    service.startService()
    url = f"http://127.0.0.1:{(await listening_port(service)).getHost().port}"
    try:
        requesting = treq.get(f"{url}/metrics", persistent=False)
        await daemon.requested
        requesting.cancel()
        with pytest.raises(ResponseNeverReceived):
            await requesting
        await daemon.cancelled
        response = await treq.get(f"{url}/healthz", persistent=False)
        assert await response.text() == "ok\n"
    finally:
        await service.stopService()
    assert logged == []


def test_it_imports_no_more_of_http_than_it_needs() -> None:
    """In a supervisor nothing else serves HTTP, and the resources of twisted.web would take 2.5 MB of it."""
    command = "import sys, econed.process.admin; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert "twisted.web.http" in output.split()
    assert not {"twisted.web.server", "twisted.web.resource", "twisted.web.client"} & set(output.split())
