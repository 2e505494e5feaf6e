"""The state of the cloud: its pools, its clock, and the few questions that everything asks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from econed.opennebula.pools import OwnerFilter
from econed.sandbox.objects.base import Kind, PoolObject, Right
from econed.sandbox.objects.images import Image
from econed.sandbox.objects.infrastructure import Cluster, Datastore, Host
from econed.sandbox.objects.networks import Network
from econed.sandbox.objects.pools import Pool
from econed.sandbox.objects.security_groups import SecurityGroup
from econed.sandbox.objects.users import Group, User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.objects.vm_templates import VmTemplate
from econed.sandbox.quotas import Charge, refusal_text
from econed.sandbox.refusals import Refused, bad_call, internal, unauthorized
from econed.sandbox.rights import Rights
from econed.sandbox.template import Restricted, Template, parse
from econed.sandbox.versions import Delays, Version

Member = TypeVar("Member", bound=PoolObject)

NOTHING: Restricted = {}
_REPLACE, _MERGE = 0, 1


class Cloud:
    """Everything that the sandbox knows. The services that serve the calls share one of these."""

    def __init__(self, clock: IReactorTime, version: Version, delays: Delays) -> None:
        self.clock = clock
        self.version = version
        self.delays = delays
        self.rights = Rights()
        self.users: Pool[User] = Pool(Kind.USER)
        self.groups: Pool[Group] = Pool(Kind.GROUP)
        self.hosts: Pool[Host] = Pool(Kind.HOST)
        self.clusters: Pool[Cluster] = Pool(Kind.CLUSTER)
        self.datastores: Pool[Datastore] = Pool(Kind.DATASTORE)
        self.images: Pool[Image] = Pool(Kind.IMAGE)
        self.networks: Pool[Network] = Pool(Kind.NET)
        self.templates: Pool[VmTemplate] = Pool(Kind.TEMPLATE)
        self.security_groups: Pool[SecurityGroup] = Pool(Kind.SECGROUP)
        self.vms: Pool[VirtualMachine] = Pool(Kind.VM)

    def now(self) -> int:
        """Return the time as oned writes it down: whole epoch seconds."""
        return int(self.clock.seconds())

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Do something after `delay` seconds."""
        self.clock.callLater(delay, act)

    def user_named(self, name: str) -> User | None:
        """Return the user with this name, or None."""
        return next((user for user in self.users if user.name == name), None)

    def demand(self, user: User, right: Right, pool: Pool[Member], number: int, *, locks: bool = True) -> Member:
        """Return an object on which `user` has `right`; refuses with 1024 or 512.

        A number below 0 names no object: who may not do it to all of the kind is refused, the others find nothing.
        """
        if number < 0:
            self.rights.demand(user, right, pool.kind, None)
        member = pool.get(number)
        self.rights.demand(user, right, pool.kind, member, locks=locks)
        return member

    def read(self, text: str) -> Template:
        """Return what this version of oned reads of template text."""
        return parse(text, trims=self.version.modern)

    def updated(
        self,
        caller: User,
        held: Template,
        text: str,
        how: int,
        restricted: Restricted = NOTHING,
        *,
        unique: bool = False,
    ) -> Template:
        """Return what a template becomes by `one.*.update`: `text` in its place (0), or merged into it (1).

        Refuses restricted attributes (8192) but of oneadmin's. What cannot be stored changes nothing, and is no error.
        `unique` is for templates that hold each name once.
        """
        if how not in (_REPLACE, _MERGE):
            raise bad_call("Wrong update type")
        try:
            sent = self.read(text)
        except Refused as refusal:
            raise internal(f"Cannot update template. {refusal.text}") from refusal
        if not caller.is_oneadmin:
            whole = self.version.modern and how == _REPLACE
            changed = sent.restricted_against(held, restricted, whole=whole)
            if changed:
                raise internal(f"Cannot update template. Tried to change restricted attribute: {changed}")
            sent.keep(held, (name for name, keys in restricted.items() if not keys))
        if unique:
            sent = sent.unique()
        result = held.copy() if how == _MERGE else Template()
        result.merge(sent)
        return result.stored() or held

    def visible(
        self, user: User, members: Iterable[Member], kind: Kind, flag: int, *, narrowly: bool = False
    ) -> list[Member]:
        """Return those of `members` that `user` may use and that the filter `flag` asks for.

        `narrowly` leaves rules for all of a kind, or of a cluster, out of account.
        """
        if flag < OwnerFilter.GROUP:
            raise bad_call("Incorrect filter_flag")
        everything = user.is_oneadmin
        rules = [] if everything else self.rights.rules_for(user, Right.USE, kind)
        if narrowly:
            rules = [rule for rule in rules if not rule.is_wide]

        def usable(member: Member) -> bool:
            return (
                everything
                or member.uid == user.id
                or bool(member.permissions.bits[6])
                or (member.gid in user.gids and bool(member.permissions.bits[3]))
                or any(rule.covers(kind, member) for rule in rules)
            )

        if flag == OwnerFilter.MINE:
            return [member for member in members if member.uid == user.id]
        if flag == OwnerFilter.MINE_AND_GROUPS:
            return [m for m in members if m.uid == user.id or (m.gid in user.gids and usable(m))]
        if flag == OwnerFilter.GROUP:
            return [member for member in members if member.gid == user.gid and usable(member)]
        if flag == OwnerFilter.VISIBLE:
            return [member for member in members if usable(member)]
        return [member for member in members if member.uid == flag and (flag == user.id or usable(member))]

    def charge(self, user: User, gid: int, charges: Sequence[Charge]) -> None:
        """Count `charges` against the user and his group; refuses with 512, and counts nothing, beyond a limit."""
        group = self.groups.get(gid)
        for charge in charges:
            if not user.is_oneadmin:
                for who, number, quotas in (("user", user.id, user.quotas), ("group", group.id, group.quotas)):
                    beyond = quotas.exceeded(charge)
                    if beyond:
                        text = refusal_text(who, number, charge, *beyond)
                        raise unauthorized(f"User [{user.id}] : {text}")
        self.count(user.id, gid, charges)

    def count(self, uid: int, gid: int, charges: Sequence[Charge], sign: int = 1) -> None:
        """Count what a user and a group have, without asking for limits; oned keeps no count for oneadmin."""
        user, group = self.users.find(uid), self.groups.find(gid)
        for charge in charges:
            if user is not None and user.id != 0:
                user.quotas.add(charge, sign)
            if group is not None and group.id != 0:
                group.quotas.add(charge, sign)

    def recharge(self, machine: VirtualMachine) -> None:
        """Count anew what a machine takes of quotas, after a change that oned allows in any case."""
        self.count(machine.uid, machine.gid, machine.charges, -1)
        machine.charges = machine.current_charges()
        self.count(machine.uid, machine.gid, machine.charges)

    def step(self, machine: VirtualMachine, delay: float, act: Callable[[VirtualMachine], None]) -> None:
        """Call `act` with a machine after `delay` seconds, unless another action has begun on it until then."""
        epoch = machine.epoch

        def act_if_current() -> None:
            if machine.epoch == epoch:
                act(machine)

        self.later(delay, act_if_current)
