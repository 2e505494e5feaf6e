"""Lists of the instance types and of where they can run (EC2 DescribeInstanceTypes, DescribeInstanceTypeOfferings)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypedDict

from econed.actions.action import action
from econed.actions.filters import Filters, field, no_values
from econed.actions.inputs import Filter
from econed.actions.instance_types.view import instance_type_view
from econed.actions.instances.types import all_types
from econed.actions.paging import Listing, Paging
from econed.actions.regions.regions import own_region
from econed.actions.regions.zones import networks_and_zones
from econed.actions.tasks import TaskGroup
from econed.errors import EC2Error
from econed.opennebula.networks import NetworksOfNics

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import InstanceTypeInfoTypeDef, InstanceTypeOfferingTypeDef

    from econed.actions.call import Call
    from econed.opennebula.attributes import Attributes, Vector

LocationType = Literal["region", "availability-zone", "availability-zone-id", "outpost"]

_EBS, _NETWORK, _STORAGE, _VCPUS = "EbsInfo", "NetworkInfo", "InstanceStorageInfo", "VCpuInfo"

_TYPE_FILTERS: Final = Filters(
    MappingProxyType(
        {
            "auto-recovery-supported": field("AutoRecoverySupported"),
            "bare-metal": field("BareMetal"),
            "burstable-performance-supported": field("BurstablePerformanceSupported"),
            "current-generation": field("CurrentGeneration"),
            "dedicated-hosts-supported": field("DedicatedHostsSupported"),
            "ebs-info.ebs-optimized-support": field(_EBS, "EbsOptimizedSupport"),
            "ebs-info.encryption-support": field(_EBS, "EncryptionSupport"),
            "ebs-info.nvme-support": field(_EBS, "NvmeSupport"),
            "free-tier-eligible": field("FreeTierEligible"),
            "hibernation-supported": field("HibernationSupported"),
            "hypervisor": field("Hypervisor"),
            "instance-storage-supported": field("InstanceStorageSupported"),
            "instance-type": field("InstanceType"),
            "memory-info.size-in-mib": field("MemoryInfo", "SizeInMiB"),
            "network-info.efa-supported": field(_NETWORK, "EfaSupported"),
            "network-info.ena-support": field(_NETWORK, "EnaSupport"),
            "network-info.encryption-in-transit-supported": field(_NETWORK, "EncryptionInTransitSupported"),
            "network-info.ipv4-addresses-per-interface": field(_NETWORK, "Ipv4AddressesPerInterface"),
            "network-info.ipv6-addresses-per-interface": field(_NETWORK, "Ipv6AddressesPerInterface"),
            "network-info.ipv6-supported": field(_NETWORK, "Ipv6Supported"),
            "network-info.maximum-network-cards": field(_NETWORK, "MaximumNetworkCards"),
            "network-info.maximum-network-interfaces": field(_NETWORK, "MaximumNetworkInterfaces"),
            "network-info.network-performance": field(_NETWORK, "NetworkPerformance"),
            "nitro-enclaves-support": field("NitroEnclavesSupport"),
            "nitro-tpm-support": field("NitroTpmSupport"),
            "processor-info.supported-architecture": field("ProcessorInfo", "SupportedArchitectures"),
            "supported-boot-mode": field("SupportedBootModes"),
            "supported-root-device-type": field("SupportedRootDeviceTypes"),
            "supported-usage-class": field("SupportedUsageClasses"),
            "supported-virtualization-type": field("SupportedVirtualizationTypes"),
            "vcpu-info.default-cores": field(_VCPUS, "DefaultCores"),
            "vcpu-info.default-threads-per-core": field(_VCPUS, "DefaultThreadsPerCore"),
            "vcpu-info.default-vcpus": field(_VCPUS, "DefaultVCpus"),
            # No type here has these members; the filters match nothing.
            **dict.fromkeys(
                (
                    *("ebs-info.attachment-limit-type", "ebs-info.maximum-ebs-attachments"),
                    "ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps",
                    "ebs-info.ebs-optimized-info.baseline-iops",
                    "ebs-info.ebs-optimized-info.baseline-throughput-in-mbps",
                    "ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps",
                    "ebs-info.ebs-optimized-info.maximum-iops",
                    "ebs-info.ebs-optimized-info.maximum-throughput-in-mbps",
                    *("instance-storage-info.disk.count", "instance-storage-info.disk.size-in-gb"),
                    *("instance-storage-info.disk.type", "instance-storage-info.encryption-support"),
                    *("instance-storage-info.nvme-support", "instance-storage-info.total-size-in-gb"),
                    *("network-info.bandwidth-weightings", "network-info.efa-info.maximum-efa-interfaces"),
                    *("network-info.flexible-ena-queues-support", "nitro-tpm-info.supported-versions"),
                    *("processor-info.supported-features", "processor-info.sustained-clock-speed-in-ghz"),
                    *("reboot-migration-support", "vcpu-info.valid-cores", "vcpu-info.valid-threads-per-core"),
                ),
                no_values,
            ),
        }
    )
)
_OFFERING_FILTERS: Final = Filters(
    MappingProxyType({"instance-type": field("InstanceType"), "location": field("Location")})
)
_TYPES = Listing("instance-types", (str,))
_OFFERINGS = Listing("instance-type-offerings", (str, str))

_CLUSTERS: Final = re.compile(r'[\s(]*CLUSTER_ID\s*=\s*"?[0-9]{1,10}"?[\s)]*', re.ASCII)
_ID: Final = re.compile(r"[0-9]+", re.ASCII)


class DescribeInstanceTypesResult(TypedDict, total=False):
    """EC2 DescribeInstanceTypesResult."""

    InstanceTypes: list[InstanceTypeInfoTypeDef]
    NextToken: str


class DescribeInstanceTypeOfferingsResult(TypedDict, total=False):
    """EC2 DescribeInstanceTypeOfferingsResult."""

    InstanceTypeOfferings: list[InstanceTypeOfferingTypeDef]
    NextToken: str


# All types of the cloud are those of this region.
@action(ignores=("IncludeUnsupportedInRegion",))
async def describe_instance_types(
    call: Call,
    *,
    instance_types: Sequence[str] = (),
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeInstanceTypesResult:
    """List the instance types that the caller can run.

    Raises `EC2Error` InvalidInstanceType for names of others.
    """
    selection = _TYPE_FILTERS.selection(filters, call.budget)
    paging = Paging.of(_TYPES, max_results, next_token, maximum=100, ids=instance_types)
    types = await all_types(call)
    if missing := [name for name in dict.fromkeys(instance_types) if name not in types]:
        raise EC2Error(
            "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(missing)}]"
        )
    requested = instance_types or types
    views = await selection.matching(instance_type_view(name, types[name]) for name in dict.fromkeys(requested))
    page, token = paging.page(views, lambda view: (view["InstanceType"],))
    return {"InstanceTypes": page, **token}


@action()
async def describe_instance_type_offerings(
    call: Call,
    *,
    location_type: LocationType = "region",
    filters: Sequence[Filter] = (),
    max_results: int | None = None,
    next_token: str | None = None,
) -> DescribeInstanceTypeOfferingsResult:
    """List the instance types with the region, or with each availability zone, in which they can run."""
    paging = Paging.of(_OFFERINGS, max_results, next_token)
    async with TaskGroup() as reads:
        reading_types, reading_places = reads.start(all_types(call)), reads.start(networks_and_zones(call))
        reading_region = reads.start(own_region(call))
    region, (networks, zones) = reading_region.result, reading_places.result
    known = _OFFERING_FILTERS.with_values("location", lambda _: region.names)
    selection = (known if location_type == "region" else _OFFERING_FILTERS).selection(filters, call.budget)
    networks_of_nics = NetworksOfNics(networks)
    offerings: list[InstanceTypeOfferingTypeDef] = []
    for name, attributes in reading_types.result.items():
        places = _places(attributes, networks_of_nics, zones, call.caller.name)
        offerings += [
            {"InstanceType": name, "LocationType": location_type, "Location": location}  # type: ignore[typeddict-item]
            for location in _locations(location_type, places, region.name)
        ]
        await call.budget.spend(len(attributes) + len(zones))
    page, token = paging.page(
        await selection.matching(offerings), lambda offering: (offering["InstanceType"], offering["Location"])
    )
    return {"InstanceTypeOfferings": page, **token}


def _locations(location_type: LocationType, zones: Mapping[int, str], region: str) -> Iterable[str]:
    """Return the names of the locations of a type that can run in these zones."""
    match location_type:
        case "region":
            return [region] if zones else []
        case "availability-zone":
            return zones.values()
        case "availability-zone-id":
            return [f"cluster-{cluster_id}" for cluster_id in zones]
        case "outpost":
            return []


def _places(attributes: Attributes, networks: NetworksOfNics, zones: Mapping[int, str], user: str) -> Mapping[int, str]:
    """Return the zones in which a type can run: those of the networks of its NICs, and of its SCHED_REQUIREMENTS."""
    possible = _required_clusters(attributes.text("SCHED_REQUIREMENTS"), zones)
    for nic in attributes.vectors("NIC"):
        if _is_of_a_network(nic):
            network = networks.of(nic, user)
            possible &= frozenset() if network is None else frozenset(network.cluster_ids)
    return {cluster_id: name for cluster_id, name in zones.items() if cluster_id in possible}


def _is_of_a_network(nic: Vector) -> bool:
    return "NETWORK_ID" in nic or "NETWORK" in nic


def _required_clusters(requirements: str, zones: Iterable[int]) -> set[int]:
    """Return the clusters to which requirements restrict a machine: CLUSTER_ID = N, or several of these joined by |.

    Other expressions, for example on hosts, are OpenNebula's scheduler's, and restrict nothing here.
    """
    alternatives = requirements.split("|")
    if not all(map(_CLUSTERS.fullmatch, alternatives)):
        return set(zones)
    return {int(match[0]) for text in alternatives if (match := _ID.search(text))}
