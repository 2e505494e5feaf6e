"""The calls that all kinds of objects have: chown, chmod, rename, lock, unlock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from econed.opennebula.states import LockLevel, VmState
from econed.sandbox.calls.declaration import Method
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Lock, PoolObject, Right, name_error
from econed.sandbox.objects.pools import Pool
from econed.sandbox.objects.users import User
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import internal, unauthorized, wrong_state

_UNCHANGED = -1
_CANNOT_LOCK = "Error trying to lock the resource."
_ADMIN_BITS = (2, 5, 8)
_LOCKABLE = ("vm", "image", "vn", "vntemplate", "template", "vmgroup", "document")
_RENAMABLE = ("vm", "image", "vn", "vntemplate", "template", "secgroup", "vmgroup", "document")
_WITHOUT_UNIQUE_NAMES = (Kind.VM, Kind.DOCUMENT)


class OwnershipCalls:
    """`one.*.chown`, `chmod` and `rename` of owned objects, `lock` and `unlock` of lockable objects."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._pools: Mapping[str, Pool[Any]] = {
            "vm": cloud.vms,
            "image": cloud.images,
            "vn": cloud.networks,
            "vntemplate": cloud.network_templates,
            "template": cloud.templates,
            "secgroup": cloud.security_groups,
            "vmgroup": cloud.vm_groups,
            "document": cloud.documents,
            "datastore": cloud.datastores,
        }

    def methods(self) -> dict[str, tuple[Method, Callable[..., object]]]:
        """Return the methods and their handlers, by name."""
        handlers: dict[str, tuple[Method, Callable[..., object]]] = {}
        for prefix, pool in self._pools.items():
            self._add(handlers, f"one.{prefix}.chown", (int, int, int), self._handler(pool, self._chown))
            self._add(handlers, f"one.{prefix}.chmod", (int,) * 10, self._handler(pool, self._chmod))
            if prefix in _RENAMABLE:
                self._add(handlers, f"one.{prefix}.rename", (int, str), self._handler(pool, self._rename))
            if prefix in _LOCKABLE:
                self._add(handlers, f"one.{prefix}.lock", (int, int, bool), self._handler(pool, self._lock))
                self._add(handlers, f"one.{prefix}.unlock", (int,), self._handler(pool, self._unlock))
        return handlers

    @staticmethod
    def _add(
        handlers: dict[str, tuple[Method, Callable[..., object]]],
        name: str,
        required: Sequence[type],
        handler: Callable[..., object],
    ) -> None:
        handlers[name] = (Method(name, required, ()), handler)

    @staticmethod
    def _handler(pool: Pool[Any], act: Callable[..., None]) -> Callable[..., object]:
        def handle(caller: User, object_id: int, *arguments: int | str | bool) -> int:
            act(caller, pool, object_id, *arguments)
            return object_id

        return handle

    def _chown(self, caller: User, pool: Pool[Any], object_id: int, uid: int, gid: int) -> None:
        pool_object: PoolObject = self._cloud.get_authorized(caller, Right.MANAGE, pool, object_id)
        if isinstance(pool_object, VirtualMachine) and pool_object.state is VmState.DONE:
            raise wrong_state("Could not change VM ownership, wrong state")
        old_owner = pool_object.uid, pool_object.gid
        if uid != _UNCHANGED:
            user = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.users, uid)
            self._check_name_free(pool, pool_object, uid)
            pool_object.uid, pool_object.uname = uid, user.name
        if gid != _UNCHANGED:
            group = self._cloud.groups.get(gid)
            if gid not in caller.gids:
                self._cloud.rights.check(caller, Right.MANAGE, Kind.GROUP, group)
            pool_object.gid, pool_object.gname = gid, group.name
        self._cloud.count_usage(*old_owner, pool_object.quota_charges(), -1)
        self._cloud.count_usage(pool_object.uid, pool_object.gid, pool_object.quota_charges())
        pool_object.invalidate()

    @staticmethod
    def _check_name_free(pool: Pool[Any], pool_object: PoolObject, uid: int) -> None:
        if pool.kind in _WITHOUT_UNIQUE_NAMES:
            return
        for other in pool:
            if other is not pool_object and (other.uid, other.name) == (uid, pool_object.name):
                raise internal(f"Object {pool.kind.label} with name {pool_object.name} already owned by user {uid}")

    def _chmod(self, caller: User, pool: Pool[Any], object_id: int, *bits: int) -> None:
        changes_admin_bits = any(bits[index] != _UNCHANGED for index in _ADMIN_BITS)
        pool_object = self._cloud.get_authorized(caller, Right.MANAGE, pool, object_id)
        if changes_admin_bits and any(
            bits[index] not in (_UNCHANGED, pool_object.permissions.bits[index]) for index in _ADMIN_BITS
        ):
            self._cloud.rights.check(caller, Right.ADMIN, pool.kind, pool_object)
        if any(bit not in (_UNCHANGED, 0, 1) for bit in bits):
            raise internal("New permissions must be -1, 0 or 1")
        for index, bit in enumerate(bits):
            if bit != _UNCHANGED:
                pool_object.permissions.bits[index] = bit
        pool_object.invalidate()

    def _rename(self, caller: User, pool: Pool[Any], object_id: int, name: str) -> None:
        """Rename an object; oned checks no right if the name stays as it is (oned: `SharedAPI::rename`)."""
        pool_object: PoolObject = pool.get(object_id)
        if pool_object.name == name:
            return
        self._cloud.rights.check(caller, Right.MANAGE, pool.kind, pool_object)
        namesake = None if pool.kind in _WITHOUT_UNIQUE_NAMES else pool.find_by_name(pool_object.uid, name)
        if namesake is not None:
            kind = pool.kind.long_name
            raise wrong_state(f"{kind} cannot be renamed to {name} because it collides with {kind} {namesake.id}")
        reason = name_error(name)
        if reason:
            raise wrong_state(reason)
        pool_object.name = name
        pool_object.invalidate()

    def _lock(self, caller: User, pool: Pool[Any], object_id: int, level: int, is_test: bool = False) -> None:
        """Lock an object; with `is_test`, which 5.12 ignores, only one that is not locked: the text says since when."""
        pool_object = self._cloud.get_authorized(caller, Right.MANAGE, pool, object_id, locks=False)
        is_v7, lock = self._cloud.version.is_v7, pool_object.lock
        if level not in range(LockLevel.USE, LockLevel.ALL + 1):
            raise wrong_state("Wrong lock level specified" if is_v7 else _CANNOT_LOCK)
        if pool.kind is Kind.DOCUMENT and not is_v7:
            raise unauthorized(f"User [{caller.id}] not authorized to perform action on document.")
        if lock is not None and is_test and is_v7:
            raise wrong_state(str(lock.since))
        if lock is not None and lock.owner != caller.id and not caller.is_oneadmin:
            raise wrong_state(_CANNOT_LOCK)
        if level == LockLevel.ALL and is_v7:
            level = LockLevel.USE
        pool_object.lock = Lock(level, caller.id, self._cloud.now())
        pool_object.invalidate()

    def _unlock(self, caller: User, pool: Pool[Any], object_id: int) -> None:
        pool_object = self._cloud.get_authorized(caller, Right.MANAGE, pool, object_id, locks=False)
        if not caller.is_oneadmin and (pool_object.lock is None or pool_object.lock.owner != caller.id):
            raise wrong_state("Cannot unlock: Lock is owned by another user")
        pool_object.lock = None
        pool_object.invalidate()
