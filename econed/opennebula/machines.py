"""Views of virtual machines (oned's VM documents)."""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Address, IPv6Address

from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.states import LcmState, VmState, state_name
from econed.opennebula.template import decode_member, member_names
from econed.opennebula.values import ipv4, ipv6, mac, whole_number
from econed.opennebula.views import OwnedView, View


class Disk(View):
    """A disk of a machine (VM/TEMPLATE/DISK)."""

    @property
    def disk_id(self) -> int:
        """The number of the disk within its machine, as attach and detach use it."""
        return self._number("DISK_ID")

    @property
    def image_id(self) -> int | None:
        """The image the disk was made from, or is; None for a volatile disk (TYPE fs or swap)."""
        return self._whole("IMAGE_ID")

    @property
    def image(self) -> str:
        """The name of that image when the disk was made."""
        return self._text("IMAGE")

    @property
    def target(self) -> str:
        """The device in the machine (`sda`)."""
        return self._text("TARGET")

    @property
    def size(self) -> int:
        """The size in MB; 0 where oned does not know it yet."""
        return self._whole("SIZE") or 0

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
        """The datastore of its image, or, for a volatile disk, of the machine."""
        return self._whole("DATASTORE_ID")

    @property
    def cluster_ids(self) -> tuple[int, ...]:
        """The clusters whose hosts reach it."""
        return _listed(self._text("CLUSTER_ID"))

    def text(self, name: str) -> str:
        """Return one attribute that is not oned's own, but was given with the disk; empty if there is none."""
        return self._named("", name)

    @cached_property
    def attributes(self) -> Vector:
        """All its attributes."""
        return self._members("")


class Nic(View):
    """A network interface of a machine (VM/TEMPLATE/NIC)."""

    @property
    def nic_id(self) -> int:
        """The number of the interface within its machine."""
        return self._number("NIC_ID")

    @property
    def ip(self) -> IPv4Address | None:
        """The IPv4 address that its network gave it; None where there is none, or it is on no network.

        What an interface on no network says is whatever its user typed. Whether the network still says so, too, only
        its leases tell (`VirtualNetwork.leases_of`).
        """
        return None if self.network_id is None else ipv4(self._text("IP"))

    @property
    def ip6(self) -> IPv6Address | None:
        """The global IPv6 address, as `ip`."""
        return None if self.network_id is None else ipv6(self._text("IP6_GLOBAL") or self._text("IP6"))

    @property
    def mac(self) -> str:
        """The MAC address; empty where there is none."""
        return mac(self._text("MAC"))

    @property
    def network_id(self) -> int | None:
        """The network it is on; None where the scheduler has yet to choose one, or where it is on none."""
        return self._whole("NETWORK_ID")

    @property
    def network(self) -> str:
        """The name of that network; of an interface on no network, what its user typed."""
        return self._text("NETWORK")

    @property
    def security_group_ids(self) -> tuple[int, ...]:
        """The security groups whose rules hold for it."""
        return _listed(self._text("SECURITY_GROUPS"))

    @property
    def is_attaching(self) -> bool:
        """Whether it is being attached or detached right now (ATTACH)."""
        return self._flag("ATTACH")

    @cached_property
    def attributes(self) -> Vector:
        """All its attributes."""
        return self._members("")


class HistoryRecord(View):
    """One stay of a machine on a host (HISTORY_RECORDS/HISTORY). Times are seconds since the epoch, 0 for not yet."""

    @property
    def sequence(self) -> int:
        """The number of the stay, from 0."""
        return self._number("SEQ")

    @property
    def hostname(self) -> str:
        """The host."""
        return self._text("HOSTNAME")

    @property
    def hid(self) -> int:
        """The id of the host."""
        return self._number("HID", -1)

    @property
    def cluster_id(self) -> int:
        """The cluster of the host; -1 for none."""
        return self._number("CID", -1)

    @property
    def stime(self) -> int:
        """When the stay began."""
        return self._number("STIME", 0)

    @property
    def etime(self) -> int:
        """When it ended."""
        return self._number("ETIME", 0)

    @property
    def pstime(self) -> int:
        """When its files began to be brought to the host; 0 where nothing had to be brought."""
        return self._number("PSTIME", 0)

    @property
    def rstime(self) -> int:
        """When the machine was started on the host."""
        return self._number("RSTIME", 0)

    @property
    def retime(self) -> int:
        """When it stopped running there."""
        return self._number("RETIME", 0)

    @property
    def estime(self) -> int:
        """When its files began to be taken from the host."""
        return self._number("ESTIME", 0)

    @property
    def action(self) -> int:
        """The number of the action that ended the stay; 0 for none."""
        return self._number("ACTION", 0)


class VirtualMachine(OwnedView):
    """A virtual machine. Times are seconds since the epoch.

    The short form of the pool (`one.vmpool.info`) has an empty USER_TEMPLATE and no CONTEXT: only ids and states are
    to be taken from it.
    """

    @property
    def state(self) -> VmState:
        """What has become of it on the whole."""
        return VmState(self._number("STATE"))

    @property
    def lcm_state(self) -> LcmState:
        """What happens to it while it is ACTIVE."""
        return LcmState(self._number("LCM_STATE"))

    @property
    def state_name(self) -> str:
        """The one name for how it is, as OpenNebula's tools show it."""
        return state_name(self.state, self.lcm_state)

    @property
    def stime(self) -> int:
        """When it was created."""
        return self._number("STIME")

    @property
    def etime(self) -> int:
        """When it ended (DONE); 0 while it has not."""
        return self._number("ETIME", 0)

    @property
    def deploy_id(self) -> str:
        """What the hypervisor calls it; empty until it was deployed."""
        return self._text("DEPLOY_ID")

    @property
    def boots_with_uefi(self) -> bool:
        """Whether its firmware is UEFI: OS/FIRMWARE is UEFI, or a file of it; without one, or BIOS, it is not."""
        return self._text("TEMPLATE/OS/FIRMWARE").upper() not in ("", "BIOS")

    @property
    def template_id(self) -> int | None:
        """The template it was made from; None if it was made without one."""
        return self._whole("TEMPLATE/TEMPLATE_ID")

    def template_text(self, name: str) -> str:
        """Return one attribute of its TEMPLATE (CPU, VCPU, MEMORY, …); empty if there is none."""
        return self._named("TEMPLATE", name)

    @cached_property
    def disks(self) -> tuple[Disk, ...]:
        """Its disks, in oned's order. The CONTEXT image is none of them."""
        return tuple(Disk(each, self._on_read, self._below("TEMPLATE/DISK")) for each in self._all("TEMPLATE/DISK"))

    @cached_property
    def nics(self) -> tuple[Nic, ...]:
        """Its network interfaces, in oned's order."""
        return tuple(Nic(each, self._on_read, self._below("TEMPLATE/NIC")) for each in self._all("TEMPLATE/NIC"))

    @cached_property
    def context(self) -> Vector:
        """What the machine is told at boot, variables expanded, oned's own (ETH0_…) among it."""
        return self._members("TEMPLATE/CONTEXT")

    def context_text(self, name: str) -> str:
        """Return one member of CONTEXT; empty if there is none."""
        return self._named("TEMPLATE/CONTEXT", name)

    def decoded_context_text(self, name: str) -> str | None:
        """Return a text that `encode_member` put into CONTEXT; None if there is none."""
        return decode_member({each: text for each in member_names(name) if (text := self.context_text(each))}, name)

    @cached_property
    def user_template(self) -> Attributes:
        """The free attributes: what is not oned's own to know."""
        return self._attributes("USER_TEMPLATE")

    @property
    def sched_message(self) -> str:
        """Why the scheduler found no place for it; empty otherwise."""
        return self._text("USER_TEMPLATE/SCHED_MESSAGE")

    @property
    def error(self) -> str:
        """What a driver said when something failed; empty otherwise. It may be of some time ago."""
        return self._text("USER_TEMPLATE/ERROR")

    @cached_property
    def history(self) -> tuple[HistoryRecord, ...]:
        """Its stays on hosts, oldest first. Pools give the last one only."""
        path = "HISTORY_RECORDS/HISTORY"
        return tuple(HistoryRecord(each, self._on_read, self._below(path)) for each in self._all(path))

    @property
    def last_record(self) -> HistoryRecord | None:
        """The newest record; None if it was never on a host."""
        return self.history[-1] if self.history else None

    @property
    def hostname(self) -> str:
        """The host it is on, or was on last; empty if it never had one."""
        return self.history[-1].hostname if self.history else ""

    @property
    def hid(self) -> int | None:
        """The id of that host."""
        return self.history[-1].hid if self.history else None

    @property
    def cluster_id(self) -> int | None:
        """The cluster of that host; None if it never had one."""
        return self.history[-1].cluster_id if self.history and self.history[-1].cluster_id >= 0 else None

    @property
    def security_group_names(self) -> dict[int, str]:
        """The names of the security groups whose rules hold for it, by id."""
        path = "TEMPLATE/SECURITY_GROUP_RULE"
        rules = [SecurityGroupRule(each, self._on_read, self._below(path)) for each in self._all(path)]
        return {rule.group_id: rule.group_name for rule in rules if rule.group_id is not None}


class SecurityGroupRule(View):
    """A rule that holds for a machine (VM/TEMPLATE/SECURITY_GROUP_RULE)."""

    @property
    def group_id(self) -> int | None:
        """The security group it comes from."""
        return self._whole("SECURITY_GROUP_ID")

    @property
    def group_name(self) -> str:
        """The name of that group when the rule was applied."""
        return self._text("SECURITY_GROUP_NAME")


def _listed(text: str) -> tuple[int, ...]:
    """Return the ids in a text with commas between."""
    numbers = (whole_number(each.strip()) for each in text.split(","))
    return tuple(number for number in numbers if number is not None)
