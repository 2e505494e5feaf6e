"""Availability zones: the OpenNebula clusters that the caller can use (EC2, DescribeAvailabilityZones)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field
from econed.actions.inputs import Filter
from econed.actions.regions.regions import OPT_IN_NOT_REQUIRED, filtered_region_names, own_region
from econed.actions.tasks import TaskGroup
from econed.errors import EC2Error
from econed.opennebula.states import DatastoreType

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import AvailabilityZoneTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualNetwork

_DISK_DATASTORES = frozenset({DatastoreType.IMAGE_DS, DatastoreType.SYSTEM_DS})

_FILTERS = Filters(
    MappingProxyType(
        {
            "group-long-name": field("GroupLongName"),
            "group-name": field("GroupName"),
            "message": field("Messages", "Message"),
            "opt-in-status": field("OptInStatus"),
            "parent-zone-id": field("ParentZoneId"),
            "parent-zone-name": field("ParentZoneName"),
            "region-name": field("RegionName"),
            "state": field("State"),
            "zone-id": field("ZoneId"),
            "zone-name": field("ZoneName"),
            "zone-type": field("ZoneType"),
        }
    )
)


class DescribeAvailabilityZonesResult(TypedDict):
    """EC2 DescribeAvailabilityZonesResult."""

    AvailabilityZones: list[AvailabilityZoneTypeDef]


# AllAvailabilityZones includes zones that the caller has not opted in to; there are none here.
@action(ignores=("AllAvailabilityZones",))
async def describe_availability_zones(
    call: Call, *, zone_names: Sequence[str] = (), zone_ids: Sequence[str] = (), filters: Sequence[Filter] = ()
) -> DescribeAvailabilityZonesResult:
    """List the clusters in which the caller can run instances.

    Raises `EC2Error` InvalidParameterValue for a name or id of another zone.
    """
    async with TaskGroup() as tasks:
        reading_region, reading_zones = tasks.start(own_region(call)), tasks.start(availability_zones(call))
    own = reading_region.result
    region = own.display_name(filtered_region_names(filters))
    selection = _FILTERS.with_values("region-name", lambda _: own.names).selection(filters, call.budget)
    views = [_zone_view(cluster_id, name, region) for cluster_id, name in reading_zones.result.items()]
    _check_known("availability zone", zone_names, {zone["ZoneName"] for zone in views})
    _check_known("availability zone-id", zone_ids, {zone["ZoneId"] for zone in views})
    requested = (
        zone
        for zone in views
        if (zone["ZoneName"] in zone_names or not zone_names) and (zone["ZoneId"] in zone_ids or not zone_ids)
    )
    return {"AvailabilityZones": await selection.matching(requested)}


async def availability_zones(call: Call) -> Mapping[int, str]:
    """Return the names of the clusters in which the caller can run instances, by cluster id in ascending order."""
    _, zones = await networks_and_zones(call)
    return zones


async def networks_and_zones(call: Call) -> tuple[Sequence[VirtualNetwork], Mapping[int, str]]:
    """Return the networks that the caller may see, without leases, and what `availability_zones` returns.

    Zones are the clusters that contain both datastores and virtual networks visible to the caller, or datastores if no
    network is visible. With `cluster_id` in the configuration, no other cluster is included.
    """
    async with TaskGroup() as tasks:
        datastores, visible_networks = tasks.start(call.session.datastores()), tasks.start(call.session.networks())
        cluster_names = tasks.start(call.cluster_names())
    with_datastores = {
        cluster_id
        for datastore in datastores.result
        if datastore.type in _DISK_DATASTORES and datastore.is_usable
        for cluster_id in datastore.cluster_ids
    }
    networks = visible_networks.result
    with_networks = {cluster_id for network in networks for cluster_id in network.cluster_ids}
    usable = with_datastores & with_networks if networks else with_datastores
    if call.settings.cluster_id is not None:
        usable &= {call.settings.cluster_id}
    names = sorted(cluster_names.result.items())
    return networks, {cluster_id: name for cluster_id, name in names if cluster_id in usable}


def _zone_view(cluster_id: int, name: str, region: str) -> AvailabilityZoneTypeDef:
    return {
        "ZoneName": name,
        "ZoneId": f"cluster-{cluster_id}",
        "ZoneType": "availability-zone",
        "State": "available",
        "Messages": [],
        "RegionName": region,
        "GroupName": region,
        "OptInStatus": OPT_IN_NOT_REQUIRED,
    }


def _check_known(kind: str, values: Sequence[str], known_values: set[str]) -> None:
    for value in values:
        if value not in known_values:
            raise EC2Error("InvalidParameterValue", f"Invalid {kind}: [{value}]")
