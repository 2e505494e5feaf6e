"""Metrics count real requests over connections, scripts and certificates."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface.verify import verifyObject

from econed.auth.users import USER_MAX_AGE
from econed.calls.queue import CallQueue
from econed.calls.turns import Owner
from econed.config.settings import Settings
from econed.errors import OpenNebulaUnavailable, ScriptFailed
from econed.interfaces import ICallLimiter
from econed.opennebula.tokens import PasswordKey
from econed.process.certificates import TLSFiles
from econed.process.tls import ServerTLS
from econed.reconciler import INTERVAL, ReconcilerService
from econed.scripts import Scripts
from econed.telemetry.metrics import UNKNOWN, Metrics
from econed.xmlrpc_backend import XMLRPCBackend
from tests.support.certificates import Authority
from tests.support.metrics import samples, series_of
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, send_request, signed

reactor: Any = _reactor
ADDRESSES = IPv4Address("203.0.113.10"), IPv4Address("10.0.0.5")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A daemon on its own port."""
    running = Server(Settings(tmpdir=str(tmp_path), rate_limit=0.001, rate_burst=2))
    yield running
    running.close()


def requests(server: Server) -> dict[tuple[str, ...], float]:
    """Return the number of requests by action and code."""
    return {labels: value for labels, (value,) in series_of(server.metrics.snapshot(), "econed_requests").items()}


# Requests


@pytest_twisted.ensureDeferred
async def test_requests_are_counted_by_action_and_code(server: Server) -> None:
    await send_request(server, get(server, signed(server)))
    await send_request(server, get(server, signed(server, Action="DescribeInstances", MaxResults="many")))
    assert requests(server) == {("DescribeRegions", "ok"): 1, ("DescribeInstances", "InvalidParameterValue"): 1}


@pytest_twisted.ensureDeferred
async def test_text_from_unauthenticated_clients_never_becomes_a_label(server: Server) -> None:
    await send_request(server, get(server, signed(server, Action="Evil{}")))
    await send_request(server, get(server, signed(server, Action="Evil2", secret="guessed")))
    await send_request(server, get(server, "Action=Evil3"))
    await send_request(server, get(server))
    assert {action for action, _ in requests(server)} == {UNKNOWN}
    assert sum(requests(server).values()) == 4


@pytest_twisted.ensureDeferred
async def test_refused_requests_are_counted_by_limit(server: Server) -> None:
    for _ in range(3):
        await send_request(server, get(server, signed(server)))
    assert series_of(server.metrics.snapshot(), "econed_refusals") == {("rate_limit",): [1]}
    assert sum(value for (_, code), value in requests(server).items() if code == "RequestLimitExceeded") == 1


@pytest_twisted.ensureDeferred
async def test_the_request_of_a_client_that_disconnects_is_counted_and_no_longer_in_flight(server: Server) -> None:
    hanging: Deferred[Any] = Deferred()
    server.cloud.backend.document = lambda *asked: hanging  # type: ignore[method-assign,assignment]
    client = await connected(server)
    client.send(get(server, signed(server)))
    await wait_until(lambda: samples(server.metrics.snapshot())["econed_requests_in_flight",] == 1)
    client.close()
    await client.closed
    await wait_until(lambda: requests(server))
    assert requests(server) == {("DescribeRegions", "ClientGone"): 1}
    assert samples(server.metrics.snapshot())["econed_requests_in_flight",] == 0


@pytest_twisted.ensureDeferred
async def test_a_user_is_cached_until_the_entry_expires(server: Server) -> None:
    """The first lookup reads the whole pool; after expiry only the user is read again."""

    def lookups() -> dict[tuple[str, ...], float]:
        return {k: v for k, (v,) in series_of(server.metrics.snapshot(), "econed_cache_lookups").items()}

    await send_request(server, get(server, signed(server)))
    assert lookups() == {("userpool", "miss"): 1, ("user", "hit"): 1}
    await send_request(server, get(server, signed(server)))
    assert lookups() == {("userpool", "miss"): 1, ("user", "hit"): 2}
    server.cloud.clock.advance(USER_MAX_AGE)
    await send_request(server, get(server, signed(server)))
    assert lookups() == {("userpool", "miss"): 1, ("user", "hit"): 2, ("user", "miss"): 1}


# oned


_REPLY = (
    b"<methodResponse><params><param><value><array><data><value><boolean>1</boolean></value><value><string>7.4.0"
    b"</string></value><value><i4>0</i4></value></data></array></value></param></params></methodResponse>"
)


def test_calls_in_flight_and_queued_calls_are_counted_separately() -> None:
    """There are five calls and a limit of two; the first call detects which tokens oned accepts."""

    class Proxy:
        """An oned that replies when the test fires a Deferred."""

        def __init__(self) -> None:
            self.replies: list[Deferred[bytes]] = []

        def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
            self.replies.append(Deferred())
            return self.replies[-1]

    proxy, clock = Proxy(), Clock()
    untyped: Any = proxy
    backend = XMLRPCBackend(
        untyped,
        "serveradmin",
        PasswordKey("secret"),
        clock,
        succeed,  # type: ignore[arg-type]
        log=Logger("test"),
    )
    one = CallQueue(backend, 2, clock)
    assert verifyObject(ICallLimiter, one)
    metrics = Metrics()
    metrics.track_oned_calls(lambda: one.calls_in_flight, lambda: one.calls_waiting)

    def gauges() -> tuple[float, float]:
        values = samples(metrics.snapshot())
        return values["econed_oned_calls_in_flight",], values["econed_oned_calls_waiting",]

    assert gauges() == (0, 0)
    calls = [
        Deferred.fromCoroutine(one.share(Owner(number)).call("alice", "one.vm.action", "resume", number))
        for number in range(5)
    ]
    proxy.replies.pop(0).callback(_REPLY)
    assert gauges() == (2, 3)
    for expected in ((2, 2), (2, 1), (2, 0), (1, 0), (0, 0)):
        proxy.replies.pop(0).callback(_REPLY)
        assert gauges() == expected
    assert [call.result for call in calls] == ["7.4.0"] * 5


# Scripts and the reconciler


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("exit 0", "ok"), ("exit 3", "failed"), ("kill -9 $$", "broken_off"), ("exec sleep 60", "broken_off")],
)
@pytest_twisted.ensureDeferred
async def test_a_script_is_counted_by_its_outcome(tmp_path: Path, text: str, outcome: str) -> None:
    metrics = Metrics()
    timeout = 0.2 if "sleep" in text else 30.0
    scripts = Scripts(reactor, None, ["/bin/sh", "-c", text], timeout, Logger("test"), metrics.script_ended)
    try:
        await scripts.disassociate(*ADDRESSES, "", 30.0)
    except ScriptFailed:
        assert outcome != "ok"
    await scripts.associate(*ADDRESSES, "", 30.0)
    values = samples(metrics.snapshot())
    assert values["econed_scripts_total", outcome, "disassociate"] == 1
    assert values["econed_script_duration_seconds_count", "disassociate"] == 1
    assert not [key for key in values if "associate" in key], "the other script is not configured"


@pytest_twisted.ensureDeferred
async def test_a_cancelled_script_is_counted_as_cancelled() -> None:
    metrics = Metrics()
    scripts = Scripts(reactor, ["/bin/sh", "-c", "exec sleep 60"], None, 30.0, Logger("test"), metrics.script_ended)
    running = Deferred.fromCoroutine(scripts.associate(*ADDRESSES, "", 30.0))
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert samples(metrics.snapshot())["econed_scripts_total", "cancelled", "associate"] == 1


def test_a_round_of_the_reconciler_is_counted_by_its_outcome() -> None:
    class Rounds:
        """A reconciler whose rounds have all outcomes in turn."""

        def __init__(self) -> None:
            self.errors = [None, OpenNebulaUnavailable("one.userpool.info", "down"), ValueError("a bug"), None]

        async def round(self) -> None:
            """Succeed or fail, as the test has set."""
            error = self.errors.pop(0)
            if error is not None:
                raise error

    clock, metrics = Clock(), Metrics()
    log = Logger("test", observer=lambda event: None)  # type: ignore[arg-type]
    ReconcilerService(Rounds(), clock, lambda: 0.5, log, metrics.round_ended).startService()  # type: ignore[arg-type]
    clock.pump([INTERVAL / 2, INTERVAL, INTERVAL, INTERVAL])
    assert series_of(metrics.snapshot(), "econed_reconciler_rounds") == {
        ("done",): [2],
        ("waits",): [1],
        ("failed",): [1],
    }


# Certificates


def test_the_expiry_of_each_certificate_and_the_outcome_of_reloads_are_recorded(tmp_path: Path) -> None:
    authority, metrics, clock = Authority(), Metrics(), Clock()
    files = authority.server("a.example.org").write(tmp_path, "own")
    tls = ServerTLS(TLSFiles(files), clock, lambda work: succeed(work()), Logger("test"), metrics)
    name = "econed_certificate_expiry_timestamp_seconds"
    (old_expiry,) = series_of(metrics.snapshot(), name)[files.cert,]
    authority.server("a.example.org", days=900).write(tmp_path, "own")
    _run(tls.reload())
    (new_expiry,) = series_of(metrics.snapshot(), name)[files.cert,]
    assert new_expiry > old_expiry
    Path(files.cert).write_text("nothing", "utf-8")
    _run(tls.reload())
    assert series_of(metrics.snapshot(), name) == {(files.cert,): [new_expiry]}
    values = samples(metrics.snapshot())
    assert values["econed_reloads_total", "taken", "certificates"] == 1
    assert values["econed_reloads_total", "refused", "certificates"] == 1


def _run(coroutine: Any) -> None:
    results: list[object] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    assert results == [None]
