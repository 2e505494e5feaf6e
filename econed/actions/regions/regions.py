"""Regions: OpenNebula's zones, each a cloud with an oned of its own (EC2 API Reference, DescribeRegions)."""

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
    from econed.opennebula.documents import Zone

OPT_IN_NOT_REQUIRED: Final = "opt-in-not-required"
"""Nobody has to ask for a zone of OpenNebula before he may use it."""

_NAME, _MEMBER = "region-name", "RegionName"

_FILTERS = Filters(
    MappingProxyType(
        {
            "endpoint": field("Endpoint"),
            "opt-in-status": field("OptInStatus"),
            _NAME: field(_MEMBER),
        }
    )
)
_DEFAULT_PORTS = MappingProxyType({"http": 80, "https": 443})


@dataclass(frozen=True)
class OwnRegion:
    """The region that this server is the endpoint of: OpenNebula's zone, by whatever name a client knows it.

    Many clients know no regions but Amazon's. So the region that a request is signed for is a name of ours in this
    request, and so are those of `region_names` in the configuration; but never the name of another region.
    `name` is the one that answers show: the one that the request is signed for, else the zone's.
    """

    name: str
    names: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def shown_as(self, asked_for: Iterable[str]) -> str:
        """Return the name to show to who asked for regions by these names: one of them, if one is ours."""
        asked = [name for name in asked_for if name in self.names]
        return self.name if self.name in asked or not asked else asked[0]


class DescribeRegionsResult(TypedDict):
    """EC2 DescribeRegionsResult."""

    Regions: list[RegionTypeDef]


# AllRegions also shows regions that the caller has not opted in to: there are none.
@action(ignores=("AllRegions",))
async def describe_regions(
    call: Call, *, region_names: Sequence[str] = (), filters: Sequence[Filter] = ()
) -> DescribeRegionsResult:
    """List our own zone, and those other zones of a federation whose EC2 endpoint the configuration names.

    The endpoint of our own is this server as the client reached it: clients go on there. Raises `EC2Error`
    InvalidParameterValue for a name that is none of these.
    """
    zones = await call.session.zones()
    own = _own_region(call, zones)
    others = {zone.name: call.settings.regions[zone.name] for zone in zones if zone.name in call.settings.regions}
    others.pop(_own_zone(call, zones).name, None)
    for name in region_names:
        if name not in own and name not in others:
            raise EC2Error("InvalidParameterValue", f"Invalid region: [{name}]")
    shown = own.shown_as((*region_names, *named_by(filters)))
    by_any_name = _FILTERS.with_values(_NAME, lambda each: own.names if each[_MEMBER] == shown else (each[_MEMBER],))
    selection = by_any_name.selection(filters, call.budget)
    wanted = {shown if name in own else name for name in region_names} or {shown, *others}
    regions: list[RegionTypeDef] = [
        {"RegionName": name, "Endpoint": endpoint, "OptInStatus": OPT_IN_NOT_REQUIRED}
        for name, endpoint in sorted({**others, shown: call.endpoint}.items())
        if name in wanted
    ]
    return {"Regions": await selection.matching(regions)}


def named_by(filters: Sequence[Filter]) -> frozenset[str]:
    """Return the names of regions by which filters ask for something, but for patterns."""
    return _FILTERS.values_of(_NAME, filters) or frozenset()


async def own_region(call: Call) -> OwnRegion:
    """Return the region that this server is the endpoint of."""
    return _own_region(call, await call.session.zones())


def _own_region(call: Call, zones: Sequence[Zone]) -> OwnRegion:
    zone = _own_zone(call, zones).name
    others = {*(each.name for each in zones), *call.settings.regions} - {zone}
    signed = call.signed_region if call.signed_region is not None and call.signed_region not in others else None
    names = {zone, *call.settings.region_names, *filter(None, (signed,))}
    return OwnRegion(signed or zone, frozenset(names - others))


def _own_zone(call: Call, zones: Sequence[Zone]) -> Zone:
    """Return the zone of the oned that we speak to: the one with an endpoint of its, else the first that was made.

    A zone's ENDPOINT is written by hand and only used between the zones of a federation: it may be anything.
    """
    if not zones:
        raise InvalidReply("one.zonepool.info", "a cloud without a zone")
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
