"""VPCs of users (EC2 API Reference, CreateVpc, DeleteVpc, ModifyVpcAttribute).

A VPC is a virtual network of the user, made from a template that an administrator marks; its subnets are reservations
of its addresses. So all subnets of a VPC reach each other, as EC2's local route says, and oned itself settles which
addresses are free and what is in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypedDict

from twisted.logger import Logger

from econed.actions.action import action
from econed.actions.chores import change_unless_done
from econed.actions.inputs import AttributeBooleanValue, TagSpecification
from econed.actions.networks.lookup import DNS_HOSTNAMES, Networks, Vpc, find_vpc, read_networks
from econed.actions.networks.view import Place, vpc_view
from econed.actions.regions.regions import own_region, own_zone_id
from econed.actions.security_groups.lookup import is_default_group, vpc_number_of
from econed.actions.tagging import specified_tags
from econed.actions.tasks import TaskGroup
from econed.actions.vpcs.attributes import check_attribute
from econed.actions.vpcs.blocks import vpc_block
from econed.actions.vpcs.networks import finish_vpc, is_present, present, vpc_text
from econed.actions.vpcs.privacy import NewNetwork, check_private
from econed.actions.vpcs.templates import find_template
from econed.actions.waiting import wait_until
from econed.actions.watch import watch_caller
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.documents import Right
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.states import NetworkState
from econed.opennebula.template import attribute, removal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from types_boto3_ec2.type_defs import VpcTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import SecurityGroup, VirtualNetwork

MAX_VPCS: Final = 100
"""VPCs of one user. oned has no quota of networks; Amazon's is raised to as many (EC2, "Amazon VPC quotas")."""

READY_TIMEOUT: Final = 30
"""Seconds that CreateVpc waits for oned to make the network; after that, a chore finishes the VPC."""

GONE_TIMEOUT: Final = 15
"""Seconds that deletions wait until oned has deleted the network, which 7.x does later."""

_NOT_MADE = frozenset({NetworkState.INIT, NetworkState.LOCK_CREATE})


class CreateVpcResult(TypedDict):
    """EC2 CreateVpcResult."""

    Vpc: VpcTypeDef


@action()
async def create_vpc(
    call: Call,
    *,
    cidr_block: str = "",
    instance_tenancy: str = "default",
    amazon_provided_ipv6_cidr_block: bool = False,
    tag_specifications: Sequence[TagSpecification] = (),
) -> CreateVpcResult:
    """Create a VPC from the template that an administrator has marked (OpenNebula vntemplate instantiate).

    Raises `EC2Error` InvalidVpc.Range, VpcLimitExceeded, or UnsupportedOperation where there is no such template, or
    where others could use the network.
    """
    tags = specified_tags(tag_specifications, "vpc")["vpc"]
    if not cidr_block:
        raise EC2Error("MissingParameter", "The request must contain the parameter cidrBlock")
    block = vpc_block(cidr_block)
    if instance_tenancy != "default":
        raise EC2Error("UnsupportedOperation", "OpenNebula has no dedicated hosts: InstanceTenancy must be default.")
    if amazon_provided_ipv6_cidr_block:
        raise EC2Error("UnsupportedOperation", "This cloud has no IPv6 blocks of Amazon's for VPCs.")
    async with TaskGroup() as reads:
        finding_template = reads.start(find_template(call))
        rules, groups = reads.start(call.serveradmin.acl_rules()), reads.start(call.serveradmin.groups())
        region, zone_id = reads.start(own_region(call)), reads.start(own_zone_id(call))
        networks, user = reads.start(read_networks(call)), reads.start(call.session.current_user())
    _check_count(call, networks.result)
    template = finding_template.result
    token = call.caller.acts_by
    group_id = call.caller.gid if token is None or token.group is None else token.group
    new_network = NewNetwork(call.caller.id, group_id, template.cluster_ids, zone_id.result)
    check_private(new_network, rules.result, groups.result)
    await watch_caller(call, user.result)
    network_id = await call.session.network_instantiate(template.id, vpc_text(block, tags))
    network = await _finished(call, network_id)
    vpc = Vpc(network_id, network)
    place = Place(call.caller.id, region.result.name, {})
    view = vpc_view(vpc, Networks.of([network], call.settings.elasticips_vnet_id), place)
    return {"Vpc": {**view, "State": "pending"}}


@action()
async def delete_vpc(call: Call, *, vpc_id: str) -> None:
    """Delete a VPC with its default security group (OpenNebula vn delete).

    Raises `EC2Error` DependencyViolation while there are subnets or other security groups in it.
    """
    async with TaskGroup() as reads:
        reading, reading_groups = reads.start(read_networks(call)), reads.start(_own_groups(call))
        user = reads.start(call.session.current_user())
    networks, own_groups = reading.result, reading_groups.result
    vpc = networks.vpc_named(vpc_id)
    if vpc.network is None:
        raise EC2Error(
            "UnsupportedOperation", "The default VPC cannot be deleted: it has all networks of no other VPC."
        )
    groups = [group for group in own_groups if vpc_number_of(group) == vpc.number]
    if vpc.network.allows(call.caller.id, call.caller.groups, Right.MANAGE):
        has_subnets = bool(networks.subnets_of(vpc)) or vpc.network.used_leases > 0
        if has_subnets or any(group.vm_ids or not is_default_group(group) for group in groups):
            raise _has_dependencies(vpc)
    await watch_caller(call, user.result)

    async def delete(network: VirtualNetwork) -> None:
        try:
            await call.session.network_delete(network.id)
        except OpenNebulaRefusal as refusal:
            if refusal.code not in (OpenNebulaCode.ACTION, OpenNebulaCode.NO_EXISTS):
                raise
            if await is_present(call.session, network.id):
                raise _has_dependencies(vpc) from refusal

    await call.change_all(Right.MANAGE, [vpc.network], delete)
    await delete_groups(call, filter(is_default_group, groups))
    await wait_until_gone(call, vpc.number)


@action()
async def modify_vpc_attribute(
    call: Call,
    *,
    vpc_id: str,
    enable_dns_support: AttributeBooleanValue | None = None,
    enable_dns_hostnames: AttributeBooleanValue | None = None,
    enable_network_address_usage_metrics: AttributeBooleanValue | None = None,
) -> None:
    """Keep EnableDnsHostnames, and accept the values that other attributes have.

    Instances resolve names by the name servers of their network, and there are no metrics: other values raise
    `EC2Error` UnsupportedOperation. EnableDnsHostnames changes nothing; Ansible sets it for each VPC that it creates.
    """
    vpc = await find_vpc(call, vpc_id)
    has_names = not vpc.is_default and enable_dns_hostnames is not None and enable_dns_hostnames.get("Value", False)
    given = {
        "EnableDnsSupport": (enable_dns_support, True),
        "EnableDnsHostnames": (enable_dns_hostnames, has_names),
        "EnableNetworkAddressUsageMetrics": (enable_network_address_usage_metrics, False),
    }
    check_attribute(call, vpc.network, given)
    if vpc.network is not None and enable_dns_hostnames is not None:
        text = attribute(DNS_HOSTNAMES, "YES") if has_names else removal(DNS_HOSTNAMES)
        await call.session.network_update(vpc.network.id, text)


def _check_count(call: Call, networks: Networks) -> None:
    own = [vpc for vpc in networks.vpcs.values() if vpc.network is not None and vpc.network.uid == call.caller.id]
    if len(own) >= MAX_VPCS:
        raise EC2Error("VpcLimitExceeded", "The maximum number of VPCs has been reached.")


async def _finished(call: Call, network_id: int) -> VirtualNetwork:
    """Return the network of a new VPC, after it was made available unless that takes too long."""
    network = await made_private(call, network_id)
    if network.state is NetworkState.ERROR:
        await change_unless_done(call.session.network_delete(network_id))  # a chore may have deleted it
        Logger(namespace="econed.networks").error(
            "OpenNebula cannot make a VPC of {user}: {reason}",
            user=call.caller.name,
            reason=network.template_text("ERROR"),
        )
        raise EC2Error("UnsupportedOperation", "OpenNebula cannot make a network of the template for VPCs.")
    if network.state is NetworkState.READY:
        await finish_vpc(call.session, network)
    return network


async def made_private(call: Call, network_id: int) -> VirtualNetwork:
    """Make a new network private, and return it once oned has made it, or after `READY_TIMEOUT`."""
    await call.session.network_make_private(network_id)
    return await wait_until(
        call,
        lambda network: network.state not in _NOT_MADE,
        lambda: call.session.network_without_leases(network_id),
        timeout=READY_TIMEOUT,
    )


async def _own_groups(call: Call) -> Sequence[SecurityGroup]:
    return await call.session.security_groups(OwnerFilter.MINE)


async def delete_groups(call: Call, groups: Iterable[SecurityGroup]) -> None:
    """Delete security groups of a VPC that does not exist any more; a chore deletes those that cannot be yet."""
    for group in groups:
        try:
            await call.session.security_group_delete(group.id)
        except OpenNebulaRefusal as refusal:
            if refusal.code not in (OpenNebulaCode.ACTION, OpenNebulaCode.NO_EXISTS):
                raise


async def wait_until_gone(call: Call, network_id: int) -> None:
    """Wait until oned has deleted a network, so that its addresses are free for the next request."""
    await wait_until(
        call, lambda network: network is None, lambda: present(call.session, network_id), timeout=GONE_TIMEOUT
    )


def _has_dependencies(vpc: Vpc) -> EC2Error:
    return EC2Error("DependencyViolation", f"The vpc '{vpc.id}' has dependencies and cannot be deleted.")
