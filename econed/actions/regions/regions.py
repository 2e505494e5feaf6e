"""Regions: OpenNebula's zones, each of which has its own oned (EC2 API Reference, DescribeRegions)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypedDict
from urllib.parse import urlsplit

from econed.actions.action import action
from econed.actions.filters import Filters, field
from econed.actions.inputs import Filter
from econed.errors import EC2Error, InvalidReply

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import RegionTypeDef

    from econed.actions.call import Call
    from econed.config.settings import Settings
    from econed.opennebula.documents import Zone

OPT_IN_NOT_REQUIRED: Final = "opt-in-not-required"
"""The opt-in status of all regions: users can use an OpenNebula zone without opting in."""

_NAME_FILTER, _NAME_MEMBER = "region-name", "RegionName"

_FILTERS = Filters(
    MappingProxyType(
        {
            "endpoint": field("Endpoint"),
            "opt-in-status": field("OptInStatus"),
            _NAME_FILTER: field(_NAME_MEMBER),
        }
    )
)
_DEFAULT_PORTS = MappingProxyType({"http": 80, "https": 443})


@dataclass(frozen=True)
class OwnRegion:
    """The region whose endpoint this server is: OpenNebula's zone, under all names by which clients may refer to it.

    Many clients know only Amazon's regions. Therefore the region that a request is signed for is a name of this region
    in that request, as are the `region_names` of the configuration, except names of other regions. `name` is the one in
    responses: the one that the request is signed for, else the zone's.
    """

    name: str
    names: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def display_name(self, requested_names: Iterable[str]) -> str:
        """Return the name for the response to a request with these region names: one of them, if this region has it."""
        own_names = [name for name in requested_names if name in self.names]
        return self.name if self.name in own_names or not own_names else own_names[0]


class DescribeRegionsResult(TypedDict):
    """EC2 DescribeRegionsResult."""

    Regions: list[RegionTypeDef]


# AllRegions includes regions that the caller has not opted in to; there are none here.
@action(ignores=("AllRegions",))
async def describe_regions(
    call: Call, *, region_names: Sequence[str] = (), filters: Sequence[Filter] = ()
) -> DescribeRegionsResult:
    """List the region of this server, and the other zones of a federation whose EC2 endpoint is configured.

    The endpoint of this server's region is the URL by which the client reached it, because clients use it for further
    requests. Raises `EC2Error` InvalidParameterValue for a name that is none of these regions.
    """
    zones = await call.zones()
    zone = own_zone(call.settings, zones)
    own = _own_region(call, zones, zone)
    others = {zone.name: call.settings.regions[zone.name] for zone in zones if zone.name in call.settings.regions}
    others.pop(zone.name, None)
    for name in region_names:
        if name not in own and name not in others:
            raise EC2Error("InvalidParameterValue", f"Invalid region: [{name}]")
    own_name = own.display_name((*region_names, *filtered_region_names(filters)))
    by_any_name = _FILTERS.with_values(
        _NAME_FILTER, lambda region: own.names if region[_NAME_MEMBER] == own_name else (region[_NAME_MEMBER],)
    )
    selection = by_any_name.selection(filters, call.budget)
    listed_names = {own_name if name in own else name for name in region_names} or {own_name, *others}
    regions: list[RegionTypeDef] = [
        {"RegionName": name, "Endpoint": endpoint, "OptInStatus": OPT_IN_NOT_REQUIRED}
        for name, endpoint in sorted({**others, own_name: call.endpoint}.items())
        if name in listed_names
    ]
    return {"Regions": await selection.matching(regions)}


def filtered_region_names(filters: Sequence[Filter]) -> frozenset[str]:
    """Return the values of the filter `region-name` in `filters`; none if one of them is a pattern."""
    return _FILTERS.values_of(_NAME_FILTER, filters) or frozenset()


async def own_region(call: Call) -> OwnRegion:
    """Return the region whose endpoint this server is."""
    zones = await call.zones()
    return _own_region(call, zones, own_zone(call.settings, zones))


async def own_zone_id(call: Call) -> int:
    """Return the id of OpenNebula's zone that is the region of this server."""
    return own_zone(call.settings, await call.zones()).id


def _own_region(call: Call, zones: Sequence[Zone], zone: Zone) -> OwnRegion:
    zone_name = zone.name
    other_names = {*(zone.name for zone in zones), *call.settings.regions} - {zone_name}
    is_own = call.signed_region is not None and call.signed_region not in other_names
    signed_name = call.signed_region if is_own else None
    names = {zone_name, *call.settings.region_names, *filter(None, (signed_name,))}
    return OwnRegion(signed_name or zone_name, frozenset(names - other_names))


def own_zone(settings: Settings, zones: Sequence[Zone]) -> Zone:
    """Return the zone of the configured oned: the zone with its endpoint, else the zone with the lowest id.

    An administrator enters ENDPOINT, and it is used only between the zones of a federation: it may be any text.
    """
    if not zones:
        raise InvalidReply("one.zonepool.info", "no zone")
    if len(zones) == 1:
        return zones[0]
    oned_endpoints = {_normalised(url) for url in settings.one_xmlrpc}
    return min(zones, key=lambda zone: (_normalised(zone.endpoint) not in oned_endpoints, zone.id))


def _normalised(url: str) -> tuple[str, str, int | None, str]:
    """Return scheme, host, port and path, which are equal for equivalent URLs; other text is equal only to itself."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return (url, "", None, "")
    return (parts.scheme, parts.hostname or "", port, parts.path.rstrip("/"))
