"""The chore that finishes what requests left to do for VPCs and subnets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.actions.chores import change_unless_done
from econed.actions.networks.lookup import AVAILABLE, CREATING, DELETING, Networks, is_vpc
from econed.actions.security_groups.lookup import is_default_group, vpc_number_of
from econed.actions.vpcs.networks import finish_subnet, finish_vpc, is_unfinished_subnet, remove_subnet
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import NetworkState

if TYPE_CHECKING:
    from econed.actions.chores import ChoreRun
    from econed.opennebula.documents import VirtualNetwork


async def settle_vpcs(run: ChoreRun) -> None:
    """Finish the VPCs and subnets of a user whose creation or deletion a process has begun, if it died."""
    groups = await run.session.security_groups(OwnerFilter.MINE)
    networks = await run.session.networks(OwnerFilter.MINE)  # after the groups: a group is made after its VPC
    for network in networks:
        if is_vpc(network) and network.template_text(CREATING):
            await _settle_vpc(run, network)
    for subnet in Networks.of(networks, None).subnets:
        if subnet.vpc.is_default or subnet.network.state is not NetworkState.READY:
            continue
        if subnet.network.template_text(DELETING):
            await change_unless_done(_delete_subnet(run, subnet.network))
        elif subnet.state != AVAILABLE and is_unfinished_subnet(subnet.network):
            await change_unless_done(_finish_subnet(run, subnet.network))
    network_ids = {network.id for network in networks}
    for group in groups:
        if is_default_group(group) and vpc_number_of(group) not in network_ids:
            await change_unless_done(run.session.security_group_delete(group.id))


async def _settle_vpc(run: ChoreRun, network: VirtualNetwork) -> None:
    if network.state is NetworkState.ERROR:
        await change_unless_done(run.session.network_delete(network.id))
    elif network.state is NetworkState.READY:
        await change_unless_done(_finish_vpc(run, network))


async def _finish_vpc(run: ChoreRun, network: VirtualNetwork) -> None:
    await run.session.network_make_private(network.id)
    await finish_vpc(run.session, network)


async def _finish_subnet(run: ChoreRun, network: VirtualNetwork) -> None:
    await run.session.network_make_private(network.id)
    await finish_subnet(run.session, network)


async def _delete_subnet(run: ChoreRun, network: VirtualNetwork) -> None:
    await remove_subnet(run.session, await run.session.network(network.id))
