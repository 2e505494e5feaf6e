"""Options of instances that have one value here: they may be set to it, and are refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, no_values
from econed.actions.inputs import Filter
from econed.actions.instances.view import NO_METADATA_SERVICE, NOT_MONITORED
from econed.actions.machines.lookup import find_machines
from econed.actions.paging import Listing, Paging
from econed.errors import EC2Error
from econed.ids import INSTANCE

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        InstanceCreditSpecificationTypeDef,
        InstanceMetadataOptionsResponseTypeDef,
        InstanceMonitoringTypeDef,
    )

    from econed.actions.call import Call

_CREDIT_FILTERS: Final = Filters(MappingProxyType({"instance-id": no_values}))
_CREDITS = Listing("credit-specifications", (int,))


class InstanceMonitoringsResult(TypedDict):
    """EC2 MonitorInstancesResult and UnmonitorInstancesResult."""

    InstanceMonitorings: list[InstanceMonitoringTypeDef]


class DescribeInstanceCreditSpecificationsResult(TypedDict):
    """EC2 DescribeInstanceCreditSpecificationsResult."""

    InstanceCreditSpecifications: list[InstanceCreditSpecificationTypeDef]


class ModifyInstanceMetadataOptionsResult(TypedDict):
    """EC2 ModifyInstanceMetadataOptionsResult."""

    InstanceId: str
    InstanceMetadataOptions: InstanceMetadataOptionsResponseTypeDef


class ModifyInstanceMaintenanceOptionsResult(TypedDict):
    """EC2 ModifyInstanceMaintenanceOptionsResult."""

    InstanceId: str
    AutoRecovery: str
    RebootMigration: str


@action()
async def monitor_instances(call: Call, *, instance_ids: Sequence[str]) -> InstanceMonitoringsResult:
    """Say that detailed monitoring stays disabled: there is no CloudWatch (EC2 MonitorInstances)."""
    return await _monitorings(call, instance_ids)


@action()
async def unmonitor_instances(call: Call, *, instance_ids: Sequence[str]) -> InstanceMonitoringsResult:
    """Say that detailed monitoring is disabled (EC2 UnmonitorInstances)."""
    return await _monitorings(call, instance_ids)


@action()
async def describe_instance_credit_specifications(
    call: Call,
    *,
    instance_ids: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeInstanceCreditSpecificationsResult:
    """List the credits of burstable instances: there are none (EC2 DescribeInstanceCreditSpecifications).

    Raises `EC2Error` UnsupportedOperation for ids, as Amazon does for instances that are not burstable.
    """
    _CREDIT_FILTERS.selection(filters, call.budget)
    Paging.of(_CREDITS, max_results, next_token, ids=instance_ids)
    if instance_ids:
        await find_machines(call, instance_ids)
        raise EC2Error("UnsupportedOperation", "Only burstable instances have CPU credits; there are none here.")
    return {"InstanceCreditSpecifications": []}


@action()
async def modify_instance_metadata_options(
    call: Call,
    *,
    instance_id: str,
    http_endpoint: str | None = None,
    http_tokens: str | None = None,
    http_put_response_hop_limit: int | None = None,
    http_protocol_ipv6: str | None = None,
    instance_metadata_tags: str | None = None,
) -> ModifyInstanceMetadataOptionsResult:
    """Accept the options that instances have, with the metadata service disabled (EC2 ModifyInstanceMetadataOptions).

    Raises `EC2Error` UnsupportedOperation for others: guests get their metadata from the CONTEXT image.
    """
    await find_machines(call, [instance_id])
    _check_options(
        {
            "HttpEndpoint": http_endpoint,
            "HttpTokens": http_tokens,
            "HttpPutResponseHopLimit": http_put_response_hop_limit,
            "HttpProtocolIpv6": http_protocol_ipv6,
            "InstanceMetadataTags": instance_metadata_tags,
        },
        NO_METADATA_SERVICE,
    )
    return {"InstanceId": instance_id, "InstanceMetadataOptions": NO_METADATA_SERVICE}


@action()
async def modify_instance_maintenance_options(
    call: Call, *, instance_id: str, auto_recovery: str | None = None, reboot_migration: str | None = None
) -> ModifyInstanceMaintenanceOptionsResult:
    """Accept `disabled`; raises `EC2Error` UnsupportedOperation for `default`: econed moves no instances.

    What happens after the failure of a host is decided by OpenNebula's administrator (EC2
    ModifyInstanceMaintenanceOptions).
    """
    await find_machines(call, [instance_id])
    _check_options(
        {"AutoRecovery": auto_recovery, "RebootMigration": reboot_migration},
        {"AutoRecovery": "disabled", "RebootMigration": "disabled"},
    )
    return {"InstanceId": instance_id, "AutoRecovery": "disabled", "RebootMigration": "disabled"}


async def _monitorings(call: Call, instance_ids: Sequence[str]) -> InstanceMonitoringsResult:
    machines = await find_machines(call, instance_ids)
    return {
        "InstanceMonitorings": [
            {"InstanceId": INSTANCE.format(machine.id), "Monitoring": NOT_MONITORED} for machine in machines
        ]
    }


def _check_options(requested: Mapping[str, object], possible: Mapping[str, object]) -> None:
    """Raise `EC2Error` UnsupportedOperation for the first requested option that has another value here."""
    for name, value in requested.items():
        if value is not None and value != possible[name]:
            raise EC2Error("UnsupportedOperation", f"{name} of all instances is {possible[name]} in this cloud.")
