"""Hosts, clusters, datastores and the zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from xml.sax.saxutils import escape

from econed.opennebula.states import DatastoreType
from econed.sandbox.objects.base import Kind, PoolObject, ids_xml
from econed.sandbox.template import cdata


class HostState(IntEnum):
    """HOST/STATE, as far as hosts of the sandbox have it (oned: Host.h)."""

    INIT = 0
    MONITORED = 2
    DISABLED = 4
    OFFLINE = 8


DUMMY_CPU, DUMMY_MEMORY = 100_000, 2_147_483_648
"""The capacity of a host of the dummy drivers: hundredths of a CPU, and KiB."""

_TYPES = {kind.name: kind for kind in (DatastoreType.IMAGE_DS, DatastoreType.SYSTEM_DS, DatastoreType.FILE_DS)}
_TRANSFER_DRIVERS_5_12 = {
    "ssh": {"ALLOW_ORPHANS": "NO", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "SYSTEM", "SHARED": "NO"},
    "dummy": {"ALLOW_ORPHANS": "NO", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "NONE", "SHARED": "YES"},
}
_TRANSFER_DRIVERS_7 = {
    "local": {"ALLOW_ORPHANS": "FORMAT", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "SYSTEM", "SHARED": "NO"},
    "dummy": {"ALLOW_ORPHANS": "NO", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "NONE", "SHARED": "YES"},
}
_DERIVED = ("CLONE_TARGET", "LN_TARGET", "SHARED", "DS_MIGRATE", "DS_LIVE_MIGRATE", "DS_MIGRATE_SNAP")


@dataclass(eq=False)
class Host(PoolObject):
    """A host with its capacity (`cpu` in hundredths of a CPU, `memory` in KiB) and the machines on it."""

    cluster_id: int = 0
    vm_mad: str = "dummy"
    im_mad: str = "dummy"
    state: HostState = HostState.INIT
    cpu: int = DUMMY_CPU
    memory: int = DUMMY_MEMORY
    used_cpu: int = 0
    used_memory: int = 0
    vm_ids: set[int] = field(default_factory=set)

    kind = Kind.HOST

    def has_capacity(self, cpu: int, memory: int) -> bool:
        """Whether this much CPU and memory is free on the host."""
        return self.used_cpu + cpu <= self.cpu and self.used_memory + memory <= self.memory

    def add_machine(self, vm_id: int, cpu: int, memory: int) -> None:
        """Allocate capacity to a machine on the host."""
        self.vm_ids.add(vm_id)
        self.used_cpu += cpu
        self.used_memory += memory

    def remove_machine(self, vm_id: int, cpu: int, memory: int) -> None:
        """Release the capacity of a machine, if it is on the host."""
        if vm_id in self.vm_ids:
            self.vm_ids.discard(vm_id)
            self.used_cpu -= cpu
            self.used_memory -= memory

    def xml(self, cluster: str) -> str:
        """Return the HOST element; `cluster` is the name of the host's cluster."""
        share = (
            f"<HOST_SHARE><MEM_USAGE>{self.used_memory}</MEM_USAGE><CPU_USAGE>{self.used_cpu}</CPU_USAGE>"
            f"<TOTAL_MEM>{self.memory}</TOTAL_MEM><TOTAL_CPU>{self.cpu}</TOTAL_CPU>"
            f"<MAX_MEM>{self.memory}</MAX_MEM><MAX_CPU>{self.cpu}</MAX_CPU>"
            f"<RUNNING_VMS>{len(self.vm_ids)}</RUNNING_VMS></HOST_SHARE>"
        )
        return (
            f"<HOST><ID>{self.id}</ID><NAME>{escape(self.name)}</NAME><STATE>{int(self.state)}</STATE>"
            f"<PREV_STATE>{int(self.state)}</PREV_STATE>{cdata('IM_MAD', self.im_mad)}{cdata('VM_MAD', self.vm_mad)}"
            f"<CLUSTER_ID>{self.cluster_id}</CLUSTER_ID><CLUSTER>{escape(cluster)}</CLUSTER>{share}"
            f"{ids_xml('VMS', self.vm_ids)}{self.template.xml()}</HOST>"
        )


@dataclass(eq=False)
class Cluster(PoolObject):
    """A cluster. Its hosts, datastores and networks hold its id."""

    kind = Kind.CLUSTER

    def xml(self, host_ids: list[int], datastore_ids: list[int], network_ids: list[int]) -> str:
        """Return the CLUSTER element, with the ids of the hosts, datastores and networks in the cluster."""
        return (
            f"<CLUSTER><ID>{self.id}</ID><NAME>{escape(self.name)}</NAME>{ids_xml('HOSTS', host_ids)}"
            f"{ids_xml('DATASTORES', datastore_ids)}{ids_xml('VNETS', network_ids)}{self.template.xml()}</CLUSTER>"
        )


@dataclass(eq=False)
class Datastore(PoolObject):
    """A datastore, with the ids of the images in it."""

    type: DatastoreType = DatastoreType.IMAGE_DS
    image_ids: set[int] = field(default_factory=set)

    kind = Kind.DATASTORE

    def derive(self, *, is_v7: bool) -> None:
        """Set the attributes that oned derives from the transfer driver (oned.conf, TM_MAD_CONF) and from the type."""
        template = self.template
        drivers = _TRANSFER_DRIVERS_7 if is_v7 else _TRANSFER_DRIVERS_5_12
        driver = drivers.get(template.get("TM_MAD"), drivers["dummy"])
        self.type = _TYPES.get(template.get("TYPE"), DatastoreType.IMAGE_DS)
        for name in _DERIVED:
            template.pop(name)
        template.replace("ALLOW_ORPHANS", driver["ALLOW_ORPHANS"])
        if self.type is DatastoreType.SYSTEM_DS:
            template.replace("SHARED", driver["SHARED"])
            template.replace("DS_MIGRATE", "YES")
        else:
            template.replace("CLONE_TARGET", driver["CLONE_TARGET"])
            template.replace("LN_TARGET", driver["LN_TARGET"])
        if is_v7:
            template.replace("PERSISTENT_SNAPSHOTS", "YES")
            if self.type is DatastoreType.SYSTEM_DS:
                template.replace("DS_LIVE_MIGRATE", "YES")
                template.replace("DS_MIGRATE_SNAP", "YES")

    def xml(self) -> str:
        """Return the DATASTORE element."""
        return (
            f"<DATASTORE>{self.head()}{cdata('DS_MAD', self.template.get('DS_MAD', '-'))}"
            f"{cdata('TM_MAD', self.template.get('TM_MAD'))}{cdata('BASE_PATH', f'/var/lib/one//datastores/{self.id}')}"
            f"<TYPE>{int(self.type)}</TYPE><DISK_TYPE>0</DISK_TYPE><STATE>0</STATE>"
            f"{ids_xml('CLUSTERS', self.cluster_ids)}<TOTAL_MB>0</TOTAL_MB><FREE_MB>0</FREE_MB><USED_MB>0</USED_MB>"
            f"{ids_xml('IMAGES', self.image_ids)}{self.template.xml()}</DATASTORE>"
        )


def raft_status(server_id: int, state: int, term: int) -> str:
    """Return the document of `one.zone.raftstatus`; a standalone server has id -1, state 0 and no log."""
    is_standalone = state == 0
    values = {
        "SERVER_ID": server_id,
        "STATE": state,
        "TERM": term,
        "VOTEDFOR": -1,
        "COMMIT": 0,
        "LOG_INDEX": -1 if is_standalone else 0,
        "LOG_TERM": -1 if is_standalone else term,
        "FEDLOG_INDEX": -1,
    }
    return f"<RAFT>{''.join(f'<{name}>{value}</{name}>' for name, value in values.items())}</RAFT>"
