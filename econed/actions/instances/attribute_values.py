"""Attributes of an instance, one at a time (EC2 API Reference, DescribeInstanceAttribute)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypedDict, cast

from econed.actions.action import action
from econed.actions.instances.power import is_protected
from econed.actions.instances.view import instance_view
from econed.actions.machines.facts import SHUTDOWN_BEHAVIOR, TERMINATE, USER_DATA
from econed.actions.machines.lookup import find_machines
from econed.ids import INSTANCE

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        AttributeBooleanValueTypeDef,
        AttributeValueTypeDef,
        EnclaveOptionsTypeDef,
        GroupIdentifierTypeDef,
        InstanceBlockDeviceMappingTypeDef,
        ProductCodeTypeDef,
    )

    from econed.actions.call import Call
    from econed.opennebula.documents import VirtualMachine

InstanceAttribute = Literal[
    "instanceType",
    "kernel",
    "ramdisk",
    "userData",
    "disableApiTermination",
    "instanceInitiatedShutdownBehavior",
    "rootDeviceName",
    "blockDeviceMapping",
    "productCodes",
    "sourceDestCheck",
    "groupSet",
    "ebsOptimized",
    "sriovNetSupport",
    "enaSupport",
    "enclaveOptions",
    "disableApiStop",
]


class DescribeInstanceAttributeResult(TypedDict, total=False):
    """EC2 InstanceAttribute."""

    InstanceId: str
    BlockDeviceMappings: list[InstanceBlockDeviceMappingTypeDef]
    DisableApiStop: AttributeBooleanValueTypeDef
    DisableApiTermination: AttributeBooleanValueTypeDef
    EbsOptimized: AttributeBooleanValueTypeDef
    EnaSupport: AttributeBooleanValueTypeDef
    EnclaveOptions: EnclaveOptionsTypeDef
    Groups: list[GroupIdentifierTypeDef]
    InstanceInitiatedShutdownBehavior: AttributeValueTypeDef
    InstanceType: AttributeValueTypeDef
    KernelId: AttributeValueTypeDef
    ProductCodes: list[ProductCodeTypeDef]
    RamdiskId: AttributeValueTypeDef
    RootDeviceName: AttributeValueTypeDef
    SourceDestCheck: AttributeBooleanValueTypeDef
    SriovNetSupport: AttributeValueTypeDef
    UserData: AttributeValueTypeDef


_MEMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "instanceType": "InstanceType",
        "kernel": "KernelId",
        "ramdisk": "RamdiskId",
        "userData": "UserData",
        "disableApiTermination": "DisableApiTermination",
        "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
        "rootDeviceName": "RootDeviceName",
        "blockDeviceMapping": "BlockDeviceMappings",
        "productCodes": "ProductCodes",
        "sourceDestCheck": "SourceDestCheck",
        "groupSet": "Groups",
        "ebsOptimized": "EbsOptimized",
        "sriovNetSupport": "SriovNetSupport",
        "enaSupport": "EnaSupport",
        "enclaveOptions": "EnclaveOptions",
        "disableApiStop": "DisableApiStop",
    }
)
"""The members of the result by attribute."""


@action()
async def describe_instance_attribute(
    call: Call, *, instance_id: str, attribute: InstanceAttribute
) -> DescribeInstanceAttributeResult:
    """Return one attribute of an instance (EC2 DescribeInstanceAttribute).

    A lock in OpenNebula protects an instance from being stopped and terminated. There are no kernels, RAM disks,
    product codes and enclaves.
    """
    (machine,) = await find_machines(call, [instance_id])
    member = _MEMBERS[attribute]
    result = {"InstanceId": INSTANCE.format(machine.id), member: _values(machine, call.now)[member]}  # type: ignore[literal-required]
    return cast(DescribeInstanceAttributeResult, result)


def _values(machine: VirtualMachine, now: int) -> DescribeInstanceAttributeResult:
    """Return the values of all attributes, which agree with those that DescribeInstances shows."""
    instance = instance_view(machine, {}, now)
    is_locked: AttributeBooleanValueTypeDef = {"Value": is_protected(machine)}
    terminates = machine.user_template.text(SHUTDOWN_BEHAVIOR) == TERMINATE
    return {
        "BlockDeviceMappings": list(instance["BlockDeviceMappings"]),
        "DisableApiStop": is_locked,
        "DisableApiTermination": is_locked,
        "EbsOptimized": {"Value": instance["EbsOptimized"]},
        "EnaSupport": {"Value": instance["EnaSupport"]},
        "EnclaveOptions": {"Enabled": False},
        "Groups": list(instance["SecurityGroups"]),
        "InstanceInitiatedShutdownBehavior": {"Value": TERMINATE if terminates else "stop"},
        "InstanceType": {"Value": instance["InstanceType"]},
        "KernelId": {},
        "ProductCodes": [],
        "RamdiskId": {},
        "RootDeviceName": {"Value": instance["RootDeviceName"]},
        "SourceDestCheck": {"Value": instance.get("SourceDestCheck", True)},
        "SriovNetSupport": {},
        "UserData": _user_data(machine),
    }


def _user_data(machine: VirtualMachine) -> AttributeValueTypeDef:
    """Return the user data in base64; nothing if there is none.

    Machines that were made elsewhere have USER_DATA alone, in base64 if USER_DATA_ENCODING says so.
    """
    if text := machine.context_text(USER_DATA):
        return {"Value": text}
    text = machine.context_text("USER_DATA")
    if not text:
        return {}
    is_encoded = machine.context_text("USER_DATA_ENCODING").lower() == "base64"
    return {"Value": text if is_encoded else base64.b64encode(text.encode()).decode()}
