"""Listing instances and their status (EC2 API Reference, DescribeInstances, DescribeInstanceStatus)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NotRequired, TypedDict

from econed.actions.action import Parts, action
from econed.actions.addresses.store import address_store
from econed.actions.addresses.view import PublicAddresses
from econed.actions.call import user_id_of
from econed.actions.inputs import Filter
from econed.actions.instances.filters import INSTANCE_FILTERS, STATUS_FILTERS, wants_ended
from econed.actions.instances.view import Reservations, reservation, status
from econed.actions.listing import Page, in_parts, single_set
from econed.actions.machines.finding import find_machines, listed_machine_ids, machine_sets
from econed.actions.machines.state import InstanceState
from econed.actions.paging import Listing, Paging
from econed.errors import OpenNebulaRefusal
from econed.opennebula.pools import OwnerFilter

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import InstanceStatusTypeDef, ReservationTypeDef

    from econed.actions.call import Call
    from econed.actions.listing import Sets
    from econed.opennebula.documents import VirtualMachine

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
    """List instances: all machines that the caller may see, those that ended lately among them (EC2 DescribeInstances).

    With MaxResults, a page ends after so many instances; a reservation may go on in the next.
    """
    selection = INSTANCE_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_INSTANCES, max_results, next_token, ids=instance_ids)
    clusters = await call.cluster_names()
    addresses = await _addresses(call)

    async def shown(machine: VirtualMachine) -> ReservationTypeDef | None:
        whole = reservation(machine, clusters, call.now, addresses)
        beside = {"OwnerId": whole["OwnerId"], "ReservationId": whole["ReservationId"]}
        return whole if await selection.matches({**whole["Instances"][0], **beside}) else None

    sets = await _sets(call, instance_ids, paging, ended=wants_ended(filters), owner=_owner(filters))
    return in_parts("Reservations", sets, shown, _page(paging, instance_ids), Reservations())


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
    """List the status of running instances, or with IncludeAllInstances of all (EC2 DescribeInstanceStatus)."""
    selection = STATUS_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_STATUS, max_results, next_token, ids=instance_ids)
    clusters = await call.cluster_names()

    async def shown(machine: VirtualMachine) -> InstanceStatusTypeDef | None:
        one = status(machine, clusters)
        is_meant = include_all_instances or one["InstanceState"] == InstanceState.RUNNING.member
        return one if await selection.matches(one) and is_meant else None

    sets = await _sets(call, instance_ids, paging, ended=include_all_instances)
    return in_parts("InstanceStatuses", sets, shown, _page(paging, instance_ids))


async def _sets(
    call: Call, instance_ids: Sequence[str], paging: Paging, *, ended: bool, owner: int | None = OwnerFilter.VISIBLE
) -> Sets[VirtualMachine]:
    """Return what reads the machines with these ids, or all behind the place where a page begins, lowest id first.

    `owner` is as for `listed_machine_ids`, None where no machine can be meant.
    """
    if instance_ids:
        return single_set(partial(find_machines, call, instance_ids))
    ids = () if owner is None else await listed_machine_ids(call, ended=ended, owner=owner)
    return machine_sets(call, paging.rest(ids, _position))


async def _addresses(call: Call) -> PublicAddresses | None:
    """Return the elastic IPs that lead to instances; None in a cloud that has none.

    A network that is not there, or not to be read, is a mistake in the configuration: instances are shown all the same.
    """
    if call.settings.elasticips_vnet_id is None:
        return None
    store = address_store(call)
    try:
        return PublicAddresses.of(await store.read_pool())
    except OpenNebulaRefusal as refusal:
        store.log.warn("public addresses are not shown: {refusal}", refusal=str(refusal))
        return None


def _owner(filters: Sequence[Filter]) -> int | None:
    """Return what oned is asked for: the machines of the one owner that a filter names, else all.

    None where nobody can be that owner, and nothing need be asked.
    """
    owners = INSTANCE_FILTERS.values_of("owner-id", filters)
    if owners is None or len(owners) != 1:
        return OwnerFilter.VISIBLE
    (owner,) = owners
    return user_id_of(owner)


def _page(paging: Paging, instance_ids: Sequence[str]) -> Page[VirtualMachine]:
    return Page(lambda machine: (machine.id,), None if instance_ids else paging)


def _position(machine_id: int) -> tuple[int]:
    return (machine_id,)
