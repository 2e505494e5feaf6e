"""The attributes of machines that only oneadmin's group may set (oned.conf, VM_RESTRICTED_ATTR)."""

from __future__ import annotations

from econed.sandbox.objects.users import User
from econed.sandbox.refusals import unauthorized
from econed.sandbox.template import Restricted, Template, restricted_attributes
from econed.sandbox.versions import Version

_NIC_KEYS = (
    *("MAC", "VLAN_ID", "BRIDGE", "FILTER", "INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB"),
    *("OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW", "OUTBOUND_PEAK_KB", "OPENNEBULA_MANAGED", "EXTERNAL"),
)
_DISK_LIMITS = [
    f"{direction}_{unit}_SEC{suffix}"
    for direction in ("TOTAL", "READ", "WRITE")
    for unit in ("BYTES", "IOPS")
    for suffix in ("", "_MAX", "_MAX_LENGTH")
]
_RESTRICTED = (
    "CONTEXT/FILES",
    *(f"NIC/{name}" for name in _NIC_KEYS),
    *(f"NIC_ALIAS/{name}" for name in _NIC_KEYS),
    *(f"NIC_DEFAULT/{name}" for name in ("MAC", "VLAN_ID", "BRIDGE", "FILTER", "EXTERNAL")),
    *(f"DISK/{name}" for name in (*_DISK_LIMITS, "OPENNEBULA_MANAGED", "ORIGINAL_SIZE", "SIZE_PREV")),
    *("DEPLOY_ID", "CPU_COST", "MEMORY_COST", "DISK_COST", "PCI", "EMULATOR", "USER_PRIORITY"),
    *("USER_INPUTS/CPU", "USER_INPUTS/MEMORY", "USER_INPUTS/VCPU", "TOPOLOGY/PIN_POLICY", "TOPOLOGY/HUGEPAGE_SIZE"),
)
_RESTRICTED_5_12 = restricted_attributes(*_RESTRICTED, "RAW")
_RESTRICTED_7 = restricted_attributes(
    *_RESTRICTED,
    *("RAW/DATA", "NIC/FILTER_IP_SPOOFING", "NIC/FILTER_MAC_SPOOFING", "NIC/VLAN_TAGGED_ID", "DISK/SIZE_IOPS_SEC"),
)


def restricted_vm_attributes(version: Version) -> Restricted:
    """Return the restricted attributes of machines in a version of oned."""
    return _RESTRICTED_7 if version.is_v7 else _RESTRICTED_5_12


def check_restricted_attributes(
    version: Version, caller: User, template: Template, base: Template | None = None
) -> None:
    """Refuse (512) restricted attributes of machines; with `base`, only if their values differ from those of `base`."""
    if caller.is_oneadmin:
        return
    restricted = restricted_vm_attributes(version)
    if base is None:
        attribute = template.first_restricted(restricted)
    else:
        attribute = template.first_restricted_change(base, restricted)
    if attribute:
        label = "Template" if base is None else "User Template"
        raise unauthorized(f"User [{caller.id}] : {label} includes a restricted attribute {attribute}.")
