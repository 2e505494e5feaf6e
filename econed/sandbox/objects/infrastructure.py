"""Hosts, clusters, datastores and the zone: what they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from econed.sandbox.objects.base import Kind, PoolObject, ids
from econed.sandbox.template import cdata

HOST_MONITORED, HOST_INIT, HOST_DISABLED, HOST_OFFLINE = 2, 0, 4, 8
DUMMY_CPU, DUMMY_MEMORY = 100_000, 2_147_483_648
"""What a host of the dummy drivers has: hundredths of a CPU, and KiB."""

IMAGE_DS, SYSTEM_DS, FILE_DS = 0, 1, 2
_DS_TYPES = {"IMAGE_DS": IMAGE_DS, "SYSTEM_DS": SYSTEM_DS, "FILE_DS": FILE_DS}

_TRANSFER = {
    False: {
        "ssh": {"ALLOW_ORPHANS": "NO", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "SYSTEM", "SHARED": "NO"},
        "dummy": {"ALLOW_ORPHANS": "NO", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "NONE", "SHARED": "YES"},
    },
    True: {
        "local": {"ALLOW_ORPHANS": "FORMAT", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "SYSTEM", "SHARED": "NO"},
        "dummy": {"ALLOW_ORPHANS": "NO", "CLONE_TARGET": "SYSTEM", "LN_TARGET": "NONE", "SHARED": "YES"},
    },
}


@dataclass(eq=False)
class Host(PoolObject):
    """A host with its capacity (`cpu` in hundredths of a CPU, `memory` in KiB) and the machines on it."""

    cluster: int = 0
    vm_mad: str = "dummy"
    im_mad: str = "dummy"
    state: int = HOST_INIT
    cpu: int = DUMMY_CPU
    memory: int = DUMMY_MEMORY
    used_cpu: int = 0
    used_memory: int = 0
    vms: set[int] = field(default_factory=set)

    kind = Kind.HOST

    def holds(self, cpu: int, memory: int) -> bool:
        """Whether so much more fits on the host."""
        return self.used_cpu + cpu <= self.cpu and self.used_memory + memory <= self.memory

    def take(self, vm: int, cpu: int, memory: int) -> None:
        """Put a machine on the host."""
        self.vms.add(vm)
        self.used_cpu += cpu
        self.used_memory += memory

    def give_back(self, vm: int, cpu: int, memory: int) -> None:
        """Take a machine off the host."""
        if vm in self.vms:
            self.vms.discard(vm)
            self.used_cpu -= cpu
            self.used_memory -= memory

    def xml(self, cluster: str) -> str:
        """Return the element as oned shows it."""
        share = (
            f"<HOST_SHARE><MEM_USAGE>{self.used_memory}</MEM_USAGE><CPU_USAGE>{self.used_cpu}</CPU_USAGE>"
            f"<TOTAL_MEM>{self.memory}</TOTAL_MEM><TOTAL_CPU>{self.cpu}</TOTAL_CPU>"
            f"<MAX_MEM>{self.memory}</MAX_MEM><MAX_CPU>{self.cpu}</MAX_CPU>"
            f"<RUNNING_VMS>{len(self.vms)}</RUNNING_VMS></HOST_SHARE>"
        )
        return (
            f"<HOST><ID>{self.id}</ID><NAME>{escape(self.name)}</NAME><STATE>{self.state}</STATE>"
            f"<PREV_STATE>{self.state}</PREV_STATE>{cdata('IM_MAD', self.im_mad)}{cdata('VM_MAD', self.vm_mad)}"
            f"<CLUSTER_ID>{self.cluster}</CLUSTER_ID><CLUSTER>{escape(cluster)}</CLUSTER>{share}"
            f"{ids('VMS', self.vms)}{self.template.xml()}</HOST>"
        )


@dataclass(eq=False)
class Cluster(PoolObject):
    """A cluster. Which hosts, datastores and networks lie in it, they know themselves."""

    kind = Kind.CLUSTER

    def xml(self, hosts: list[int], datastores: list[int], networks: list[int]) -> str:
        """Return the element as oned shows it, with the ids of the hosts, datastores and networks in the cluster."""
        return (
            f"<CLUSTER><ID>{self.id}</ID><NAME>{escape(self.name)}</NAME>{ids('HOSTS', hosts)}"
            f"{ids('DATASTORES', datastores)}{ids('VNETS', networks)}{self.template.xml()}</CLUSTER>"
        )


@dataclass(eq=False)
class Datastore(PoolObject):
    """A datastore, with the numbers of the images in it."""

    type: int = IMAGE_DS
    images: set[int] = field(default_factory=set)

    kind = Kind.DATASTORE

    def derive(self, *, modern: bool) -> None:
        """Set what oned derives from the transfer driver (oned.conf, TM_MAD_CONF) and from the type."""
        template = self.template
        driver = _TRANSFER[modern].get(template.get("TM_MAD"), _TRANSFER[modern]["dummy"])
        self.type = _DS_TYPES.get(template.get("TYPE", "IMAGE_DS"), IMAGE_DS)
        for name in ("CLONE_TARGET", "LN_TARGET", "SHARED", "DS_MIGRATE", "DS_LIVE_MIGRATE", "DS_MIGRATE_SNAP"):
            template.pop(name)
        template.replace("ALLOW_ORPHANS", driver["ALLOW_ORPHANS"])
        if self.type == SYSTEM_DS:
            template.replace("SHARED", driver["SHARED"])
            template.replace("DS_MIGRATE", "YES")
        else:
            template.replace("CLONE_TARGET", driver["CLONE_TARGET"])
            template.replace("LN_TARGET", driver["LN_TARGET"])
        if modern:
            template.replace("PERSISTENT_SNAPSHOTS", "YES")
            if self.type == SYSTEM_DS:
                template.replace("DS_LIVE_MIGRATE", "YES")
                template.replace("DS_MIGRATE_SNAP", "YES")

    def xml(self) -> str:
        """Return the element as oned shows it."""
        return (
            f"<DATASTORE>{self.head()}{cdata('DS_MAD', self.template.get('DS_MAD', '-'))}"
            f"{cdata('TM_MAD', self.template.get('TM_MAD'))}{cdata('BASE_PATH', f'/var/lib/one//datastores/{self.id}')}"
            f"<TYPE>{self.type}</TYPE><DISK_TYPE>0</DISK_TYPE><STATE>0</STATE>{ids('CLUSTERS', self.clusters)}"
            "<TOTAL_MB>0</TOTAL_MB><FREE_MB>0</FREE_MB><USED_MB>0</USED_MB>"
            f"{ids('IMAGES', self.images)}{self.template.xml()}</DATASTORE>"
        )


def raft_status(server_id: int, state: int, term: int) -> str:
    """Return the document of `one.zone.raftstatus`; the server that is alone has id -1, state 0 and no log."""
    is_alone = state == 0
    numbers = {
        "SERVER_ID": server_id,
        "STATE": state,
        "TERM": term,
        "VOTEDFOR": -1,
        "COMMIT": 0,
        "LOG_INDEX": -1 if is_alone else 0,
        "LOG_TERM": -1 if is_alone else term,
        "FEDLOG_INDEX": -1,
    }
    return f"<RAFT>{''.join(f'<{name}>{number}</{name}>' for name, number in numbers.items())}</RAFT>"
