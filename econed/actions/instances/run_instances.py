"""Running instances (EC2 API Reference, RunInstances): an instance type is an OpenNebula template, an AMI an image."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from econed.actions.action import action
from econed.actions.addresses.auto_assigned import check_available
from econed.actions.client_tokens import ClientToken
from econed.actions.images.lookup import amis_by_id
from econed.actions.inputs import Placement, TagSpecification
from econed.actions.instances.block_devices import BlockDeviceMapping, block_devices
from econed.actions.instances.launch import launch
from econed.actions.instances.launch_groups import GroupNames, default_groups, groups_by_names
from econed.actions.instances.network_interfaces import (
    InterfaceSpecification,
    has_public_ip,
    launch_interfaces,
    placed_interfaces,
    requested_interfaces,
    requested_subnets,
    with_subnets_of_type,
)
from econed.actions.instances.plan import (
    MAX_COUNT,
    MAX_VOLUMES,
    LaunchPlan,
    check_interfaces,
    check_tags,
    storable_public_key,
)
from econed.actions.instances.token_machines import TokenMachines, find_token_machines
from econed.actions.instances.types import instance_type_named, type_templates
from econed.actions.instances.view import merge_reservations, reservation_view
from econed.actions.keys.key_pairs import find_key_pair
from econed.actions.machines.facts import TERMINATE
from econed.actions.networks.lookup import vpc_ids_of
from econed.actions.pacing import ITEM_COST
from econed.actions.placement_groups.lookup import PlacementGroup, find_placement_group
from econed.actions.regions.zones import availability_zones
from econed.actions.tagging import specified_tags
from econed.actions.tasks import TaskGroup
from econed.actions.watch import watch_caller
from econed.errors import EC2Error
from econed.opennebula.states import ImageState

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import ReservationTypeDef

    from econed.actions.call import Call
    from econed.actions.keys.store import KeyPair
    from econed.opennebula.documents import Image, UserDocument, VirtualMachine

MAX_USER_DATA = 16384
"""Maximum size of user data in bytes, before base64 (EC2 User Guide, "Run commands at launch")."""

_LAUNCHABLE = frozenset({ImageState.READY, ImageState.USED, ImageState.CLONE})

# There is no metadata service with options, there are no burst credits, and OpenNebula monitors every machine; the
# others select a variant, and there is only one here.
_IGNORED = (
    "AdditionalInfo",
    "CapacityReservationSpecification.CapacityReservationPreference",
    "CreditSpecification",
    "EbsOptimized",
    "MaintenanceOptions",
    "MetadataOptions",
    "Monitoring",
    "NetworkPerformanceOptions",
    "PrivateDnsNameOptions",
)
_AS_IS = {
    "BlockDeviceMappings.Ebs.Encrypted": False,
    "DisableApiStop": False,
    "DisableApiTermination": False,
    "EnclaveOptions.Enabled": False,
    "HibernationOptions.Configured": False,
    "NetworkInterfaces.DeleteOnTermination": True,
    "Placement.Tenancy": "default",
}


@action(ignores=_IGNORED, as_is=_AS_IS)
async def run_instances(
    call: Call,
    *,
    min_count: int,
    max_count: int,
    image_id: str = "",
    instance_type: str | None = None,
    key_name: str | None = None,
    user_data: str | None = None,
    placement: Placement | None = None,
    block_device_mappings: Sequence[BlockDeviceMapping] = (),
    tag_specifications: Sequence[TagSpecification] = (),
    client_token: str | None = None,
    instance_initiated_shutdown_behavior: str = "stop",
    security_group_ids: Sequence[str] = (),
    security_groups: Sequence[str] = (),
    subnet_id: str = "",
    private_ip_address: str = "",
    network_interfaces: Sequence[InterfaceSpecification] = (),
) -> ReservationTypeDef:
    """Run instances: between MinCount and MaxCount, or none (EC2 RunInstances; OpenNebula instantiate).

    With a ClientToken, a repeated call returns the same instances for `token_machines.TOKEN_LIFETIME` seconds.
    """
    _check_counts(min_count, max_count)
    token = ClientToken.of(call, client_token)
    tags = specified_tags(tag_specifications, "instance", "volume", "network-interface")
    group_names = GroupNames.of(security_group_ids, security_groups)
    requested = requested_interfaces(subnet_id, private_ip_address, group_names, network_interfaces, max_count)
    checked_user_data = _checked_user_data(user_data)
    async with TaskGroup() as reads:
        zone_cluster = reads.start(_zone_cluster_id(call, (placement or {}).get("AvailabilityZone")))
        user_and_pair = reads.start(_user_and_key_pair(call, key_name))
        image_read = reads.start(_image(call, image_id))
        templates = reads.start(type_templates(call))
        known = reads.start(_token_machines(call, token))
        clusters = reads.start(call.cluster_names())
        group = reads.start(_placement_group(call, placement or {}))
        subnets = reads.start(requested_subnets(call, requested))
        groups = reads.start(groups_by_names(call, [interface.groups for interface in requested]))
    (user, pair), image, zone_cluster_id = user_and_pair.result, image_read.result, zone_cluster.result
    texts = {
        "key_name": None if pair is None else pair.name,
        "public_key": None if pair is None else storable_public_key(pair.public_key),
        "user_data": checked_user_data,
    }
    cluster_ids = {cluster for cluster in (zone_cluster_id, call.settings.cluster_id) if cluster is not None}
    type_name = call.settings.default_instance_type if instance_type is None else instance_type
    launched_type = instance_type_named(call, type_name, templates.result, image, **texts)
    found_subnets = await with_subnets_of_type(call, subnets.result, requested, launched_type)
    placed = placed_interfaces(requested, found_subnets, launched_type.attributes, call.caller.name)
    plan = LaunchPlan(
        instance_type=launched_type,
        image=image,
        min_count=min_count,
        max_count=max_count,
        token=token,
        **texts,
        tags=tags["instance"],
        interface_tags=tags["network-interface"],
        has_public_ip=has_public_ip(network_interfaces),
        zone_cluster_id=zone_cluster_id,
        cluster_ids=tuple(sorted(cluster_ids)),
        terminates_on_shutdown=instance_initiated_shutdown_behavior == TERMINATE,
        placement_group=group.result,
        devices=await block_devices(call, block_device_mappings, image, tags["volume"]),
        interfaces=launch_interfaces(
            call,
            placed,
            groups.result,
            await default_groups(call, (interface.subnet for interface in placed)),
            bool(launched_type.attributes.vectors("NIC_ALIAS")),
            zone_cluster_id,
            min_count,
        ),
    )
    _check_volumes(plan)
    check_tags(plan)
    check_interfaces(plan)
    if plan.has_public_ip and (known.result is None or known.result.first is None):
        await check_available(call, max_count)
    await watch_caller(call, user)
    machines = await launch(call, plan, known.result)
    return await _reservation(call, machines, clusters.result, await vpc_ids_of(call, machines))


async def _user_and_key_pair(call: Call, key_name: str | None) -> tuple[UserDocument, KeyPair | None]:
    """Return the caller's document, and their key pair with this name, None if `key_name` is None."""
    if key_name is None:
        return await call.session.current_user(), None
    return await find_key_pair(call, key_name)


async def _token_machines(call: Call, token: ClientToken | None) -> TokenMachines | None:
    return None if token is None else await find_token_machines(call, token)


async def _reservation(
    call: Call, machines: Iterable[VirtualMachine], clusters: Mapping[int, str], vpc_ids: Mapping[int, str]
) -> ReservationTypeDef:
    """Return the reservation of the machines of one launch."""
    views = []
    for machine in machines:
        await call.budget.spend(ITEM_COST)
        views.append(reservation_view(machine, clusters, call.now, vpc_ids=vpc_ids))
    (reservation,) = merge_reservations(views)
    return {**reservation, "Instances": [{"Tags": [], **instance} for instance in reservation["Instances"]]}


def _check_counts(min_count: int, max_count: int) -> None:
    if min_count < 1 or max_count < min_count:
        raise EC2Error(
            "InvalidParameterValue",
            f"Value ({min_count}) for parameter minCount is invalid. It must be from 1 to maxCount ({max_count}).",
        )
    if max_count > MAX_COUNT:
        raise EC2Error("InstanceLimitExceeded", f"No more than {MAX_COUNT} instances can be run by one request.")


def _check_volumes(plan: LaunchPlan) -> None:
    if plan.max_count * len(plan.devices.volumes) > MAX_VOLUMES:
        raise EC2Error("VolumeLimitExceeded", f"No more than {MAX_VOLUMES} volumes can be created by one request.")


async def _image(call: Call, image_id: str) -> Image:
    """Return the image of an AMI; raises `EC2Error`, InvalidAMIID.Unavailable if it is not ready for machines."""
    if not image_id:
        raise EC2Error("MissingParameter", "The request must contain the parameter ImageId")
    (image,) = await amis_by_id(call, [image_id])
    if image.state not in _LAUNCHABLE:
        raise EC2Error("InvalidAMIID.Unavailable", f"The image id '{image_id}' is not available")
    return image


async def _placement_group(call: Call, placement: Placement) -> PlacementGroup | None:
    """Return the placement group that a request names; raises `EC2Error` InvalidPlacementGroup.Unknown."""
    name, group_id = placement.get("GroupName", ""), placement.get("GroupId", "")
    return await find_placement_group(call, name, group_id) if name or group_id else None


async def _zone_cluster_id(call: Call, name: str | None) -> int | None:
    """Return the id of the cluster that is the availability zone of this name; None if `name` is None."""
    if name is None:
        return None
    for cluster_id, cluster_name in (await availability_zones(call)).items():
        if cluster_name == name:
            return cluster_id
    raise EC2Error("InvalidParameterValue", f"Invalid availability zone: [{name}]")


def _checked_user_data(user_data: str | None) -> str | None:
    if user_data is None:
        return None
    try:
        decoded = base64.b64decode("".join(user_data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise EC2Error("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(decoded) > MAX_USER_DATA:
        raise EC2Error("InvalidParameterValue", f"User data is limited to {MAX_USER_DATA} bytes.")
    return base64.b64encode(decoded).decode("ascii")
