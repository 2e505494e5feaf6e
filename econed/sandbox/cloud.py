"""The state of the cloud: its pools, its clock, its ACL rules, its quotas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from twisted.internet.interfaces import IReactorTime

from econed.opennebula.pools import OwnerFilter
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.documents import Document
from econed.sandbox.objects.images import Image
from econed.sandbox.objects.infrastructure import Cluster, Datastore, Host
from econed.sandbox.objects.network_templates import NetworkTemplate
from econed.sandbox.objects.networks import Network
from econed.sandbox.objects.pools import Pool, PoolObjectT
from econed.sandbox.objects.security_groups import SecurityGroup
from econed.sandbox.objects.users import ONEADMIN, Group, User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.objects.vm_groups import VmGroup
from econed.sandbox.objects.vm_templates import VmTemplate
from econed.sandbox.quotas import Charge, Quotas, refusal_text
from econed.sandbox.refusals import Refused, bad_call, internal, unauthorized
from econed.sandbox.rights import Rights
from econed.sandbox.template import Restricted, Template, parse
from econed.sandbox.versions import Delays, Version

_UNRESTRICTED: Restricted = {}
_REPLACE, _MERGE = 0, 1


class Cloud:
    """The state that all calls of the sandbox share."""

    def __init__(self, clock: IReactorTime, version: Version, delays: Delays) -> None:
        self.clock = clock
        self.version = version
        self.delays = delays
        self.rights = Rights()
        self.default_user_quotas, self.default_group_quotas = Quotas(are_defaults=True), Quotas(are_defaults=True)
        self.users: Pool[User] = Pool(Kind.USER)
        self.groups: Pool[Group] = Pool(Kind.GROUP)
        self.hosts: Pool[Host] = Pool(Kind.HOST)
        self.clusters: Pool[Cluster] = Pool(Kind.CLUSTER)
        self.datastores: Pool[Datastore] = Pool(Kind.DATASTORE)
        self.images: Pool[Image] = Pool(Kind.IMAGE)
        self.networks: Pool[Network] = Pool(Kind.NET)
        self.network_templates: Pool[NetworkTemplate] = Pool(Kind.VNTEMPLATE)
        self.templates: Pool[VmTemplate] = Pool(Kind.TEMPLATE)
        self.security_groups: Pool[SecurityGroup] = Pool(Kind.SECGROUP)
        self.documents: Pool[Document] = Pool(Kind.DOCUMENT)
        self.vm_groups: Pool[VmGroup] = Pool(Kind.VMGROUP)
        self.vms: Pool[VirtualMachine] = Pool(Kind.VM)

    def now(self) -> int:
        """Return the time as oned stores it, in whole epoch seconds."""
        return int(self.clock.seconds())

    def call_later(self, delay: float, act: Callable[[], None]) -> None:
        """Call `act` after `delay` seconds."""
        self.clock.callLater(delay, act)

    def continue_later(self, machine: VirtualMachine, delay: float, act: Callable[[VirtualMachine], None]) -> None:
        """Call `act` with a machine after `delay` seconds, unless another action on it has begun by then."""
        epoch = machine.epoch

        def act_if_current() -> None:
            if machine.epoch == epoch:
                act(machine)

        self.call_later(delay, act_if_current)

    def find_user(self, name: str) -> User | None:
        """Return the user with this name, or None."""
        return next((user for user in self.users if user.name == name), None)

    def get_authorized(
        self, user: User, right: Right, pool: Pool[PoolObjectT], object_id: int, *, locks: bool = True
    ) -> PoolObjectT:
        """Return an object on which `user` has `right`; refuses with 1024 or 512.

        With an id below 0 oned checks the right on the whole kind before it finds no such object.
        """
        if object_id < 0:
            self.rights.check(user, right, pool.kind, None)
        pool_object = pool.get(object_id)
        self.rights.check(user, right, pool.kind, pool_object, locks=locks)
        return pool_object

    def get_to_clone(self, user: User, pool: Pool[PoolObjectT], object_id: int) -> PoolObjectT:
        """Return an object that `user` may clone: 5.12 asks for USE (512), 7.x for no right on it."""
        return pool.get(object_id) if self.version.is_v7 else self.get_authorized(user, Right.USE, pool, object_id)

    def parse(self, text: str) -> Template:
        """Return template text as this version of oned parses it."""
        return parse(text, strips_values=self.version.is_v7)

    def updated_template(
        self,
        caller: User,
        current: Template,
        text: str,
        mode: int,
        restricted: Restricted = _UNRESTRICTED,
        *,
        unique: bool = False,
    ) -> Template:
        """Return the template after `one.*.update`: `text` replaces `current` (mode 0), or is merged into it (1).

        Refuses changes to restricted attributes (8192) by users other than oneadmin. Text that cannot be stored changes
        nothing and is no error. `unique` is for templates that contain each name once.
        """
        if mode not in (_REPLACE, _MERGE):
            raise bad_call("Wrong update type")
        try:
            update = self.parse(text)
        except Refused as refusal:
            raise internal(f"Cannot update template. {refusal.text}") from refusal
        if not caller.is_oneadmin:
            replaces = self.version.is_v7 and mode == _REPLACE
            attribute = update.first_restricted_change(current, restricted, replaces=replaces)
            if attribute:
                raise internal(f"Cannot update template. Tried to change restricted attribute: {attribute}")
            update.add_missing(current, (name for name, keys in restricted.items() if not keys))
        if unique:
            update = update.unique()
        result = current.copy() if mode == _MERGE else Template()
        result.merge(update)
        return result.stored() or current

    def visible(
        self,
        user: User,
        pool_objects: Iterable[PoolObjectT],
        kind: Kind,
        owner: int,
        *,
        ignores_wide_rules: bool = False,
    ) -> list[PoolObjectT]:
        """Return those of `pool_objects` that `user` may use and that match `owner`, an `OwnerFilter` or a user's id.

        With `ignores_wide_rules`, ACL rules for all objects of a kind or of a cluster do not count. 5.12 returns for
        `OwnerFilter.GROUP` also what the user may not use.
        """
        return [*self.each_visible(user, pool_objects, kind, owner, ignores_wide_rules=ignores_wide_rules)]

    def each_visible(
        self,
        user: User,
        pool_objects: Iterable[PoolObjectT],
        kind: Kind,
        owner: int,
        *,
        ignores_wide_rules: bool = False,
    ) -> Iterator[PoolObjectT]:
        """Return what `visible` returns, one by one."""
        if owner < min(OwnerFilter):
            raise bad_call("Incorrect filter_flag")
        is_oneadmin = user.is_oneadmin
        rules = [] if is_oneadmin else self.rights.rules_for(user, Right.USE, kind)
        if ignores_wide_rules:
            rules = [rule for rule in rules if not rule.is_wide]

        def is_usable(member: PoolObjectT) -> bool:
            return (
                is_oneadmin
                or member.uid == user.id
                or member.permissions.allows(Right.USE, 2)
                or (member.gid in user.gids and member.permissions.allows(Right.USE, 1))
                or any(rule.covers(kind, member) for rule in rules)
            )

        def matches(member: PoolObjectT) -> bool:
            is_own = member.uid == user.id
            if owner == OwnerFilter.MINE:
                return is_own
            if owner == OwnerFilter.MINE_AND_GROUPS:
                return is_own or (member.gid in user.gids and is_usable(member))
            if owner == OwnerFilter.GROUP:
                return member.gid == user.gid and (not self.version.is_v7 or is_usable(member))
            if owner == OwnerFilter.VISIBLE:
                return is_usable(member)
            return member.uid == owner and (is_own or is_usable(member))

        return filter(matches, pool_objects)

    def charge(self, caller: User, gid: int, charges: Sequence[Charge], *, uid: int | None = None) -> None:
        """Count `charges` for a user, by default the caller, and a group.

        Refuses with 512, and counts nothing, if a limit is exceeded.
        """
        uid = caller.id if uid is None else uid
        exceeded = self.exceeded_quota(uid, gid, charges)
        if exceeded:
            raise unauthorized(f"User [{caller.id}] : {exceeded}.")
        self.count_usage(uid, gid, charges)

    def exceeded_quota(self, uid: int, gid: int, charges: Sequence[Charge]) -> str:
        """Return oned's text for the limit of a user or a group that `charges` would exceed, or an empty text.

        oneadmin and the group oneadmin have no limits.
        """
        user, group = self.users.find(uid), self.groups.find(gid)
        owners = (("user", user, self.default_user_quotas), ("group", group, self.default_group_quotas))
        for label, owner, defaults in owners:
            if owner is None or owner.id == ONEADMIN:
                continue
            for charge in charges:
                exceeded = owner.quotas.exceeded_limit(charge, defaults)
                if exceeded:
                    return refusal_text(label, owner.id, charge, *exceeded)
        return ""

    def count_usage(self, uid: int, gid: int, charges: Sequence[Charge], sign: int = 1) -> None:
        """Add `charges` to the usage of a user and a group without checking limits; oned counts none for oneadmin."""
        user, group = self.users.find(uid), self.groups.find(gid)
        for charge in charges:
            if user is not None and user.id != ONEADMIN:
                user.quotas.add(charge, sign)
            if group is not None and group.id != ONEADMIN:
                group.quotas.add(charge, sign)

    def recount_usage(self, machine: VirtualMachine) -> None:
        """Count the usage of a machine again, after a change for which oned checks no limits."""
        self.count_usage(machine.uid, machine.gid, machine.charges, -1)
        machine.charges = machine.current_charges()
        self.count_usage(machine.uid, machine.gid, machine.charges)
