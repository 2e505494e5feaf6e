"""Virtual machines: what they are, and how oned shows them, in full and in short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from xml.sax.saxutils import escape

from econed.opennebula.states import LcmState, VmState
from econed.sandbox.objects.base import Kind, PoolObject
from econed.sandbox.objects.history import HistoryAction, HistoryRecord
from econed.sandbox.quotas import Charge
from econed.sandbox.template import Template, Value, Vector, cdata, render

_SHORT_DISK = (
    *("DISK_ID", "DATASTORE", "DATASTORE_ID", "IMAGE", "IMAGE_ID", "SIZE", "TYPE", "CLONE", "CLONE_TARGET"),
    *("LN_TARGET", "DISK_SNAPSHOT_TOTAL_SIZE"),
)
_NO_NETWORK = {"MAC": "", "NETWORK": "", "NETWORK_ID": "", "SECURITY_GROUPS": ""}
_SHORT_NIC = ("IP", "MAC", "NETWORK", "NETWORK_ID", "NIC_ID", "SECURITY_GROUPS")
_SEVERAL = 2
_NOT_RUNNING = (VmState.POWEROFF, VmState.SUSPENDED, VmState.STOPPED, VmState.UNDEPLOYED)


@dataclass(eq=False)
class VirtualMachine(PoolObject):
    """A machine. `template` holds the single attributes of its TEMPLATE, `user_template` what is the user's.

    `without_network` are the NIC_IDs of the NICs that are on no network, and have no address of oned's. `epoch` grows
    with every action, so that a step that was planned before one does nothing after it.
    """

    modern: bool = True
    state: VmState = VmState.PENDING
    lcm_state: LcmState = LcmState.LCM_INIT
    started: int = 0
    ended: int = 0
    deploy_id: str = ""
    user_template: Template = field(default_factory=Template)
    disks: list[Vector] = field(default_factory=list)
    nics: list[Vector] = field(default_factory=list)
    without_network: set[str] = field(default_factory=set)
    rules: list[Vector] = field(default_factory=list)
    context: Vector | None = None
    context_asked: Vector = field(default_factory=dict)
    history: list[HistoryRecord] = field(default_factory=list)
    next_disk: int = 0
    next_nic: int = 0
    epoch: int = 0
    charges: list[Charge] = field(default_factory=list)
    snapshots: dict[int, list[Vector]] = field(default_factory=dict)
    on_hold: bool = False
    when_images_ready: Callable[[VirtualMachine], None] | None = None
    frozen: dict[int, str] = field(default_factory=dict)
    _full: str | None = None
    _short: str | None = None

    kind = Kind.VM

    def changed(self) -> None:
        """Forget what was rendered of this machine."""
        self._full = self._short = None

    def enter(self, state: VmState, lcm_state: LcmState = LcmState.LCM_INIT) -> None:
        """Change the state."""
        self.state, self.lcm_state = state, lcm_state
        self.changed()

    @property
    def state_name(self) -> str:
        """The state as oned spells it in refusals: LCM_STATE while ACTIVE, else STATE."""
        return self.lcm_state.name if self.state is VmState.ACTIVE else self.state.name

    @property
    def cpu(self) -> int:
        """What the machine takes of a host, in hundredths of a CPU."""
        return round(float(self.template.get("CPU", "0")) * 100)

    @property
    def memory(self) -> int:
        """What the machine takes of a host, in KiB."""
        return int(self.template.get("MEMORY", "0")) * 1024

    def disk(self, number: int) -> Vector | None:
        """Return the disk with this DISK_ID, or None."""
        return next((disk for disk in self.disks if disk["DISK_ID"] == str(number)), None)

    def nic(self, number: int) -> Vector | None:
        """Return the NIC with this NIC_ID, or None."""
        return next((nic for nic in self.nics if nic["NIC_ID"] == str(number)), None)

    @property
    def leased_nics(self) -> list[Vector]:
        """The NICs that are on a network; the others are as they were typed."""
        return [nic for nic in self.nics if nic["NIC_ID"] not in self.without_network]

    def image_copied(self) -> None:
        """Go on, or fail, when an image that the machine waits for has been copied."""
        if self.state is VmState.CLONING and self.when_images_ready is not None:
            self.when_images_ready(self)

    def security_groups(self) -> list[int]:
        """Return the numbers of the security groups of all NICs."""
        return sorted({int(g) for nic in self.leased_nics for g in nic.get("SECURITY_GROUPS", "").split(",") if g})

    def taken(self) -> list[Charge]:
        """Return what is counted of the machine in its owner's quotas."""
        return self.charges

    def current_charges(self) -> list[Charge]:
        """Return what the machine takes of its owner's quotas as it is now."""
        if self.state is VmState.DONE:
            return []
        cpu, memory = float(self.template.get("CPU", "0")), float(self.template.get("MEMORY", "0"))
        amounts = {"VMS": 1.0, "CPU": cpu, "MEMORY": memory, "SYSTEM_DISK_SIZE": float(self._system_disk_size())}
        if self.state not in _NOT_RUNNING and (self.modern or self.state is not VmState.HOLD):
            amounts.update(RUNNING_VMS=1.0, RUNNING_CPU=cpu, RUNNING_MEMORY=memory)
        found = [Charge("VM", "", amounts)]
        found += [Charge("NETWORK", nic["NETWORK_ID"], {"LEASES": 1}) for nic in self.leased_nics]
        found += [Charge("IMAGE", disk["IMAGE_ID"], {"RVMS": 1}) for disk in self.disks if "IMAGE_ID" in disk]
        return found

    def _system_disk_size(self) -> int:
        return sum(int(disk.get("SIZE", "0")) for disk in self.disks if disk.get("PERSISTENT") != "YES")

    def record(self, **changes: object) -> None:
        """Change the newest history record."""
        if self.history:
            self.history[-1] = replace(self.history[-1], **changes)  # type: ignore[arg-type]
            self.changed()

    def next_record(self, now: int, action: HistoryAction = HistoryAction.NONE) -> None:
        """Open a history record on the same host, as after a hot-plug or a boot."""
        last = self.history[-1]
        self.history.append(
            HistoryRecord(len(self.history), last.host, last.host_name, last.cluster, now, running=(now, 0))
        )
        self.record(action=action)
        self.freeze()

    def stop_running(self, now: int) -> None:
        """Record when the machine stopped running on its host, which oned does from 6.0 on."""
        if self.modern:
            self.record(running=(self.history[-1].running[0], now))

    def freeze(self) -> None:
        """Keep what accounting shows of the machine in its newest history record."""
        if self.history:
            self.frozen[self.history[-1].sequence] = self._frozen_xml()

    def _frozen_xml(self) -> str:
        return f"<VM>{self._state_xml()}{self._attributes_xml()}{self.user_template.xml('USER_TEMPLATE')}</VM>"

    def _state_xml(self) -> str:
        return (
            f"{self.head()}<LAST_POLL>0</LAST_POLL><STATE>{int(self.state)}</STATE>"
            f"<LCM_STATE>{int(self.lcm_state)}</LCM_STATE><PREV_STATE>{int(self.state)}</PREV_STATE>"
            f"<PREV_LCM_STATE>{int(self.lcm_state)}</PREV_LCM_STATE><RESCHED>0</RESCHED><STIME>{self.started}</STIME>"
            f"<ETIME>{self.ended}</ETIME><DEPLOY_ID>{escape(self.deploy_id)}</DEPLOY_ID>{self.lock_xml()}"
            f"<MONITORING></MONITORING>{'<SCHED_ACTIONS></SCHED_ACTIONS>' if self.modern else ''}"
        )

    def _attributes_xml(self) -> str:
        attributes: list[tuple[str, Value]] = list(self.template)
        attributes += [("DISK", disk) for disk in self.disks]
        attributes += [("NIC", nic) for nic in self.nics]
        attributes += [("SECURITY_GROUP_RULE", rule) for rule in self.rules]
        if self.context is not None:
            attributes.append(("CONTEXT", self.context))
        attributes.sort(key=lambda attribute: attribute[0])
        return f"<TEMPLATE>{''.join(render(*attribute) for attribute in attributes)}</TEMPLATE>"

    def _snapshots_xml(self) -> str:
        parts = []
        for disk, kept in self.snapshots.items():
            each = "".join(f"<SNAPSHOT>{''.join(cdata(k, v) for k, v in sorted(s.items()))}</SNAPSHOT>" for s in kept)
            chain = cdata("ALLOW_ORPHANS", "NO") + cdata("NEXT_SNAPSHOT", len(kept))
            parts.append(f"<SNAPSHOTS>{chain}{cdata('DISK_ID', disk)}{each}</SNAPSHOTS>")
        return "".join(parts)

    def info_xml(self) -> str:
        """Return the element as `one.vm.info` shows it: in full, with all history records."""
        return self.xml() if len(self.history) < _SEVERAL else self._render(self.history)

    def xml(self) -> str:
        """Return the element as `infoextended` and `infoset` show it: of its history, the newest record only."""
        if self._full is None:
            self._full = self._render(self.history[-1:])
        return self._full

    def _render(self, history: list[HistoryRecord]) -> str:
        records = "".join(record.xml(self.id, modern=self.modern) for record in history)
        backups = "<BACKUPS><BACKUP_CONFIG/><BACKUP_IDS></BACKUP_IDS></BACKUPS>" if self.modern else ""
        return (
            f"<VM>{self._state_xml()}{self._attributes_xml()}{self.user_template.xml('USER_TEMPLATE')}"
            f"<HISTORY_RECORDS>{records}</HISTORY_RECORDS>{self._snapshots_xml()}{backups}</VM>"
        )

    def short_xml(self) -> str:
        """Return the element as `one.vmpool.info` shows it since 5.8: no CONTEXT, nothing of USER_TEMPLATE."""
        if self._short is None:
            self._short = self._render_short()
        return self._short

    def _render_short(self) -> str:
        capacity = "".join(
            f"<{name}>{escape(self.template.get(name))}</{name}>"
            for name in ("CPU", "MEMORY", "VCPU")
            if name in self.template or (self.modern and name == "VCPU")
        )
        disks = "".join(_some("DISK", disk, _SHORT_DISK) for disk in self.disks)
        nics = "".join(_some("NIC", {**_NO_NETWORK, **nic}, _SHORT_NIC) for nic in self.nics)
        record = self.history[-1].short_xml(self.id, modern=self.modern) if self.history else ""
        return (
            f"<VM><ID>{self.id}</ID><UID>{self.uid}</UID><GID>{self.gid}</GID><UNAME>{escape(self.uname)}</UNAME>"
            f"<GNAME>{escape(self.gname)}</GNAME><NAME>{escape(self.name)}</NAME><LAST_POLL>0</LAST_POLL>"
            f"<STATE>{int(self.state)}</STATE><LCM_STATE>{int(self.lcm_state)}</LCM_STATE><RESCHED>0</RESCHED>"
            f"<STIME>{self.started}</STIME><ETIME>{self.ended}</ETIME><DEPLOY_ID>{escape(self.deploy_id)}</DEPLOY_ID>"
            f"<TEMPLATE>{capacity}{disks}{nics}</TEMPLATE><MONITORING/><USER_TEMPLATE></USER_TEMPLATE>"
            f"<HISTORY_RECORDS>{record}</HISTORY_RECORDS></VM>"
        )


def _some(name: str, vector: Vector, keys: tuple[str, ...]) -> str:
    return f"<{name}>{''.join(cdata(key, vector[key]) for key in keys if key in vector)}</{name}>"
