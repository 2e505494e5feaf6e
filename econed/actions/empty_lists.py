"""Lists of what OpenNebula does not have: one table of actions, whose result is always empty.

Their ids are therefore never found. Unknown parameters and filters are refused as in any other list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from econed.actions.action import Action, Members, ResultType, keyword_of, supported_members
from econed.actions.filters import Filters, no_values, tag_filters
from econed.actions.inputs import Filter
from econed.actions.paging import Listing, Paging
from econed.ids import Kind
from econed.services import EC2

if TYPE_CHECKING:
    from econed.actions.call import Call

_ALL_VALUES: Final = Members(MappingProxyType({}), is_open=True)


@dataclass(frozen=True)
class EmptyList:
    """An action whose list is empty: its name, the member of its result, and what it would list.

    `filters` are Amazon's, without those on tags, which it has if its items `have_tags`. `ids` is the parameter with
    ids, and `kind` what they are ids of. `filters_in` is the parameter with the filters. Pages have `max_results` items
    at least and at most.
    """

    action: str
    member: str
    noun: str
    filters: tuple[str, ...] = ()
    have_tags: bool = True
    ids: str = ""
    kind: Kind | None = None
    filters_in: str = "Filters"
    max_results: tuple[int, int] = (5, 1000)


def _kind(prefix: str, not_found_code: str, malformed_code: str, noun: str) -> Kind:
    return Kind(prefix, not_found_code, malformed_code, noun, forms=())


_PREFIX_LIST = _kind("pl", "InvalidPrefixListID.NotFound", "InvalidPrefixListId.Malformed", "prefix list ID")

EMPTY_LISTS: Final = (
    EmptyList(
        "DescribeCarrierGateways",
        "CarrierGateways",
        "carrier gateways",
        ("carrier-gateway-id", "owner-id", "state", "vpc-id"),
        ids="CarrierGatewayIds",
        kind=_kind(
            *("cagw", "InvalidCarrierGatewayID.NotFound", "InvalidCarrierGatewayID.Malformed", "carrier gateway ID")
        ),
    ),
    EmptyList(
        "DescribeEgressOnlyInternetGateways",
        "EgressOnlyInternetGateways",
        "egress-only internet gateways",
        ids="EgressOnlyInternetGatewayIds",
        kind=_kind(
            "eigw",
            "InvalidEgressOnlyInternetGatewayId.NotFound",
            "InvalidEgressOnlyInternetGatewayId.Malformed",
            "egress only internet gateway ID",
        ),
        max_results=(5, 255),
    ),
    EmptyList(
        "DescribeManagedPrefixLists",
        "PrefixLists",
        "managed prefix lists",
        ("owner-id", "prefix-list-id", "prefix-list-name"),
        ids="PrefixListIds",
        kind=_PREFIX_LIST,
        max_results=(1, 100),
    ),
    EmptyList(
        "DescribeNatGateways",
        "NatGateways",
        "NAT gateways",
        ("nat-gateway-id", "state", "subnet-id", "vpc-id"),
        ids="NatGatewayIds",
        kind=_kind("nat", "NatGatewayNotFound", "NatGatewayMalformed", "NAT gateway"),
        filters_in="Filter",
    ),
    EmptyList(
        "DescribePrefixLists",
        "PrefixLists",
        "prefix lists of gateway endpoints",
        ("prefix-list-id", "prefix-list-name"),
        have_tags=False,
        ids="PrefixListIds",
        kind=_PREFIX_LIST,
    ),
    EmptyList(
        "DescribeVpcEndpoints",
        "VpcEndpoints",
        "VPC endpoints",
        (
            *("ip-address-type", "service-name", "service-region", "vpc-id"),
            *("vpc-endpoint-id", "vpc-endpoint-state", "vpc-endpoint-type"),
        ),
        ids="VpcEndpointIds",
        kind=_kind("vpce", "InvalidVpcEndpointId.NotFound", "InvalidVpcEndpointId.Malformed", "Vpc Endpoint Id"),
    ),
    EmptyList(
        "DescribeVpcPeeringConnections",
        "VpcPeeringConnections",
        "VPC peering connections",
        (
            *("accepter-vpc-info.cidr-block", "accepter-vpc-info.owner-id", "accepter-vpc-info.vpc-id"),
            *("expiration-time", "status-code", "status-message", "vpc-peering-connection-id"),
            *("requester-vpc-info.cidr-block", "requester-vpc-info.owner-id", "requester-vpc-info.vpc-id"),
        ),
        ids="VpcPeeringConnectionIds",
        kind=_kind(
            "pcx",
            "InvalidVpcPeeringConnectionID.NotFound",
            "InvalidVpcPeeringConnectionId.Malformed",
            "vpcPeeringConnection ID",
        ),
    ),
)
"""All of them. A new row is a new action."""


def _action(row: EmptyList) -> Action:
    """Return the action of a row."""
    known = {**dict.fromkeys(row.filters, no_values), **(tag_filters() if row.have_tags else {})}
    filters = Filters(MappingProxyType(known))
    listing = Listing(row.action, (int,))
    minimum, maximum = row.max_results
    filters_keyword, ids_keyword = keyword_of(row.filters_in), keyword_of(row.ids)

    async def run(
        call: Call, *, max_results: int | None = None, next_token: str | None = None, **others: Any
    ) -> dict[str, Any]:
        filters.selection(others.get(filters_keyword), call.budget)
        ids: Sequence[str] = others.get(ids_keyword, ())
        Paging.of(listing, max_results, next_token, minimum=minimum, maximum=maximum, ids=ids)
        if row.kind is not None and ids:
            for text in ids:
                row.kind.opennebula_id(text)
            raise row.kind.not_found(*ids)
        return {row.member: []}

    run.__doc__ = f"List {row.noun}: there are none (EC2 {row.action})."
    parameters = {row.filters_in: supported_members(Sequence[Filter]), "MaxResults": _ALL_VALUES}
    parameters |= {"NextToken": _ALL_VALUES, **({row.ids: _ALL_VALUES} if row.ids else {})}
    return Action(
        service=EC2,
        name=row.action,
        run=run,
        only_reads=True,
        accepts=Members(MappingProxyType(parameters)),
        required=frozenset(),
        ignores=frozenset(),
        as_is=MappingProxyType({}),
        missing=MappingProxyType({}),
        takes_file=False,
        returns=ResultType(frozenset({row.member, "NextToken"})),
    )


ACTIONS: Final = tuple(map(_action, EMPTY_LISTS))
