"""The networks of VPCs and subnets: the steps of their creation and deletion that chores repeat after a crash.

Each step can be made twice, and by two processes at once. What is not finished is not `available`
(`econed.actions.networks.lookup`), so no instance and no subnet gets into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from econed.actions.networks.lookup import CREATING, DELETED, DELETING
from econed.actions.security_groups.lookup import DEFAULT_NAME, facts_text
from econed.actions.security_groups.rules import ALL_PROTOCOLS, ANY, ANY_IPV4, TrafficRule, written
from econed.actions.tagging import tag_text, tags_of, untag_text
from econed.actions.vpcs.blocks import is_subnet_block, reserved_addresses
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.ids import VPC
from econed.opennebula.attributes import Attributes
from econed.opennebula.template import attribute, removal, render, template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Address, IPv4Network

    from econed.opennebula.documents import VirtualNetwork
    from econed.opennebula.session import Session

_YES: Final = "YES"
_WITHOUT_GROUPS = attribute("SECURITY_GROUPS", "")
_ALLOWED_OUT = TrafficRule(True, ALL_PROTOCOLS, ANY, ANY, ANY_IPV4)


def vpc_text(block: IPv4Network, tags: Mapping[str, str]) -> str:
    """Return the template text for the network of a new VPC: one range with all addresses of its block."""
    address_range = {"TYPE": "IP4", "IP": str(block.network_address), "SIZE": str(block.num_addresses)}
    return template(
        render(Attributes([("AR", address_range)])),
        attribute("NETWORK_ADDRESS", str(block.network_address)),
        attribute("NETWORK_MASK", str(block.netmask)),
        attribute(CREATING, _YES),
        tag_text(tags),
    )


async def finish_vpc(session: Session, network: VirtualNetwork) -> None:
    """Give a new VPC its default security group, and make it available.

    Nothing is done for a network of which others have addresses, reserved before it was made private.
    """
    block = network.ipv4_block
    if block is None or network.used_leases:
        return
    inbound = TrafficRule(False, ALL_PROTOCOLS, ANY, ANY, block)
    rules = render(Attributes(("RULE", rule) for rule in written([inbound, _ALLOWED_OUT])))
    text = template(facts_text(DEFAULT_NAME, "default VPC security group", network.id), rules)
    try:
        await session.security_group_allocate(text)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.INTERNAL:  # which says that the name is in use: it has been made already
            raise
    await session.network_update(network.id, template(_WITHOUT_GROUPS, removal(CREATING)))


def subnet_name(vpc_number: int, block: IPv4Network) -> str:
    """Return the name in OpenNebula of the subnet with a block in a VPC, by which unfinished ones are recognised."""
    return f"{VPC.format(vpc_number)}-{block.network_address}-{block.prefixlen}"


def is_unfinished_subnet(network: VirtualNetwork) -> bool:
    """Whether a network that is not available is a subnet that econed has begun to create."""
    block, parent_id = network.allotted_block, network.parent_network_id
    if block is None or parent_id is None or not is_subnet_block(block):
        return False
    return network.name == subnet_name(parent_id, block) and network.size == block.num_addresses


async def hold_reserved(session: Session, network: VirtualNetwork) -> None:
    """Keep the reserved addresses of a subnet from instances."""
    if network.allotted_block is not None:
        await hold_all(session, network.id, reserved_addresses(network.allotted_block))


async def make_available(session: Session, network: VirtualNetwork, tags: Mapping[str, str] | None = None) -> None:
    """Make a new subnet available, after its reserved addresses are held.

    `network` is its document as oned made it: it has the tags of the VPC, which are replaced by `tags`.
    """
    added = tags or {}
    foreign = [tag["Key"] for tag in tags_of(network.template) if tag["Key"] not in added]
    await session.network_update(network.id, template(_WITHOUT_GROUPS, untag_text(foreign), tag_text(added)))


async def remove_subnet(session: Session, network: VirtualNetwork) -> bool:
    """Delete a subnet; return False, and leave it available, if a machine has one of its addresses.

    `network` is its document with its leases. Held addresses keep oned from deleting it, so they are released; no
    instance gets one meanwhile, since the subnet is not available. What another process has deleted is no error.
    """
    try:
        await session.network_update(network.id, attribute(DELETING, _YES))
        for lease in network.leases:
            if lease.is_held and lease.ip is not None:
                await session.network_release(network.id, lease.ip)
        await session.network_delete(network.id)
    except OpenNebulaRefusal as refusal:
        if refusal.code == OpenNebulaCode.NO_EXISTS:
            return True
        if refusal.code != OpenNebulaCode.ACTION:
            raise
    else:
        return True
    if not await is_present(session, network.id):
        return True
    await keep_subnet(session, network)
    return False


async def keep_subnet(session: Session, network: VirtualNetwork) -> None:
    """Make a subnet that was not deleted available again."""
    await hold_reserved(session, network)
    await session.network_update(network.id, removal(DELETING))


async def is_present(session: Session, network_id: int) -> bool:
    """Whether a network exists that oned is not deleting."""
    network = await present(session, network_id)
    return network is not None and network.state not in DELETED


async def present(session: Session, network_id: int) -> VirtualNetwork | None:
    """Return a network without leases, None if it does not exist."""
    try:
        return await session.network_without_leases(network_id)
    except OpenNebulaRefusal as refusal:
        if refusal.code != OpenNebulaCode.NO_EXISTS:
            raise
        return None


async def hold_all(session: Session, network_id: int, ips: Iterable[IPv4Address]) -> None:
    """Hold addresses of a network; those that are not free stay as they are."""
    for ip in ips:
        try:
            await session.network_hold(network_id, ip)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.INTERNAL:
                raise
