"""A session makes oned's calls with oned's arguments, in the name of one user."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
import pytest_twisted
from lxml import etree
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from econed.errors import InvalidReply, OpenNebulaRefusal, OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOpenNebula
from econed.opennebula.documents import UserDocument, VirtualMachine
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.session import Session
from econed.opennebula.states import VmState

Answer = Callable[[str, tuple[object, ...]], object]


@implementer(IOpenNebula)
class Scripted:
    """An oned that notes every call and answers as it is told, a Deferred when the test has it wait."""

    def __init__(self, answer: Answer) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._answer = answer

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        return await self._made(user, method, args)  # type: ignore[return-value]

    async def document(self, user: str | None, method: str, *args: object) -> etree._Element:
        answer = await self._made(user, method, args)
        assert isinstance(answer, str)
        return etree.fromstring(answer)

    async def _made(self, user: str | None, method: str, args: tuple[object, ...]) -> object:
        self.calls.append((user, method, *args))
        answer = self._answer(method, args)
        return await answer if isinstance(answer, Deferred) else answer


def pool(*ids: int) -> str:
    """Return a pool of these machines."""
    return f"<VM_POOL>{''.join(f'<VM><ID>{each}</ID></VM>' for each in ids)}</VM_POOL>"


def existing(missing: set[int]) -> Answer:
    """Return the answer of an oned that leaves out these machines, and gives the others newest first."""

    def answer(_: str, args: tuple[object, ...]) -> str:
        ids = sorted((int(each) for each in str(args[0]).split(",")), reverse=True)
        return pool(*(each for each in ids if each not in missing))

    return answer


def ids_of(vms: tuple[VirtualMachine, ...]) -> list[int]:
    """Return the ids of machines."""
    return [vm.id for vm in vms]


def test_the_scripted_oned_is_one() -> None:
    assert verifyObject(IOpenNebula, Scripted(existing(set())))


@pytest.mark.parametrize(
    ("do", "call"),
    [
        (lambda s: s.vm(7), ("one.vm.info", 7, False)),
        (lambda s: s.vm_page(5, 10, OwnerFilter.MINE), ("one.vmpool.infoextended", -3, 10, -5, 6, "")),
        (lambda s: s.vm_ids(), ("one.vmpool.info", -2, -1, -1, -1, "")),
        (lambda s: s.vm_ids(4, VmState.HOLD), ("one.vmpool.info", 4, -1, -1, 2, "")),
        (lambda s: s.vm_ids(OwnerFilter.MINE, StateFilter.ANY), ("one.vmpool.info", -3, -1, -1, -2, "")),
        (lambda s: s.vm_ids_since(1600000000, OwnerFilter.MINE), ("one.vmpool.accounting", -3, 1600000000, -1)),
        (lambda s: s.vm_action("poweroff", 7), ("one.vm.action", "poweroff", 7)),
        (lambda s: s.vm_update(7, 'A="1"'), ("one.vm.update", 7, 'A="1"', 1)),
        (lambda s: s.vm_rename(7, "web"), ("one.vm.rename", 7, "web")),
        (lambda s: s.template(5), ("one.template.info", 5, False, False)),
        (lambda s: s.templates(), ("one.templatepool.info", -2, -1, -1)),
        (lambda s: s.image(2), ("one.image.info", 2, False)),
        (lambda s: s.images(), ("one.imagepool.info", -2, -1, -1)),
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
async def test_each_method_is_one_call_of_oneds_in_the_users_name(
    do: Callable[[Session], Deferred[object]], call: tuple[object, ...]
) -> None:
    one = Scripted(lambda method, _: "<POOL/>")
    await do(Session(one, "alice"))
    assert one.calls == [("alice", *call)]


@pytest_twisted.ensureDeferred
async def test_instantiating_gives_the_new_id() -> None:
    one = Scripted(lambda *_: 42)
    assert await Session(one, "alice").instantiate(5, "web", True, 'A="1"') == 42
    assert one.calls == [("alice", "one.template.instantiate", 5, "web", True, 'A="1"', False)]


@pytest.mark.parametrize("answer", [True, "42"])
@pytest_twisted.ensureDeferred
async def test_a_new_id_that_is_no_number_is_nonsense(answer: object) -> None:
    with pytest.raises(InvalidReply):
        await Session(Scripted(lambda *_: answer), "alice").instantiate(5, "", False, "")


@pytest_twisted.ensureDeferred
async def test_ids_come_newest_first_and_once_each() -> None:
    assert await Session(Scripted(lambda *_: pool(3, 9, 5)), None).vm_ids() == (9, 5, 3)
    records = "".join(f"<HISTORY><OID>{each}</OID><VM><ID>{each}</ID></VM></HISTORY>" for each in (4, 7, 4))
    accounting = Scripted(lambda *_: f"<HISTORY_RECORDS>{records}</HISTORY_RECORDS>")
    assert await Session(accounting, None).vm_ids_since(0) == (7, 4)


@pytest_twisted.ensureDeferred
async def test_ids_that_are_none_are_nonsense() -> None:
    with pytest.raises(InvalidReply):
        await Session(Scripted(lambda *_: "<VM_POOL><VM><ID/></VM></VM_POOL>"), None).vm_ids()


@pytest_twisted.ensureDeferred
async def test_machines_come_in_the_order_asked_for_without_those_that_are_not_there() -> None:
    session = Session(Scripted(existing({5})), "alice")
    assert ids_of(await session.vms((3, 9, 5, 4))) == [3, 9, 4]


@pytest_twisted.ensureDeferred
async def test_no_machines_need_no_call() -> None:
    one = Scripted(existing(set()))
    assert await Session(one, "alice").vms(()) == ()
    assert one.calls == []


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])])
@pytest_twisted.ensureDeferred
async def test_many_machines_come_in_sets_that_add_up(count: int, sizes: list[int]) -> None:
    one = Scripted(existing(set()))
    found = [ids_of(vms) async for vms in Session(one, "alice").vm_sets(range(count), 3)]
    assert [len(each) for each in found] == sizes
    assert [vm_id for each in found for vm_id in each] == list(range(count))
    assert len(one.calls) == len(sizes)


@pytest_twisted.ensureDeferred
async def test_the_next_set_is_asked_for_while_this_one_is_worked_on_and_no_further() -> None:
    one = Scripted(existing(set()))
    asked = [len(one.calls) async for _ in Session(one, "alice").vm_sets(range(10), 2)]
    assert asked == [2, 3, 4, 5, 5]


@pytest_twisted.ensureDeferred
async def test_leaving_early_gives_up_the_set_that_is_on_its_way() -> None:
    given_up: list[object] = []
    waiting: Deferred[str] = Deferred(given_up.append)

    def answer(method: str, args: tuple[object, ...]) -> object:
        return pool(0, 1) if args[0] == "0,1" else waiting

    async with aclosing(Session(Scripted(answer), "alice").vm_sets(range(4), 2)) as sets:
        assert ids_of(await anext(sets)) == [0, 1]
        assert not given_up
    assert given_up == [waiting]


@pytest_twisted.ensureDeferred
async def test_a_set_that_fails_ends_the_reading_with_its_error() -> None:
    def answer(method: str, args: tuple[object, ...]) -> object:
        return pool(0, 1) if args[0] == "0,1" else "<VM_POOL><VM><ID/></VM></VM_POOL>"

    async with aclosing(Session(Scripted(answer), "alice").vm_sets(range(4), 2)) as sets:
        assert ids_of(await anext(sets)) == [0, 1]
        with pytest.raises(InvalidReply):
            await anext(sets)


@pytest_twisted.ensureDeferred
async def test_cancelling_who_waits_for_a_set_cancels_the_call() -> None:
    given_up: list[object] = []
    waiting: Deferred[str] = Deferred(given_up.append)
    reading = Deferred.fromCoroutine(Session(Scripted(lambda *_: waiting), "alice").vms((1, 2)))
    reading.cancel()
    with pytest.raises(CancelledError):
        await reading
    assert given_up == [waiting]


@pytest_twisted.ensureDeferred
async def test_what_the_documents_are_read_for_is_noted() -> None:
    notes: list[str] = []
    [vm] = await Session(Scripted(existing(set())), "alice", notes.append).vms((1,))
    assert vm.deploy_id == ""
    assert notes[-1] == "VM/DEPLOY_ID"


# Users


@dataclass
class LongUsers:
    """An oned with users 0 to 4, whose pool is more than may come, as are the documents of those who are `long`."""

    long: set[int]
    gone: set[int] = field(default_factory=set)

    def __call__(self, method: str, args: tuple[object, ...]) -> str:
        """Answer a call."""
        if method == "one.grouppool.info":
            first, second = ("".join(f"<ID>{each}</ID>" for each in ids) for ids in ((4, 0, 2), (1, 2, 3)))
            return f"<P><GROUP><USERS>{first}</USERS></GROUP><GROUP><USERS>{second}</USERS></GROUP></P>"
        if method == "one.userpool.info" or args[0] in self.long:
            raise ReplyTooLarge(method, "a response of too many bytes")
        if args[0] in self.gone:
            raise OpenNebulaRefusal(method, 1024, "Error getting user")
        return f"<USER><ID>{args[0]}</ID></USER>"


async def visited(session: Session) -> tuple[list[int], list[int]]:
    """Return the ids of the users that are visited, and of those that are left out."""
    users: list[int] = []
    left_out: list[int] = []

    async def visit(user: UserDocument) -> None:
        users.append(user.id)

    await session.visit_users(visit, left_out.append)
    return users, left_out


@pytest_twisted.ensureDeferred
async def test_a_user_pool_that_is_too_long_is_read_user_by_user_without_those_who_are_too_long() -> None:
    one = Scripted(LongUsers(long={2}, gone={3}))
    assert await visited(Session(one, None)) == ([0, 1, 4], [2])
    assert [call[1:] for call in one.calls] == [
        ("one.userpool.info",),
        ("one.grouppool.info",),
        *(("one.user.info", user_id, False) for user_id in range(5)),
    ]


@pytest_twisted.ensureDeferred
async def test_whatever_else_fails_while_users_are_read_one_by_one_ends_the_reading() -> None:
    def answer(method: str, args: tuple[object, ...]) -> str:
        if method == "one.user.info" and args[0] == 3:
            raise OpenNebulaUnavailable(method, "connection refused")
        return LongUsers(long=set())(method, args)

    with pytest.raises(OpenNebulaUnavailable):
        await visited(Session(Scripted(answer), None))
