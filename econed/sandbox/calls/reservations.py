"""The calls that reserve addresses of a virtual network, as a network of the caller, and that give them back.

In 7.x a reservation has its addresses at once, but it is READY, as other new networks, after a delay.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from econed.opennebula.states import NetworkState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.calls.network_allocation import free_name
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.address_ranges import AddressRange, Lease, LeaseHolder
from econed.sandbox.objects.base import Right
from econed.sandbox.objects.networks import Network
from econed.sandbox.objects.users import User
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import did_not_complete, internal, wrong_state
from econed.sandbox.template import Template


def get_ready(cloud: Cloud, caller: User, network_id: int, right: Right) -> Network:
    """Return a network on which the caller has `right`; refuses (2048) one that is not READY."""
    network = cloud.get_authorized(caller, right, cloud.networks, network_id)
    if network.state is not NetworkState.READY:
        raise wrong_state(f"Virtual Network is in wrong state: {network.state.name}")
    return network


class ReservationCalls:
    """`one.vn.reserve`, `one.vn.free_ar`. A reservation is a network with a parent, and has ranges of it."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vn.reserve", int, str)
    def reserve(self, caller: User, network_id: int, text: str) -> int:
        """Reserve addresses of a network as a new network, or with NETWORK_ID as a further range of a reservation."""
        cloud = self._cloud
        requested = cloud.parse(text)
        size = _size(requested)
        target_id = requested.get("NETWORK_ID")
        if not target_id and not requested.get("NAME"):
            raise wrong_state("NAME for reservation has to be set")
        if requested.get("IP") and not requested.get("AR_ID"):
            raise wrong_state("AR_ID must be specified for IP/MAC based reservations")
        if cloud.networks.get(network_id).parent_id is not None:
            raise wrong_state("Cannot reserve addresses from a reserved VNET")
        parent = cloud.get_authorized(caller, Right.USE, cloud.networks, network_id)
        if target_id:
            reservation = self._existing(caller, parent, int(target_id) if target_id.isdigit() else -1)
        else:
            reservation = self._new(caller, parent, free_name(cloud, caller.id, requested.get("NAME")))
        charge = Charge("NETWORK", str(parent.id), {"LEASES": size})
        cloud.charge(caller, caller.gid, [charge])
        if not _take(parent, reservation, requested, size, is_v7=cloud.version.is_v7):
            cloud.count_usage(caller.id, caller.gid, [charge], -1)
            raise wrong_state(_not_enough(requested.get("AR_ID")))
        if not target_id:
            cloud.networks.add(reservation)
            cloud.call_later(cloud.delays.network, partial(_make_ready, reservation))
        return reservation.id

    def _existing(self, caller: User, parent: Network, target_id: int) -> Network:
        """Return the reservation of the caller to which addresses are added.

        5.12 ends if the caller may not manage it, so that no reply comes; the sandbox replies with a fault.
        """
        cloud = self._cloud
        target = cloud.networks.get(target_id)
        if not cloud.version.is_v7 and not cloud.rights.allows(caller, Right.MANAGE, target.kind, target):
            raise did_not_complete()
        cloud.rights.check(caller, Right.MANAGE, target.kind, target)
        if target.parent_id != parent.id:
            raise wrong_state(f"Cannot reserve addresses of network {parent.id} in network {target.id}")
        return target

    def _new(self, caller: User, parent: Network, name: str) -> Network:
        new_id = self._cloud.networks.allocate_id()
        reservation = Network(new_id, caller.id, caller.gid, caller.name, caller.gname, name, parent_id=parent.id)
        reservation.template, reservation.cluster_ids = parent.template.copy(), set(parent.cluster_ids)
        reservation.add_default_group()
        if self._cloud.version.is_v7:
            reservation.state = NetworkState.LOCK_CREATE
        return reservation

    @serves("one.vn.free_ar", int, int)
    def free_ar(self, caller: User, network_id: int, range_id: int) -> int:
        """Give a range of a reservation, which has no leases, back to the parent network."""
        cloud = self._cloud
        reservation = get_ready(cloud, caller, network_id, Right.MANAGE)
        if reservation.parent_id is None:
            raise wrong_state("Only addresses of a reservation can be freed")
        address_range = reservation.range(range_id)
        if address_range is None:
            raise internal("Address Range does not exist")
        if address_range.leases:
            raise internal("Address Range has leases in use.")
        reservation.ranges.remove(address_range)
        parent = cloud.networks.find(reservation.parent_id)
        if parent is not None:
            _give_back(parent, reservation.id, [address_range])
            _discharge(cloud, reservation, parent, address_range.size)
        return network_id


def _make_ready(reservation: Network) -> None:
    reservation.state = NetworkState.READY


def release_reservation(cloud: Cloud, reservation: Network) -> None:
    """Release the addresses of a deleted reservation in its parent; nothing if it is none."""
    parent = cloud.networks.find(reservation.parent_id) if reservation.parent_id is not None else None
    if parent is not None:
        _give_back(parent, reservation.id, reservation.ranges)


def discharge_reservation(cloud: Cloud, reservation: Network) -> None:
    """Take the addresses of a reservation that is deleted off its owner's quota; nothing if it is none."""
    parent = cloud.networks.find(reservation.parent_id) if reservation.parent_id is not None else None
    if parent is not None:
        _discharge(cloud, reservation, parent, sum(address_range.size for address_range in reservation.ranges))


def _size(requested: Template) -> int:
    size = requested.get("SIZE")
    if not size.isdigit() or int(size) < 1:
        raise wrong_state("Reservation SIZE must be a greater than 0")
    return int(size)


def _not_enough(range_id: str) -> str:
    if range_id:
        return f"Not enough free addresses in address range {range_id}, or it does not exist"
    return "Not enough free addresses in an address range"


def _take(parent: Network, reservation: Network, requested: Template, size: int, *, is_v7: bool) -> bool:
    """Lease addresses of a parent's range to a reservation, and add them to it as a range; False if none are free."""
    address, range_id = requested.get("IP"), requested.get("AR_ID")
    lease = Lease(LeaseHolder.NETWORK, reservation.id)
    for source in parent.ranges:
        if range_id not in ("", str(source.id)):
            continue
        if address:
            index = source.lease_from(address, size, lease)
        else:
            index = source.lease_consecutive(size, lease, is_v7=is_v7)
        if index is not None:
            addresses = source.addresses(index)
            reservation.add_range({"TYPE": source.type, "SIZE": str(size), **addresses, **source.attributes})
            reservation.ranges[-1].parent_id = source.id
            return True
    return False


def _give_back(parent: Network, reservation_id: int, ranges: Iterable[AddressRange]) -> None:
    """Release the addresses of a reservation's ranges in the parent's ranges that they are from."""
    lease = Lease(LeaseHolder.NETWORK, reservation_id)
    for address_range in ranges:
        source = parent.range(address_range.parent_id) if address_range.parent_id is not None else None
        first = source.index(address_range.addresses(0)["MAC"]) if source is not None else None
        if source is None or first is None:
            continue
        for index in range(first, min(first + address_range.size, source.size)):
            if source.leases.get(index) == lease:
                source.release(index)


def _discharge(cloud: Cloud, reservation: Network, parent: Network, size: int) -> None:
    charge = Charge("NETWORK", str(parent.id), {"LEASES": size})
    cloud.count_usage(reservation.uid, reservation.gid, [charge], -1)
