"""The attributes of networks and address ranges that only oneadmin's group may set."""

from __future__ import annotations

from collections.abc import Sequence

from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.address_ranges import AddressRange
from econed.sandbox.objects.users import User
from econed.sandbox.refusals import internal, unauthorized
from econed.sandbox.template import Restricted, Template, Vector, restricted_attributes
from econed.sandbox.versions import Version

_RESTRICTED = (
    *("VN_MAD", "PHYDEV", "BRIDGE", "CONF", "BRIDGE_CONF", "OVS_BRIDGE_CONF", "IP_LINK_CONF", "FILTER"),
    *("FILTER_IP_SPOOFING", "FILTER_MAC_SPOOFING", "CLUSTER_IDS", "EXTERNAL"),
    *("AR/VN_MAD", "AR/PHYDEV", "AR/BRIDGE", "AR/FILTER", "AR/FILTER_IP_SPOOFING", "AR/FILTER_MAC_SPOOFING"),
)
_RESTRICTED_5_12 = restricted_attributes(*_RESTRICTED, "VLAN_ID", "AR/VLAN_ID")
_RESTRICTED_7 = restricted_attributes(*_RESTRICTED, "QINQ_TYPE")

_VLAN_ATTRIBUTES = ("VLAN_ID", "CVLANS", "VLAN_TAGGED_ID", "OUTER_VLAN_ID")


def restricted_network_attributes(version: Version) -> Restricted:
    """Return the attributes of networks that only oneadmin's group may set (oned.conf, VNET_RESTRICTED_ATTR)."""
    return _RESTRICTED_7 if version.is_v7 else _RESTRICTED_5_12


def first_restricted_of_ranges(version: Version, ranges: Sequence[Vector]) -> str | None:
    """Return the name of a restricted attribute that one of the AR vectors contains, or None."""
    return Template(("AR", requested) for requested in ranges).first_restricted(restricted_network_attributes(version))


def permitted_attributes(version: Version, caller: User, address_range: AddressRange, requested: Vector) -> Vector:
    """Return an AR vector for an update with the restricted attributes as they are.

    5.12 ignores others in the text of a user who may not set them, 7.x refuses them (8192).
    """
    if caller.is_oneadmin:
        return requested
    names, current = restricted_network_attributes(version)["AR"], address_range.attributes
    changed = next((name for name in sorted(names) if requested.get(name, current.get(name)) != current.get(name)), "")
    if changed and version.is_v7:
        raise internal(f"AR includes a restricted attribute {changed}")
    kept = {name: current[name] for name in names if name in current}
    return {**{name: value for name, value in requested.items() if name not in names}, **kept}


def check_vlans(cloud: Cloud, caller: User, template: Template) -> None:
    """Refuse (512) VLANs in a user's text for a network or its ranges, as 7.x does for groups without VLAN rules."""
    asked = {name for name in _VLAN_ATTRIBUTES if template.get(name)}
    asked |= {name for name in _VLAN_ATTRIBUTES for requested in template.vectors("AR") if requested.get(name)}
    if asked and cloud.version.is_v7 and not caller.is_oneadmin:
        raise unauthorized(f"User [{caller.id}] : User is not authorized to use the requested {min(asked)}.")
