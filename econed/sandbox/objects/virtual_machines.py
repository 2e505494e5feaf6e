"""Virtual machines and their elements, in full and in the short form of the pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from xml.sax.saxutils import escape

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.objects.base import Kind, PoolObject
from econed.sandbox.objects.history import HistoryAction, HistoryRecord
from econed.sandbox.quotas import Charge, capacity_amounts
from econed.sandbox.template import Template, Value, Vector, attribute_xml, cdata

_SHORT_DISK_KEYS = (
    *("DISK_ID", "DATASTORE", "DATASTORE_ID", "IMAGE", "IMAGE_ID", "SIZE", "TYPE", "CLONE", "CLONE_TARGET"),
    *("LN_TARGET", "DISK_SNAPSHOT_TOTAL_SIZE"),
)
_NO_NETWORK = {"MAC": "", "NETWORK": "", "NETWORK_ID": "", "SECURITY_GROUPS": ""}
_SHORT_NIC_KEYS = (
    *("IP", "IP6", "IP6_GLOBAL", "IP6_LINK", "IP6_ULA", "MAC", "NETWORK", "NETWORK_ID", "NETWORK_MODE", "NIC_ID"),
    *("SCHED_RANK", "SCHED_REQUIREMENTS", "SECURITY_GROUPS"),
)

_NOT_RUNNING_STATES = (VmState.POWEROFF, VmState.SUSPENDED, VmState.STOPPED, VmState.UNDEPLOYED)


@dataclass(eq=False)
class VirtualMachine(PoolObject):
    """A machine. `template` holds the single attributes of its TEMPLATE, `user_template` the USER_TEMPLATE.

    `nics` are its NICs, `aliases` the further addresses of them (NIC_ALIAS), with NIC_IDs from the same numbers.
    `nic_ids_without_network` are the NIC_IDs of those that are not connected to a network and have no address.
    `epoch` grows with every action, so that delayed steps of earlier actions are dropped.
    """

    is_v7: bool = True
    state: VmState = VmState.PENDING
    lcm_state: LcmState = LcmState.LCM_INIT
    started: int = 0
    ended: int = 0
    deploy_id: str = ""
    user_template: Template = field(default_factory=Template)
    disks: list[Vector] = field(default_factory=list)
    nics: list[Vector] = field(default_factory=list)
    aliases: list[Vector] = field(default_factory=list)
    nic_ids_without_network: set[str] = field(default_factory=set)
    rules: list[Vector] = field(default_factory=list)
    context: Vector | None = None
    requested_context: Vector = field(default_factory=dict)
    history: list[HistoryRecord] = field(default_factory=list)
    next_disk_id: int = 0
    epoch: int = 0
    charges: list[Charge] = field(default_factory=list)
    snapshots: dict[int, list[Vector]] = field(default_factory=dict)
    on_hold: bool = False
    on_images_ready: Callable[[VirtualMachine], None] | None = None
    accounting_xml: dict[int, str] = field(default_factory=dict)
    _cached_xml: str | None = None
    _cached_short_xml: str | None = None

    kind = Kind.VM

    def invalidate(self) -> None:
        """Drop the cached elements of this machine."""
        self._cached_xml = self._cached_short_xml = None

    def set_state(self, state: VmState, lcm_state: LcmState = LcmState.LCM_INIT) -> None:
        """Change the state."""
        self.state, self.lcm_state = state, lcm_state
        self.invalidate()

    @property
    def state_name(self) -> str:
        """The state as refusals name it: LCM_STATE while ACTIVE, else STATE."""
        return self.lcm_state.name if self.state is VmState.ACTIVE else self.state.name

    @property
    def cpu(self) -> int:
        """The capacity that the machine needs on a host, in hundredths of a CPU."""
        return round(float(self.template.get("CPU", "0")) * 100)

    @property
    def memory(self) -> int:
        """The memory that the machine needs on a host, in KiB."""
        return int(self.template.get("MEMORY", "0")) * 1024

    def disk(self, disk_id: int) -> Vector | None:
        """Return the disk with this DISK_ID, or None."""
        return next((disk for disk in self.disks if disk["DISK_ID"] == str(disk_id)), None)

    def nic(self, nic_id: int) -> Vector | None:
        """Return the NIC or alias with this NIC_ID, or None."""
        return next((nic for nic in self._nics_and_aliases() if nic["NIC_ID"] == str(nic_id)), None)

    @property
    def next_nic_id(self) -> int:
        """The NIC_ID of the next NIC or alias: one more than the highest that the machine has now."""
        return 1 + max((int(nic["NIC_ID"]) for nic in self._nics_and_aliases()), default=-1)

    @property
    def connected_nics(self) -> list[Vector]:
        """The NICs and aliases that are connected to a network; the others are stored as the user wrote them."""
        return [nic for nic in self._nics_and_aliases() if nic["NIC_ID"] not in self.nic_ids_without_network]

    def _nics_and_aliases(self) -> list[Vector]:
        return [*self.nics, *self.aliases]

    def image_copied(self) -> None:
        """Continue when an image for which the machine waits has been copied, or could not be."""
        if self.state is VmState.CLONING and self.on_images_ready is not None:
            self.on_images_ready(self)

    def security_group_ids(self) -> list[int]:
        """Return the ids of the security groups of all NICs; those of aliases do not count."""
        nics = (nic for nic in self.nics if nic["NIC_ID"] not in self.nic_ids_without_network)
        ids = (group_id for nic in nics for group_id in nic.get("SECURITY_GROUPS", "").split(","))
        return sorted({int(group_id) for group_id in ids if group_id})

    def quota_charges(self) -> list[Charge]:
        """Return the usage that is counted for the machine in its owner's quotas."""
        return self.charges

    def current_charges(self) -> list[Charge]:
        """Return the machine's usage in its present state."""
        if self.state is VmState.DONE:
            return []
        cpu, memory = float(self.template.get("CPU", "0")), float(self.template.get("MEMORY", "0"))
        is_running = self.state not in _NOT_RUNNING_STATES
        amounts = capacity_amounts(cpu, memory, float(self._system_disk_size()), is_running=is_running)
        charges = [Charge("VM", "", amounts)]
        charges += [Charge("NETWORK", nic["NETWORK_ID"], {"LEASES": 1}) for nic in self.connected_nics]
        charges += [Charge("IMAGE", disk["IMAGE_ID"], {"RVMS": 1}) for disk in self.disks if "IMAGE_ID" in disk]
        return charges

    def running_charge(self) -> Charge:
        """Return the usage that a running machine counts in addition to one that is powered off."""
        capacity = capacity_amounts(self.cpu / 100, self.memory / 1024, 0, is_running=True)
        return Charge("VM", "", {name: amount for name, amount in capacity.items() if name.startswith("RUNNING_")})

    def _system_disk_size(self) -> int:
        return sum(int(disk.get("SIZE", "0")) for disk in self.disks if disk.get("PERSISTENT") != "YES")

    def update_record(self, **changes: object) -> None:
        """Change the newest history record."""
        if self.history:
            self.history[-1] = replace(self.history[-1], **changes)  # type: ignore[arg-type]
            self.invalidate()

    def next_record(self, now: int, action: HistoryAction = HistoryAction.NONE) -> None:
        """Open a history record on the same host, as after a hot-plug or a boot."""
        record = self.history[-1]
        self.history.append(
            HistoryRecord(len(self.history), record.host_id, record.host_name, record.cluster_id, now, running=(now, 0))
        )
        self.update_record(action=action)
        self.save_for_accounting()

    def stop_running(self, now: int) -> None:
        """Record when the machine stopped running on its host, which oned does from 6.0 on."""
        if self.is_v7:
            self.update_record(running=(self.history[-1].running[0], now))

    def save_for_accounting(self) -> None:
        """Store the machine's element that accounting shows in the newest history record."""
        if self.history:
            self.accounting_xml[self.history[-1].sequence] = self._accounting_xml()

    def _accounting_xml(self) -> str:
        return f"<VM>{self._state_xml()}{self._attributes_xml()}{self.user_template.xml('USER_TEMPLATE')}</VM>"

    def _state_xml(self) -> str:
        return (
            f"{self.head()}<LAST_POLL>0</LAST_POLL><STATE>{int(self.state)}</STATE>"
            f"<LCM_STATE>{int(self.lcm_state)}</LCM_STATE><PREV_STATE>{int(self.state)}</PREV_STATE>"
            f"<PREV_LCM_STATE>{int(self.lcm_state)}</PREV_LCM_STATE><RESCHED>0</RESCHED><STIME>{self.started}</STIME>"
            f"<ETIME>{self.ended}</ETIME><DEPLOY_ID>{escape(self.deploy_id)}</DEPLOY_ID>{self.lock_xml()}"
            f"<MONITORING></MONITORING>{'<SCHED_ACTIONS></SCHED_ACTIONS>' if self.is_v7 else ''}"
        )

    def _attributes_xml(self) -> str:
        attributes: list[tuple[str, Value]] = list(self.template)
        attributes += [("DISK", disk) for disk in self.disks]
        attributes += [("NIC", nic) for nic in self.nics]
        attributes += [("NIC_ALIAS", alias) for alias in self.aliases]
        attributes += [("SECURITY_GROUP_RULE", rule) for rule in self.rules]
        if self.context is not None:
            attributes.append(("CONTEXT", self.context))
        attributes.sort(key=lambda attribute: attribute[0])
        return f"<TEMPLATE>{''.join(attribute_xml(*attribute) for attribute in attributes)}</TEMPLATE>"

    def _snapshots_xml(self) -> str:
        parts = []
        for disk_id, snapshots in self.snapshots.items():
            elements = "".join(_snapshot_xml(snapshot) for snapshot in snapshots)
            chain = cdata("ALLOW_ORPHANS", "NO") + cdata("NEXT_SNAPSHOT", len(snapshots))
            parts.append(f"<SNAPSHOTS>{chain}{cdata('DISK_ID', disk_id)}{elements}</SNAPSHOTS>")
        return "".join(parts)

    def info_xml(self) -> str:
        """Return the VM element of `one.vm.info`, with all history records."""
        return self._render(self.history) if len(self.history) > 1 else self.xml()

    def xml(self) -> str:
        """Return the VM element of `infoextended` and `infoset`, with only the newest history record."""
        if self._cached_xml is None:
            self._cached_xml = self._render(self.history[-1:])
        return self._cached_xml

    def _render(self, history: list[HistoryRecord]) -> str:
        records = "".join(record.xml(self.id, is_v7=self.is_v7) for record in history)
        backups = "<BACKUPS><BACKUP_CONFIG/><BACKUP_IDS></BACKUP_IDS></BACKUPS>" if self.is_v7 else ""
        return (
            f"<VM>{self._state_xml()}{self._attributes_xml()}{self.user_template.xml('USER_TEMPLATE')}"
            f"<HISTORY_RECORDS>{records}</HISTORY_RECORDS>{self._snapshots_xml()}{backups}</VM>"
        )

    def short_xml(self) -> str:
        """Return the VM element of `one.vmpool.info` since 5.8, without CONTEXT and nearly without USER_TEMPLATE."""
        if self._cached_short_xml is None:
            self._cached_short_xml = self._render_short()
        return self._cached_short_xml

    def _render_short(self) -> str:
        capacity = "".join(
            f"<{name}>{escape(self.template.get(name))}</{name}>"
            for name in ("CPU", "MEMORY", *(("VCPU",) if self.is_v7 else ()))
        )
        lock = f"<LOCK><LOCKED>{self.lock.level}</LOCKED></LOCK>" if self.lock else ""
        graphics = "".join(attribute_xml("GRAPHICS", vector) for vector in self.template.vectors("GRAPHICS"))
        disks = "".join(_selected_xml("DISK", disk, _SHORT_DISK_KEYS) for disk in self.disks)
        nics = "".join(
            _selected_xml("NIC", {**_NO_NETWORK, **nic}, _SHORT_NIC_KEYS) for nic in self._nics_and_aliases()
        )
        record = self.history[-1].short_xml(self.id, is_v7=self.is_v7) if self.history else ""
        message = self.user_template.get("SCHED_MESSAGE") if self.is_v7 else ""
        return (
            f"<VM><ID>{self.id}</ID><UID>{self.uid}</UID><GID>{self.gid}</GID><UNAME>{escape(self.uname)}</UNAME>"
            f"<GNAME>{escape(self.gname)}</GNAME><NAME>{escape(self.name)}</NAME><LAST_POLL>0</LAST_POLL>"
            f"<STATE>{int(self.state)}</STATE><LCM_STATE>{int(self.lcm_state)}</LCM_STATE><RESCHED>0</RESCHED>"
            f"<STIME>{self.started}</STIME><ETIME>{self.ended}</ETIME><DEPLOY_ID>{escape(self.deploy_id)}</DEPLOY_ID>"
            f"{lock}<TEMPLATE>{capacity}{graphics}{disks}{nics}</TEMPLATE><MONITORING/>"
            f"<USER_TEMPLATE>{cdata('SCHED_MESSAGE', message) if message else ''}</USER_TEMPLATE>"
            f"<HISTORY_RECORDS>{record}</HISTORY_RECORDS></VM>"
        )


def _snapshot_xml(snapshot: Vector) -> str:
    return f"<SNAPSHOT>{''.join(cdata(key, value) for key, value in sorted(snapshot.items()))}</SNAPSHOT>"


def _selected_xml(name: str, vector: Vector, keys: tuple[str, ...]) -> str:
    return f"<{name}>{''.join(cdata(key, vector[key]) for key in keys if key in vector)}</{name}>"
