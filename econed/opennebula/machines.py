"""Views of virtual machines (oned's VM documents)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.states import LcmState, VmState, state_name
from econed.opennebula.template import decode_member, member_names
from econed.opennebula.values import ids_in, ipv4, ipv6, mac
from econed.opennebula.views import OnRead, OwnedView, View

if TYPE_CHECKING:
    from lxml.etree import _Element


class Disk(View):
    """A disk of a machine (VM/TEMPLATE/DISK)."""

    @property
    def disk_id(self) -> int:
        """The id of the disk within its machine, as attach and detach take it."""
        return self._number("DISK_ID")

    @property
    def image_id(self) -> int | None:
        """The id of the image that the disk is or was copied from; None for a volatile disk (TYPE fs or swap)."""
        return self._user_number("IMAGE_ID")

    @property
    def image(self) -> str:
        """The name of that image when the disk was created."""
        return self._text("IMAGE")

    @property
    def target(self) -> str:
        """The device in the machine (`sda`)."""
        return self._text("TARGET")

    @property
    def size(self) -> int:
        """The size in MB; 0 where oned does not know it yet."""
        return self._user_number("SIZE") or 0

    @property
    def type(self) -> str:
        """FILE, BLOCK, CDROM, RBD, …; `fs` or `swap` for a volatile disk."""
        return self._text("TYPE")

    @property
    def is_persistent(self) -> bool:
        """Whether the disk is the image itself, not a copy of it."""
        return self._flag("PERSISTENT")

    @property
    def is_cloned(self) -> bool:
        """Whether the disk is a copy of its image."""
        return self._flag("CLONE")

    @property
    def is_read_only(self) -> bool:
        """Whether the machine can only read it."""
        return self._flag("READONLY")

    @property
    def is_attaching(self) -> bool:
        """Whether it is being attached or detached right now (ATTACH)."""
        return self._flag("ATTACH")

    @property
    def datastore_id(self) -> int | None:
        """The id of the datastore of its image or, for a volatile disk, of the machine."""
        return self._user_number("DATASTORE_ID")

    @property
    def cluster_ids(self) -> tuple[int, ...]:
        """The ids of the clusters whose hosts can access it."""
        return ids_in(self._text("CLUSTER_ID"))

    def text(self, name: str) -> str:
        """Return an attribute that was sent with the disk and is not oned's own; empty if there is none."""
        return self._named("", name)

    @cached_property
    def attributes(self) -> Vector:
        """All its attributes."""
        return self._members("")


class Nic(View):
    """A network interface of a machine (VM/TEMPLATE/NIC)."""

    @property
    def nic_id(self) -> int:
        """The id of the interface within its machine."""
        return self._number("NIC_ID")

    @cached_property
    def ip(self) -> IPv4Address | None:
        """The IPv4 address from its network; None where there is none, or the interface has no network.

        The addresses of an interface without a network are texts that its user wrote. Whether the network still leases
        the address to the machine is known only from the network's leases (`VirtualNetwork.leases_of`).
        """
        return None if self.network_id is None else ipv4(self._text("IP"))

    @cached_property
    def ip6(self) -> IPv6Address | None:
        """The global IPv6 address, under the same conditions as `ip`."""
        return None if self.network_id is None else ipv6(self._text("IP6_GLOBAL") or self._text("IP6"))

    @property
    def mac(self) -> str:
        """The MAC address; empty where there is none."""
        return mac(self._text("MAC"))

    @cached_property
    def network_id(self) -> int | None:
        """The id of its network; None where it has none, or the scheduler has not chosen one yet."""
        return self._user_number("NETWORK_ID")

    @property
    def parent_network_id(self) -> int | None:
        """The id of the network from which its network was reserved; None if that is no reservation."""
        return self._user_number("PARENT_NETWORK_ID")

    @property
    def network(self) -> str:
        """The name of its network; for an interface without a network, any text that its user wrote."""
        return self._text("NETWORK")

    @property
    def security_group_ids(self) -> tuple[int, ...]:
        """The ids of the security groups whose rules apply to it."""
        return ids_in(self._text("SECURITY_GROUPS"))

    @property
    def is_attaching(self) -> bool:
        """Whether it is being attached or detached right now (ATTACH)."""
        return self._flag("ATTACH")

    def text(self, name: str) -> str:
        """Return an attribute that was sent with the NIC and is not oned's own; empty if there is none."""
        return self._named("", name)

    @cached_property
    def attributes(self) -> Vector:
        """All its attributes."""
        return self._members("")


class HistoryRecord(View):
    """A period of a machine on a host (HISTORY_RECORDS/HISTORY). Times are seconds since the epoch, 0 for not yet."""

    @property
    def sequence(self) -> int:
        """The sequence number of the record, from 0."""
        return self._number("SEQ")

    @property
    def hostname(self) -> str:
        """The name of the host."""
        return self._text("HOSTNAME")

    @property
    def hid(self) -> int:
        """The id of the host."""
        return self._number("HID", -1)

    @property
    def cluster_id(self) -> int:
        """The id of the host's cluster; -1 for none."""
        return self._number("CID", -1)

    @property
    def stime(self) -> int:
        """When the period began."""
        return self._number("STIME", 0)

    @property
    def etime(self) -> int:
        """When the period ended."""
        return self._number("ETIME", 0)

    @property
    def pstime(self) -> int:
        """When the transfer of its files to the host began (prolog); 0 where no transfer was needed."""
        return self._number("PSTIME", 0)

    @property
    def rstime(self) -> int:
        """When the machine was started on the host."""
        return self._number("RSTIME", 0)

    @property
    def retime(self) -> int:
        """When the machine stopped running on the host."""
        return self._number("RETIME", 0)

    @property
    def estime(self) -> int:
        """When the transfer of its files from the host began (epilog)."""
        return self._number("ESTIME", 0)

    @property
    def action(self) -> int:
        """The number of the action that ended the period; 0 for none."""
        return self._number("ACTION", 0)


class VirtualMachine(OwnedView):
    """A virtual machine. Times are seconds since the epoch.

    The short form in the pool (`one.vmpool.info`) has an empty USER_TEMPLATE and no CONTEXT: use only ids and states
    of it.
    """

    def __init__(
        self, element: _Element, on_read: OnRead | None = None, path: str | None = None, *, fingerprint: bytes = b""
    ) -> None:
        """`fingerprint` identifies the bytes of its document (`econed.opennebula.unchanged_machines`)."""
        super().__init__(element, on_read, path)
        self.fingerprint = fingerprint

    @cached_property
    def state(self) -> VmState:
        """The main state."""
        return VmState(self._number("STATE"))

    @cached_property
    def lcm_state(self) -> LcmState:
        """The state within ACTIVE."""
        return LcmState(self._number("LCM_STATE"))

    @property
    def state_name(self) -> str:
        """The name of its state as OpenNebula's tools show it."""
        return state_name(self.state, self.lcm_state)

    @cached_property
    def stime(self) -> int:
        """When it was created."""
        return self._number("STIME")

    @property
    def etime(self) -> int:
        """When it became DONE; 0 before."""
        return self._number("ETIME", 0)

    @property
    def deploy_id(self) -> str:
        """The hypervisor's name for it; empty until it was deployed."""
        return self._text("DEPLOY_ID")

    @property
    def boots_with_uefi(self) -> bool:
        """Whether its firmware is UEFI: OS/FIRMWARE is UEFI or the path of UEFI firmware, neither missing nor BIOS."""
        return self._text("TEMPLATE/OS/FIRMWARE").upper() not in ("", "BIOS")

    @property
    def vm_group_name(self) -> str:
        """The name of its VM group, as it was sent with the machine; empty if it is in none, or named it by id."""
        return self._text("TEMPLATE/VMGROUP/VMGROUP_NAME")

    @property
    def template_id(self) -> int | None:
        """The id of the template it was created from; None if there was none."""
        return self._user_number("TEMPLATE/TEMPLATE_ID")

    def template_text(self, name: str) -> str:
        """Return an attribute of its TEMPLATE (CPU, VCPU, MEMORY, …); empty if there is none."""
        return self._named("TEMPLATE", name)

    @cached_property
    def disks(self) -> tuple[Disk, ...]:
        """Its disks, in oned's order, without the CONTEXT image."""
        return self._views(Disk, "TEMPLATE/DISK")

    @cached_property
    def nics(self) -> tuple[Nic, ...]:
        """Its network interfaces, in oned's order."""
        return self._views(Nic, "TEMPLATE/NIC")

    @cached_property
    def context(self) -> Vector:
        """The CONTEXT that the machine reads at boot, variables expanded, oned's own members (ETH0_…) included."""
        return self._members("TEMPLATE/CONTEXT")

    def context_text(self, name: str) -> str:
        """Return a member of CONTEXT; empty if there is none."""
        return self._few("TEMPLATE/CONTEXT", name).get(name, "")

    def decoded_context_text(self, name: str) -> str | None:
        """Return a member of CONTEXT that `encode_member` encoded; None if there is none."""
        return decode_member(self._few("TEMPLATE/CONTEXT", *member_names(name)), name)

    @cached_property
    def user_template(self) -> Attributes:
        """The free attributes, which have no meaning to oned."""
        return self._attributes("USER_TEMPLATE")

    def attribute(self, name: str) -> str:
        """Return the text of the free attribute `name`, empty if there is none; the others are not read."""
        return self._few("USER_TEMPLATE", name).get(name, "")

    def is_marked(self, name: str) -> bool:
        """Whether it has the free attribute `name`; the others are not read, which matters for many machines."""
        return self._has("USER_TEMPLATE", name)

    @property
    def sched_message(self) -> str:
        """Why the scheduler found no host for it; empty otherwise."""
        return self._few("USER_TEMPLATE", "SCHED_MESSAGE").get("SCHED_MESSAGE", "")

    @property
    def error(self) -> str:
        """The message of the last driver error, which may be old; empty if there was none."""
        return self._few("USER_TEMPLATE", "ERROR").get("ERROR", "")

    @cached_property
    def history(self) -> tuple[HistoryRecord, ...]:
        """Its history records, oldest first. Pools have only the last record."""
        return self._views(HistoryRecord, "HISTORY_RECORDS/HISTORY")

    @property
    def last_record(self) -> HistoryRecord | None:
        """The newest history record; None if it was never on a host."""
        return self.history[-1] if self.history else None

    @property
    def hostname(self) -> str:
        """The name of its current or last host; empty if it was never on a host."""
        return self.history[-1].hostname if self.history else ""

    @property
    def hid(self) -> int | None:
        """The id of its current or last host; None if it was never on a host."""
        return self.history[-1].hid if self.history else None

    @property
    def cluster_id(self) -> int | None:
        """The id of that host's cluster; None if it was never on a host, or the host has no cluster."""
        cluster_id = self.last_record.cluster_id if self.last_record is not None else -1
        return cluster_id if cluster_id >= 0 else None

    @cached_property
    def security_group_names(self) -> Mapping[int, str]:
        """The names of the security groups whose rules apply to it, by id."""
        rules = self._views(SecurityGroupRule, "TEMPLATE/SECURITY_GROUP_RULE")
        return {rule.group_id: rule.group_name for rule in rules if rule.group_id is not None}


class SecurityGroupRule(View):
    """A security group rule that applies to a machine (VM/TEMPLATE/SECURITY_GROUP_RULE)."""

    @property
    def group_id(self) -> int | None:
        """The id of the security group that it belongs to."""
        return self._user_number("SECURITY_GROUP_ID")

    @property
    def group_name(self) -> str:
        """The name of that group when the rule was applied."""
        return self._text("SECURITY_GROUP_NAME")
