"""Network interfaces (EC2 API Reference, DescribeNetworkInterfaces and its neighbours): the NICs of instances.

An interface is made with its instance and ends with it, or when it is detached: OpenNebula has no NIC without a
machine, and cannot hand an address from one machine to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from econed.actions.action import Parts, action
from econed.actions.inputs import AttributeBooleanValue, AttributeValue, Filter, check_text
from econed.actions.instances.group_changes import group_change
from econed.actions.instances.launch_groups import GroupNames
from econed.actions.instances.remembered import Surroundings
from econed.actions.interfaces.view import INTERFACE_FILTERS, network_interface_view
from econed.actions.listing import Page, in_parts, single_set, with_first_set
from econed.actions.machines.interface_facts import (
    MAX_DESCRIPTION,
    description_of,
    description_text,
    has_source_dest_check,
    removal_text,
    source_dest_check_text,
)
from econed.actions.machines.interfaces import (
    Interface,
    attachment_id_of,
    attachment_not_found,
    find_attached_interface,
    find_interfaces,
    interfaces_of,
)
from econed.actions.machines.listed import listed_machine_sets
from econed.actions.machines.lookup import find_settled_machines, machine_sets
from econed.actions.machines.state import InstanceState, state_of
from econed.actions.networks.lookup import read_networks
from econed.actions.object_limits import MAX_ON_MACHINE, check_size
from econed.actions.paging import Listing, Paging
from econed.actions.tagging import too_many_tags
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import INSTANCE
from econed.opennebula.documents import Right
from econed.opennebula.template import template

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        AttributeBooleanValueTypeDef,
        AttributeValueTypeDef,
        GroupIdentifierTypeDef,
        NetworkInterfaceAttachmentTypeDef,
        NetworkInterfaceTypeDef,
    )

    from econed.actions.call import Call
    from econed.actions.sets import Read, Sets
    from econed.opennebula.documents import Nic, VirtualMachine

_INTERFACES = Listing("network-interfaces", (int, int))
_FILTER = "FILTER_IP_SPOOFING"
_SETTLE_TIMEOUT = 15
_DETACHABLE_STATES = frozenset({InstanceState.RUNNING, InstanceState.STOPPED})


class DescribeNetworkInterfacesResult(TypedDict):
    """EC2 DescribeNetworkInterfacesResult."""

    NetworkInterfaces: list[NetworkInterfaceTypeDef]
    NextToken: NotRequired[str]


class DescribeNetworkInterfaceAttributeResult(TypedDict, total=False):
    """EC2 DescribeNetworkInterfaceAttributeResult: the id and the attribute that was asked for."""

    NetworkInterfaceId: str
    Description: AttributeValueTypeDef
    Groups: list[GroupIdentifierTypeDef]
    SourceDestCheck: AttributeBooleanValueTypeDef
    Attachment: NetworkInterfaceAttachmentTypeDef
    AssociatePublicIpAddress: bool


class AttachmentChanges(TypedDict, total=False):
    """What to change of an attachment (EC2 NetworkInterfaceAttachmentChanges)."""

    AttachmentId: str
    DeleteOnTermination: bool


@action(ignores=("IncludeManagedResources",))
async def describe_network_interfaces(
    call: Call,
    *,
    network_interface_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> Parts[DescribeNetworkInterfacesResult]:
    """List the network interfaces of all instances that are visible to the caller (EC2 DescribeNetworkInterfaces)."""
    selection = INTERFACE_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_INTERFACES, max_results, next_token, ids=network_interface_ids)
    surroundings = Surroundings()

    async def view_if_selected(interface: Interface) -> NetworkInterfaceTypeDef | None:
        view = network_interface_view(interface, surroundings)
        return view if await selection.matches({**view, "Tags": view["TagSet"]}) else None

    if network_interface_ids:
        sets = single_set(partial(find_interfaces, call, network_interface_ids))
    else:
        sets = _interface_sets(_machines(call, filters, paging))
    page: Page[Interface] = Page(_position, None if network_interface_ids else paging)
    sets = surroundings.with_vpcs(call, sets, lambda interface: interface.nic.parent_network_id is not None)
    return in_parts("NetworkInterfaces", with_first_set(sets, lambda: surroundings.read(call)), view_if_selected, page)


def _machines(call: Call, filters: Sequence[Filter], paging: Paging) -> Sets[VirtualMachine]:
    """Return readers of the machines whose interfaces may be listed: of the instances that a filter names, or all."""
    named = INTERFACE_FILTERS.values_of("attachment.instance-id", filters)
    if named is not None:
        numbers = (INSTANCE.opennebula_id(text) for text in named if INSTANCE.is_id(text))
        return machine_sets(call, sorted(number for number in numbers if number is not None))
    first = 0 if paging.after is None else int(paging.after[0])
    expected = None if paging.limit is None else paging.limit + 1
    return listed_machine_sets(call, ended=False, first=first, expected=expected)


async def _interface_sets(machines: Sets[VirtualMachine]) -> Sets[Interface]:
    async with aclosing(machines):
        async for read in machines:
            yield partial(_interfaces, read)


async def _interfaces(read: Read[VirtualMachine]) -> Iterable[Interface]:
    return [interface for machine in await read() for interface in interfaces_of(machine)]


def _position(interface: Interface) -> tuple[int, int]:
    return interface.machine.id, interface.nic.nic_id


@action()
async def describe_network_interface_attribute(
    call: Call,
    *,
    network_interface_id: str,
    attribute: Literal["description", "groupSet", "sourceDestCheck", "attachment", "associatePublicIpAddress"],
) -> DescribeNetworkInterfaceAttributeResult:
    """Return one attribute of a network interface (EC2 DescribeNetworkInterfaceAttribute)."""
    (interface,) = await find_interfaces(call, [network_interface_id])
    machine, nic = interface.machine, interface.nic
    result: DescribeNetworkInterfaceAttributeResult = {"NetworkInterfaceId": interface.id}
    if attribute == "description":
        result["Description"] = {"Value": description_of(machine, nic)}
    elif attribute == "sourceDestCheck":
        result["SourceDestCheck"] = {"Value": has_source_dest_check(machine, nic)}
    elif attribute == "associatePublicIpAddress":
        surroundings = Surroundings()
        await surroundings.read(call)
        address = surroundings.addresses.on(machine, nic)
        result["AssociatePublicIpAddress"] = address is not None and address.is_auto_assigned
    else:
        view = network_interface_view(interface, Surroundings())
        if attribute == "groupSet":
            result["Groups"] = view.get("Groups", [])
        else:
            result["Attachment"] = view["Attachment"]
    return result


@action()
async def modify_network_interface_attribute(
    call: Call,
    *,
    network_interface_id: str,
    description: AttributeValue | None = None,
    source_dest_check: AttributeBooleanValue | None = None,
    attachment: AttachmentChanges | None = None,
    groups: Sequence[str] | None = None,
) -> None:
    """Change attributes of a network interface (EC2 ModifyNetworkInterfaceAttribute).

    An interface ends with its instance, so DeleteOnTermination may only be true. SourceDestCheck may be false where the
    network does not drop packets with other addresses. Groups replaces the security groups, at once.
    """
    find = partial(_interface_named, call, network_interface_id)
    change = None if groups is None else await group_change(call, find, GroupNames.of(groups))
    interface = await find() if change is None else change.interface
    machine, nic = interface.machine, interface.nic
    changes = []
    if description is not None:
        text = description.get("Value", "")
        check_text("Description.Value", text, MAX_DESCRIPTION)
        changes.append(description_text(machine, nic, text))
    if source_dest_check is not None:
        value = source_dest_check.get("Value", True)
        if not value and await _drops_other_addresses(call, nic):
            raise EC2Error(
                "UnsupportedOperation",
                "The subnet drops packets with addresses that are not the interface's own: an administrator of the "
                "cloud can change FILTER_IP_SPOOFING of the OpenNebula network.",
            )
        changes.append(source_dest_check_text(machine, nic, value))
    if attachment is not None:
        _check_attachment(interface, attachment)
    text = template(*changes)
    check_size(machine.user_template, text, MAX_ON_MACHINE, too_many_tags())

    async def make_changes(target: VirtualMachine) -> None:
        if text:
            await call.session.vm_update(target.id, text)
        if change is not None:
            await change.make(call)

    if text or change is not None:
        await call.change_all(Right.MANAGE, [machine], make_changes)


async def _drops_other_addresses(call: Call, nic: Nic) -> bool:
    """Whether the network of a NIC only lets the addresses of the NIC pass (OpenNebula, FILTER_IP_SPOOFING)."""
    networks = (await read_networks(call)).subnets
    texts = [subnet.network.template_text(_FILTER) for subnet in networks if subnet.network.id == nic.network_id]
    return "YES" in (text.upper() for text in (nic.text(_FILTER), *texts))


def _check_attachment(interface: Interface, changes: AttachmentChanges) -> None:
    if (text := changes.get("AttachmentId", "")) != attachment_id_of(interface.machine.id, interface.nic):
        raise attachment_not_found(text)
    if not changes.get("DeleteOnTermination", True):
        raise EC2Error(
            "UnsupportedOperation", "A network interface is deleted with its instance: OpenNebula has none without one."
        )


@action(ignores=("Force",))
async def detach_network_interface(call: Call, *, attachment_id: str) -> None:
    """Detach a network interface other than the first, which ends it (EC2 DetachNetworkInterface; one.vm.detachnic).

    Its address is free then. Raises `EC2Error` OperationNotPermitted for the first interface, and IncorrectState if the
    instance is neither running nor stopped.
    """
    interface = await find_attached_interface(call, attachment_id)
    if interface.index == 0:
        raise EC2Error(
            "OperationNotPermitted", "The network interface at device index 0 cannot be detached from its instance."
        )
    instance_id = INSTANCE.format(interface.machine.id)
    await find_settled_machines(call, [instance_id], timeout=_SETTLE_TIMEOUT)
    interface = await find_attached_interface(call, attachment_id)
    machine, nic = interface.machine, interface.nic
    if nic.is_attaching:  # detached by another request, or still being attached
        raise _not_detachable(instance_id)
    if state_of(machine) not in _DETACHABLE_STATES:
        raise _not_detachable(instance_id)

    async def detach(target: VirtualMachine) -> None:
        try:
            await call.session.nic_detach(target.id, nic.nic_id)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.ACTION:
                raise
            raise _not_detachable(instance_id) from refusal
        if text := removal_text(target, nic):
            await call.session.vm_update(target.id, text)

    await call.change_all(Right.MANAGE, [machine], detach)


def _not_detachable(instance_id: str) -> EC2Error:
    return EC2Error(
        "IncorrectState", f"Instance '{instance_id}' is not 'running' or 'stopped', or is busy: try again later."
    )


async def _interface_named(call: Call, interface_id: str) -> Interface:
    (interface,) = await find_interfaces(call, [interface_id])
    return interface
