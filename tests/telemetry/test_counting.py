"""What happens is counted where it happens: over real connections, with real scripts and certificates."""

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
from econed.config.settings import Settings
from econed.errors import OpenNebulaUnavailable, ScriptFailed
from econed.interfaces import ICallLimiter
from econed.opennebula.tokens import PasswordKey
from econed.process.certificates import Files
from econed.process.tls import ServerTLS
from econed.reconciler import INTERVAL, ReconcilerService
from econed.scripts import Scripts
from econed.telemetry.metrics import UNKNOWN, Metrics
from econed.xmlrpc_backend import CallLimits, XMLRPCBackend
from tests.support.certificates import Authority
from tests.support.metrics import samples, series_of
from tests.support.reactor_turns import wait_until
from tests.support.serving import Server, connected, get, send_request, signed

reactor: Any = _reactor
ADDRESSES = IPv4Address("203.0.113.10"), IPv4Address("10.0.0.5")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Return a daemon on a port of its own."""
    running = Server(Settings(tmpdir=str(tmp_path), rate_limit=0.001, rate_burst=2))
    yield running
    running.close()


def requests(server: Server) -> dict[tuple[str, ...], float]:
    """Return how many requests were counted, by action and code."""
    return {labels: value for labels, (value,) in series_of(server.metrics.snapshot(), "econed_requests").items()}


# Requests


@pytest_twisted.ensureDeferred
async def test_requests_are_counted_by_what_they_asked_for_and_what_they_got(server: Server) -> None:
    await send_request(server, get(server, signed(server)))
    await send_request(server, get(server, signed(server, Action="DescribeInstances", MaxResults="many")))
    assert requests(server) == {("DescribeRegions", "ok"): 1, ("DescribeInstances", "InvalidParameterValue"): 1}


@pytest_twisted.ensureDeferred
async def test_of_a_stranger_nothing_becomes_a_label(server: Server) -> None:
    await send_request(server, get(server, signed(server, Action="Evil{}")))
    await send_request(server, get(server, signed(server, Action="Evil2", secret="guessed")))
    await send_request(server, get(server, "Action=Evil3"))
    await send_request(server, get(server))
    assert {action for action, _ in requests(server)} == {UNKNOWN}
    assert sum(requests(server).values()) == 4


@pytest_twisted.ensureDeferred
async def test_what_a_limit_refused_is_counted_by_the_limit(server: Server) -> None:
    for _ in range(3):
        await send_request(server, get(server, signed(server)))
    assert series_of(server.metrics.snapshot(), "econed_refusals") == {("rate_limit",): [1]}
    assert sum(value for (_, code), value in requests(server).items() if code == "RequestLimitExceeded") == 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_wait_is_counted_and_nothing_stays_in_flight(server: Server) -> None:
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
async def test_a_user_is_read_once_and_then_known(server: Server) -> None:
    """The first look is into a pool that was never read; after some seconds he alone is read anew."""

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


def test_calls_on_their_way_and_calls_that_wait_for_a_turn_are_told_apart() -> None:
    """With two turns and five calls; the first finds out which tokens oned takes."""

    class Proxy:
        """An oned that answers when the test has it answer."""

        def __init__(self) -> None:
            self.asked: list[Deferred[bytes]] = []

        def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
            self.asked.append(Deferred())
            return self.asked[-1]

    proxy, limits = Proxy(), CallLimits(calls=2)
    made: Any = proxy
    one = XMLRPCBackend(made, "serveradmin", PasswordKey("secret"), Clock(), succeed, limits=limits)  # type: ignore[arg-type]
    assert verifyObject(ICallLimiter, one)
    metrics = Metrics()
    metrics.track_oned_calls(lambda: one.calls_in_flight, lambda: one.calls_waiting)

    def turns() -> tuple[float, float]:
        found = samples(metrics.snapshot())
        return found["econed_oned_calls_in_flight",], found["econed_oned_calls_waiting",]

    assert turns() == (0, 0)
    calls = [Deferred.fromCoroutine(one.call(None, "one.system.version")) for _ in range(5)]
    proxy.asked.pop(0).callback(_REPLY)
    assert turns() == (2, 3)
    for expected in ((2, 2), (2, 1), (2, 0), (1, 0), (0, 0)):
        proxy.asked.pop(0).callback(_REPLY)
        assert turns() == expected
    assert [each.result for each in calls] == ["7.4.0"] * 5


# What goes on beside the requests


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("exit 0", "ok"), ("exit 3", "failed"), ("kill -9 $$", "broken_off"), ("exec sleep 60", "broken_off")],
)
@pytest_twisted.ensureDeferred
async def test_a_script_is_counted_by_how_it_ended(tmp_path: Path, text: str, outcome: str) -> None:
    metrics = Metrics()
    timeout = 0.2 if "sleep" in text else 30.0
    scripts = Scripts(reactor, None, ["/bin/sh", "-c", text], timeout, ended=metrics.script_ended)
    try:
        await scripts.disassociate(*ADDRESSES, "", 30.0)
    except ScriptFailed:
        assert outcome != "ok"
    await scripts.associate(*ADDRESSES, "", 30.0)
    found = samples(metrics.snapshot())
    assert found["econed_scripts_total", outcome, "disassociate"] == 1
    assert found["econed_script_duration_seconds_count", "disassociate"] == 1
    assert not [key for key in found if "associate" in key], "what is not configured is not run"


@pytest_twisted.ensureDeferred
async def test_a_script_that_nobody_waits_for_any_more_is_counted_as_that() -> None:
    metrics = Metrics()
    scripts = Scripts(reactor, ["/bin/sh", "-c", "exec sleep 60"], None, 30.0, ended=metrics.script_ended)
    running = Deferred.fromCoroutine(scripts.associate(*ADDRESSES, "", 30.0))
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    assert samples(metrics.snapshot())["econed_scripts_total", "cancelled", "associate"] == 1


def test_a_round_of_the_reconciler_is_counted_by_what_came_of_it() -> None:
    class Rounds:
        """A reconciler whose rounds end one after the other in every way."""

        def __init__(self) -> None:
            self.errors = [None, OpenNebulaUnavailable("one.userpool.info", "down"), ValueError("a bug"), None]

        async def round(self) -> None:
            """Do nothing, or fail."""
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


def test_the_end_of_each_certificate_is_known_and_what_came_of_a_new_one(tmp_path: Path) -> None:
    authority, metrics, clock = Authority(), Metrics(), Clock()
    files = authority.server("a.example.org").write(tmp_path, "own")
    tls = ServerTLS(Files(files), clock, lambda work: succeed(work()), Logger("test"), metrics)
    name = "econed_certificate_expiry_timestamp_seconds"
    (first,) = series_of(metrics.snapshot(), name)[files.cert,]
    authority.server("a.example.org", days=900).write(tmp_path, "own")
    _now(tls.reload())
    (second,) = series_of(metrics.snapshot(), name)[files.cert,]
    assert second > first
    Path(files.cert).write_text("nothing", "utf-8")
    _now(tls.reload())
    assert series_of(metrics.snapshot(), name) == {(files.cert,): [second]}
    found = samples(metrics.snapshot())
    assert found["econed_reloads_total", "taken", "certificates"] == 1
    assert found["econed_reloads_total", "refused", "certificates"] == 1


def _now(coroutine: Any) -> None:
    done: list[object] = []
    Deferred.fromCoroutine(coroutine).addBoth(done.append)
    assert done == [None]
