"""Listing instances and their status (EC2 API Reference, DescribeInstances, DescribeInstanceStatus)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

from econed.actions.action import Parts, action
from econed.actions.call import user_id_of
from econed.actions.inputs import Filter
from econed.actions.instances.filters import INSTANCE_FILTERS, STATUS_FILTERS, may_match_terminated
from econed.actions.instances.remembered import InstanceList, Surroundings, may_be_in_vpc
from econed.actions.instances.view import ReservationMerger, status_view
from econed.actions.listing import Page, in_parts, set_of, single_set, with_first_set
from econed.actions.machines.listed import listed_machine_sets, listed_or_remembered_sets
from econed.actions.machines.lookup import find_machines
from econed.actions.machines.state import InstanceState
from econed.actions.paging import Listing, Paging
from econed.opennebula.machine_sets import MAX_SMALL_SET
from econed.opennebula.pools import OwnerFilter

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import InstanceStatusTypeDef, ReservationTypeDef

    from econed.actions.call import Call
    from econed.actions.instances.remembered import Listed
    from econed.actions.sets import Sets
    from econed.opennebula.documents import VirtualMachine

_D = TypeVar("_D")
_R = TypeVar("_R", bound=Mapping[str, Any])

_INSTANCES = Listing("instances", (int,))
_STATUS = Listing("instance-status", (int,))


class DescribeInstancesResult(TypedDict):
    """EC2 DescribeInstancesResult."""

    Reservations: list[ReservationTypeDef]
    NextToken: NotRequired[str]


class DescribeInstanceStatusResult(TypedDict):
    """EC2 DescribeInstanceStatusResult."""

    InstanceStatuses: list[InstanceStatusTypeDef]
    NextToken: NotRequired[str]


@action(ignores=("IncludeManagedResources",))
async def describe_instances(
    call: Call,
    *,
    instance_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeInstancesResult]:
    """List instances: all that are visible to the caller, including recently terminated ones (EC2 DescribeInstances).

    With MaxResults, a page ends after that many instances; a reservation may continue on the next page.
    """
    selection = INSTANCE_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_INSTANCES, max_results, next_token, ids=instance_ids)
    surroundings = Surroundings()
    instances = InstanceList(call, selection, surroundings)
    lists = partial(listed_or_remembered_sets, call, instances.parser, ended=may_match_terminated(filters))
    machines: Sets[Listed] = _sets(call, instance_ids, paging, lists, owner=_owner(filters))
    sets = with_first_set(surroundings.with_vpcs(call, machines, may_be_in_vpc), lambda: surroundings.read(call))
    view, page = instances.view_if_selected, _page(paging, instance_ids)
    result = in_parts("Reservations", instances.current(sets), view, page, ReservationMerger())
    return await _short_at_once(call, instance_ids, result)


@action(ignores=("IncludeManagedResources",))
async def describe_instance_status(
    call: Call,
    *,
    instance_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    include_all_instances: bool = False,
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeInstanceStatusResult]:
    """List the status of running instances, or of all with IncludeAllInstances (EC2 DescribeInstanceStatus)."""
    selection = STATUS_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_STATUS, max_results, next_token, ids=instance_ids)
    surroundings = Surroundings()

    async def view_if_selected(machine: VirtualMachine) -> InstanceStatusTypeDef | None:
        status = status_view(machine, surroundings.clusters)
        is_included = include_all_instances or status["InstanceState"] == InstanceState.RUNNING.member
        return status if await selection.matches(status) and is_included else None

    lists = partial(listed_machine_sets, call, ended=include_all_instances)
    machines = _sets(call, instance_ids, paging, lists)
    sets = with_first_set(machines, lambda: surroundings.read_clusters(call))
    result = in_parts("InstanceStatuses", sets, view_if_selected, _page(paging, instance_ids))
    return await _short_at_once(call, instance_ids, result)


async def _short_at_once(call: Call, instance_ids: Sequence[str], result: Parts[_R]) -> Parts[_R]:
    """Return a result; one for few instances by their ids is produced now, if the limits permit."""
    if 0 < len(instance_ids) <= MAX_SMALL_SET:
        return await call.memory.short_results.result(call.session_key, result)
    return result


def _sets(
    call: Call,
    instance_ids: Sequence[str],
    paging: Paging,
    list_sets: Callable[..., Sets[_D]],
    *,
    owner: int | None = OwnerFilter.VISIBLE,
) -> Sets[VirtualMachine | _D]:
    """Return readers of the machines with these ids, or of all from the beginning of the page, lowest id first.

    `list_sets` and `owner` are as for `listed_machine_sets`; `owner` is None if no machine can be selected.
    """
    if instance_ids:
        return single_set(partial(find_machines, call, instance_ids))
    if owner is None:
        return set_of([])
    first = 0 if paging.after is None else int(paging.after[0]) + 1
    if paging.limit is not None:
        return list_sets(owner=owner, first=first, expected=paging.limit + 1)
    return call.memory.read_ahead.sets(call.session_key, list_sets(owner=owner, first=first))


def _owner(filters: Sequence[Filter]) -> int | None:
    """Return the owner filter for oned: the owner if a filter has exactly one, else all visible machines.

    None if no user can be that owner, so that nothing needs to be read.
    """
    owners = INSTANCE_FILTERS.values_of("owner-id", filters)
    if owners is None or len(owners) != 1:
        return OwnerFilter.VISIBLE
    (owner,) = owners
    return user_id_of(owner)


def _page(paging: Paging, instance_ids: Sequence[str]) -> Page[Any]:
    return Page(lambda machine: (machine.id,), None if instance_ids else paging)
