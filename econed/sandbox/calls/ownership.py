"""The calls that all kinds of objects have alike: chown, chmod, lock, unlock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from econed.opennebula.states import VmState
from econed.sandbox.calls.declaration import Method
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Lock, PoolObject, Right
from econed.sandbox.objects.pools import Pool
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import internal, wrong_state

_UNCHANGED = -1
_ALL_LEVEL, _USE_LEVEL = 4, 1
_ADMIN_BITS = (2, 5, 8)
_LOCKABLE = ("vm", "image", "vn", "template")


class OwnershipCalls:
    """`one.*.chown` and `chmod` of all that is owned, `lock` and `unlock` of what can be locked."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._pools: Mapping[str, Pool[Any]] = {
            "vm": cloud.vms,
            "image": cloud.images,
            "vn": cloud.networks,
            "template": cloud.templates,
            "secgroup": cloud.security_groups,
            "datastore": cloud.datastores,
        }

    def methods(self) -> dict[str, tuple[Method, Callable[..., object]]]:
        """Return the methods by name."""
        found: dict[str, tuple[Method, Callable[..., object]]] = {}
        for prefix, pool in self._pools.items():
            self._add(found, f"one.{prefix}.chown", (int, int, int), self._on(pool, self._chown))
            self._add(found, f"one.{prefix}.chmod", (int,) * 10, self._on(pool, self._chmod))
            if prefix in _LOCKABLE:
                self._add(found, f"one.{prefix}.lock", (int, int), self._on(pool, self._lock))
                self._add(found, f"one.{prefix}.unlock", (int,), self._on(pool, self._unlock))
        return found

    @staticmethod
    def _add(
        found: dict[str, tuple[Method, Callable[..., object]]],
        name: str,
        required: Sequence[type],
        handler: Callable[..., object],
    ) -> None:
        found[name] = (Method(name, required, ()), handler)

    @staticmethod
    def _on(pool: Pool[Any], act: Callable[..., None]) -> Callable[..., object]:
        def handle(caller: User, number: int, *arguments: int) -> int:
            act(caller, pool, number, *arguments)
            return number

        return handle

    def _chown(self, caller: User, pool: Pool[Any], number: int, uid: int, gid: int) -> None:
        thing: PoolObject = self._cloud.demand(caller, Right.MANAGE, pool, number)
        if isinstance(thing, VirtualMachine) and thing.state is VmState.DONE:
            raise wrong_state("Could not change VM ownership, wrong state")
        before = thing.uid, thing.gid
        if uid != _UNCHANGED:
            user = self._cloud.demand(caller, Right.MANAGE, self._cloud.users, uid)
            self._demand_name_free(pool, thing, uid)
            thing.uid, thing.uname = uid, user.name
        if gid != _UNCHANGED:
            group = self._cloud.groups.get(gid)
            if gid not in caller.gids:
                self._cloud.rights.demand(caller, Right.MANAGE, Kind.GROUP, group)
            thing.gid, thing.gname = gid, group.name
        self._cloud.count(*before, thing.taken(), -1)
        self._cloud.count(thing.uid, thing.gid, thing.taken())
        thing.changed()

    @staticmethod
    def _demand_name_free(pool: Pool[Any], thing: PoolObject, uid: int) -> None:
        if pool.kind is Kind.VM:
            return
        for other in pool:
            if other is not thing and (other.uid, other.name) == (uid, thing.name):
                raise internal(f"Object {pool.kind.label} with name {thing.name} already owned by user {uid}")

    def _chmod(self, caller: User, pool: Pool[Any], number: int, *bits: int) -> None:
        admin = any(bits[place] != _UNCHANGED for place in _ADMIN_BITS)
        thing = self._cloud.demand(caller, Right.MANAGE, pool, number)
        if admin and any(bits[place] not in (_UNCHANGED, thing.permissions.bits[place]) for place in _ADMIN_BITS):
            self._cloud.rights.demand(caller, Right.ADMIN, pool.kind, thing)
        if any(bit not in (_UNCHANGED, 0, 1) for bit in bits):
            raise internal("New permissions must be -1, 0 or 1")
        for place, bit in enumerate(bits):
            if bit != _UNCHANGED:
                thing.permissions.bits[place] = bit
        thing.changed()

    def _lock(self, caller: User, pool: Pool[Any], number: int, level: int) -> None:
        thing = self._cloud.demand(caller, Right.MANAGE, pool, number, locks=False)
        if level not in range(_USE_LEVEL, _ALL_LEVEL + 1):
            raise internal("Wrong lock level specified")
        if level == _ALL_LEVEL and self._cloud.version.modern:
            level = _USE_LEVEL
        thing.lock = Lock(level, caller.id, self._cloud.now())
        thing.changed()

    def _unlock(self, caller: User, pool: Pool[Any], number: int) -> None:
        thing = self._cloud.demand(caller, Right.MANAGE, pool, number, locks=False)
        if not caller.is_oneadmin and (thing.lock is None or thing.lock.owner != caller.id):
            raise wrong_state("Cannot unlock: Lock is owned by another user")
        thing.lock = None
        thing.changed()
