"""Virtual networks and reservations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from econed.opennebula.states import NetworkState
from econed.sandbox.objects.address_ranges import AddressRange, Lease, LeaseHolder, make_range
from econed.sandbox.objects.base import Kind, PoolObject, ids_text, ids_xml, parse_ids
from econed.sandbox.template import Template, Vector, cdata

DEFAULT_BRIDGE_TYPE = "linux"


@dataclass(eq=False)
class Network(PoolObject):
    """A virtual network. In 7.x it is LOCK_CREATE at first, without ranges, then READY, or ERROR.

    Until then the AR of the template are those to come. `parent_id` is the network of a reservation, `template_id` the
    template from which it was made. `vm_ids` are the machines connected to the network.
    """

    ranges: list[AddressRange] = field(default_factory=list)
    state: NetworkState = NetworkState.READY
    parent_id: int | None = None
    template_id: int | None = None
    vm_ids: set[int] = field(default_factory=set)
    _next_range_id: int = 0

    kind = Kind.NET

    @property
    def ignores_wide_rules(self) -> bool:
        """Whether it is a reservation, which nobody may USE but by its permissions or a rule that names it."""
        return self.parent_id is not None

    @property
    def bridge_type(self) -> str:
        """The type of the bridge, which 5.12 keeps when an update removes it from the template."""
        return self.template.get("BRIDGE_TYPE", DEFAULT_BRIDGE_TYPE)

    def add_range(self, requested: Vector) -> None:
        """Add the range that an AR vector requests; refuses (8192) an invalid one."""
        self.ranges.append(make_range(self._next_range_id, requested))
        self._next_range_id += 1

    def range(self, range_id: int) -> AddressRange | None:
        """Return the range with this id, or None."""
        return next((address_range for address_range in self.ranges if address_range.id == range_id), None)

    def used_leases(self) -> int:
        """Return the number of leased addresses."""
        return sum(len(address_range.leases) for address_range in self.ranges)

    def become_ready(self, *, is_v7: bool) -> None:
        """Create the ranges of the template and set the state READY; refuses (8192) an invalid range."""
        if is_v7:
            self.add_vlan_attributes()
        for requested in self.template.pop("AR"):
            if isinstance(requested, dict):
                self.add_range(requested)
        self.state = NetworkState.READY

    def add_default_group(self) -> None:
        """Add security group 0, as oned does to every new network and reservation."""
        group_ids = {0, *parse_ids(self.template.get("SECURITY_GROUPS"))}
        self.template.replace("SECURITY_GROUPS", ids_text(group_ids))

    def security_group_ids(self) -> set[int]:
        """Return the ids of the security groups of the network and of its ranges."""
        texts = [self.template.get("SECURITY_GROUPS")]
        texts += [address_range.attributes.get("SECURITY_GROUPS", "") for address_range in self.ranges]
        return {group_id for text in texts for group_id in parse_ids(text)}

    def add_vlan_attributes(self) -> None:
        """Add the VLAN attributes that the template lacks, empty, as oned does when it has looked for VLANs."""
        for name in ("VLAN_ID", "OUTER_VLAN_ID"):
            if name not in self.template:
                self.template.replace(name, "")

    def lease(self, vm_id: int, address: str, *, is_v7: bool) -> tuple[AddressRange, int] | None:
        """Lease `address` to a machine, or any free address if it is empty.

        Returns the range and the index, or None if the address is not free.
        """
        lease = Lease(LeaseHolder.VM, vm_id)
        for address_range in self.ranges:
            if address:
                index = address_range.index(address)
                if index is not None and index not in address_range.leases:
                    address_range.lease(index, lease)
                    return address_range, index
            else:
                index = address_range.lease_next(lease, is_v7=is_v7)
                if index is not None:
                    return address_range, index
        return None

    def has_free(self, address: str) -> bool:
        """Whether `address` is free, or any address if it is empty."""
        if address:
            position = self.locate(address)
            return position is not None and position[1] not in position[0].leases
        return any(len(address_range.leases) < address_range.size for address_range in self.ranges)

    def locate(self, address: str, range_id: str = "") -> tuple[AddressRange, int] | None:
        """Return the range, by default any, and the index of an IP, static IPv6 or MAC address, or None."""
        for address_range in self.ranges:
            index = address_range.index(address) if range_id in ("", str(address_range.id)) else None
            if index is not None:
                return address_range, index
        return None

    def _own_xml(self, *, is_v7: bool) -> str:
        vlan, state, groups = self.template.get("VLAN_ID"), "", ""
        if is_v7:
            previous = 0 if self.state is NetworkState.LOCK_CREATE else int(self.state)
            state = cdata("STATE", int(self.state)) + cdata("PREV_STATE", previous)
            groups = f"{ids_xml('UPDATED_VMS', self.vm_ids)}<OUTDATED_VMS/><UPDATING_VMS/><ERROR_VMS/>"
        parent = str(self.parent_id) if self.parent_id is not None else ""
        template_id = str(self.template_id) if self.template_id is not None else ""
        return (
            f"{self.head()}{self.lock_xml()}{ids_xml('CLUSTERS', self.cluster_ids)}"
            f"{cdata('BRIDGE', self.template.get('BRIDGE'))}"
            f"{cdata('BRIDGE_TYPE', self.bridge_type)}{state}"
            f"<PARENT_NETWORK_ID>{parent}</PARENT_NETWORK_ID>"
            f"{f'<TEMPLATE_ID>{template_id}</TEMPLATE_ID>' if is_v7 else ''}"
            f"{cdata('VN_MAD', self.template.get('VN_MAD'))}{cdata('PHYDEV', self.template.get('PHYDEV'))}"
            f"{cdata('VLAN_ID', vlan)}<OUTER_VLAN_ID/><VLAN_ID_AUTOMATIC>0</VLAN_ID_AUTOMATIC>"
            f"<OUTER_VLAN_ID_AUTOMATIC>0</OUTER_VLAN_ID_AUTOMATIC><USED_LEASES>{self.used_leases()}</USED_LEASES>"
            f"<VROUTERS></VROUTERS>{groups}{self.template.xml()}"
        )

    def xml(self, *, is_v7: bool, is_visible: Callable[[Lease], bool] | None = None) -> str:
        """Return the VNET element, with the leases for which `is_visible` is true; without it, as the pool shows it."""
        ranges = "".join(address_range.xml(is_v7=is_v7, is_visible=is_visible) for address_range in self.ranges)
        return f"<VNET>{self._own_xml(is_v7=is_v7)}<AR_POOL>{ranges}</AR_POOL></VNET>"


def network_template(template: Template, *, has_bridge_type: bool = True) -> Template:
    """Return a network's template with the attributes that oned adds to it; 5.12 adds no BRIDGE_TYPE at updates."""
    template.pop("NAME")
    if has_bridge_type and not template.get("BRIDGE_TYPE"):
        template.replace("BRIDGE_TYPE", DEFAULT_BRIDGE_TYPE)
    if not template.get("PHYDEV"):
        template.replace("PHYDEV", "")
    return template


def is_automatic(nic: Vector) -> bool:
    """Whether the scheduler chooses the network of a NIC."""
    return nic.get("NETWORK_MODE", "").upper() == "AUTO"
