"""The contract of `IOpenNebula`, for the sandbox in process and for the XML-RPC client connected to a sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from econed.errors import InvalidReply, OpenNebulaRefusal
from econed.interfaces import IOpenNebula
from econed.opennebula import template
from econed.opennebula.documents import UserDocument
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.opennebula.tokens import CertificateKey, PasswordKey, ServerKey
from econed.sandbox.backend import SandboxBackend
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import Oned
from econed.sandbox.server import SandboxResource
from econed.xmlrpc.endpoint import oned_endpoint
from econed.xmlrpc.proxy import OnedProxy
from econed.xmlrpc_backend import XMLRPCBackend
from tests.support.certificates import server_certificate

T = TypeVar("T")
NOW = 1_795_337_859.0
MOST = 64 * 1024 * 1024
KINDS = [(version, how) for version in ("5.12", "7.4") for how in ("in process", "over a socket")]


@dataclass(frozen=True)
class DemoOned:
    """A small cloud with the users alice and bob and an image, and a client of it."""

    oned: Oned
    one: IOpenNebula
    clock: Clock

    def session(self, user: str | None = "alice") -> Session:
        """Return a session of this user."""
        return Session(self.one, user)

    async def machine(self, name: str = "web", hold: bool = True) -> int:
        """Create a machine of alice and return its id."""
        session = self.session()
        [first, *_] = sorted(await session.templates(), key=lambda template: template.id)
        return await session.instantiate(first.id, name, hold, "")


@pytest_twisted.async_yield_fixture(params=KINDS, ids=" ".join)
async def demo(request: pytest.FixtureRequest) -> AsyncIterator[DemoOned]:
    """Return a cloud of each version, with each client."""
    from twisted.internet import reactor

    version, how = request.param
    clock = Clock()
    clock.advance(NOW)
    oned = Oned(clock, version=version)
    populate(oned, users=(("alice", "alicepw"), ("bob", "bobpw")))
    if how == "in process":
        yield DemoOned(oned, SandboxBackend(oned), clock)
        return
    port = listening(reactor, oned)
    yield DemoOned(oned, over_socket(reactor, port.getHost().port, oned, clock), clock)
    await maybeDeferred(port.stopListening)


def listening(reactor: Any, oned: Oned) -> Any:
    """Serve a sandbox on loopback and return the port."""
    return reactor.listenTCP(0, Site(SandboxResource(oned)), interface="127.0.0.1")


def over_socket(reactor: Any, port: int, oned: Oned, clock: Clock, key: ServerKey | None = None) -> IOpenNebula:
    """Return a client of a sandbox that listens on a port on loopback."""

    async def at_once(work: Callable[[], T]) -> T:
        return work()

    url = f"http://127.0.0.1:{port}/RPC2"
    name, _, password = oned.serveradmin.partition(":")
    proxy = OnedProxy(reactor, url, oned_endpoint(reactor, url), MOST)
    backend: IOpenNebula = XMLRPCBackend(
        proxy, name, key or PasswordKey(password), clock, at_once, now=clock.seconds, log=Logger("test")
    )
    return backend


@pytest.mark.parametrize("version", ["5.12", "7.4"])
@pytest_twisted.ensureDeferred
async def test_with_a_certificate_there_is_only_one_form_of_token(version: str) -> None:
    """The form need not be determined (core_auth x509, oned's driver server_x509)."""
    from twisted.internet import reactor

    clock = Clock()
    clock.advance(NOW)
    oned = Oned(clock, version=version)
    populate(oned, users=(("alice", "alicepw"),))
    private, certificate = server_certificate()
    oned.trust(certificate)
    logged = len(oned.calls)
    port = listening(reactor, oned)
    one = over_socket(reactor, port.getHost().port, oned, clock, CertificateKey(private))
    assert (await Session(one, "alice").current_user()).name == "alice"
    assert (await Session(one, None).current_user()).name == "serveradmin"
    assert [call.user for call in list(oned.calls)[logged:]] == ["alice", "serveradmin"]
    stranger = over_socket(reactor, port.getHost().port, oned, clock, PasswordKey("guessed"))
    assert await code_of(stranger.call("alice", "one.system.version")) == 256
    await maybeDeferred(port.stopListening)


async def code_of(call: Awaitable[object]) -> int:
    """Return the code with which oned refuses a call."""
    with pytest.raises(OpenNebulaRefusal) as refused:
        await call
    return refused.value.code


@pytest_twisted.ensureDeferred
async def test_it_provides_the_interface(demo: DemoOned) -> None:
    assert verifyObject(IOpenNebula, demo.one)


@pytest_twisted.ensureDeferred
async def test_a_value_has_the_type_that_oned_gave_it(demo: DemoOned) -> None:
    assert await demo.one.call("alice", "one.system.version") == demo.oned.version
    made = await demo.machine()
    assert isinstance(made, int)
    assert not isinstance(made, bool)


@pytest_twisted.ensureDeferred
async def test_a_document_is_an_element(demo: DemoOned) -> None:
    root = await demo.one.document("alice", "one.user.info", -1, False)
    assert (root.tag, root.findtext("NAME")) == ("USER", "alice")


@pytest_twisted.ensureDeferred
async def test_a_reply_without_a_document_is_invalid(demo: DemoOned) -> None:
    with pytest.raises(InvalidReply):
        await demo.one.document("alice", "one.system.version")


async def visited(session: Session) -> list[UserDocument]:
    """Return the users that are visible to a session."""
    users: list[UserDocument] = []

    async def visit(user: UserDocument) -> None:
        users.append(user)

    await session.visit_users(visit, print)
    return users


@pytest_twisted.ensureDeferred
async def test_every_call_is_made_in_the_session_of_its_user(demo: DemoOned) -> None:
    for user, name in (("alice", "alice"), ("bob", "bob"), (None, "serveradmin")):
        assert (await demo.session(user).current_user()).name == name
        assert demo.oned.calls[-1].user == name
    assert [user.name for user in await visited(demo.session("alice"))] == ["alice"]
    every_user = await visited(demo.session(None))
    assert {"alice", "bob", "serveradmin"} <= {user.name for user in every_user}
    assert await demo.session(None).user_ids() == tuple(sorted(user.id for user in every_user))
    assert [(await demo.session(None).user_by_id(user.id)).name for user in every_user] == [
        user.name for user in every_user
    ]


@pytest_twisted.ensureDeferred
async def test_a_refusal_has_oneds_code(demo: DemoOned) -> None:
    alice, bob = demo.session("alice"), demo.session("bob")
    made = await demo.machine()
    assert await code_of(alice.vm(9999)) == 1024
    assert await code_of(bob.vm(made)) == 512
    assert await code_of(alice.vm_action("poweroff", made)) == 2048
    assert await code_of(alice.vm_update(made, 'A="]]>"')) == 8192
    assert await code_of(demo.session("nobody").version()) == 256


@pytest_twisted.ensureDeferred
async def test_an_unknown_method_is_a_refusal(demo: DemoOned) -> None:
    assert await code_of(demo.one.call("alice", "one.nonsense.info", 1)) == -506


@pytest_twisted.ensureDeferred
async def test_a_new_machine_is_listed_at_once_and_is_done_after_its_termination(demo: DemoOned) -> None:
    alice = demo.session()
    first, second = await demo.machine("a"), await demo.machine("b")
    assert await alice.vm_ids(OwnerFilter.MINE) == (second, first)
    assert await demo.session("bob").vm_ids(OwnerFilter.MINE, StateFilter.ANY) == ()
    assert [vm.name for vm in await alice.vms((first, 9999, second))] == ["a", "b"]
    await alice.vm_action("terminate-hard", first)
    demo.clock.pump([0.5] * 60)
    assert (await alice.vm(first)).state is VmState.DONE
    assert await alice.vm_ids(OwnerFilter.MINE) == (second,)
    assert await alice.vm_ids(OwnerFilter.MINE, StateFilter.ANY) == (second, first)
    assert [vm.id for vm in await alice.vm_page(10, owner=OwnerFilter.MINE)] == [first]


@pytest.mark.parametrize("text", ['say "hi"', "a\\b", 'a\\"b', "two\nlines\ttab", ",=[]#<&", "$NAME 100$", "ünï", ""])
@pytest_twisted.ensureDeferred
async def test_a_storable_text_is_stored_unchanged_and_changes_nothing_else(demo: DemoOned, text: str) -> None:
    alice = demo.session()
    made = await demo.machine()
    before = (await alice.vm(made)).user_template
    change = template.template(template.attribute("ONE", text), template.vector("TWO", {"A": text, "B": "b"}))
    await alice.vm_update(made, change)
    after = (await alice.vm(made)).user_template
    assert after.text("ONE") == text
    assert after.vectors("TWO") == ({"A": text, "B": "b"},)
    assert after.without("ONE", "TWO") == before


@pytest.mark.parametrize("text", ["ends\\", "a]]>b", "\U0001f600", " blanks ", "line\n", "\x07"])
@pytest_twisted.ensureDeferred
async def test_a_text_that_oned_cannot_store_is_stored_encoded(demo: DemoOned, text: str) -> None:
    alice = demo.session()
    made = await demo.machine()
    await alice.vm_update(made, template.vector("TWO", template.encode_member("A", text)))
    assert template.decode_member((await alice.vm(made)).user_template.vector("TWO"), "A") == text


@pytest_twisted.ensureDeferred
async def test_a_name_with_a_character_that_cannot_be_sent_is_a_refusal_and_changes_nothing(demo: DemoOned) -> None:
    made = await demo.machine("before")
    await code_of(demo.session().vm_rename(made, "\U0001f600"))
    assert (await demo.session().vm(made)).name == "before"


@pytest_twisted.ensureDeferred
async def test_many_calls_of_one_user_need_one_authentication(demo: DemoOned) -> None:
    for _ in range(50):
        await demo.session().version()
    assert demo.oned.authentications["alice"] == 1
