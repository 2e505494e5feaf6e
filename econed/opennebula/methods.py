"""What is known of oned's methods by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.template import is_sendable

_MIB = 1024 * 1024

MAX_USER = 8 * _MIB
"""Bytes of the longest response that is one user's document, as it is sent; any user may make theirs long."""

MAX_USER_POOL = 32 * _MIB
"""Bytes of the longest response that is the documents of all users; it is read by pieces where it would be longer."""

MAX_GROUP_POOL = 8 * _MIB
"""Bytes of the longest response that is the documents of all groups, which administrators of groups can make long."""

MAX_LIST = 32 * _MIB
"""Bytes of the longest response that is documents which users can share; see `econed.opennebula.long_documents`."""

_MAX_RESPONSE: Mapping[str, int] = MappingProxyType(
    {
        "one.grouppool.info": MAX_GROUP_POOL,
        "one.imagepool.info": MAX_LIST,
        "one.templatepool.info": MAX_LIST,
        "one.user.info": MAX_USER,
        "one.userpool.info": MAX_USER_POOL,
        "one.vmpool.infoextended": MAX_LIST,
        "one.vmpool.infoset": MAX_LIST,
    }
)

_READING = frozenset({"info", "infoset", "infoextended", "accounting", "showback", "monitoring", "version", "config"})


def is_read_only(method: str) -> bool:
    """Whether a method (`one.vm.info`) only asks. Every other one may change something."""
    return method.rpartition(".")[2] in _READING


def check_arguments(method: str, arguments: Sequence[object]) -> None:
    """Raise `OpenNebulaRefusal` for what XML-RPC cannot carry: a number beyond 32 bits, a text that XML cannot hold.

    oned answers that with a fault, for the whole call.
    """
    for value in arguments:
        number_fits = isinstance(value, int) and -(2**31) <= value < 2**31
        if not (is_sendable(value) if isinstance(value, str) else number_fits):
            raise OpenNebulaRefusal(method, OpenNebulaCode.XML_RPC_API, "an argument that cannot be sent")


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

ELEMENTS_READ: Mapping[str, Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "one.vmpool.accounting": {"HISTORY": frozenset({"OID"})},
        "one.vmpool.info": {"VM": frozenset({"ID", "HISTORY_RECORDS"}), "HISTORY": frozenset({"SEQ"})},
    }
)
"""Of long documents of which little is read: the children of an element that are. Others are dropped while parsing."""

NEVER_EMPTY: Mapping[str, str] = MappingProxyType({"one.userpool.info": "USER", "one.grouppool.info": "GROUP"})
"""Pools that hold at least one object, and its element: whoever asks is a user, and in a group."""


def max_response(method: str, of_all: int) -> int:
    """Return how many bytes the response to a method may have, where `of_all` is the bound of every method."""
    return min(of_all, _MAX_RESPONSE.get(method, of_all))
