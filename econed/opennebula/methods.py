"""Properties of oned's methods by their names: limits on replies, root elements, reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.template import is_sendable

_MIB = 1024 * 1024

MAX_USER = 8 * _MIB
"""Maximum bytes of a response with one user's document, on the wire; any user may make their document long."""

MAX_USER_POOL = 32 * _MIB
"""Maximum bytes of a response with all users; where it would be longer, users are read one by one."""

MAX_GROUP_POOL = 8 * _MIB
"""Maximum bytes of a response with all groups, whose documents group administrators can make long."""

MAX_LIST = 32 * _MIB
"""Maximum bytes of a response with objects that users can share; see `econed.opennebula.long_documents`."""

_MAX_RESPONSE: Mapping[str, int] = MappingProxyType(
    {
        "one.grouppool.info": MAX_GROUP_POOL,
        "one.imagepool.info": MAX_LIST,
        "one.secgrouppool.info": MAX_LIST,
        "one.templatepool.info": MAX_LIST,
        "one.user.info": MAX_USER,
        "one.userpool.info": MAX_USER_POOL,
        "one.vmgrouppool.info": MAX_LIST,
        "one.vmpool.infoextended": MAX_LIST,
        "one.vmpool.infoset": MAX_LIST,
        "one.vnpool.info": MAX_LIST,
        "one.vntemplatepool.info": MAX_LIST,
    }
)

_READ_ONLY = frozenset({"info", "infoset", "infoextended", "accounting", "showback", "monitoring", "version", "config"})


def is_read_only(method: str) -> bool:
    """Whether a method only reads (`one.vm.info`). All other methods may change something."""
    return method.rpartition(".")[2] in _READ_ONLY


def check_arguments(method: str, arguments: Sequence[object]) -> None:
    """Raise `OpenNebulaRefusal` for arguments that XML-RPC cannot carry: numbers beyond 32 bits, texts invalid in XML.

    oned would reply to the whole call with a fault.
    """
    for value in arguments:
        number_fits = isinstance(value, int) and -(2**31) <= value < 2**31
        if not (is_sendable(value) if isinstance(value, str) else number_fits):
            raise OpenNebulaRefusal(method, OpenNebulaCode.XML_RPC_API, "an argument cannot be sent")


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
"""The element of an object, by its name in methods."""

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
"""The root element of the document that a method returns (recordings of 5.12 and 7.4)."""

ELEMENTS_READ: Mapping[str, Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "one.vmpool.accounting": {"HISTORY": frozenset({"OID"})},
        "one.vmpool.info": {"VM": frozenset({"ID", "STATE", "HISTORY_RECORDS"}), "HISTORY": frozenset({"SEQ"})},
    }
)
"""For long documents of which little is read: the children to keep, by element. Others are dropped while parsing."""

NEVER_EMPTY: Mapping[str, str] = MappingProxyType({"one.userpool.info": "USER", "one.grouppool.info": "GROUP"})
"""Pools that are never empty, and their element: the session's user exists and is in a group."""


def max_response(method: str, default: int) -> int:
    """Return the maximum bytes of a response to a method; `default` is the configured limit for all methods."""
    return min(default, _MAX_RESPONSE.get(method, default))
