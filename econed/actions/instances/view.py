"""How a virtual machine of OpenNebula looks as an EC2 instance: pure functions from its document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from econed.actions.addresses.view import PublicAddresses, shown_association
from econed.actions.call import account_id
from econed.actions.client_tokens import CLIENT_TOKEN
from econed.actions.machines.devices import device_name, volume_id
from econed.actions.machines.facts import (
    ATTACH_TIME,
    DELETE_ON_TERMINATION,
    IMAGE_ID,
    INSTANCE_TYPE,
    KEY_NAME,
    LAUNCH_INDEX,
    RESERVATION,
)
from econed.actions.machines.placement import availability_zone_of
from econed.actions.machines.state import InstanceState, is_failure, state_of
from econed.actions.machines.times import launch_time, stop_time, termination_time
from econed.actions.tagging import tags_of
from econed.actions.timestamps import timestamp
from econed.ids import (
    IMAGE,
    INSTANCE,
    SECURITY_GROUP,
    SUBNET,
    part_of_machine,
    reservation_id,
)
from econed.ids import RESERVATION as RESERVATION_ID
from econed.opennebula.states import LcmState, VmState
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        GroupIdentifierTypeDef,
        InstanceBlockDeviceMappingTypeDef,
        InstanceMetadataOptionsResponseTypeDef,
        InstanceNetworkInterfaceTypeDef,
        InstanceStatusSummaryTypeDef,
        InstanceStatusTypeDef,
        InstanceTypeDef,
        ReservationTypeDef,
        StateReasonTypeDef,
    )

    from econed.opennebula.documents import Disk, Nic, VirtualMachine


CUSTOM_TYPE = "custom"
"""The instance type of a machine that no EC2_INSTANCE_TYPE speaks of, because it was not made by an EC2 client."""

_NO_METADATA_SERVICE: InstanceMetadataOptionsResponseTypeDef = {
    "State": "applied",
    "HttpTokens": "optional",
    "HttpPutResponseHopLimit": 1,
    "HttpEndpoint": "disabled",
    "HttpProtocolIpv6": "disabled",
    "InstanceMetadataTags": "disabled",
}
"""Guests get what they need from the CONTEXT image, so the endpoint of EC2's service is off."""

_GONE_DOWN = frozenset(
    {InstanceState.STOPPING, InstanceState.STOPPED, InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}
)

_KEPT_BACK = 100
"""Instances from which on a reservation is not kept back for more of them."""

GUEST_POWERED_OFF = 44
"""HISTORY/ACTION of a machine that oned's monitoring found off, as after a shutdown from inside (MONITOR_ACTION)."""


def reservation(
    machine: VirtualMachine, clusters: Mapping[int, str], now: int, addresses: PublicAddresses | None = None
) -> ReservationTypeDef:
    """Return a machine as the one instance of the reservation that its RunInstances call made; see `instance`."""
    return {
        "ReservationId": reservation_of(machine),
        "OwnerId": account_id(machine.uid),
        "Groups": [],
        "Instances": [instance(machine, clusters, now, addresses)],
    }


def merged(reservations: Iterable[ReservationTypeDef]) -> list[ReservationTypeDef]:
    """Return reservations with those of the same owner and id made one: anybody may write another's id on a machine."""
    whole: dict[tuple[str, str], ReservationTypeDef] = {}
    for each in reservations:
        key = (each.get("OwnerId", ""), each["ReservationId"])
        found = whole.setdefault(key, {**each, "Instances": []})
        found["Instances"].extend(each["Instances"])
    return list(whole.values())


def reservation_of(machine: VirtualMachine) -> str:
    """Return the id of the reservation of a machine: as RunInstances noted it, else the one of the machine alone."""
    noted = machine.user_template.text(RESERVATION)
    return noted if RESERVATION_ID.is_id(noted) else reservation_id(machine.id)


class Reservations:
    """Reservations of machines that come in sets: those of the same id are made one within a set.

    The last one of a set is kept back for the next, in which most of those go on that are split; but not a large one.
    See `econed.actions.listing.Arrangement`.
    """

    def __init__(self) -> None:
        self._open: list[ReservationTypeDef] = []

    def of(self, items: list[ReservationTypeDef]) -> list[ReservationTypeDef]:
        """Return the reservations that are to be shown now."""
        if not items:
            return []
        last = items[-1]["ReservationId"]
        whole = merged([*self.rest(), *items])
        self._open = [each for each in whole if each["ReservationId"] == last and len(each["Instances"]) < _KEPT_BACK]
        return whole if not self._open else [each for each in whole if each["ReservationId"] != last]

    def rest(self) -> list[ReservationTypeDef]:
        """Return the one that was kept back."""
        kept, self._open = self._open, []
        return kept


def status(machine: VirtualMachine, clusters: Mapping[int, str]) -> InstanceStatusTypeDef:
    """Return the status of a machine: what oned's monitoring says of a running one stands for both of EC2's checks."""
    state = state_of(machine)
    summary = _reachability(machine, state)
    return {
        "InstanceId": INSTANCE.format(machine.id),
        "AvailabilityZone": availability_zone_of(machine, clusters),
        "InstanceState": state.member,
        "InstanceStatus": summary,
        "SystemStatus": summary,
    }


def instance(
    machine: VirtualMachine, clusters: Mapping[int, str], now: int, addresses: PublicAddresses | None = None
) -> InstanceTypeDef:
    """Return a machine as an instance.

    `clusters` are the names of the clusters, which are the availability zones; `addresses` are the elastic IPs; `now`
    is the time in seconds since the epoch.
    """
    facts = machine.user_template
    state = state_of(machine)
    shown: InstanceTypeDef = {
        "InstanceId": INSTANCE.format(machine.id),
        "ImageId": _image_id(machine),
        "State": state.member,
        "StateTransitionReason": transition_reason(machine, state, now),
        "InstanceType": facts.text(INSTANCE_TYPE) or CUSTOM_TYPE,  # type: ignore[typeddict-item]  # names of our own
        "AmiLaunchIndex": whole_number(facts.text(LAUNCH_INDEX)) or 0,
        "LaunchTime": timestamp(launch_time(machine)),
        "Placement": {
            "AvailabilityZone": availability_zone_of(machine, clusters),
            "Tenancy": "default",
            "GroupName": "",
        },
        "Monitoring": {"State": "disabled"},
        "ProductCodes": [],
        "PrivateDnsName": "",
        "PublicDnsName": "",
        "Architecture": "x86_64",
        "VirtualizationType": "hvm",
        "Hypervisor": "xen",
        "RootDeviceType": "ebs",
        "RootDeviceName": root_device(machine),
        "EbsOptimized": False,
        "EnaSupport": False,
        "PlatformDetails": "Linux/UNIX",
        "UsageOperation": "RunInstances",
        "MetadataOptions": _NO_METADATA_SERVICE,
        "ClientToken": facts.text(CLIENT_TOKEN),
        "BlockDeviceMappings": [],
        "NetworkInterfaces": [],
        "SecurityGroups": [],
    }
    shown["BootMode"] = shown["CurrentInstanceBootMode"] = "uefi" if machine.boots_with_uefi else "legacy-bios"
    if tags := tags_of(facts):
        shown["Tags"] = tags
    if key_name := machine.decoded_context_text(KEY_NAME):
        shown["KeyName"] = key_name
    if vcpus := whole_number(machine.template_text("VCPU")) or 1:
        shown["CpuOptions"] = {"CoreCount": vcpus, "ThreadsPerCore": 1}
    if reason := state_reason(machine, state):
        shown["StateReason"] = reason
    if state is not InstanceState.TERMINATED:
        shown |= _attached(machine, addresses or PublicAddresses({}))
    return shown


def root_device(machine: VirtualMachine) -> str:
    """Return the device of the disk that was made from the AMI; empty if there is no disk."""
    return device_name(machine, machine.disks[0]) if machine.disks else ""


def state_reason(machine: VirtualMachine, state: InstanceState) -> StateReasonTypeDef | None:
    """Return why a machine is as it is, where EC2 says so (EC2 API Reference, StateReason); None while it runs."""
    if is_failure(machine.state, machine.lcm_state):
        return _reason("Server.InternalError", "Internal error on launch or while changing state")
    if machine.state is VmState.PENDING and machine.sched_message:
        return _reason("Server.InsufficientInstanceCapacity", "There is not enough capacity for this instance")
    if state in (InstanceState.STOPPED, InstanceState.STOPPING) and was_shut_down_inside(machine):
        return _reason("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
    if state in _GONE_DOWN:
        return _reason("Client.UserInitiatedShutdown", "User initiated shutdown")
    return None


def was_shut_down_inside(machine: VirtualMachine) -> bool:
    """Whether a machine is off because its guest shut down, not because somebody asked OpenNebula."""
    last = machine.last_record
    may_be = machine.state is VmState.POWEROFF or machine.lcm_state is LcmState.SHUTDOWN_POWEROFF
    return may_be and last is not None and last.action == GUEST_POWERED_OFF


def transition_reason(machine: VirtualMachine, state: InstanceState, now: int) -> str:
    """Return why and when a machine was stopped or ended, as Amazon words it; empty for one that is to run.

    There is always a time in it, which clients read: where oned has recorded none (yet), it is `now`.
    """
    match state:
        case InstanceState.STOPPED | InstanceState.STOPPING:
            when = stop_time(machine)
        case InstanceState.TERMINATED | InstanceState.SHUTTING_DOWN:
            when = termination_time(machine)
        case _:
            return ""
    return f"User initiated ({timestamp(now if when is None else when):%Y-%m-%d %H:%M:%S} GMT)"


def _attached(machine: VirtualMachine, addresses: PublicAddresses) -> InstanceTypeDef:
    """Return what a machine has only until it ends: its disks, its interfaces and their addresses."""
    interfaces = [interface(machine, nic, index, addresses) for index, nic in enumerate(machine.nics)]
    attached: InstanceTypeDef = {
        "BlockDeviceMappings": [_mapping(machine, disk) for disk in machine.disks if disk.target],
        "NetworkInterfaces": interfaces,
        "SourceDestCheck": True,
    }
    if interfaces:
        first = machine.nics[0]
        attached["SecurityGroups"] = interfaces[0]["Groups"]
        if first.ip is not None:
            # Addresses stand for the names that there are none of, as with the Ruby server: by them clients connect.
            attached["PrivateIpAddress"] = attached["PrivateDnsName"] = str(first.ip)
            if first.ip.is_global:
                attached["PublicDnsName"] = str(first.ip)
        if (public := interfaces[0].get("Association")) is not None:
            attached["PublicIpAddress"] = attached["PublicDnsName"] = public.get("PublicIp", "")
        if first.network_id is not None:
            attached["SubnetId"] = SUBNET.format(first.network_id)
    return attached


def _mapping(machine: VirtualMachine, disk: Disk) -> InstanceBlockDeviceMappingTypeDef:
    return {
        "DeviceName": device_name(machine, disk),
        "Ebs": {
            "VolumeId": volume_id(machine, disk),
            "Status": "attaching" if disk.is_attaching else "attached",
            "AttachTime": timestamp(epoch_seconds(disk.text(ATTACH_TIME)) or machine.stime),
            "DeleteOnTermination": not disk.is_persistent or disk.text(DELETE_ON_TERMINATION) == "YES",
        },
    }


def interface(
    machine: VirtualMachine, nic: Nic, index: int, addresses: PublicAddresses | None = None
) -> InstanceNetworkInterfaceTypeDef:
    """Return a network interface of a machine, the `index`th, from 0."""
    shown: InstanceNetworkInterfaceTypeDef = {
        "NetworkInterfaceId": part_of_machine("eni", machine.id, nic.nic_id),
        "OwnerId": account_id(machine.uid),
        "MacAddress": nic.mac,
        "Status": "in-use",
        "Description": nic.network,
        "InterfaceType": "interface",
        "SourceDestCheck": True,
        "Groups": _groups(machine, nic),
        "Attachment": {
            "AttachmentId": part_of_machine("eni-attach", machine.id, nic.nic_id),
            "AttachTime": timestamp(machine.stime),
            "DeleteOnTermination": True,
            "DeviceIndex": index,
            "Status": "attaching" if nic.is_attaching else "attached",
        },
        "PrivateIpAddresses": [],
        "Ipv6Addresses": [{"Ipv6Address": str(nic.ip6)}] if nic.ip6 is not None else [],
    }
    if nic.network_id is not None:
        shown["SubnetId"] = SUBNET.format(nic.network_id)
    if nic.ip is not None:
        shown["PrivateIpAddress"] = str(nic.ip)
        shown["PrivateIpAddresses"] = [{"Primary": True, "PrivateIpAddress": str(nic.ip)}]
        if addresses is not None and (address := addresses.on(machine, nic)) is not None:
            shown["Association"] = shown_association(address)
            shown["PrivateIpAddresses"][0]["Association"] = shown_association(address)
    return shown


def _groups(machine: VirtualMachine, nic: Nic) -> list[GroupIdentifierTypeDef]:
    names = machine.security_group_names
    return [
        {"GroupId": SECURITY_GROUP.format(number), "GroupName": names.get(number, "")}
        for number in nic.security_group_ids
    ]


def _image_id(machine: VirtualMachine) -> str:
    """Return the AMI: as RunInstances noted it, else the image of the first disk that was made from one."""
    if IMAGE.is_id(noted := machine.user_template.text(IMAGE_ID)):
        return noted
    return next((IMAGE.format(disk.image_id) for disk in machine.disks if disk.image_id is not None), "")


def _reachability(machine: VirtualMachine, state: InstanceState) -> InstanceStatusSummaryTypeDef:
    if state is not InstanceState.RUNNING:
        return {"Status": "not-applicable", "Details": []}
    if machine.lcm_state is LcmState.UNKNOWN or machine.lcm_state.is_failure:
        return {"Status": "impaired", "Details": [{"Name": "reachability", "Status": "failed"}]}
    return {"Status": "ok", "Details": [{"Name": "reachability", "Status": "passed"}]}


def _reason(code: str, sentence: str) -> StateReasonTypeDef:
    return {"Code": code, "Message": f"{code}: {sentence}"}
