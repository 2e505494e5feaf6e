"""NICs of machines and their aliases: addresses, and the attributes that oned adds.

An alias (NIC_ALIAS) is a further address of a NIC. It has a NIC_ID of its own, is attached and detached like a NIC,
and goes with its NIC.
"""

from __future__ import annotations

from econed.sandbox.cloud import Cloud
from econed.sandbox.machines.requirements import InvalidExpression, is_satisfied
from econed.sandbox.machines.security_rules import join_groups
from econed.sandbox.objects.base import Kind, Right, ids_text, parse_ids
from econed.sandbox.objects.networks import Network, is_automatic
from econed.sandbox.objects.virtual_machines import VirtualMachine
from econed.sandbox.refusals import wrong_state
from econed.sandbox.template import Vector

_INHERITED_FROM_NETWORK = ("DNS", "GATEWAY")
_INHERITED_FROM_RANGE = ("VLAN_ID", "BRIDGE", "PHYDEV")


def add_nic(cloud: Cloud, machine: VirtualMachine, requested: Vector, network: Network | None) -> Vector:
    """Add a NIC to a machine and return it, with an address of `network`; refuses (2048) if the address is not free.

    A NIC without a network, or whose network the scheduler chooses (NETWORK_MODE="auto"), is stored as requested.
    """
    nic_id = machine.next_nic_id
    nic = {**requested, "NIC_ID": str(nic_id)}
    nic.setdefault("NAME", f"NIC{nic_id}")
    _acquire(machine, nic, network)
    machine.nics.append(nic)
    join_groups(cloud, machine)
    return nic


def add_alias(machine: VirtualMachine, requested: Vector, network: Network | None) -> Vector:
    """Add an alias of the NIC that PARENT names to a machine and return it; refuses (2048) as `add_nic`.

    The security groups of an alias give the machine no rules.
    """
    parent = next((nic for nic in machine.nics if nic["NAME"] == requested.get("PARENT")), None)
    if parent is None:
        raise wrong_state("Alias not found.")
    nic_id, sibling_ids = machine.next_nic_id, parse_ids(parent.get("ALIAS_IDS", ""))
    number = 1 + max((int(alias["ALIAS_ID"]) for alias in machine.aliases), default=-1) if sibling_ids else 0
    alias = {**requested, "NIC_ID": str(nic_id), "PARENT_ID": parent["NIC_ID"], "ALIAS_ID": str(number)}
    alias.setdefault("NAME", f"NIC{parent['NIC_ID']}_ALIAS{nic_id}")
    _acquire(machine, alias, network)
    machine.aliases.append(alias)
    parent["ALIAS_IDS"] = ids_text(sibling_ids | {nic_id})
    machine.invalidate()
    return alias


def _acquire(machine: VirtualMachine, nic: Vector, network: Network | None) -> None:
    if network is not None:
        _connect(machine, nic, network)
    elif not is_automatic(nic) and (nic.get("NETWORK_ID") or nic.get("NETWORK")):
        raise wrong_state(f"Virtual network with ID: {nic.get('NETWORK_ID') or nic['NETWORK']} does not exist")
    else:
        machine.nic_ids_without_network.add(nic["NIC_ID"])


def _connect(machine: VirtualMachine, nic: Vector, network: Network) -> None:
    """Lease an address of a network for a NIC and set the attributes that follow from the network."""
    position = network.lease(machine.id, nic.get("IP", ""), is_v7=machine.is_v7)
    if position is None:
        raise wrong_state(f"Cannot get IP/MAC lease from virtual network {network.id}.")
    address_range, index = position
    requested_groups = nic.get("SECURITY_GROUPS", "")
    nic.update(address_range.addresses(index))
    nic.update(AR_ID=str(address_range.id), NETWORK=network.name, NETWORK_ID=str(network.id))
    if network.parent_id is not None:
        nic["PARENT_NETWORK_ID"] = str(network.parent_id)
    nic.update(VN_MAD=network.template.get("VN_MAD"), BRIDGE=network.template.get("BRIDGE"))
    nic.update(BRIDGE_TYPE=network.bridge_type, TARGET=f"one-{machine.id}-{nic['NIC_ID']}")
    nic["CLUSTER_ID"] = ids_text(network.cluster_ids)
    for name in _INHERITED_FROM_NETWORK if machine.is_v7 else ():
        value = address_range.attributes.get(name) or network.template.get(name)
        if value:
            nic.setdefault(name, value)
    for name in _INHERITED_FROM_RANGE:
        if address_range.attributes.get(name):
            nic[name] = address_range.attributes[name]
    group_ids = parse_ids(requested_groups) | parse_ids(network.template.get("SECURITY_GROUPS"))
    nic["SECURITY_GROUPS"] = ids_text(group_ids | parse_ids(address_range.attributes.get("SECURITY_GROUPS", "")))
    network.vm_ids.add(machine.id)


def choose_networks(cloud: Cloud, machine: VirtualMachine) -> None:
    """Connect each automatic NIC to a suitable network that the machine's owner may use.

    Of several it is the one with the most leased addresses in 5.12, with the fewest in 7.x, and among equals the one
    with the lowest id (policy 1 of DEFAULT_NIC_SCHED). Refuses (2048) if there is none; addresses leased until then
    stay leased.
    """
    owner = cloud.users.find(machine.uid)
    sign = 1 if machine.is_v7 else -1
    networks = sorted(cloud.networks, key=lambda network: (sign * network.used_leases(), network.id))
    for nic in machine.nics:
        if nic["NIC_ID"] in machine.nic_ids_without_network and is_automatic(nic) and owner is not None:
            for network in networks:
                if cloud.rights.allows(owner, Right.USE, Kind.NET, network) and _is_suitable(nic, network):
                    _connect(machine, nic, network)
                    machine.nic_ids_without_network.remove(nic["NIC_ID"])
                    break
            else:
                raise wrong_state(f"No network for NIC {nic['NIC_ID']}")
    join_groups(cloud, machine)


def _is_suitable(nic: Vector, network: Network) -> bool:
    attributes = {"ID": str(network.id), "NAME": network.name}
    try:
        return is_satisfied(nic.get("SCHED_REQUIREMENTS", ""), attributes) and network.has_free(nic.get("IP", ""))
    except InvalidExpression:
        return False


def release_nic(cloud: Cloud, machine: VirtualMachine, nic: Vector, *, keep: bool = False) -> None:
    """Release the address of a NIC or alias and remove it, a NIC with its aliases.

    With `keep`, as for a terminated machine, the elements stay.
    """
    is_connected = nic["NIC_ID"] not in machine.nic_ids_without_network
    network = cloud.networks.find(int(nic["NETWORK_ID"])) if is_connected else None
    if network is not None:
        position = network.locate(nic["MAC"], nic["AR_ID"])
        if position is not None:
            address_range, index = position
            lease = address_range.leases.get(index)
            if lease is not None and lease.holder_id == machine.id:
                address_range.release(index)
        if keep or not any(
            other is not nic and other["NETWORK_ID"] == nic["NETWORK_ID"] for other in machine.connected_nics
        ):
            network.vm_ids.discard(machine.id)
    if keep:
        return
    for alias in [alias for alias in machine.aliases if alias["PARENT_ID"] == nic["NIC_ID"]]:
        release_nic(cloud, machine, alias)
    if nic in machine.nics:
        machine.nics.remove(nic)
    else:
        _remove_alias(machine, nic)
    machine.nic_ids_without_network.discard(nic["NIC_ID"])
    join_groups(cloud, machine)


def _remove_alias(machine: VirtualMachine, alias: Vector) -> None:
    machine.aliases.remove(alias)
    parent = machine.nic(int(alias["PARENT_ID"]))
    if parent is not None:
        parent["ALIAS_IDS"] = ids_text(parse_ids(parent["ALIAS_IDS"]) - {int(alias["NIC_ID"])})
