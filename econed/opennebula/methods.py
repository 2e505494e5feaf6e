"""What is known of oned's methods by their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_READING = frozenset({"info", "infoset", "infoextended", "accounting", "showback", "monitoring", "version", "config"})


def is_reading(method: str) -> bool:
    """Whether a method (`one.vm.info`) only asks. Every other one may change something."""
    return method.rpartition(".")[2] in _READING


_OBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "datastore": "DATASTORE",
        "document": "DOCUMENT",
        "group": "GROUP",
        "host": "HOST",
        "image": "IMAGE",
        "secgroup": "SECURITY_GROUP",
        "template": "VMTEMPLATE",
        "user": "USER",
        "vm": "VM",
        "vmgroup": "VM_GROUP",
        "vn": "VNET",
        "vntemplate": "VNTEMPLATE",
        "cluster": "CLUSTER",
        "zone": "ZONE",
    }
)
"""The element that is an object, by the name that the object has in methods."""

ROOTS: Mapping[str, str] = MappingProxyType(
    {
        **{f"one.{name}.info": element for name, element in _OBJECTS.items()},
        **{f"one.{name}pool.info": f"{element}_POOL" for name, element in _OBJECTS.items()},
        "one.acl.info": "ACL_POOL",
        "one.groupquota.info": "DEFAULT_GROUP_QUOTAS",
        "one.system.config": "OPENNEBULA_CONFIGURATION",
        "one.userquota.info": "DEFAULT_USER_QUOTAS",
        "one.vm.monitoring": "MONITORING_DATA",
        "one.vmpool.accounting": "HISTORY_RECORDS",
        "one.vmpool.infoextended": "VM_POOL",
        "one.vmpool.infoset": "VM_POOL",
        "one.vmpool.monitoring": "MONITORING_DATA",
        "one.zone.raftstatus": "RAFT",
    }
)
"""The root element of the document with which a method answers (recordings of 5.12 and 7.4)."""

NEVER_EMPTY: Mapping[str, str] = MappingProxyType({"one.userpool.info": "USER"})
"""Pools that hold at least one object, and its element: whoever asks for the users is one of them."""
