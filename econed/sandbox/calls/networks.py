"""The calls on virtual networks."""

from __future__ import annotations

from functools import partial
from typing import Any

from econed.opennebula.states import NetworkState
from econed.sandbox.calls.declaration import serves
from econed.sandbox.calls.network_allocation import allocate_network
from econed.sandbox.calls.network_restrictions import check_vlans, restricted_network_attributes
from econed.sandbox.calls.reservations import discharge_reservation, get_ready, release_reservation
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.address_ranges import HELD, AddressRange, Lease, LeaseHolder
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.objects.networks import Network, network_template
from econed.sandbox.objects.pools import Pool, page
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal, unauthorized, wrong_state
from econed.sandbox.template import Template

_NOT_FREE = "Address is not part of the address range or in use."


class NetworkCalls:
    """`one.vn.*`, `one.vnpool.info`. Names are unique per owner."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    @serves("one.vn.allocate", str, optional=(int,))
    def allocate(self, caller: User, text: str, cluster_id: int = 0) -> int:
        """Allocate a network in a cluster; in 7.x it is READY after a delay."""
        cloud = self._cloud
        template = cloud.parse(text)
        cloud.rights.check(caller, Right.CREATE, Kind.NET, None)
        cluster = cloud.get_authorized(caller, Right.ADMIN, cloud.clusters, max(cluster_id, 0))
        check_vlans(cloud, caller, template)
        if cloud.version.is_v7 and not caller.is_oneadmin:
            attribute = template.first_restricted(restricted_network_attributes(cloud.version))
            if attribute:
                text = f"VNET Template includes a restricted attribute {attribute}."
                raise unauthorized(f"User [{caller.id}] : {text}")
        return allocate_network(cloud, caller, template, {cluster.id}).id

    @serves("one.vn.info", int, optional=(bool,))
    def info(self, caller: User, network_id: int, _decrypt: bool = False) -> str:
        """Return the document of a network.

        Who may not manage the network sees only the leases of machines and reservations that they may use.
        """
        cloud = self._cloud
        network = cloud.get_authorized(caller, Right.USE, cloud.networks, network_id, locks=False)
        sees_all = cloud.rights.allows(caller, Right.MANAGE, Kind.NET, network, locks=False)

        def is_visible(lease: Lease) -> bool:
            pool: Pool[Any] = cloud.vms if lease.holder is LeaseHolder.VM else cloud.networks
            holder = pool.find(lease.holder_id)
            return sees_all or (
                holder is not None and cloud.rights.allows(caller, Right.USE, pool.kind, holder, locks=False)
            )

        return network.xml(is_v7=cloud.version.is_v7, is_visible=is_visible)

    @serves("one.vnpool.info", int, int, int)
    def pool(self, caller: User, owner: int, start: int, end: int) -> str:
        """Return the document of networks, without leases. ACL rules for all networks do not cover reservations."""
        cloud, is_v7 = self._cloud, self._cloud.version.is_v7
        plain = [network for network in cloud.networks if network.parent_id is None]
        reservations = [network for network in cloud.networks if network.parent_id is not None]
        networks = cloud.visible(caller, plain, Kind.NET, owner)
        networks += cloud.visible(caller, reservations, Kind.NET, owner, ignores_wide_rules=True)
        networks.sort(key=lambda network: -network.id)
        elements = (network.xml(is_v7=is_v7) for network in page(networks, start, end))
        return f"<VNET_POOL>{''.join(elements)}</VNET_POOL>"

    def _ready(self, caller: User, network_id: int, right: Right = Right.MANAGE) -> Network:
        return get_ready(self._cloud, caller, network_id, right)

    @serves("one.vn.update", int, str, optional=(int,))
    def update(self, caller: User, network_id: int, text: str, append: int = 0) -> int:
        """Replace a network's attributes (0), or merge into them (1); address ranges have their own calls."""
        network = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.networks, network_id)
        check_vlans(self._cloud, caller, self._cloud.parse(text))
        current = network.template
        restricted = restricted_network_attributes(self._cloud.version)
        template = self._cloud.updated_template(caller, current, text, append, restricted)
        if template is not current:
            if network.state is not NetworkState.LOCK_CREATE:
                template.pop("AR")
            is_v7 = self._cloud.version.is_v7
            template.add_missing(current, ("BRIDGE", "BRIDGE_TYPE") if is_v7 else ("BRIDGE",))
            if not template.get("VN_MAD") and is_v7:
                raise internal("Cannot update template. No VN_MAD in template for Virtual Network.")
            network.template = network_template(template, has_bridge_type=is_v7)
            network.add_vlan_attributes()
        return network_id

    @serves("one.vn.hold", int, str)
    def hold(self, caller: User, network_id: int, text: str) -> int:
        """Put an address on hold, atomically; refuses (8192) an address that is leased or not in the network."""
        network = self._ready(caller, network_id)
        position = _position(network, self._cloud.parse(text))
        if position is None or position[1] in position[0].leases:
            raise internal(_NOT_FREE)
        address_range, index = position
        address_range.lease(index, Lease(LeaseHolder.VM, HELD))
        return network_id

    @serves("one.vn.release", int, str)
    def release(self, caller: User, network_id: int, text: str) -> int:
        """Release an address on hold; it is no error if the address is not on hold."""
        network = self._ready(caller, network_id)
        position = _position(network, self._cloud.parse(text))
        if position is not None and position[0].leases.get(position[1]) == Lease(LeaseHolder.VM, HELD):
            position[0].release(position[1])
        return network_id

    @serves("one.vn.delete", int, optional=(bool,))
    def delete(self, caller: User, network_id: int, _force: bool = False) -> int:
        """Delete a network without leases; the addresses of a reservation are released in its parent network.

        In 7.x it is in LOCK_DELETE until that is done, and keeps its name.
        """
        network = self._cloud.get_authorized(caller, Right.MANAGE, self._cloud.networks, network_id)
        if network.state in (NetworkState.LOCK_CREATE, NetworkState.LOCK_DELETE):
            raise wrong_state(f"Can not remove a Virtual Network, wrong state {network.state.name}")
        if network.used_leases():
            raise wrong_state("Cannot delete virtual network. Can not remove a virtual network with leases in use")
        discharge_reservation(self._cloud, network)
        if self._cloud.version.is_v7:
            network.state = NetworkState.LOCK_DELETE
            self._cloud.call_later(self._cloud.delays.network, partial(self._remove, network))
        else:
            self._remove(network)
        return network_id

    def _remove(self, network: Network) -> None:
        self._cloud.networks.remove(network)
        release_reservation(self._cloud, network)


def _requested_address(template: Template) -> tuple[str, str]:
    """Return the address and the AR_ID, which may be empty, of a LEASES vector."""
    leases = template.vectors("LEASES")
    if not leases:
        raise internal("Empty lease description.")
    addresses = [leases[0][name] for name in ("IP", "IP6", "MAC") if leases[0].get(name)]
    if not addresses:
        raise internal("Missing MAC, IP or IP6.")
    if len(addresses) > 1:
        raise internal("Only one attribute MAC, IP or IP6 can be set.")
    return addresses[0], leases[0].get("AR_ID", "")


def _position(network: Network, template: Template) -> tuple[AddressRange, int] | None:
    """Return the range and the index of the address in a call, or None if it is not in the network or the range."""
    return network.locate(*_requested_address(template))
