"""The attributes of machines that only oneadmin's group may set (oned.conf, VM_RESTRICTED_ATTR)."""

from __future__ import annotations

from econed.sandbox.objects.users import User
from econed.sandbox.refusals import unauthorized
from econed.sandbox.template import Restricted, Template, restricted_attributes
from econed.sandbox.versions import Version

_NIC = (
    *("MAC", "VLAN_ID", "BRIDGE", "FILTER", "INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB"),
    *("OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW", "OUTBOUND_PEAK_KB", "OPENNEBULA_MANAGED", "EXTERNAL"),
)
_DISK_LIMITS = [
    f"{what}_{unit}_SEC{bound}"
    for what in ("TOTAL", "READ", "WRITE")
    for unit in ("BYTES", "IOPS")
    for bound in ("", "_MAX", "_MAX_LENGTH")
]
_RESTRICTED = (
    "CONTEXT/FILES",
    *(f"NIC/{name}" for name in _NIC),
    *(f"NIC_ALIAS/{name}" for name in _NIC),
    *(f"NIC_DEFAULT/{name}" for name in ("MAC", "VLAN_ID", "BRIDGE", "FILTER", "EXTERNAL")),
    *(f"DISK/{name}" for name in (*_DISK_LIMITS, "OPENNEBULA_MANAGED", "ORIGINAL_SIZE", "SIZE_PREV")),
    *("DEPLOY_ID", "CPU_COST", "MEMORY_COST", "DISK_COST", "PCI", "EMULATOR", "USER_PRIORITY"),
    *("USER_INPUTS/CPU", "USER_INPUTS/MEMORY", "USER_INPUTS/VCPU", "TOPOLOGY/PIN_POLICY", "TOPOLOGY/HUGEPAGE_SIZE"),
)
_RESTRICTED_OLD = restricted_attributes(*_RESTRICTED, "RAW")
_RESTRICTED_NEW = restricted_attributes(
    *_RESTRICTED,
    *("RAW/DATA", "NIC/FILTER_IP_SPOOFING", "NIC/FILTER_MAC_SPOOFING", "NIC/VLAN_TAGGED_ID", "DISK/SIZE_IOPS_SEC"),
)


def vm_restricted(version: Version) -> Restricted:
    """Return what only oneadmin's group may set in machines (oned.conf, VM_RESTRICTED_ATTR)."""
    return _RESTRICTED_NEW if version.modern else _RESTRICTED_OLD


def demand_unrestricted(version: Version, caller: User, template: Template, base: Template | None = None) -> None:
    """Refuse (512) restricted attributes of machines, or with `base` those that are not as there."""
    if caller.is_oneadmin:
        return
    names = vm_restricted(version)
    found = template.restricted(names) if base is None else template.restricted_against(base, names)
    if found:
        which = "Template" if base is None else "User Template"
        raise unauthorized(f"User [{caller.id}] : {which} includes a restricted attribute {found}.")
