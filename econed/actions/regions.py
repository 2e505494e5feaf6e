"""Regions: OpenNebula's zones, each a cloud with an oned of its own (EC2 API Reference, DescribeRegions)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from econed.actions.action import action
from econed.actions.filters import Filters, field
from econed.actions.inputs import Filter
from econed.errors import EC2Error, OpenNebulaNonsense

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import RegionTypeDef

    from econed.actions.call import Call
    from econed.opennebula.documents import Zone

OPT_IN_NOT_REQUIRED: Final = "opt-in-not-required"
"""Nobody has to ask for a zone of OpenNebula before he may use it."""

_FILTERS = Filters(
    MappingProxyType(
        {
            "endpoint": field("Endpoint"),
            "opt-in-status": field("OptInStatus"),
            "region-name": field("RegionName"),
        }
    )
)
_DEFAULT_PORTS = MappingProxyType({"http": 80, "https": 443})


# AllRegions also shows regions that the caller has not opted in to: there are none.
@action(ignores=("AllRegions",))
async def describe_regions(
    call: Call, *, region_names: Sequence[str] = (), filters: Sequence[Filter] = ()
) -> dict[str, Any]:
    """List our own zone, and those other zones of a federation whose EC2 endpoint the configuration names.

    The endpoint of our own is this server as the client reached it: clients go on there. Raises `EC2Error`
    InvalidParameterValue for a name that is none of these.
    """
    selection = _FILTERS.selection(filters, call.budget)
    zones = await call.one.zones()
    endpoints = {zone.name: call.settings.regions[zone.name] for zone in zones if zone.name in call.settings.regions}
    endpoints[_own(call, zones).name] = call.endpoint
    for name in region_names:
        if name not in endpoints:
            raise EC2Error("InvalidParameterValue", f"Invalid region: [{name}]")
    regions: list[RegionTypeDef] = [
        {"RegionName": name, "Endpoint": endpoint, "OptInStatus": OPT_IN_NOT_REQUIRED}
        for name, endpoint in sorted(endpoints.items())
        if name in region_names or not region_names
    ]
    return {"Regions": await selection.of(regions)}


async def own_region(call: Call) -> str:
    """Return the name of the region that this server is the endpoint of."""
    return _own(call, await call.one.zones()).name


def _own(call: Call, zones: Sequence[Zone]) -> Zone:
    """Return the zone of the oned that we speak to: the one with an endpoint of its, else the first that was made.

    A zone's ENDPOINT is written by hand and only used between the zones of a federation: it may be anything.
    """
    if not zones:
        raise OpenNebulaNonsense("one.zonepool.info", "a cloud without a zone")
    ours = {_normalised(url) for url in call.settings.one_xmlrpc}
    return min(zones, key=lambda zone: (_normalised(zone.endpoint) not in ours, zone.id))


def _normalised(url: str) -> tuple[str, str, int | None, str]:
    """Return what makes two spellings of a URL the same; a text that is no URL is like itself only."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return (url, "", None, "")
    return (parts.scheme, parts.hostname or "", port, parts.path.rstrip("/"))
