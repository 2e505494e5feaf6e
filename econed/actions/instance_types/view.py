"""EC2's InstanceTypeInfo of the attributes of a template (EC2 API Reference, InstanceTypeInfo)."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from econed.actions.constants import constant
from econed.actions.images.view import ec2_architecture
from econed.actions.instances.network_interfaces import MAX_INTERFACES

if TYPE_CHECKING:
    from types_boto3_ec2.literals import BootModeTypeType
    from types_boto3_ec2.type_defs import (
        EbsInfoTypeDef,
        GpuDeviceInfoTypeDef,
        InstanceTypeInfoTypeDef,
        NetworkInfoTypeDef,
        PlacementGroupInfoTypeDef,
        VCpuInfoTypeDef,
    )

    from econed.opennebula.attributes import Attributes, Vector

_UNKNOWN_PERFORMANCE: Final = "Not specified"
"""OpenNebula does not know how fast a network is."""

_DISPLAY_CONTROLLERS: Final = "03"
"""The first two digits of CLASS for GPUs (PCI Code and ID Assignment Specification, base class 03h)."""

_VENDORS: Final = MappingProxyType({"10de": "NVIDIA", "1002": "AMD", "8086": "Intel"})
"""Manufacturers of GPUs by their PCI vendor ids."""

_EBS_INFO: EbsInfoTypeDef = {
    "EbsOptimizedSupport": "unsupported",
    "EncryptionSupport": "unsupported",
    "NvmeSupport": "unsupported",
}
_EBS: Final = constant(_EBS_INFO)

_STRATEGIES: PlacementGroupInfoTypeDef = {"SupportedStrategies": ["cluster", "spread"]}
_PLACEMENT_GROUPS: Final = constant(_STRATEGIES)

_NETWORK_INFO: NetworkInfoTypeDef = {
    "NetworkPerformance": _UNKNOWN_PERFORMANCE,
    "MaximumNetworkInterfaces": MAX_INTERFACES,
    "MaximumNetworkCards": 1,
    "DefaultNetworkCardIndex": 0,
    "NetworkCards": [
        {
            "NetworkCardIndex": 0,
            "NetworkPerformance": _UNKNOWN_PERFORMANCE,
            "MaximumNetworkInterfaces": MAX_INTERFACES,
        }
    ],
    "Ipv4AddressesPerInterface": 1,
    "Ipv6AddressesPerInterface": 1,
    "Ipv6Supported": True,
    "EnaSupport": "unsupported",
    "EfaSupported": False,
    "EncryptionInTransitSupported": False,
    "EnaSrdSupported": False,
}
_NETWORK: Final = constant(_NETWORK_INFO)


def instance_type_view(name: str, attributes: Attributes) -> InstanceTypeInfoTypeDef:
    """Return the InstanceTypeInfo of a type with these attributes, with all members that clients rely on.

    Volatile disks are EBS volumes in econed, so no type has instance storage. OpenNebula knows neither clock speeds nor
    the memory of GPUs; these members are absent.
    """
    view: InstanceTypeInfoTypeDef = {
        "InstanceType": name,  # type: ignore[typeddict-item]  # not one of Amazon's
        "CurrentGeneration": True,
        "FreeTierEligible": False,
        "SupportedUsageClasses": ["on-demand"],
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": False,
        "Hypervisor": "xen",
        "ProcessorInfo": {"SupportedArchitectures": [ec2_architecture(attributes.vector("OS").get("ARCH", ""))]},
        "VCpuInfo": _vcpus(attributes),
        "MemoryInfo": {"SizeInMiB": _number(attributes.text("MEMORY"), 0)},
        "InstanceStorageSupported": False,
        "EbsInfo": _EBS,
        "NetworkInfo": _NETWORK,
        "PlacementGroupInfo": _PLACEMENT_GROUPS,
        "HibernationSupported": False,
        "BurstablePerformanceSupported": False,
        "DedicatedHostsSupported": False,
        "AutoRecoverySupported": False,
        "SupportedBootModes": [_boot_mode(attributes.vector("OS"))],
        "NitroEnclavesSupport": "unsupported",
        "NitroTpmSupport": "unsupported",
    }
    if gpus := _gpus(attributes):
        view["GpuInfo"] = {"Gpus": gpus}
    return view


def _vcpus(attributes: Attributes) -> VCpuInfoTypeDef:
    """Return the virtual CPUs: VCPU, which is 1 if it is absent, with the cores and threads of TOPOLOGY."""
    vcpus = _number(attributes.text("VCPU"), 1)
    topology = attributes.vector("TOPOLOGY")
    threads = _number(topology.get("THREADS", ""), 1)
    cores = _number(topology.get("SOCKETS", ""), 1) * _number(topology.get("CORES", ""), 0) or max(vcpus // threads, 1)
    return {"DefaultVCpus": vcpus, "DefaultCores": cores, "DefaultThreadsPerCore": threads}


def _boot_mode(os: Vector) -> BootModeTypeType:
    """Return how its machines boot: by UEFI if FIRMWARE is UEFI or a file (OpenNebula, OS section)."""
    return "legacy-bios" if os.get("FIRMWARE", "").upper() in ("", "BIOS") else "uefi"


def _gpus(attributes: Attributes) -> list[GpuDeviceInfoTypeDef]:
    """Return the GPUs among the PCI devices; without CLASS, they are known by their vendor."""
    gpus = Counter(
        (device.get("VENDOR", "").lower(), device.get("DEVICE", "").lower())
        for device in attributes.vectors("PCI")
        if _is_gpu(device)
    )
    return [
        {"Name": f"{vendor}:{device}", "Manufacturer": _VENDORS.get(vendor, vendor), "Count": count}
        for (vendor, device), count in gpus.items()
    ]


def _is_gpu(device: Vector) -> bool:
    if pci_class := device.get("CLASS"):
        return pci_class.startswith(_DISPLAY_CONTROLLERS)
    return device.get("VENDOR", "").lower() == "10de"


def _number(text: str, default: int) -> int:
    """Return a positive number of a template; `default` if it is none: oned checks it only at instantiation."""
    return int(text) if text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text) else default
