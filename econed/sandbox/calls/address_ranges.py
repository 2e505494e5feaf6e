"""The calls on the address ranges of virtual networks."""

from __future__ import annotations

from econed.sandbox.calls.declaration import serves
from econed.sandbox.calls.network_restrictions import check_vlans, first_restricted_of_ranges, permitted_attributes
from econed.sandbox.calls.reservations import get_ready
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.address_ranges import AddressRange
from econed.sandbox.objects.base import Right
from econed.sandbox.objects.networks import Network
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal, unauthorized
from econed.sandbox.template import Template, Vector


class AddressRangeCalls:
    """`one.vn.add_ar`, `update_ar`, `rm_ar`."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vn.add_ar", int, str)
    def add_ar(self, caller: User, network_id: int, text: str) -> int:
        """Add address ranges."""
        cloud = self._cloud
        network = get_ready(cloud, caller, network_id, self._right_to_ranges(network_id))
        requested_ranges = self._requested_ranges(caller, text)
        attribute = first_restricted_of_ranges(cloud.version, requested_ranges)
        if attribute and not caller.is_oneadmin:
            raise unauthorized(f"User [{caller.id}] : AR includes a restricted attribute {attribute}")
        for requested in requested_ranges:
            network.add_range(requested)
        return network_id

    def _right_to_ranges(self, network_id: int) -> Right:
        """Return the right that adding and removing ranges takes; in 7.x MANAGE is enough if made from a template."""
        network = self._cloud.networks.get(network_id)
        return Right.ADMIN if network.template_id is None or not self._cloud.version.is_v7 else Right.MANAGE

    def _requested_ranges(self, caller: User, text: str) -> list[Vector]:
        template = self._cloud.parse(text)
        check_vlans(self._cloud, caller, template)
        requested = template.vectors("AR")
        if not requested:
            raise internal("Wrong AR definition. AR attribute is not defined.")
        return requested

    @serves("one.vn.update_ar", int, str)
    def update_ar(self, caller: User, network_id: int, text: str) -> int:
        """Replace the attributes of ranges that users may set, and SIZE; the addresses stay."""
        network = get_ready(self._cloud, caller, network_id, Right.MANAGE)
        for requested in self._requested_ranges(caller, text):
            address_range = _range(network, requested.get("AR_ID", ""))
            attributes = permitted_attributes(self._cloud.version, caller, address_range, requested)
            size = self._size(address_range, requested.get("SIZE", ""))
            if Template([("AR", requested)]).stored() is not None:
                address_range.replace_attributes(attributes, is_v7=self._cloud.version.is_v7)
                address_range.size = size
        return network_id

    def _size(self, address_range: AddressRange, requested: str) -> int:
        """Return the size of a range after an update; refuses (8192) what leases or a reservation do not allow."""
        if not requested.isdigit():
            if requested and self._cloud.version.is_v7:
                raise internal("Unable to read the SIZE attribute, it must be number >= 0")
            return address_range.size
        size = int(requested)
        if address_range.parent_id is not None and size != address_range.size:
            raise internal("The SIZE of a reservation cannot be changed.")
        if size <= max(address_range.leases, default=-1):
            raise internal("New SIZE cannot be applied. There are used leases that would fall outside the range.")
        return size

    @serves("one.vn.rm_ar", int, int, optional=(bool,))
    def rm_ar(self, caller: User, network_id: int, range_id: int, _force: bool = False) -> int:
        """Delete a range without leases."""
        network = get_ready(self._cloud, caller, network_id, self._right_to_ranges(network_id))
        address_range = _range(network, str(range_id))
        if address_range.leases:
            raise internal("Address Range has leases in use.")
        network.ranges.remove(address_range)
        return network_id


def _range(network: Network, range_id: str) -> AddressRange:
    address_range = network.range(int(range_id)) if range_id.isdigit() else None
    if address_range is None:
        raise internal(f"Address Range with ID {range_id} was not found.")
    return address_range
