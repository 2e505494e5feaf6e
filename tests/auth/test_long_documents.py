"""Users with a long document do not affect other users; over real sockets, with the real client of oned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.web.server import Site

from econed.auth.users import USER_MAX_AGE, UserDirectory
from econed.opennebula.methods import MAX_USER, MAX_USER_POOL
from econed.opennebula.session import Session
from econed.opennebula.tokens import PasswordKey
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource
from econed.user import User
from econed.xmlrpc.endpoint import oned_endpoint
from econed.xmlrpc.proxy import OnedProxy
from econed.xmlrpc_backend import CallLimits, XMLRPCBackend

pytestmark = pytest.mark.slow

T = TypeVar("T")
NOW = 1_795_337_859.0
MIB = 1024 * 1024


@dataclass
class Zone:
    """An oned on a socket, and the client of one process."""

    oned: Oned
    one: XMLRPCBackend
    clock: Clock

    def lengthen(self, name: str, size: int) -> None:
        """Make the document of a user `size` bytes longer, as users themselves can with `oneuser update`."""
        token = self.oned.oneadmin
        user = next(user for user in self.oned.cloud.users if user.name == name)
        for number in range(-(-size // MIB)):
            succeeded, *_ = self.oned.execute("one.user.update", token, user.id, f'A{number}="{"x" * MIB}"', 1)
            assert succeeded

    async def find(self, directory: UserDirectory, name: str) -> User | None:
        """Return the user with this name, looked up as by an authenticator."""
        for _ in range(2):
            cached = directory.cached(name)
            if cached is not None and (current := await directory.confirm(cached)) is not None:
                return current
            await directory.refresh(name)
        return None


@pytest_twisted.async_yield_fixture
async def zone() -> AsyncIterator[Zone]:
    """Return a cloud with alice, bob and three malicious users."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    clock = Clock()
    clock.advance(NOW)
    oned = Oned(clock)
    populate(oned, users=tuple((name, f"{name}pw") for name in ("alice", "bob", "mallory", "trudy", "eve")))
    port = reactor.listenTCP(0, Site(SandboxResource(oned)), interface="127.0.0.1")

    async def run_now(work: Callable[[], T]) -> T:
        return work()

    url = f"http://127.0.0.1:{port.getHost().port}/RPC2"
    name, _, password = oned.serveradmin.partition(":")
    proxy = OnedProxy(reactor, url, oned_endpoint(reactor, url), CallLimits().reply_bytes)
    one = XMLRPCBackend(proxy, name, PasswordKey(password), clock, run_now, now=clock.seconds, log=Logger("test"))
    yield Zone(oned, one, clock)
    await maybeDeferred(port.stopListening)


@pytest_twisted.ensureDeferred
async def test_documents_that_are_too_long_affect_only_their_users(zone: Zone) -> None:
    """With a filled and with an empty cache, also for new users."""
    filled = UserDirectory(zone.one, zone.clock, log=Logger(namespace="econed"))
    assert await zone.find(filled, "alice") is not None
    for name in ("mallory", "trudy", "eve"):
        zone.lengthen(name, MAX_USER_POOL // 3 + MIB)
    zone.clock.advance(USER_MAX_AGE)
    zone.oned.execute("one.user.allocate", zone.oned.oneadmin, "newcomer", "newcomerpw", "core", [])
    for directory in (filled, UserDirectory(zone.one, zone.clock, log=Logger(namespace="econed"))):
        logged = len(zone.oned.calls)
        users = {name: await zone.find(directory, name) for name in ("alice", "bob", "newcomer", "mallory")}
        assert {name for name, user in users.items() if user is not None} == {"alice", "bob", "newcomer"}
        calls = [call.method for call in list(zone.oned.calls)[logged:]]
        assert len(calls) < 20
    user = next(user for user in zone.oned.cloud.users if user.name == "mallory")
    zone.oned.execute("one.user.update", zone.oned.oneadmin, user.id, "", 0)
    zone.clock.advance(60)
    assert await zone.find(filled, "mallory") is not None


@pytest_twisted.ensureDeferred
async def test_a_long_document_does_not_increase_the_calls_for_unknown_names(zone: Zone) -> None:
    """Once the cache is filled the whole pool is not read again, whatever names strangers send."""
    directory = UserDirectory(zone.one, zone.clock, log=Logger(namespace="econed"))
    assert await zone.find(directory, "alice") is not None
    zone.lengthen("mallory", MAX_USER + MIB)
    logged = len(zone.oned.calls)
    for number in range(20):
        zone.clock.advance(1)
        assert await zone.find(directory, f"stranger-{number}") is None
    calls = [call.method for call in list(zone.oned.calls)[logged:]]
    assert "one.userpool.info" not in calls
    assert calls.count("one.grouppool.info") == 10


@pytest.mark.parametrize("method", ["one.user.info", "one.userpool.info"])
@pytest_twisted.ensureDeferred
async def test_a_document_within_the_limits_is_read(zone: Zone, method: str) -> None:
    """At its maximum length: what econed itself stores in a document must not lock its user out."""
    zone.lengthen("mallory", MAX_USER - MIB)
    mallory = next(user for user in zone.oned.cloud.users if user.name == "mallory")
    names: list[str] = []
    if method == "one.user.info":
        names.append((await Session(zone.one, None).user_by_id(mallory.id)).name)
    else:
        directory = UserDirectory(zone.one, zone.clock, log=Logger(namespace="econed"))
        await directory.refresh("mallory")
        names.append("mallory" if directory.cached("mallory") is not None else "")
    assert names == ["mallory"]
