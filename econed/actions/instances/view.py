"""EC2's view of a virtual machine as an instance: pure functions of its document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from econed.actions.addresses.view import PublicAddresses, association_view
from econed.actions.client_tokens import CLIENT_TOKEN
from econed.actions.constants import constant
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
from econed.actions.machines.interface_facts import description_of, has_source_dest_check
from econed.actions.machines.interfaces import attachment_id_of, interface_id
from econed.actions.machines.placement import availability_zone_of
from econed.actions.machines.state import InstanceState, is_failure, state_of
from econed.actions.machines.times import launch_time, stop_time, termination_time
from econed.actions.networks.lookup import DEFAULT_VPC, NO_VPC_IDS
from econed.actions.security_groups.names import ec2_name
from econed.actions.tagging import tags_of
from econed.actions.timestamps import timestamp
from econed.ids import (
    IMAGE,
    INSTANCE,
    SECURITY_GROUP,
    SUBNET,
    account_id,
    reservation_id,
)
from econed.ids import RESERVATION as RESERVATION_ID
from econed.opennebula.states import LcmState, VmState
from econed.opennebula.values import epoch_seconds, whole_number

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        CpuOptionsTypeDef,
        GroupIdentifierTypeDef,
        InstanceBlockDeviceMappingTypeDef,
        InstanceMetadataOptionsResponseTypeDef,
        InstanceNetworkInterfaceTypeDef,
        InstanceStatusSummaryTypeDef,
        InstanceStatusTypeDef,
        InstanceTypeDef,
        MonitoringTypeDef,
        PlacementTypeDef,
        ReservationTypeDef,
        StateReasonTypeDef,
    )

    from econed.opennebula.documents import Disk, Nic, VirtualMachine


CUSTOM_TYPE = "custom"
"""The instance type of a machine without EC2_INSTANCE_TYPE, because no EC2 client created it."""

_METADATA_OPTIONS: InstanceMetadataOptionsResponseTypeDef = {
    "State": "applied",
    "HttpTokens": "optional",
    "HttpPutResponseHopLimit": 1,
    "HttpEndpoint": "disabled",
    "HttpProtocolIpv6": "disabled",
    "InstanceMetadataTags": "disabled",
}
NO_METADATA_SERVICE = constant(_METADATA_OPTIONS)
"""Guests get their metadata from the CONTEXT image, so the endpoint of EC2's metadata service is disabled."""

_MONITORING: MonitoringTypeDef = {"State": "disabled"}
NOT_MONITORED = constant(_MONITORING)

_REMEMBERED = 256
"""Structures that many machines share are made once: so many of the values that they are made from are remembered."""

_STOPPED_OR_TERMINATED = frozenset(
    {InstanceState.STOPPING, InstanceState.STOPPED, InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}
)

_MAX_DEFERRED = 100
"""Reservations with at least this many instances are not deferred to the next set."""

GUEST_POWERED_OFF = 44
"""HISTORY/ACTION of a machine that oned's monitoring found off, as after a shutdown by its guest (MONITOR_ACTION)."""


def reservation_view(
    machine: VirtualMachine,
    clusters: Mapping[int, str],
    now: int,
    addresses: PublicAddresses | None = None,
    vpc_ids: Mapping[int, str] = NO_VPC_IDS,
) -> ReservationTypeDef:
    """Return the reservation of a machine with this machine as its only instance; see `instance_view`."""
    return {
        "ReservationId": reservation_id_of(machine),
        "OwnerId": account_id(machine.uid),
        "Groups": [],
        "Instances": [instance_view(machine, clusters, now, addresses, vpc_ids)],
    }


def merge_reservations(reservations: Iterable[ReservationTypeDef]) -> list[ReservationTypeDef]:
    """Merge the reservations with the same id and the same owner.

    The owner counts too, because any user can write the reservation id of another user on a machine.
    """
    merged: dict[tuple[str, str], ReservationTypeDef] = {}
    for reservation in reservations:
        key = (reservation.get("OwnerId", ""), reservation["ReservationId"])
        merged_reservation = merged.setdefault(key, {**reservation, "Instances": []})
        merged_reservation["Instances"].extend(reservation["Instances"])
    return list(merged.values())


def reservation_id_of(machine: VirtualMachine) -> str:
    """Return the id of a machine's reservation: the one that RunInstances stored, else one derived from its own id."""
    stored_id = machine.user_template.text(RESERVATION)
    return stored_id if RESERVATION_ID.is_id(stored_id) else reservation_id(machine.id)


class ReservationMerger:
    """Merges the reservations of machines that are read in sets, within each set.

    The last reservation of a set is deferred to the next one, where most split reservations continue, unless it is
    large. See `econed.actions.listing.Merger`.
    """

    def __init__(self) -> None:
        self._deferred: list[ReservationTypeDef] = []

    def add(self, items: list[ReservationTypeDef]) -> list[ReservationTypeDef]:
        """Return the reservations to be sent now."""
        if not items:
            return []
        last_id = items[-1]["ReservationId"]
        complete: list[ReservationTypeDef] = []
        for reservation in merge_reservations([*self.remaining(), *items]):
            is_deferred = reservation["ReservationId"] == last_id and len(reservation["Instances"]) < _MAX_DEFERRED
            (self._deferred if is_deferred else complete).append(reservation)
        return complete

    def remaining(self) -> list[ReservationTypeDef]:
        """Return the deferred reservations."""
        deferred, self._deferred = self._deferred, []
        return deferred


def status_view(machine: VirtualMachine, clusters: Mapping[int, str]) -> InstanceStatusTypeDef:
    """Return the status of a machine; both of EC2's checks return the result of oned's monitoring."""
    state = state_of(machine)
    summary = _reachability(machine, state)
    return {
        "InstanceId": INSTANCE.format(machine.id),
        "AvailabilityZone": availability_zone_of(machine, clusters),
        "InstanceState": state.member,
        "InstanceStatus": summary,
        "SystemStatus": summary,
    }


def instance_view(
    machine: VirtualMachine,
    clusters: Mapping[int, str],
    now: int,
    addresses: PublicAddresses | None = None,
    vpc_ids: Mapping[int, str] = NO_VPC_IDS,
) -> InstanceTypeDef:
    """Return the instance of a machine.

    `clusters` are the names of the clusters, which are the availability zones; `addresses` are the elastic IPs; `now`
    is the time in seconds since the epoch; `vpc_ids` are the ids of the VPCs of networks (`Networks.vpc_ids`).
    """
    facts = machine.user_template
    state = state_of(machine)
    view: InstanceTypeDef = {
        "InstanceId": INSTANCE.format(machine.id),
        "ImageId": _image_id(machine),
        "State": state.member,
        "StateTransitionReason": transition_reason(machine, state, now),
        "InstanceType": facts.text(INSTANCE_TYPE) or CUSTOM_TYPE,  # type: ignore[typeddict-item]  # the cloud's own names
        "AmiLaunchIndex": whole_number(facts.text(LAUNCH_INDEX)) or 0,
        "LaunchTime": timestamp(launch_time(machine)),
        "Placement": _placement(availability_zone_of(machine, clusters), machine.vm_group_name),
        "Monitoring": NOT_MONITORED,
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
        "MetadataOptions": NO_METADATA_SERVICE,
        "ClientToken": facts.text(CLIENT_TOKEN),
        "BlockDeviceMappings": [],
        "NetworkInterfaces": [],
        "SecurityGroups": [],
    }
    view["BootMode"] = view["CurrentInstanceBootMode"] = "uefi" if machine.boots_with_uefi else "legacy-bios"
    if tags := tags_of(facts):
        view["Tags"] = tags
    if key_name := machine.decoded_context_text(KEY_NAME):
        view["KeyName"] = key_name
    if vcpus := whole_number(machine.template_text("VCPU")) or 1:
        view["CpuOptions"] = _cpu_options(vcpus)
    if reason := state_reason(machine, state):
        view["StateReason"] = reason
    if state is not InstanceState.TERMINATED:
        view |= _devices_view(machine, addresses or PublicAddresses({}), vpc_ids)
    return view


@lru_cache(_REMEMBERED)
def _placement(zone: str, group: str) -> PlacementTypeDef:
    placement: PlacementTypeDef = {"AvailabilityZone": zone, "Tenancy": "default", "GroupName": group}
    return constant(placement)


@lru_cache(_REMEMBERED)
def _cpu_options(count: int) -> CpuOptionsTypeDef:
    options: CpuOptionsTypeDef = {"CoreCount": count, "ThreadsPerCore": 1}
    return constant(options)


def root_device(machine: VirtualMachine) -> str:
    """Return the device name of the machine's first disk, which is the AMI's; empty if there is no disk."""
    return device_name(machine, machine.disks[0]) if machine.disks else ""


def state_reason(machine: VirtualMachine, state: InstanceState) -> StateReasonTypeDef | None:
    """Return the reason for a machine's state (EC2 API Reference, StateReason); None for states without a reason."""
    if is_failure(machine.state, machine.lcm_state):
        return _reason("Server.InternalError", "Internal error on launch or while changing state")
    if machine.state is VmState.PENDING and machine.sched_message:
        return _reason("Server.InsufficientInstanceCapacity", "There is not enough capacity for this instance")
    if state in (InstanceState.STOPPED, InstanceState.STOPPING) and was_shut_down_by_guest(machine):
        return _reason("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
    if state in _STOPPED_OR_TERMINATED:
        return _reason("Client.UserInitiatedShutdown", "User initiated shutdown")
    return None


def was_shut_down_by_guest(machine: VirtualMachine) -> bool:
    """Whether a machine is off because its guest shut down, not because of a request to OpenNebula."""
    record = machine.last_record
    is_off = machine.state is VmState.POWEROFF or machine.lcm_state is LcmState.SHUTDOWN_POWEROFF
    return is_off and record is not None and record.action == GUEST_POWERED_OFF


def transition_reason(machine: VirtualMachine, state: InstanceState, now: int) -> str:
    """Return why and when a machine was stopped or terminated, in Amazon's wording; empty for all other states.

    The text always contains a time, because clients parse it: `now`, if oned has recorded none (yet).
    """
    if state not in _STOPPED_OR_TERMINATED:
        return ""
    time = _transition_time(machine, state)
    return f"User initiated ({timestamp(now if time is None else time):%Y-%m-%d %H:%M:%S} GMT)"


def depends_on_time(machine: VirtualMachine) -> bool:
    """Whether a machine's view contains the current time, which only `transition_reason` writes."""
    state = state_of(machine)
    return state in _STOPPED_OR_TERMINATED and _transition_time(machine, state) is None


def _transition_time(machine: VirtualMachine, state: InstanceState) -> int | None:
    if state in (InstanceState.STOPPED, InstanceState.STOPPING):
        return stop_time(machine)
    return termination_time(machine)


def _devices_view(machine: VirtualMachine, addresses: PublicAddresses, vpc_ids: Mapping[int, str]) -> InstanceTypeDef:
    """Return the members that an instance has until it is terminated: disks, interfaces and their addresses."""
    interfaces = [interface_view(machine, nic, index, addresses, vpc_ids) for index, nic in enumerate(machine.nics)]
    view: InstanceTypeDef = {
        "BlockDeviceMappings": [_mapping_view(machine, disk) for disk in machine.disks if disk.target],
        "NetworkInterfaces": interfaces,
        "SourceDestCheck": True,
    }
    if interfaces:
        primary, primary_nic = interfaces[0], machine.nics[0]
        view["SecurityGroups"] = primary["Groups"]
        view["SourceDestCheck"] = primary["SourceDestCheck"]
        if primary_nic.ip is not None:
            # Clients connect to the DNS names; there are none here, so these are addresses, as with the Ruby server.
            view["PrivateIpAddress"] = view["PrivateDnsName"] = primary["PrivateIpAddress"]
            if primary_nic.ip.is_global:
                view["PublicDnsName"] = primary["PrivateIpAddress"]
        if (association := primary.get("Association")) is not None:
            view["PublicIpAddress"] = view["PublicDnsName"] = association.get("PublicIp", "")
        if "SubnetId" in primary:
            view["SubnetId"], view["VpcId"] = primary["SubnetId"], primary["VpcId"]
    return view


def _mapping_view(machine: VirtualMachine, disk: Disk) -> InstanceBlockDeviceMappingTypeDef:
    return {
        "DeviceName": device_name(machine, disk),
        "Ebs": {
            "VolumeId": volume_id(machine, disk),
            "Status": "attaching" if disk.is_attaching else "attached",
            "AttachTime": timestamp(epoch_seconds(disk.text(ATTACH_TIME)) or machine.stime),
            "DeleteOnTermination": not disk.is_persistent or disk.text(DELETE_ON_TERMINATION) == "YES",
        },
    }


def interface_view(
    machine: VirtualMachine,
    nic: Nic,
    index: int,
    addresses: PublicAddresses | None = None,
    vpc_ids: Mapping[int, str] = NO_VPC_IDS,
) -> InstanceNetworkInterfaceTypeDef:
    """Return a network interface of a machine; `index` is its position, from 0. See `instance_view`."""
    view: InstanceNetworkInterfaceTypeDef = {
        "NetworkInterfaceId": interface_id(machine.id, nic),
        "OwnerId": account_id(machine.uid),
        "MacAddress": nic.mac,
        "Status": "in-use",
        "Description": description_of(machine, nic),
        "InterfaceType": "interface",
        "SourceDestCheck": has_source_dest_check(machine, nic),
        "Groups": _groups(machine, nic),
        "Attachment": {
            "AttachmentId": attachment_id_of(machine.id, nic),
            "AttachTime": timestamp(machine.stime),
            "DeleteOnTermination": True,
            "DeviceIndex": index,
            "Status": "attaching" if nic.is_attaching else "attached",
        },
        "PrivateIpAddresses": [],
        "Ipv6Addresses": [{"Ipv6Address": str(nic.ip6)}] if nic.ip6 is not None else [],
    }
    if nic.network_id is not None:
        view["SubnetId"] = SUBNET.format(nic.network_id)
        view["VpcId"] = vpc_ids.get(nic.network_id, DEFAULT_VPC.id)
    if nic.ip is not None:
        private_ip = str(nic.ip)
        view["PrivateIpAddress"] = private_ip
        view["PrivateIpAddresses"] = [{"Primary": True, "PrivateIpAddress": private_ip}]
        if addresses is not None and (address := addresses.on(machine, nic)) is not None:
            view["Association"] = association_view(address)
            view["PrivateIpAddresses"][0]["Association"] = association_view(address)
    return view


def _groups(machine: VirtualMachine, nic: Nic) -> list[GroupIdentifierTypeDef]:
    names = machine.security_group_names
    return [
        {"GroupId": SECURITY_GROUP.format(group_id), "GroupName": ec2_name(names.get(group_id, ""))}
        for group_id in nic.security_group_ids
    ]


def _image_id(machine: VirtualMachine) -> str:
    """Return the AMI's id: the one that RunInstances stored, else that of the first disk with an image."""
    if IMAGE.is_id(stored_id := machine.user_template.text(IMAGE_ID)):
        return stored_id
    return next((IMAGE.format(disk.image_id) for disk in machine.disks if disk.image_id is not None), "")


def _reachability(machine: VirtualMachine, state: InstanceState) -> InstanceStatusSummaryTypeDef:
    if state is not InstanceState.RUNNING:
        return {"Status": "not-applicable", "Details": []}
    if machine.lcm_state is LcmState.UNKNOWN or machine.lcm_state.is_failure:
        return {"Status": "impaired", "Details": [{"Name": "reachability", "Status": "failed"}]}
    return {"Status": "ok", "Details": [{"Name": "reachability", "Status": "passed"}]}


def _reason(code: str, sentence: str) -> StateReasonTypeDef:
    return {"Code": code, "Message": f"{code}: {sentence}"}
