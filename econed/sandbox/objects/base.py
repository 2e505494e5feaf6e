"""The attributes that the objects of all pools have: id, owner, group, name, permissions, lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from xml.sax.saxutils import escape

from econed.opennebula.values import whole_number
from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import internal
from econed.sandbox.template import Template


class Kind(Enum):
    """The kinds of objects: label in ACL rules and refusals, name in "Error getting …", bit in ACL rules."""

    VM = ("VM", "virtual machine", 0x1000000000)
    HOST = ("HOST", "host", 0x2000000000)
    NET = ("NET", "virtual network", 0x4000000000)
    IMAGE = ("IMAGE", "image", 0x8000000000)
    USER = ("USER", "user", 0x10000000000)
    TEMPLATE = ("TEMPLATE", "virtual machine template", 0x20000000000)
    GROUP = ("GROUP", "group", 0x40000000000)
    ACL = ("ACL", "ACL", 0x80000000000)
    DATASTORE = ("DATASTORE", "datastore", 0x100000000000)
    CLUSTER = ("CLUSTER", "cluster", 0x200000000000)
    DOCUMENT = ("DOCUMENT", "document", 0x400000000000)
    ZONE = ("ZONE", "zone", 0x800000000000)
    SECGROUP = ("SECGROUP", "security group", 0x1000000000000)
    VDC = ("VDC", "virtual data center", 0x2000000000000)
    VROUTER = ("VROUTER", "virtual router", 0x4000000000000)
    MARKETPLACE = ("MARKETPLACE", "marketplace", 0x8000000000000)
    MARKETPLACEAPP = ("MARKETPLACEAPP", "marketplace app", 0x10000000000000)
    VMGROUP = ("VMGROUP", "vm group", 0x20000000000000)
    VNTEMPLATE = ("VNTEMPLATE", "virtual network template", 0x40000000000000)
    BACKUPJOB = ("BACKUPJOB", "backup job", 0x100000000000000)

    def __init__(self, label: str, long_name: str, bit: int) -> None:
        self.label = label
        self.long_name = long_name
        self.bit = bit


class Right(IntEnum):
    """The rights of permissions and ACL rules; a lock of level N denies all rights from N on."""

    USE = 1
    MANAGE = 2
    ADMIN = 4
    CREATE = 8


_BITS = ("OWNER_U", "OWNER_M", "OWNER_A", "GROUP_U", "GROUP_M", "GROUP_A", "OTHER_U", "OTHER_M", "OTHER_A")


@dataclass
class Permissions:
    """The nine permission bits of an object, in the order of `one.*.chmod`; by default those of DEFAULT_UMASK 177."""

    bits: list[int] = field(default_factory=lambda: [1, 1, 0, 0, 0, 0, 0, 0, 0])

    @classmethod
    def from_octal(cls, mode: str) -> Permissions:
        """Return the permissions of three octal digits, such as `640`."""
        return cls([int(digit) >> shift & 1 for digit in mode for shift in (2, 1, 0)])

    def allows(self, right: Right, user_class: int) -> bool:
        """Whether these bits grant `right` to a class of users (0 owner, 1 group, 2 others)."""
        return right is not Right.CREATE and bool(self.bits[3 * user_class + {1: 0, 2: 1, 4: 2}[right]])

    def xml(self) -> str:
        """Return the PERMISSIONS element."""
        bits = "".join(f"<{name}>{bit}</{name}>" for name, bit in zip(_BITS, self.bits, strict=True))
        return f"<PERMISSIONS>{bits}</PERMISSIONS>"


@dataclass(frozen=True)
class Lock:
    """A lock that a user acquired on an object (`one.*.lock`); `since` in epoch seconds."""

    level: int
    owner: int
    since: int

    def xml(self) -> str:
        """Return the LOCK element."""
        return (
            f"<LOCK><LOCKED>{self.level}</LOCKED><OWNER>{self.owner}</OWNER>"
            f"<TIME>{self.since}</TIME><REQ_ID>0</REQ_ID></LOCK>"
        )


@dataclass(eq=False)
class PoolObject:
    """An object of a pool. `uname` and `gname` are the names that owner and group had when they were set."""

    id: int
    uid: int
    gid: int
    uname: str
    gname: str
    name: str
    permissions: Permissions = field(default_factory=Permissions, kw_only=True)
    lock: Lock | None = field(default=None, kw_only=True)
    cluster_ids: set[int] = field(default_factory=set, kw_only=True)
    template: Template = field(default_factory=Template, kw_only=True)

    kind = Kind.VM

    @property
    def ignores_wide_rules(self) -> bool:
        """Whether rules for all objects of its kind, or for all in a cluster, do not count for it."""
        return False

    def quota_charges(self) -> Sequence[Charge]:
        """Return the usage that the object counts in its owner's quotas."""
        return ()

    def invalidate(self) -> None:
        """Drop cached documents of this object; called after every change."""

    def head(self) -> str:
        """Return the elements with which the documents of all owned objects begin."""
        return (
            f"<ID>{self.id}</ID><UID>{self.uid}</UID><GID>{self.gid}</GID>"
            f"<UNAME>{escape(self.uname)}</UNAME><GNAME>{escape(self.gname)}</GNAME>"
            f"<NAME>{escape(self.name)}</NAME>{self.permissions.xml()}"
        )

    def lock_xml(self) -> str:
        """Return the LOCK element, or an empty text."""
        return self.lock.xml() if self.lock else ""


def ids_xml(element: str, ids: set[int] | list[int]) -> str:
    """Return an element with an ID element for each of `ids`, in ascending order."""
    return f"<{element}>{''.join(f'<ID>{object_id}</ID>' for object_id in sorted(ids))}</{element}>"


def parse_ids(text: str) -> set[int]:
    """Return the ids in a list such as SECURITY_GROUPS; what is no number is ignored."""
    ids = (whole_number(part.strip()) for part in text.split(","))
    return {object_id for object_id in ids if object_id is not None}


def ids_text(ids: set[int]) -> str:
    """Return ids as oned writes them into an attribute."""
    return ",".join(str(object_id) for object_id in sorted(ids))


NAME_MAX = 128
"""Maximum length of a NAME in bytes (oned: `PoolObjectSQL::name_is_valid`)."""

_FORBIDDEN_IN_NAMES = "&|:\\\";/'#{}$<>\n"
"""Only 7.x refuses a newline."""


def name_error(name: str, also_forbidden: str = "") -> str:
    """Return why oned refuses `name`, or an empty text if it accepts it."""
    if not name:
        return "Invalid NAME, it cannot be empty"
    for character in name:
        if character in _FORBIDDEN_IN_NAMES or character in also_forbidden:
            return f"Invalid NAME, char '{character}' is not allowed"
    if len(name.encode()) > NAME_MAX:
        return f"Invalid NAME, max length is {NAME_MAX} chars"
    return ""


def check_name(name: str, also_forbidden: str = "") -> str:
    """Return `name`; refuses an invalid name as oned does when it allocates an object (8192)."""
    reason = name_error(name, also_forbidden)
    if reason:
        raise internal(reason)
    return name
