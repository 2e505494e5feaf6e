"""Availability zones: OpenNebula's clusters, as far as the caller can use them (EC2, DescribeAvailabilityZones)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field
from econed.actions.inputs import Filter
from econed.actions.regions.regions import OPT_IN_NOT_REQUIRED, named_by, own_region
from econed.errors import EC2Error
from econed.opennebula.states import DatastoreType

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import AvailabilityZoneTypeDef

    from econed.actions.call import Call

_FOR_DISKS = frozenset({DatastoreType.IMAGE_DS, DatastoreType.SYSTEM_DS})

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


# AllAvailabilityZones also shows zones that the caller has not opted in to: there are none.
@action(ignores=("AllAvailabilityZones",))
async def describe_availability_zones(
    call: Call, *, zone_names: Sequence[str] = (), zone_ids: Sequence[str] = (), filters: Sequence[Filter] = ()
) -> DescribeAvailabilityZonesResult:
    """List the clusters in which the caller can run instances.

    Raises `EC2Error` InvalidParameterValue for a zone that is none of them.
    """
    own = await own_region(call)
    region = own.shown_as(named_by(filters))
    selection = _FILTERS.with_values("region-name", lambda _: own.names).selection(filters, call.budget)
    found = [_zone(number, name, region) for number, name in (await zones(call)).items()]
    _demand("availability zone", zone_names, {zone["ZoneName"] for zone in found})
    _demand("availability zone-id", zone_ids, {zone["ZoneId"] for zone in found})
    named = (
        zone
        for zone in found
        if (zone["ZoneName"] in zone_names or not zone_names) and (zone["ZoneId"] in zone_ids or not zone_ids)
    )
    return {"AvailabilityZones": await selection.matching(named)}


async def zones(call: Call) -> Mapping[int, str]:
    """Return the names of the clusters in which the caller can run instances, by cluster id in ascending order.

    These are the clusters that his datastores and his networks lie in; of the datastores alone, where he sees no
    network at all. With `cluster_id` in the configuration it is that one at most.
    """
    datastores = {
        cluster
        for datastore in await call.session.datastores()
        if datastore.type in _FOR_DISKS and datastore.is_usable
        for cluster in datastore.cluster_ids
    }
    networks = await call.session.networks()
    usable = (
        datastores & {cluster for network in networks for cluster in network.cluster_ids} if networks else datastores
    )
    if call.settings.cluster_id is not None:
        usable &= {call.settings.cluster_id}
    return {number: name for number, name in sorted((await call.cluster_names()).items()) if number in usable}


def _zone(number: int, name: str, region: str) -> AvailabilityZoneTypeDef:
    return {
        "ZoneName": name,
        "ZoneId": f"cluster-{number}",
        "ZoneType": "availability-zone",
        "State": "available",
        "Messages": [],
        "RegionName": region,
        "GroupName": region,
        "OptInStatus": OPT_IN_NOT_REQUIRED,
    }


def _demand(called: str, given: Sequence[str], known: set[str]) -> None:
    for each in given:
        if each not in known:
            raise EC2Error("InvalidParameterValue", f"Invalid {called}: [{each}]")
