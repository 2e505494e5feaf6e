"""The calls that only read oned's objects, as one user sees them: a small, typed method for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred

from econed.errors import InvalidReply, MalformedDocument, OpenNebulaCode, OpenNebulaRefusal, ReplyTooLarge
from econed.opennebula.access import Group, Rule
from econed.opennebula.documents import (
    Cluster,
    Datastore,
    Image,
    NetworkTemplate,
    OnRead,
    SecurityGroup,
    UserDocument,
    View,
    VirtualMachine,
    VirtualNetwork,
    VmGroup,
    VMTemplate,
    Zone,
)
from econed.opennebula.long_documents import LongDocuments
from econed.opennebula.pools import OwnerFilter, StateFilter
from econed.opennebula.replies import parse_document_text
from econed.opennebula.states import VmState
from econed.opennebula.unchanged_machines import Known, MachineParser, MachineReply

if TYPE_CHECKING:
    from lxml.etree import _Element

    from econed.interfaces import IOpenNebula
    from econed.user import Login

SET_SIZE = 250
"""How many machines one call reads: a set of this size costs oned no more than a page (measured)."""

_MIN_PAGE = 2
"""oned takes a page size of -1 for all machines, not for a page of one machine."""

_VMS = "one.vmpool.infoset"
"""The name under which machines with long documents are known, by whichever method they were read."""

_VM_RANGE = "one.vmpool.infoextended"

_V = TypeVar("_V", bound=View)
_K = TypeVar("_K", bound=Known)


@dataclass(frozen=True)
class ReadSession:
    """A session of `user` (`econed.user.Login`) that cannot change anything.

    Every method raises what `IOpenNebula` says. `on_read` is called with the path of each element that is read from a
    document. `long_documents` reads lists in which users may have made documents too long for one reply.
    """

    oned: IOpenNebula
    user: Login
    on_read: OnRead | None = None
    long_documents: LongDocuments = field(default_factory=LongDocuments, compare=False)

    # Virtual machines

    async def vm(self, vm_id: int) -> VirtualMachine:
        """Return a machine with its whole history (one.vm.info)."""
        return await self._document(VirtualMachine, "one.vm.info", vm_id, False)

    async def vms(self, vm_ids: Sequence[int]) -> tuple[VirtualMachine, ...]:
        """Return these machines in this order, DONE machines included.

        Machines that do not exist, that the user may not see, or whose documents are longer than `MAX_LIST` are left
        out.
        """
        if len(vm_ids) <= SET_SIZE:
            return await self._vm_set(vm_ids)
        return tuple([vm async for vms in self.vm_sets(vm_ids) for vm in vms])

    async def vm_sets(
        self, vm_ids: Sequence[int], size: int = SET_SIZE
    ) -> AsyncGenerator[tuple[VirtualMachine, ...], None]:
        """Yield these machines in sets of up to `size`, each requested while the caller works on the previous set.

        At most two sets are in memory at the same time. A caller that may stop early closes the iterator
        (`contextlib.aclosing`), which cancels the call in flight.
        """
        next_set = self._request_set(vm_ids[:size])
        try:
            for start in range(size, len(vm_ids) + size, size):
                current = await next_set
                next_set = self._request_set(vm_ids[start : start + size])
                yield current
                del current
        finally:
            next_set.addErrback(lambda _: None)
            next_set.cancel()

    def _request_set(self, vm_ids: Sequence[int]) -> Deferred[tuple[VirtualMachine, ...]]:
        return Deferred.fromCoroutine(self._vm_set(vm_ids))

    async def _vm_set(self, vm_ids: Sequence[int]) -> tuple[VirtualMachine, ...]:
        async def read(ids: Sequence[int]) -> tuple[VirtualMachine, ...]:
            return await self._pool(VirtualMachine, "VM", "one.vmpool.infoset", ",".join(map(str, ids)), True)

        by_id = {vm.id: vm for vm in await self.long_documents.by_ids(_VMS, vm_ids, read)}
        return tuple(by_id[vm_id] for vm_id in dict.fromkeys(vm_ids) if vm_id in by_id)

    async def vm_ids(
        self,
        owner: OwnerFilter | int = OwnerFilter.VISIBLE,
        state: VmState | StateFilter = StateFilter.NOT_DONE,
    ) -> tuple[int, ...]:
        """Return the ids of machines, newest first (one.vmpool.info, the short form).

        With a user's id as `owner` only that user's machines are listed.
        """
        root = await self.oned.document(self.user, "one.vmpool.info", int(owner), -1, -1, int(state), "")
        return _newest_first(root, "VM/ID")

    async def vms_in_short_form(
        self, owner: OwnerFilter | int, state: VmState | StateFilter, first: int = -1
    ) -> tuple[VirtualMachine, ...]:
        """Return machines with no more than their ids, states and the sequence numbers of their last records.

        With `first` only machines with this id or a higher one are listed.
        """
        return await self._pool(VirtualMachine, "VM", "one.vmpool.info", int(owner), first, -1, int(state), "")

    async def highest_vm_id(self, owner: OwnerFilter | int) -> int:
        """Return the id of the newest machine in any state, -1 if there is none."""
        any_state = int(StateFilter.ANY)
        root = await self.oned.document(self.user, "one.vmpool.info", int(owner), 0, -_MIN_PAGE, any_state, "")
        return max(_newest_first(root, "VM/ID"), default=-1)

    async def vm_range(
        self, first: int, last: int, owner: OwnerFilter | int, state: VmState | StateFilter
    ) -> tuple[VirtualMachine, ...]:
        """Return the machines with ids from `first` to `last` (-1: no bound) in any order (one.vmpool.infoextended).

        Machines whose documents are longer than `MAX_LIST` are left out.
        """

        async def read(first: int, last: int) -> tuple[VirtualMachine, ...]:
            return await self._pool(VirtualMachine, "VM", _VM_RANGE, int(owner), first, last, int(state), "")

        lists_all_users = owner == OwnerFilter.VISIBLE
        return await self.long_documents.by_range(_VMS, first, last, read, lists_all_users=lists_all_users)

    async def vm_range_known(
        self,
        parser: MachineParser[_K],
        first: int,
        last: int,
        owner: OwnerFilter | int,
        state: VmState | StateFilter,
    ) -> tuple[VirtualMachine | _K, ...]:
        """Return the same machines as `vm_range`; of those that have not changed, what the parser knows of them."""

        async def read(first: int, last: int) -> list[VirtualMachine | _K]:
            args = (int(owner), first, last, int(state), "")
            reply: MachineReply[_K] = await self.oned.document(self.user, _VM_RANGE, *args, parse=parser)
            others = [VirtualMachine(element, self.on_read, fingerprint=print_) for element, print_ in reply.others]
            return [*reply.unchanged, *others]

        lists_all_users = owner == OwnerFilter.VISIBLE
        return await self.long_documents.by_range(_VMS, first, last, read, lists_all_users=lists_all_users)

    async def vm_page(
        self,
        count: int,
        offset: int = 0,
        owner: OwnerFilter | int = OwnerFilter.VISIBLE,
        state: VmState | StateFilter = VmState.DONE,
    ) -> tuple[VirtualMachine, ...]:
        """Return up to `count` machines, newest id first, after the first `offset` (one.vmpool.infoextended).

        Pages shift when machines are created or change state between two calls: use them to look at the newest
        machines, not for a complete list. A page that is longer than `MAX_LIST` is read in halves; nothing is left
        out. Raises `ReplyTooLarge` where even a page of two or three machines is too long.
        """
        try:
            return await self._vm_page(count, offset, owner, state)
        except ReplyTooLarge:
            half = count // 2
            if half < _MIN_PAGE:
                raise
            newer = await self.vm_page(half, offset, owner, state)
            return (*newer, *await self.vm_page(count - half, offset + half, owner, state))

    async def _vm_page(
        self, count: int, offset: int, owner: OwnerFilter | int, state: VmState | StateFilter
    ) -> tuple[VirtualMachine, ...]:
        return await self._pool(VirtualMachine, "VM", _VM_RANGE, int(owner), offset, -count, int(state), "")

    async def vms_after(self, after: int) -> tuple[VirtualMachine, ...]:
        """Return the user's own machines in all states with ids above `after` (one.vmpool.infoextended).

        Machines whose documents are longer than `MAX_LIST` are left out.
        """
        return await self.vm_range(after + 1, -1, OwnerFilter.MINE, StateFilter.ANY)

    async def newest_vms(
        self, count: int, owner: OwnerFilter | int, state: VmState | StateFilter
    ) -> tuple[VirtualMachine, ...]:
        """Return the `count` newest machines, newest id first, as `vm_page` does.

        Where that page is too long, machines whose own documents are too long are left out.
        """
        try:
            return await self._vm_page(count, 0, owner, state)
        except ReplyTooLarge:
            root = await self.oned.document(self.user, "one.vmpool.info", int(owner), 0, -count, int(state), "")
            return await self._vm_set(_newest_first(root, "VM/ID"))

    async def vm_ids_since(self, since: int, owner: OwnerFilter | int = OwnerFilter.VISIBLE) -> tuple[int, ...]:
        """Return the ids of machines that were on a host at `since` (epoch seconds) or later, newest first.

        DONE machines are included. The cost of one.vmpool.accounting does not grow with the number of DONE machines.
        It has no machine that ended before it ever ran, and the states in it are outdated, so only its ids are used.
        Where the records of all machines are too long to be read, only the user's own machines are listed.
        """
        try:
            root = await self._accounting(owner, since)
        except ReplyTooLarge:
            if owner != OwnerFilter.VISIBLE:
                raise
            root = await self._accounting(OwnerFilter.MINE, since)
        return _newest_first(root, "HISTORY/OID")

    async def _accounting(self, owner: OwnerFilter | int, since: int) -> _Element:
        root: _Element = await self.oned.document(self.user, "one.vmpool.accounting", int(owner), since, -1)
        return root

    # Templates and images

    async def template(self, template_id: int) -> VMTemplate:
        """Return a template (one.template.info)."""
        return await self._document(VMTemplate, "one.template.info", template_id, False, False)

    async def templates(self) -> tuple[VMTemplate, ...]:
        """Return the templates that the user may see (one.templatepool.info); long ones are left out as in `images`."""
        method = "one.templatepool.info"

        async def read(first: int, last: int) -> tuple[VMTemplate, ...]:
            return await self._pool(VMTemplate, "VMTEMPLATE", method, int(OwnerFilter.VISIBLE), first, last)

        return await self.long_documents.by_range(method, -1, -1, read)

    async def image(self, image_id: int) -> Image:
        """Return an image (one.image.info)."""
        return await self._document(Image, "one.image.info", image_id, False)

    async def images(
        self, owner: OwnerFilter | int = OwnerFilter.VISIBLE, first: int = -1, last: int = -1
    ) -> tuple[Image, ...]:
        """Return the images that the user may see with ids from `first` to `last`, -1 for no bound.

        With a user's id as `owner` only that user's images are listed (one.imagepool.info). Images whose documents are
        longer than `MAX_LIST` are left out.
        """
        method = "one.imagepool.info"

        async def read(first: int, last: int) -> tuple[Image, ...]:
            return await self._pool(Image, "IMAGE", method, int(owner), first, last)

        lists_all_users = owner == OwnerFilter.VISIBLE
        return await self.long_documents.by_range(method, first, last, read, lists_all_users=lists_all_users)

    # Users

    async def current_user(self) -> UserDocument:
        """Return the user of this session (one.user.info)."""
        return await self._document(UserDocument, "one.user.info", -1, False)

    async def user_by_id(self, user_id: int) -> UserDocument:
        """Return a user (one.user.info).

        oned refuses with 512 if the session's user may not see them, with 1024 if they do not exist. Raises
        `ReplyTooLarge` where their document is longer than `MAX_USER`, `MalformedDocument` where they have written a
        login token that oned does not escape.
        """
        return await self._document(UserDocument, "one.user.info", user_id, False)

    async def user_ids(self) -> tuple[int, ...]:
        """Return the ids of all users in the groups that the user may see: all for serveradmin (one.grouppool.info).

        Every user is in a group, and only administrators can make the document of a group longer.
        """
        ids = tuple(sorted({user_id for group in await self.groups() for user_id in group.user_ids}))
        if not ids:
            raise InvalidReply("one.grouppool.info", "no group has any users")
        return ids

    async def visit_users(
        self, visit: Callable[[UserDocument], Awaitable[None]], on_skipped: Callable[[int], object]
    ) -> None:
        """Call `visit` with each user that the session's user may see: all for serveradmin, themselves for others.

        One call of one.userpool.info, which has no pages in any version (oned, `UserPoolInfo`:
        `dump(att, ALL, -1, -1, …)`). Where its reply is longer than `MAX_USER_POOL` or malformed, users are read one by
        one, so that one user's document does not hide the others. A user whose own document is too long or malformed
        is left out: `on_skipped` is called with their id.
        """
        try:
            users = await self._pool(UserDocument, "USER", "one.userpool.info")
        except (ReplyTooLarge, MalformedDocument):
            await self.visit_each_user(visit, on_skipped)
        else:
            for user in users:
                await visit(user)

    async def visit_each_user(
        self, visit: Callable[[UserDocument], Awaitable[None]], on_skipped: Callable[[int], object]
    ) -> None:
        """Do the same with one call for each user, so that it finds every document that is too long by itself."""
        for user_id in await self.user_ids():
            try:
                user = await self.user_by_id(user_id)
            except (ReplyTooLarge, MalformedDocument):
                on_skipped(user_id)
            except OpenNebulaRefusal as refusal:
                if refusal.code != OpenNebulaCode.NO_EXISTS:
                    raise
            else:
                await visit(user)

    async def groups(self) -> tuple[Group, ...]:
        """Return the groups that the user may see: all for serveradmin (one.grouppool.info)."""
        return await self._pool(Group, "GROUP", "one.grouppool.info")

    async def acl_rules(self) -> tuple[Rule, ...]:
        """Return the rules of the access control lists; for serveradmin only (one.acl.info)."""
        return await self._pool(Rule, "ACL", "one.acl.info")

    # Infrastructure

    async def network(self, network_id: int) -> VirtualNetwork:
        """Return a network with its leases (one.vn.info)."""
        return await self._document(VirtualNetwork, "one.vn.info", network_id, False)

    async def network_without_leases(self, network_id: int) -> VirtualNetwork:
        """Return a network without its leases (one.vnpool.info), which oned reads faster and which has fewer bytes.

        Raises `OpenNebulaRefusal` NO_EXISTS also where the user may not see it.
        """
        method = "one.vnpool.info"
        networks = await self._pool(VirtualNetwork, "VNET", method, int(OwnerFilter.VISIBLE), network_id, network_id)
        for network in networks:
            return network
        raise OpenNebulaRefusal(method, OpenNebulaCode.NO_EXISTS, f"no network {network_id}")

    async def network_text(self, network_id: int) -> str:
        """Return the document of a network unchanged, for programs outside econed that read it (one.vn.info)."""
        text = await self.oned.call(self.user, "one.vn.info", network_id, False)
        parse_document_text("one.vn.info", text)
        return str(text)

    async def networks(self, owner: OwnerFilter | int = OwnerFilter.VISIBLE) -> tuple[VirtualNetwork, ...]:
        """Return the networks that the user may see, without their leases; long ones are left out as in `images`."""
        method = "one.vnpool.info"

        async def read(first: int, last: int) -> tuple[VirtualNetwork, ...]:
            return await self._pool(VirtualNetwork, "VNET", method, int(owner), first, last)

        lists_all_users = owner == OwnerFilter.VISIBLE
        return await self.long_documents.by_range(method, -1, -1, read, lists_all_users=lists_all_users)

    async def network_templates(self) -> tuple[NetworkTemplate, ...]:
        """Return the network templates that the user may USE (one.vntemplatepool.info)."""
        method = "one.vntemplatepool.info"
        return await self._pool(NetworkTemplate, "VNTEMPLATE", method, int(OwnerFilter.VISIBLE), -1, -1)

    async def vm_groups(self) -> tuple[VmGroup, ...]:
        """Return the VM groups that the user may USE (one.vmgrouppool.info)."""
        return await self._pool(VmGroup, "VM_GROUP", "one.vmgrouppool.info", int(OwnerFilter.VISIBLE), -1, -1)

    async def security_groups(
        self, owner: OwnerFilter | int = OwnerFilter.VISIBLE, first: int = -1, last: int = -1
    ) -> tuple[SecurityGroup, ...]:
        """Return the security groups that the user may see with ids from `first` to `last`, -1 for no bound.

        Long documents are left out as in `images` (one.secgrouppool.info).
        """
        method = "one.secgrouppool.info"

        async def read(first: int, last: int) -> tuple[SecurityGroup, ...]:
            return await self._pool(SecurityGroup, "SECURITY_GROUP", method, int(owner), first, last)

        lists_all_users = owner == OwnerFilter.VISIBLE
        return await self.long_documents.by_range(method, first, last, read, lists_all_users=lists_all_users)

    async def datastores(self) -> tuple[Datastore, ...]:
        """Return the datastores that the user may see (one.datastorepool.info)."""
        return await self._pool(Datastore, "DATASTORE", "one.datastorepool.info")

    async def zones(self) -> tuple[Zone, ...]:
        """Return the zones of the federation (one.zonepool.info)."""
        return await self._pool(Zone, "ZONE", "one.zonepool.info")

    async def clusters(self) -> tuple[Cluster, ...]:
        """Return the clusters that the user may see: none for most users (one.clusterpool.info)."""
        return await self._pool(Cluster, "CLUSTER", "one.clusterpool.info")

    async def version(self) -> str:
        """Return oned's version, as in `7.4.0` (one.system.version)."""
        return str(await self.oned.call(self.user, "one.system.version"))

    # From a document to its view

    async def _document(self, kind: type[_V], method: str, *args: object) -> _V:
        return kind(await self.oned.document(self.user, method, *args), self.on_read)

    async def _pool(self, kind: type[_V], tag: str, method: str, *args: object) -> tuple[_V, ...]:
        root = await self.oned.document(self.user, method, *args)
        return tuple(kind(element, self.on_read) for element in root.iterchildren(tag))


def _newest_first(root: _Element, path: str) -> tuple[int, ...]:
    texts: Iterable[str | None] = (element.text for element in root.findall(path))
    try:
        return tuple(sorted({int(text or "") for text in texts}, reverse=True))
    except ValueError:
        raise InvalidReply(path, "an id is not a number") from None
