"""The calls on virtual networks."""

from __future__ import annotations

from functools import partial

from econed.sandbox.calls.declaration import serves
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.base import Kind, Right, demand_name
from econed.sandbox.objects.networks import (
    HELD,
    LOCK_CREATE,
    READY,
    AddressRange,
    Holder,
    Lease,
    Network,
    free_attributes,
    network_template,
)
from econed.sandbox.objects.pools import page
from econed.sandbox.objects.users import User
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import internal, not_allocated, wrong_state
from econed.sandbox.template import Template, Vector, restricted_attributes

_RESTRICTED = restricted_attributes(
    *("VN_MAD", "PHYDEV", "BRIDGE", "CONF", "BRIDGE_CONF", "OVS_BRIDGE_CONF", "IP_LINK_CONF", "FILTER"),
    *("FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING", "CLUSTER_IDS", "EXTERNAL"),
    *("AR/VN_MAD", "AR/PHYDEV", "AR/BRIDGE", "AR/FILTER", "AR/FILTER_IP_SPOOFING", "AR/FILTER_MAC_SPOOFING"),
)
_NOT_FREE = "Address is not part of the address range or in use."


class NetworkCalls:
    """`one.vn.*`, `one.vnpool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vn.allocate", str, optional=(int,))
    def allocate(self, caller: User, text: str, cluster: int = 0) -> int:
        """Make a network in a cluster; 7.x needs a moment until it is READY."""
        cloud = self._cloud
        template = self._cloud.read(text)
        cloud.rights.demand(caller, Right.CREATE, Kind.NET, None)
        where = cloud.demand(caller, Right.ADMIN, cloud.clusters, max(cluster, 0))
        name = self._free_name(caller.id, template.get("NAME"))
        if not template.get("VN_MAD"):
            raise internal("No VN_MAD in template for Virtual Network.")
        network = Network(
            cloud.networks.take_id(), caller.id, caller.gid, caller.name, caller.gname, name, clusters={where.id}
        )
        network.template = network_template(template)
        cloud.networks.put(network)
        ready = partial(network.become_ready, modern=cloud.version.modern)
        if cloud.version.modern:
            network.state = LOCK_CREATE
            cloud.later(cloud.delays.network, ready)
        else:
            ready()
        return network.id

    def _free_name(self, uid: int, name: str) -> str:
        taken = next((net for net in self._cloud.networks if (net.uid, net.name) == (uid, name)), None)
        if taken:
            raise internal(f"NAME is already taken by NET {taken.id}.")
        return demand_name(name)

    def _seen_vms(self, caller: User, network: Network) -> set[int]:
        rights, vms = self._cloud.rights, self._cloud.vms
        found = (vms.find(number) for number in network.vms)
        return {vm.id for vm in found if vm and rights.may(caller, Right.USE, Kind.VM, vm, locks=False)}

    @serves("one.vn.info", int, optional=(bool,))
    def info(self, caller: User, number: int, _decrypt: bool = False) -> str:
        """Show a network with the leases of the machines and networks that the caller may see."""
        network = self._cloud.demand(caller, Right.USE, self._cloud.networks, number, locks=False)
        vms = self._seen_vms(caller, network)
        rights, networks = self._cloud.rights, self._cloud.networks

        def shown(lease: Lease) -> bool:
            if caller.is_oneadmin:
                return True
            if lease.holder is Holder.VM:
                return lease.number in vms
            child = networks.find(lease.number)
            return child is not None and rights.may(caller, Right.USE, Kind.NET, child, locks=False)

        return network.xml(modern=self._cloud.version.modern, vms=vms, shown=shown)

    @serves("one.vnpool.info", int, int, int)
    def pool(self, caller: User, flag: int, start: int, end: int) -> str:
        """Show networks, without leases. Rules for all networks show no reservations."""
        cloud, modern = self._cloud, self._cloud.version.modern
        plain = [net for net in cloud.networks if net.parent is None]
        reserved = [net for net in cloud.networks if net.parent is not None]
        networks = cloud.visible(caller, plain, Kind.NET, flag)
        networks += cloud.visible(caller, reserved, Kind.NET, flag, narrowly=True)
        networks.sort(key=lambda net: -net.id)
        each = (net.xml(modern=modern, vms=set(net.vms)) for net in page(networks, start, end))
        return f"<VNET_POOL>{''.join(each)}</VNET_POOL>"

    def _ready(self, caller: User, number: int, right: Right = Right.MANAGE) -> Network:
        network = self._cloud.demand(caller, right, self._cloud.networks, number)
        if network.state != READY:
            raise wrong_state("Action not available for Virtual Network in state LOCK_CREATE")
        return network

    @serves("one.vn.update", int, str, optional=(int,))
    def update(self, caller: User, number: int, text: str, append: int = 0) -> int:
        """Replace a network's attributes (0), or merge into them (1); ranges have calls of their own."""
        network = self._ready(caller, number)
        held = network.template
        template = self._cloud.updated(caller, held, text, append, _RESTRICTED)
        if template is not held:
            template.pop("AR")
            template.keep(held, ("BRIDGE", "BRIDGE_TYPE"))
            if not template.get("VN_MAD") and self._cloud.version.modern:
                raise internal("Cannot update template. No VN_MAD in template for Virtual Network.")
            network.template = network_template(template)
            network.name_vlans()
        return number

    @serves("one.vn.hold", int, str)
    def hold(self, caller: User, number: int, text: str) -> int:
        """Hold an address for nobody; refuses, in one step, one that is taken or outside (8192)."""
        network = self._ready(caller, number)
        place = _place(network, self._cloud.read(text))
        if place is None or place[1] in place[0].leases:
            raise internal(_NOT_FREE)
        span, index = place
        span.leases[index] = Lease(Holder.VM, HELD)
        return number

    @serves("one.vn.release", int, str)
    def release(self, caller: User, number: int, text: str) -> int:
        """Give a held address back; it is no error that nothing was held."""
        network = self._ready(caller, number)
        place = _place(network, self._cloud.read(text))
        if place is not None and place[0].leases.get(place[1]) == Lease(Holder.VM, HELD):
            place[0].free(place[1])
        return number

    @serves("one.vn.add_ar", int, str)
    def add_ar(self, caller: User, number: int, text: str) -> int:
        """Add address ranges."""
        network = self._ready(caller, number, Right.ADMIN)
        for asked in self._ranges_in(text):
            if not network.add_range(asked):
                raise internal("Wrong address range")
        return number

    def _ranges_in(self, text: str) -> list[Vector]:
        asked = self._cloud.read(text).vectors("AR")
        if not asked:
            raise internal("Wrong AR definition. AR attribute is not defined.")
        return asked

    @serves("one.vn.update_ar", int, str)
    def update_ar(self, caller: User, number: int, text: str) -> int:
        """Replace the free attributes of ranges; SIZE is taken too, the addresses stay."""
        network = self._ready(caller, number)
        for asked in self._ranges_in(text):
            wanted = asked.get("AR_ID", "")
            span = network.range(int(wanted)) if wanted.isdigit() else None
            if span is None:
                raise internal(f"Address Range with ID {wanted} was not found.")
            size = asked.get("SIZE", "")
            if size and not size.isdigit() and self._cloud.version.modern:
                raise internal("Unable to read the SIZE attribute, it must be number >= 0")
            if size.isdigit() and int(size) <= max(span.leases, default=-1):
                raise internal("New SIZE cannot be applied. There are used leases that would fall outside the range.")
            if Template([("AR", asked)]).stored() is None:
                continue
            span.attributes = free_attributes(asked)
            span.size = int(size) if size.isdigit() else span.size
        return number

    @serves("one.vn.rm_ar", int, int, optional=(bool,))
    def rm_ar(self, caller: User, number: int, range_id: int, _force: bool = False) -> int:
        """Remove a range none of whose addresses is taken."""
        network = self._ready(caller, number, Right.ADMIN)
        span = network.range(range_id)
        if span is None:
            raise internal(f"Address Range with ID {range_id} was not found.")
        if span.leases:
            raise internal("Address Range has leases in use.")
        network.ranges.remove(span)
        return number

    @serves("one.vn.reserve", int, str)
    def reserve(self, caller: User, number: int, text: str) -> int:
        """Reserve addresses of a network as a network of the caller's own."""
        cloud = self._cloud
        network = self._ready(caller, number, Right.USE)
        asked = self._cloud.read(text)
        size = asked.get("SIZE")
        if not size.isdigit() or int(size) < 1:
            raise internal("Reservation SIZE must be a greater than 0")
        if asked.get("IP") and not asked.get("AR_ID"):
            raise wrong_state("AR_ID must be specified for IP/MAC based reservations")
        name = self._free_name(caller.id, asked.get("NAME"))
        charge = Charge("NETWORK", str(number), {"LEASES": int(size)})
        cloud.charge(caller, caller.gid, [charge])
        child = Network(
            cloud.networks.take_id(), caller.id, caller.gid, caller.name, caller.gname, name, parent=network.id
        )
        child.template, child.clusters = network.template.copy(), set(network.clusters)
        lease = Lease(Holder.NETWORK, child.id)
        for span in network.ranges:
            if not asked.get("IP"):
                index = span.take_run(int(size), lease, modern=cloud.version.modern)
            elif str(span.id) == asked.get("AR_ID"):
                index = span.take_from(asked.get("IP"), int(size), lease)
            else:
                continue
            if index is not None:
                child.add_range({"TYPE": "IP4", "SIZE": size, **span.addresses(index), **span.attributes})
                child.ranges[0].parent = span.id
                cloud.networks.put(child)
                return child.id
        cloud.count(caller.id, caller.gid, [charge], -1)
        if asked.get("IP"):
            raise wrong_state(f"Not enough free addresses in address range {asked.get('AR_ID')}, or it does not exist")
        raise not_allocated("Not enough free addresses in an address range")

    @serves("one.vn.delete", int, optional=(bool,))
    def delete(self, caller: User, number: int, _force: bool = False) -> int:
        """Remove a network none of whose addresses is taken; a reservation goes back to its network."""
        network = self._ready(caller, number)
        if network.used():
            raise internal("Can not remove a virtual network with leases in use")
        self._cloud.networks.drop(network)
        parent = self._cloud.networks.find(network.parent) if network.parent is not None else None
        if parent is not None:
            give_back = partial(_unreserve, parent, network.id)
            if self._cloud.version.modern:
                self._cloud.later(self._cloud.delays.network, give_back)
            else:
                give_back()
            size = sum(span.size for span in network.ranges)
            self._cloud.count(network.uid, network.gid, [Charge("NETWORK", str(parent.id), {"LEASES": size})], -1)
        return number

    @serves("one.vn.rename", int, str)
    def rename(self, caller: User, number: int, name: str) -> int:
        """Rename a network."""
        network = self._ready(caller, number)
        network.name = self._free_name(network.uid, name)
        return number


def _unreserve(parent: Network, child: int) -> None:
    for span in parent.ranges:
        for index in [index for index, lease in span.leases.items() if lease == Lease(Holder.NETWORK, child)]:
            span.free(index)


def _address(template: Template) -> tuple[str, str]:
    leases = template.vectors("LEASES")
    if not leases:
        raise internal("Empty lease description.")
    if not leases[0].get("IP"):
        raise internal("Missing MAC, IP or IP6.")
    return leases[0]["IP"], leases[0].get("AR_ID", "")


def _place(network: Network, template: Template) -> tuple[AddressRange, int] | None:
    """Return range and index of the address that a call names, or None where it is not of the network or the range."""
    address, wanted = _address(template)
    place = network.find(address)
    return None if place is None or wanted not in ("", str(place[0].id)) else place
