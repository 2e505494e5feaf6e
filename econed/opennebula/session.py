"""oned as one user sees it: a small, typed method for each call that econed makes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred

from econed.errors import InvalidReply, OpenNebulaCode, OpenNebulaRefusal, ReplyTooLarge
from econed.opennebula.access import Group, Rule
from econed.opennebula.documents import (
    Cluster,
    Datastore,
    Image,
    Note,
    UserDocument,
    View,
    VirtualMachine,
    VirtualNetwork,
    VMTemplate,
    Zone,
)
from econed.opennebula.long_documents import LongDocuments
from econed.opennebula.replies import document_in
from econed.opennebula.states import VmState
from econed.opennebula.template import vector

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from lxml.etree import _Element

    from econed.interfaces import IOpenNebula

SET_SIZE = 250
"""How many machines are asked for at once: a set of this size costs oned no more than a page (measured)."""

VISIBLE = -2
"""Owner filter: everything the user may see."""
MINE = -3
"""Owner filter: what the user owns."""

ANY_STATE = -2
"""State filter: all machines."""
NOT_DONE = -1
"""State filter: all machines that have not ended."""

_APPEND = 1
_LEAST_PAGE = 2
"""-1 is no page of one machine to oned, but all."""

_V = TypeVar("_V", bound=View)


@dataclass(frozen=True)
class Session:
    """oned in the name of `user`, or of serveradmin himself (None).

    Every method raises what `IOpenNebula` says. `note` is told what the documents' readers read. `long_documents`
    reads what users may have made too long to be read at once.
    """

    one: IOpenNebula
    user: str | None
    note: Note | None = None
    long_documents: LongDocuments = field(default_factory=LongDocuments, compare=False)

    # Virtual machines

    async def vm(self, vm_id: int) -> VirtualMachine:
        """Return one machine, its whole history included (one.vm.info)."""
        return await self._document(VirtualMachine, "one.vm.info", vm_id, False)

    async def vms(self, vm_ids: Sequence[int]) -> tuple[VirtualMachine, ...]:
        """Return these machines in this order, DONE ones too.

        What they may not see, what is none, and a machine whose document is longer than `MAX_LIST` is left out.
        """
        return tuple([vm async for vms in self.vm_sets(vm_ids) for vm in vms])

    async def vm_sets(
        self, vm_ids: Sequence[int], size: int = SET_SIZE
    ) -> AsyncGenerator[tuple[VirtualMachine, ...], None]:
        """Yield these machines in sets of up to `size`, each asked for while the caller works on the one before.

        Two sets at most are in memory at once. A caller that may leave early closes the iterator
        (`contextlib.aclosing`), and the set on its way is given up.
        """
        ahead = self._ask(vm_ids[:size])
        try:
            for start in range(size, len(vm_ids) + size, size):
                current = await ahead
                ahead = self._ask(vm_ids[start : start + size])
                yield current
                del current
        finally:
            ahead.addErrback(lambda _: None)
            ahead.cancel()

    def _ask(self, vm_ids: Sequence[int]) -> Deferred[tuple[VirtualMachine, ...]]:
        return Deferred.fromCoroutine(self._vm_set(vm_ids))

    async def _vm_set(self, vm_ids: Sequence[int]) -> tuple[VirtualMachine, ...]:
        async def read(ids: Sequence[int]) -> tuple[VirtualMachine, ...]:
            return await self._pool(VirtualMachine, "VM", "one.vmpool.infoset", ",".join(map(str, ids)), True)

        by_id = {vm.id: vm for vm in await self.long_documents.by_ids("one.vmpool.infoset", vm_ids, read)}
        return tuple(by_id[vm_id] for vm_id in dict.fromkeys(vm_ids) if vm_id in by_id)

    async def vm_ids(self, owner: int = VISIBLE, state: int = NOT_DONE) -> tuple[int, ...]:
        """Return the ids of machines, newest first (one.vmpool.info, the short form).

        `owner` is `VISIBLE`, `MINE` or a user's id, `state` `NOT_DONE`, `ANY_STATE` or a `VmState`.
        """
        root = await self.one.document(self.user, "one.vmpool.info", owner, -1, -1, int(state), "")
        return _newest_first(root, "VM/ID")

    async def vm_short(self, owner: int, state: int) -> tuple[VirtualMachine, ...]:
        """Return the machines of a state in the short form: ids, states and the numbers of their last records alone."""
        return await self._pool(VirtualMachine, "VM", "one.vmpool.info", owner, -1, -1, int(state), "")

    async def vm_page(
        self, count: int, offset: int = 0, owner: int = VISIBLE, state: int = VmState.DONE
    ) -> tuple[VirtualMachine, ...]:
        """Return up to `count` machines of a state, newest id first, after `offset` of them (one.vmpool.infoextended).

        Pages shift when machines come or end between two calls: right for a look at the newest, wrong for a list.
        A page that is longer than `MAX_LIST` is read in halves, and `ReplyTooLarge` is raised where a page of
        two or three is too long: nothing is left out.
        """
        try:
            return await self._vm_page(count, offset, owner, state)
        except ReplyTooLarge:
            half = count // 2
            if half < _LEAST_PAGE:
                raise
            newer = await self.vm_page(half, offset, owner, state)
            return (*newer, *await self.vm_page(count - half, offset + half, owner, state))

    async def _vm_page(self, count: int, offset: int, owner: int, state: int) -> tuple[VirtualMachine, ...]:
        return await self._pool(VirtualMachine, "VM", "one.vmpool.infoextended", owner, offset, -count, int(state), "")

    async def vm_newest(self, count: int, owner: int, state: int) -> tuple[VirtualMachine, ...]:
        """Return the `count` newest machines of a state, newest id first, as `vm_page`.

        Where their documents are too long for that, only those that are too long by themselves are left out.
        """
        try:
            return await self._vm_page(count, 0, owner, state)
        except ReplyTooLarge:
            root = await self.one.document(self.user, "one.vmpool.info", owner, 0, -count, int(state), "")
            return await self._vm_set(_newest_first(root, "VM/ID"))

    async def ran_since(self, since: int, owner: int = VISIBLE) -> tuple[int, ...]:
        """Return the ids of machines that were on a host at `since` (epoch seconds) or later, newest first.

        DONE ones are among them. By one.vmpool.accounting, whose cost does not grow with all machines that ever ended.
        It knows nothing of one that ended before it ever ran; its states are old, so only ids are taken. Where the
        records of all are too long to be read, they are those of the user's own machines.
        """
        try:
            root = await self.one.document(self.user, "one.vmpool.accounting", owner, since, -1)
        except ReplyTooLarge:
            if owner != VISIBLE:
                raise
            root = await self.one.document(self.user, "one.vmpool.accounting", MINE, since, -1)
        return _newest_first(root, "HISTORY/OID")

    async def vm_allocate(self, text: str, hold: bool) -> int:
        """Make a machine of template text alone and return its id at once (one.vm.allocate).

        With `hold` it waits on HOLD until released.
        """
        return _id("one.vm.allocate", await self.one.call(self.user, "one.vm.allocate", text, hold))

    async def vm_action(self, action: str, vm_id: int) -> None:
        """Have something done to a machine (one.vm.action: `poweroff`, `resume`, `terminate-hard`, …)."""
        await self.one.call(self.user, "one.vm.action", action, vm_id)

    async def vm_update(self, vm_id: int, text: str) -> None:
        """Put attributes on a machine, each in the place of its namesakes, in one step (one.vm.update, append)."""
        await self.one.call(self.user, "one.vm.update", vm_id, text, _APPEND)

    async def vm_rename(self, vm_id: int, name: str) -> None:
        """Give a machine another name (one.vm.rename)."""
        await self.one.call(self.user, "one.vm.rename", vm_id, name)

    async def disk_attach(self, vm_id: int, text: str) -> None:
        """Plug a disk in, a DISK in template text (one.vm.attach); it is in HOTPLUG for a moment."""
        await self.one.call(self.user, "one.vm.attach", vm_id, text)

    async def disk_detach(self, vm_id: int, disk_id: int) -> None:
        """Plug a disk out (one.vm.detach)."""
        await self.one.call(self.user, "one.vm.detach", vm_id, disk_id)

    async def disk_resize(self, vm_id: int, disk_id: int, size: int) -> None:
        """Let a disk grow to `size` MB (one.vm.diskresize)."""
        await self.one.call(self.user, "one.vm.diskresize", vm_id, disk_id, str(size))

    async def disk_save_as(self, vm_id: int, disk_id: int, name: str, image_type: str) -> int:
        """Copy a disk into a new image, LOCKED until then, and return its id (one.vm.disksaveas)."""
        saved = await self.one.call(self.user, "one.vm.disksaveas", vm_id, disk_id, name, image_type, -1)
        return _id("one.vm.disksaveas", saved)

    # Templates

    async def template(self, template_id: int) -> VMTemplate:
        """Return one template (one.template.info)."""
        return await self._document(VMTemplate, "one.template.info", template_id, False, False)

    async def templates(self) -> tuple[VMTemplate, ...]:
        """Return the templates they may see (one.templatepool.info), as `images` does."""
        method = "one.templatepool.info"

        async def read(first: int, last: int) -> tuple[VMTemplate, ...]:
            return await self._pool(VMTemplate, "VMTEMPLATE", method, VISIBLE, first, last)

        return await self.long_documents.by_range(method, -1, -1, read)

    async def instantiate(self, template_id: int, name: str, hold: bool, text: str) -> int:
        """Make a machine and return its id at once (one.template.instantiate).

        `text` goes over the template's: a DISK in it replaces all the template's disks, a CONTEXT the whole CONTEXT.
        With `hold` it waits on HOLD until released. An empty `name` leaves the name to oned.
        """
        made = await self.one.call(self.user, "one.template.instantiate", template_id, name, hold, text, False)
        return _id("one.template.instantiate", made)

    # Images

    async def image(self, image_id: int) -> Image:
        """Return one image (one.image.info)."""
        return await self._document(Image, "one.image.info", image_id, False)

    async def images(self, owner: int = VISIBLE, first: int = -1, last: int = -1) -> tuple[Image, ...]:
        """Return the images that the user may see, of the ids from `first` to `last` (one.imagepool.info).

        `owner` is `VISIBLE`, `MINE` or a user's id; -1 is no bound. One whose document is longer than `MAX_LIST` is
        left out.
        """
        method = "one.imagepool.info"

        async def read(first: int, last: int) -> tuple[Image, ...]:
            return await self._pool(Image, "IMAGE", method, owner, first, last)

        return await self.long_documents.by_range(method, first, last, read, of_all=owner == VISIBLE)

    async def image_update(self, image_id: int, text: str) -> None:
        """Put attributes on an image, in one step (one.image.update, append)."""
        await self.one.call(self.user, "one.image.update", image_id, text, _APPEND)

    async def image_allocate(self, text: str, datastore_id: int) -> int:
        """Make an image and return its id at once; it is LOCKED until it is there (one.image.allocate)."""
        made = await self.one.call(self.user, "one.image.allocate", text, datastore_id)
        return _id("one.image.allocate", made)

    async def image_clone(self, image_id: int, name: str) -> int:
        """Copy an image with all its attributes into its own datastore and return the new id (one.image.clone)."""
        return _id("one.image.clone", await self.one.call(self.user, "one.image.clone", image_id, name))

    async def image_rename(self, image_id: int, name: str) -> None:
        """Give an image another name, whatever its state (one.image.rename)."""
        await self.one.call(self.user, "one.image.rename", image_id, name)

    async def image_delete(self, image_id: int) -> None:
        """Remove an image that no machine uses (one.image.delete)."""
        await self.one.call(self.user, "one.image.delete", image_id)

    async def image_persistent(self, image_id: int, persistent: bool) -> None:
        """Have machines use an image itself, or copies of it; only while none does (one.image.persistent)."""
        await self.one.call(self.user, "one.image.persistent", image_id, persistent)

    async def image_share(self, image_id: int, shared: bool) -> None:
        """Let its group and everybody use an image, or its owner alone (one.image.chmod); other rights stay."""
        use = int(shared)
        await self.one.call(self.user, "one.image.chmod", image_id, -1, -1, -1, use, -1, -1, use, -1, -1)

    # Users

    async def myself(self) -> UserDocument:
        """Return the user in whose name this session is (one.user.info)."""
        return await self._document(UserDocument, "one.user.info", -1, False)

    async def user_by_id(self, user_id: int) -> UserDocument:
        """Return one user (one.user.info); refused by 512 if they may not be seen, by 1024 if they do not exist.

        Raises `ReplyTooLarge` where their document is longer than `MAX_USER`.
        """
        return await self._document(UserDocument, "one.user.info", user_id, False)

    async def user_ids(self) -> tuple[int, ...]:
        """Return the ids of the users in the groups they may see, for serveradmin of all users (one.grouppool.info).

        Every user is in a group, and nobody but administrators can make the document of a group longer.
        """
        ids = tuple(sorted({user_id for group in await self.groups() for user_id in group.user_ids}))
        if not ids:
            raise InvalidReply("one.grouppool.info", "no group has a user, not even the one who asks")
        return ids

    async def visit_users(
        self, visit: Callable[[UserDocument], Awaitable[None]], left_out: Callable[[int], object]
    ) -> None:
        """Call `visit` with each user they may see: all for serveradmin, themselves for others.

        By one.userpool.info, which has no pages in any version (oned, `UserPoolInfo`: `dump(att, ALL, -1, -1, …)`).
        Where that is more than `MAX_USER_POOL` allows, one user after the other, so that whoever makes their own
        document long keeps nobody else out. Users whose own document is too long then are left out, and `left_out` is
        called with the id of each.
        """
        try:
            pool = await self._pool(UserDocument, "USER", "one.userpool.info")
        except ReplyTooLarge:
            await self._visit_one_by_one(visit, left_out)
        else:
            for user in pool:
                await visit(user)

    async def _visit_one_by_one(
        self, visit: Callable[[UserDocument], Awaitable[None]], left_out: Callable[[int], object]
    ) -> None:
        for user_id in await self.user_ids():
            try:
                user = await self.user_by_id(user_id)
            except ReplyTooLarge:
                left_out(user_id)
            except OpenNebulaRefusal as refusal:
                if refusal.code != OpenNebulaCode.NO_EXISTS:
                    raise
            else:
                await visit(user)

    async def user_update(self, user_id: int, text: str) -> None:
        """Put attributes on a user, in one step (one.user.update, append). -1 does not mean oneself here (512)."""
        await self.one.call(self.user, "one.user.update", user_id, text, _APPEND)

    async def groups(self) -> tuple[Group, ...]:
        """Return the groups he may see: all for serveradmin (one.grouppool.info)."""
        return await self._pool(Group, "GROUP", "one.grouppool.info")

    async def rules(self) -> tuple[Rule, ...]:
        """Return the rules of the access control lists; for serveradmin alone (one.acl.info)."""
        return await self._pool(Rule, "ACL", "one.acl.info")

    # The rest of the cloud

    async def network(self, network_id: int) -> VirtualNetwork:
        """Return one network with its leases (one.vn.info)."""
        return await self._document(VirtualNetwork, "one.vn.info", network_id, False)

    async def network_text(self, network_id: int) -> str:
        """Return the document of one network word for word, for those outside who read it (one.vn.info)."""
        text = await self.one.call(self.user, "one.vn.info", network_id, False)
        document_in("one.vn.info", text)
        return str(text)

    async def network_update(self, network_id: int, text: str) -> None:
        """Put attributes on a network, in one step (one.vn.update, append)."""
        await self.one.call(self.user, "one.vn.update", network_id, text, _APPEND)

    async def network_hold(self, network_id: int, ip: IPv4Address) -> None:
        """Take an address so that nobody else can have it; refused (8192) where it is taken (one.vn.hold)."""
        await self.one.call(self.user, "one.vn.hold", network_id, vector("LEASES", {"IP": str(ip)}))

    async def network_release(self, network_id: int, ip: IPv4Address) -> None:
        """Give back an address that is held; no error where it is not (one.vn.release)."""
        await self.one.call(self.user, "one.vn.release", network_id, vector("LEASES", {"IP": str(ip)}))

    async def networks(self) -> tuple[VirtualNetwork, ...]:
        """Return the networks he may see (one.vnpool.info)."""
        return await self._pool(VirtualNetwork, "VNET", "one.vnpool.info", VISIBLE, -1, -1)

    async def datastores(self) -> tuple[Datastore, ...]:
        """Return the datastores he may see (one.datastorepool.info)."""
        return await self._pool(Datastore, "DATASTORE", "one.datastorepool.info")

    async def zones(self) -> tuple[Zone, ...]:
        """Return the zones of the federation (one.zonepool.info)."""
        return await self._pool(Zone, "ZONE", "one.zonepool.info")

    async def clusters(self) -> tuple[Cluster, ...]:
        """Return the clusters he may see: none for most users (one.clusterpool.info)."""
        return await self._pool(Cluster, "CLUSTER", "one.clusterpool.info")

    async def version(self) -> str:
        """Return oned's version, as `7.4.0` (one.system.version)."""
        return str(await self.one.call(self.user, "one.system.version"))

    # How a call becomes a view

    async def _document(self, kind: type[_V], method: str, *args: object) -> _V:
        return kind(await self.one.document(self.user, method, *args), self.note)

    async def _pool(self, kind: type[_V], tag: str, method: str, *args: object) -> tuple[_V, ...]:
        root = await self.one.document(self.user, method, *args)
        return tuple(kind(each, self.note) for each in root.iterchildren(tag))


def _newest_first(root: _Element, path: str) -> tuple[int, ...]:
    found: Iterable[str | None] = (each.text for each in root.findall(path))
    try:
        return tuple(sorted({int(text or "") for text in found}, reverse=True))
    except ValueError:
        raise InvalidReply(path, "an id that is no number") from None


def _id(method: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidReply(method, f"{value!r} is no id")
    return value
