"""The chore that finishes what requests left to do for VPCs and subnets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from econed.actions.chores import change_unless_done
from econed.actions.networks.lookup import AVAILABLE, CREATING, DELETING, Networks, is_vpc
from econed.actions.security_groups.lookup import is_default_group, vpc_number_of
from econed.actions.vpcs.networks import (
    finish_vpc,
    hold_reserved,
    is_unfinished_subnet,
    make_available,
    present,
    remove_subnet,
)
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import NetworkState

if TYPE_CHECKING:
    from econed.actions.chores import ChoreRun
    from econed.actions.networks.lookup import Subnet
    from econed.opennebula.documents import VirtualNetwork


async def settle_vpcs(run: ChoreRun) -> None:
    """Finish the VPCs and subnets of a user whose creation or deletion a process has begun, if it died."""
    groups = await run.session.security_groups(OwnerFilter.MINE)
    networks = await run.session.networks(OwnerFilter.MINE)  # after the groups: a group is made after its VPC
    for network in networks:
        if is_vpc(network) and network.template_text(CREATING):
            run.keep_watching()
            await _settle_vpc(run, network)
    for subnet in Networks.of(networks, None).subnets:
        if subnet.vpc.is_default or subnet.network.state is not NetworkState.READY:
            continue
        if subnet.network.template_text(DELETING):
            run.keep_watching()
            await change_unless_done(_delete_subnet(run, subnet.network))
        elif _is_unfinished(subnet):
            run.keep_watching()
            await change_unless_done(_finish_subnet(run, subnet))
    network_ids = {network.id for network in networks}
    for group in groups:
        if is_default_group(group) and vpc_number_of(group) not in network_ids:
            run.keep_watching()
            await change_unless_done(run.session.security_group_delete(group.id))


async def _settle_vpc(run: ChoreRun, network: VirtualNetwork) -> None:
    if network.state is NetworkState.ERROR:
        await change_unless_done(run.session.network_delete(network.id))
    elif network.state is NetworkState.READY:
        await change_unless_done(_finish_vpc(run, network))


async def _finish_vpc(run: ChoreRun, network: VirtualNetwork) -> None:
    await run.session.network_make_private(network.id)
    await finish_vpc(run.session, network)


def _is_unfinished(subnet: Subnet) -> bool:
    return subnet.state != AVAILABLE and is_unfinished_subnet(subnet.network)


async def _finish_subnet(run: ChoreRun, subnet: Subnet) -> None:
    """Finish a subnet, unless the request that creates it has done so meanwhile: its tags would be lost."""
    await run.session.network_make_private(subnet.network.id)
    await hold_reserved(run.session, subnet.network)
    network = await present(run.session, subnet.network.id)
    if network is not None and _is_unfinished(replace(subnet, network=network)):
        await make_available(run.session, network)


async def _delete_subnet(run: ChoreRun, network: VirtualNetwork) -> None:
    """Delete a subnet, unless the request that began it keeps it meanwhile."""
    current = await run.session.network(network.id)
    if current.template_text(DELETING):
        await remove_subnet(run.session, current)
