"""Sessions make oned's calls, with the arguments that oned expects, in the name of a user."""

from __future__ import annotations

import inspect
import re
import xmlrpc.client
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import pytest_twisted
from lxml import etree
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.errors import InvalidReply, MalformedDocument, OpenNebulaRefusal, OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOpenNebula
from econed.opennebula import read_session, session
from econed.opennebula.documents import UserDocument, VirtualMachine
from econed.opennebula.methods import is_read_only
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState
from econed.user import Login

Replies = Callable[[str, tuple[object, ...]], object]
"""Returns the reply to a method with arguments, or a Deferred of it."""


@implementer(IOpenNebula)
class ScriptedOned:
    """A stand-in of oned that records every call and replies with what a function of the test returns."""

    def __init__(self, replies: Replies) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._replies = replies

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        return await self._reply(user, method, args)  # type: ignore[return-value]

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        text = await self._reply(user, method, args)
        assert isinstance(text, str)
        return etree.fromstring(text)

    async def _reply(self, user: Login, method: str, args: tuple[object, ...]) -> object:
        self.calls.append((user, method, *args))
        reply = self._replies(method, args)
        return await reply if isinstance(reply, Deferred) else reply


def pool(*ids: int) -> str:
    """Return a pool of these machines."""
    return f"<VM_POOL>{''.join(f'<VM><ID>{vm_id}</ID></VM>' for vm_id in ids)}</VM_POOL>"


def all_except(missing: set[int]) -> Replies:
    """Return the replies of an oned in which these machines do not exist; the others come newest first."""

    def reply(_: str, args: tuple[object, ...]) -> str:
        ids = sorted(map(int, str(args[0]).split(",")), reverse=True)
        return pool(*(vm_id for vm_id in ids if vm_id not in missing))

    return reply


def ids_of(vms: tuple[VirtualMachine, ...]) -> list[int]:
    """Return the ids of machines."""
    return [vm.id for vm in vms]


def test_the_scripted_oned_provides_the_interface() -> None:
    assert verifyObject(IOpenNebula, ScriptedOned(all_except(set())))


@pytest.mark.parametrize(
    ("do", "call"),
    [
        (lambda s: s.vm(7), ("one.vm.info", 7, False)),
        (lambda s: s.vm_page(5, 10, OwnerFilter.MINE), ("one.vmpool.infoextended", -3, 10, -5, 6, "")),
        (lambda s: s.vms_after(41), ("one.vmpool.infoextended", -3, 42, -1, -2, "")),
        (lambda s: s.vm_ids(), ("one.vmpool.info", -2, -1, -1, -1, "")),
        (lambda s: s.vm_ids(4, VmState.HOLD), ("one.vmpool.info", 4, -1, -1, 2, "")),
        (lambda s: s.vm_ids(OwnerFilter.MINE, StateFilter.ANY), ("one.vmpool.info", -3, -1, -1, -2, "")),
        (lambda s: s.vms_in_short_form(OwnerFilter.MINE, VmState.HOLD), ("one.vmpool.info", -3, -1, -1, 2, "")),
        (lambda s: s.newest_vms(5, OwnerFilter.MINE, VmState.DONE), ("one.vmpool.infoextended", -3, 0, -5, 6, "")),
        (lambda s: s.vm_ids_since(1600000000, OwnerFilter.MINE), ("one.vmpool.accounting", -3, 1600000000, -1)),
        (lambda s: s.vm_action("poweroff", 7), ("one.vm.action", "poweroff", 7)),
        (lambda s: s.vm_update(7, 'A="1"'), ("one.vm.update", 7, 'A="1"', 1)),
        (lambda s: s.vm_rename(7, "web"), ("one.vm.rename", 7, "web")),
        (lambda s: s.template(5), ("one.template.info", 5, False, False)),
        (lambda s: s.templates(), ("one.templatepool.info", -2, -1, -1)),
        (lambda s: s.image(2), ("one.image.info", 2, False)),
        (lambda s: s.images(), ("one.imagepool.info", -2, -1, -1)),
        (lambda s: s.images(OwnerFilter.MINE, 5, 9), ("one.imagepool.info", -3, 5, 9)),
        (lambda s: s.image_update(2, 'A="1"'), ("one.image.update", 2, 'A="1"', 1)),
        (lambda s: s.current_user(), ("one.user.info", -1, False)),
        (lambda s: s.visit_users(print, print), ("one.userpool.info",)),
        (lambda s: s.user_by_id(4), ("one.user.info", 4, False)),
        (lambda s: s.user_update(3, 'A="1"'), ("one.user.update", 3, 'A="1"', 1)),
        (lambda s: s.network(1), ("one.vn.info", 1, False)),
        (lambda s: s.networks(), ("one.vnpool.info", -2, -1, -1)),
        (lambda s: s.datastores(), ("one.datastorepool.info",)),
        (lambda s: s.zones(), ("one.zonepool.info",)),
        (lambda s: s.clusters(), ("one.clusterpool.info",)),
        (lambda s: s.version(), ("one.system.version",)),
    ],
)
@pytest_twisted.ensureDeferred
async def test_each_method_makes_one_call_in_the_users_name(
    do: Callable[[Session], Deferred[object]], call: tuple[object, ...]
) -> None:
    oned = ScriptedOned(lambda method, _: "<POOL/>")
    await do(Session(oned, "alice"))
    assert oned.calls == [("alice", *call)]
    assert xmlrpc.client.dumps(oned.calls[0][2:]), "XML-RPC cannot carry members of an IntEnum"  # type: ignore[arg-type]


@pytest.mark.parametrize(("module", "reads"), [(read_session, True), (session, False)])
def test_only_the_read_session_reads_and_it_changes_nothing(module: ModuleType, reads: bool) -> None:
    """By the names of the methods in its source."""
    methods = re.findall(r'"(one\.\w+\.\w+)"', inspect.getsource(module))
    assert methods
    assert {is_read_only(method) for method in methods} == {reads}


@pytest_twisted.ensureDeferred
async def test_instantiating_returns_the_new_id() -> None:
    oned = ScriptedOned(lambda *_: 42)
    assert await Session(oned, "alice").instantiate(5, "web", True, 'A="1"') == 42
    assert oned.calls == [("alice", "one.template.instantiate", 5, "web", True, 'A="1"', False)]


@pytest.mark.parametrize("reply", [True, "42"])
@pytest_twisted.ensureDeferred
async def test_a_new_id_that_is_not_a_number_raises_invalid_reply(reply: object) -> None:
    with pytest.raises(InvalidReply):
        await Session(ScriptedOned(lambda *_: reply), "alice").instantiate(5, "", False, "")


@pytest_twisted.ensureDeferred
async def test_ids_are_sorted_newest_first_without_duplicates() -> None:
    assert await Session(ScriptedOned(lambda *_: pool(3, 9, 5)), None).vm_ids() == (9, 5, 3)
    records = "".join(f"<HISTORY><OID>{vm_id}</OID><VM><ID>{vm_id}</ID></VM></HISTORY>" for vm_id in (4, 7, 4))
    accounting = ScriptedOned(lambda *_: f"<HISTORY_RECORDS>{records}</HISTORY_RECORDS>")
    assert await Session(accounting, None).vm_ids_since(0) == (7, 4)


@pytest_twisted.ensureDeferred
async def test_an_empty_id_in_a_pool_raises_invalid_reply() -> None:
    with pytest.raises(InvalidReply):
        await Session(ScriptedOned(lambda *_: "<VM_POOL><VM><ID/></VM></VM_POOL>"), None).vm_ids()


@pytest_twisted.ensureDeferred
async def test_machines_are_returned_in_the_requested_order_without_missing_machines() -> None:
    oned = ScriptedOned(all_except({5}))
    assert ids_of(await Session(oned, "alice").vms((3, 9, 5, 4))) == [3, 9, 4]


@pytest_twisted.ensureDeferred
async def test_an_empty_list_of_machines_needs_no_call() -> None:
    oned = ScriptedOned(all_except(set()))
    assert await Session(oned, "alice").vms(()) == ()
    assert oned.calls == []


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
@pytest_twisted.ensureDeferred
async def test_many_machines_are_read_in_sets_without_loss_or_overlap(count: int, sizes: list[int]) -> None:
    oned = ScriptedOned(all_except(set()))
    sets = [ids_of(vms) async for vms in Session(oned, "alice").vm_sets(range(count), 3)]
    assert [len(vm_ids) for vm_ids in sets] == sizes
    assert [vm_id for vm_ids in sets for vm_id in vm_ids] == list(range(count))
    assert len(oned.calls) == len(sizes)


@pytest_twisted.ensureDeferred
async def test_only_the_next_set_is_requested_while_the_caller_works_on_the_current_set() -> None:
    oned = ScriptedOned(all_except(set()))
    call_counts = [len(oned.calls) async for _ in Session(oned, "alice").vm_sets(range(10), 2)]
    assert call_counts == [2, 3, 4, 5, 5]


@pytest_twisted.ensureDeferred
async def test_closing_the_iterator_early_cancels_the_call_in_flight() -> None:
    cancelled: list[object] = []
    waiting: Deferred[str] = Deferred(cancelled.append)

    def reply(method: str, args: tuple[object, ...]) -> object:
        return pool(0, 1) if args[0] == "0,1" else waiting

    async with aclosing(Session(ScriptedOned(reply), "alice").vm_sets(range(4), 2)) as sets:
        assert ids_of(await anext(sets)) == [0, 1]
        assert not cancelled
    assert cancelled == [waiting]


@pytest_twisted.ensureDeferred
async def test_the_error_of_a_set_is_raised_by_the_iterator() -> None:
    def reply(method: str, args: tuple[object, ...]) -> object:
        return pool(0, 1) if args[0] == "0,1" else "<VM_POOL><VM><ID/></VM></VM_POOL>"

    async with aclosing(Session(ScriptedOned(reply), "alice").vm_sets(range(4), 2)) as sets:
        assert ids_of(await anext(sets)) == [0, 1]
        with pytest.raises(InvalidReply):
            await anext(sets)


@pytest_twisted.ensureDeferred
async def test_cancelling_a_read_cancels_the_call_in_flight() -> None:
    cancelled: list[object] = []
    waiting: Deferred[str] = Deferred(cancelled.append)
    reading = Deferred.fromCoroutine(Session(ScriptedOned(lambda *_: waiting), "alice").vms((1, 2)))
    reading.cancel()
    with pytest.raises(CancelledError):
        await reading
    assert cancelled == [waiting]


@pytest_twisted.ensureDeferred
async def test_reads_of_documents_are_reported() -> None:
    paths: list[str] = []
    [vm] = await Session(ScriptedOned(all_except(set())), "alice", paths.append).vms((1,))
    assert vm.deploy_id == ""
    assert paths[-1] == "VM/DEPLOY_ID"


# Users


@dataclass
class LongUsers:
    """The replies of an oned with users 0 to 4 whose pool is too long, as are the documents of the users in `long`.

    Those of the users in `malformed` are not well-formed, nor is the pool if there are any.
    """

    long: set[int]
    gone: set[int] = field(default_factory=set)
    malformed: set[int] = field(default_factory=set)

    def __call__(self, method: str, args: tuple[object, ...]) -> str:
        """Return the reply to a call."""
        if method == "one.grouppool.info":
            first, second = ("".join(f"<ID>{user_id}</ID>" for user_id in ids) for ids in ((4, 0, 2), (1, 2, 3)))
            return f"<P><GROUP><USERS>{first}</USERS></GROUP><GROUP><USERS>{second}</USERS></GROUP></P>"
        if self.malformed and (method == "one.userpool.info" or args[0] in self.malformed):
            raise MalformedDocument(method, "not well-formed")
        if method == "one.userpool.info" or args[0] in self.long:
            raise ReplyTooLarge(method, "the response is too long")
        if args[0] in self.gone:
            raise OpenNebulaRefusal(method, 1024, "Error getting user")
        return f"<USER><ID>{args[0]}</ID></USER>"


async def visited(reader: Session) -> tuple[list[int], list[int]]:
    """Return the ids of the users that were visited, and of those that were left out."""
    users: list[int] = []
    skipped: list[int] = []

    async def visit(user: UserDocument) -> None:
        users.append(user.id)

    await reader.visit_users(visit, skipped.append)
    return users, skipped


@pytest_twisted.ensureDeferred
async def test_with_a_user_pool_too_long_users_are_read_one_by_one_without_long_documents() -> None:
    oned = ScriptedOned(LongUsers(long={2}, gone={3}))
    assert await visited(Session(oned, None)) == ([0, 1, 4], [2])
    assert [call[1:] for call in oned.calls] == [
        ("one.userpool.info",),
        ("one.grouppool.info",),
        *(("one.user.info", user_id, False) for user_id in range(5)),
    ]


@pytest_twisted.ensureDeferred
async def test_with_a_malformed_user_pool_users_are_read_one_by_one_without_malformed_documents() -> None:
    oned = ScriptedOned(LongUsers(long=set(), malformed={1}))
    assert await visited(Session(oned, None)) == ([0, 2, 3, 4], [1])


@pytest_twisted.ensureDeferred
async def test_any_other_error_while_users_are_read_one_by_one_is_raised() -> None:
    def reply(method: str, args: tuple[object, ...]) -> str:
        if method == "one.user.info" and args[0] == 3:
            raise OpenNebulaUnavailable(method, "connection refused")
        return LongUsers(long=set())(method, args)

    with pytest.raises(OpenNebulaUnavailable):
        await visited(Session(ScriptedOned(reply), None))
