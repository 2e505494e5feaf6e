"""The history records of virtual machines."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from xml.sax.saxutils import escape

from econed.sandbox.template import cdata


class HistoryAction(IntEnum):
    """The actions that history records name, by oned's numbers (oned: VMActions.h)."""

    NONE = 0
    UNDEPLOY = 5
    UNDEPLOY_HARD = 6
    HOLD = 7
    RELEASE = 8
    STOP = 9
    SUSPEND = 10
    RESUME = 11
    DELETE = 13
    REBOOT = 15
    REBOOT_HARD = 16
    RESCHED = 17
    UNRESCHED = 18
    POWEROFF = 19
    POWEROFF_HARD = 20
    DISK_ATTACH = 21
    DISK_DETACH = 22
    NIC_ATTACH = 23
    NIC_DETACH = 24
    DISK_SNAPSHOT_CREATE = 25
    DISK_SNAPSHOT_DELETE = 26
    TERMINATE = 27
    TERMINATE_HARD = 28
    DISK_RESIZE = 29
    RESIZE = 35
    DISK_SNAPSHOT_REVERT = 41
    MONITOR = 44
    ALIAS_ATTACH = 46
    ALIAS_DETACH = 47


@dataclass(frozen=True)
class HistoryRecord:
    """A period of a machine's history: its host, begin and end in epoch seconds, and the action that ended it.

    `prolog`, `running` and `epilog` are pairs of begin and end. `by` is the user and group who requested the action.
    """

    sequence: int
    host_id: int
    host_name: str
    cluster_id: int
    started: int
    ended: int = 0
    prolog: tuple[int, int] = (0, 0)
    running: tuple[int, int] = (0, 0)
    epilog: tuple[int, int] = (0, 0)
    action: HistoryAction = HistoryAction.NONE
    by: tuple[int, int] = (-1, -1)

    def xml(self, machine_id: int, *, is_v7: bool, vm_element: str = "") -> str:
        """Return the HISTORY element; `vm_element` is the VM element in it, which only accounting has."""
        request = 0 if self.by[0] >= 0 else -1
        plan = "<PLAN_ID>-1</PLAN_ID><ACTION_ID>0</ACTION_ID>" if is_v7 else ""
        return (
            f"<HISTORY><OID>{machine_id}</OID><SEQ>{self.sequence}</SEQ><HOSTNAME>{escape(self.host_name)}</HOSTNAME>"
            f"<HID>{self.host_id}</HID><CID>{self.cluster_id}</CID><STIME>{self.started}</STIME><ETIME>{self.ended}</ETIME>"
            f"{cdata('VM_MAD', 'dummy')}{cdata('TM_MAD', 'dummy')}<DS_ID>0</DS_ID>{plan}"
            f"<PSTIME>{self.prolog[0]}</PSTIME><PETIME>{self.prolog[1]}</PETIME>"
            f"<RSTIME>{self.running[0]}</RSTIME><RETIME>{self.running[1]}</RETIME>"
            f"<ESTIME>{self.epilog[0]}</ESTIME><EETIME>{self.epilog[1]}</EETIME><ACTION>{int(self.action)}</ACTION>"
            f"<UID>{self.by[0]}</UID><GID>{self.by[1]}</GID><REQUEST_ID>{request}</REQUEST_ID>{vm_element}</HISTORY>"
        )

    def short_xml(self, machine_id: int, *, is_v7: bool) -> str:
        """Return the HISTORY element in the short form of the machine pool."""
        drivers = f"{cdata('VM_MAD', 'dummy')}{cdata('TM_MAD', 'dummy')}" if is_v7 else ""
        return (
            f"<HISTORY><OID>{machine_id}</OID><SEQ>{self.sequence}</SEQ>{cdata('HOSTNAME', self.host_name)}"
            f"<HID>{self.host_id}</HID><CID>{self.cluster_id}</CID><DS_ID>0</DS_ID>{drivers}"
            f"{cdata('ACTION', int(self.action))}</HISTORY>"
        )
