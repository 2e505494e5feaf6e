"""Settings of Amazon's that have one value here: they are read, and may be set to the value that they have.

OpenNebula encrypts no disks by itself and has no serial console for users, and most of econed's ids are short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

from econed.actions.action import action
from econed.errors import EC2Error

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import IdFormatTypeDef

    from econed.actions.call import Call

_TYPES_WITH_IDS: Final = (
    *("bundle", "conversion-task", "customer-gateway", "dhcp-options", "elastic-ip-allocation"),
    *("elastic-ip-association", "export-task", "flow-log", "image", "import-task", "instance", "internet-gateway"),
    *("network-acl", "network-acl-association", "network-interface", "network-interface-attachment", "prefix-list"),
    *("reservation", "route-table", "route-table-association", "security-group", "snapshot", "subnet"),
    *("subnet-cidr-block-association", "volume", "vpc", "vpc-cidr-block-association", "vpc-endpoint"),
    *("vpc-peering-connection", "vpn-connection", "vpn-gateway"),
)
"""The types of resources that DescribeIdFormat names at Amazon."""

_TYPES_WITH_LONG_IDS: Final = frozenset({"network-interface", "network-interface-attachment"})
"""Those whose ids have 17 digits here too (`econed.ids`)."""


class EbsEncryptionByDefaultResult(TypedDict):
    """EC2 GetEbsEncryptionByDefaultResult, and that of DisableEbsEncryptionByDefault."""

    EbsEncryptionByDefault: bool


class SerialConsoleAccessResult(TypedDict):
    """EC2 GetSerialConsoleAccessStatusResult, and that of DisableSerialConsoleAccess."""

    SerialConsoleAccessEnabled: bool


class DescribeIdFormatResult(TypedDict):
    """EC2 DescribeIdFormatResult."""

    Statuses: list[IdFormatTypeDef]


class DescribeAggregateIdFormatResult(TypedDict):
    """EC2 DescribeAggregateIdFormatResult."""

    UseLongIdsAggregated: bool
    Statuses: list[IdFormatTypeDef]


@action()
async def get_ebs_encryption_by_default(call: Call) -> EbsEncryptionByDefaultResult:
    """Say that new volumes are not encrypted (EC2 GetEbsEncryptionByDefault)."""
    return {"EbsEncryptionByDefault": False}


@action()
async def disable_ebs_encryption_by_default(call: Call) -> EbsEncryptionByDefaultResult:
    """Leave new volumes unencrypted, as they are (EC2 DisableEbsEncryptionByDefault)."""
    return {"EbsEncryptionByDefault": False}


@action()
async def get_serial_console_access_status(call: Call) -> SerialConsoleAccessResult:
    """Say that there are no serial consoles (EC2 GetSerialConsoleAccessStatus)."""
    return {"SerialConsoleAccessEnabled": False}


@action()
async def disable_serial_console_access(call: Call) -> SerialConsoleAccessResult:
    """Leave serial consoles switched off, as they are (EC2 DisableSerialConsoleAccess)."""
    return {"SerialConsoleAccessEnabled": False}


@action()
async def describe_id_format(call: Call, *, resource: str | None = None) -> DescribeIdFormatResult:
    """Say for all types of resources, or one, whether their ids are long (EC2 DescribeIdFormat).

    Raises `EC2Error` InvalidParameterValue for a type that Amazon does not name.
    """
    if resource is not None and resource not in _TYPES_WITH_IDS:
        raise EC2Error("InvalidParameterValue", f"Value ({resource}) for parameter resource is invalid.")
    return {"Statuses": _statuses(_TYPES_WITH_IDS if resource is None else (resource,))}


@action()
async def describe_aggregate_id_format(call: Call) -> DescribeAggregateIdFormatResult:
    """Say that not all types of resources have long ids (EC2 DescribeAggregateIdFormat)."""
    return {"UseLongIdsAggregated": False, "Statuses": _statuses(_TYPES_WITH_IDS)}


def _statuses(types: tuple[str, ...]) -> list[IdFormatTypeDef]:
    return [{"Resource": name, "UseLongIds": name in _TYPES_WITH_LONG_IDS} for name in types]
