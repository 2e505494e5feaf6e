"""What all objects of oned's pools have: number, owner, group, name, permissions, lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from xml.sax.saxutils import escape

from econed.sandbox.quotas import Charge
from econed.sandbox.refusals import internal
from econed.sandbox.template import Template


class Kind(Enum):
    """The kinds of objects: oned's name in refusals, in "Error getting ...", and the bit of ACL rules."""

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
    VMGROUP = ("VMGROUP", "VM group", 0x20000000000000)
    VNTEMPLATE = ("VNTEMPLATE", "virtual network template", 0x40000000000000)
    BACKUPJOB = ("BACKUPJOB", "backup job", 0x100000000000000)

    def __init__(self, label: str, called: str, bit: int) -> None:
        self.label = label
        self.called = called
        self.bit = bit


class Right(IntEnum):
    """The rights of permissions and ACL rules; a lock of level N keeps away all rights from N on."""

    USE = 1
    MANAGE = 2
    ADMIN = 4
    CREATE = 8


_BITS = ("OWNER_U", "OWNER_M", "OWNER_A", "GROUP_U", "GROUP_M", "GROUP_A", "OTHER_U", "OTHER_M", "OTHER_A")


@dataclass
class Permissions:
    """The nine permission bits of an object, in the order of `one.*.chmod`. The default is DEFAULT_UMASK 177."""

    bits: list[int] = field(default_factory=lambda: [1, 1, 0, 0, 0, 0, 0, 0, 0])

    @classmethod
    def octal(cls, mode: str) -> Permissions:
        """Return permissions from three octal digits, as `640`."""
        return cls([int(digit) >> shift & 1 for digit in mode for shift in (2, 1, 0)])

    def allows(self, right: Right, who: int) -> bool:
        """Whether `who` (0 owner, 1 group, 2 others) has `right` by these bits."""
        return right is not Right.CREATE and bool(self.bits[3 * who + {1: 0, 2: 1, 4: 2}[right]])

    def xml(self) -> str:
        """Return the element as oned shows it."""
        inner = "".join(f"<{name}>{bit}</{name}>" for name, bit in zip(_BITS, self.bits, strict=True))
        return f"<PERMISSIONS>{inner}</PERMISSIONS>"


@dataclass(frozen=True)
class Lock:
    """A lock that a user put on an object (`one.*.lock`); `since` in epoch seconds."""

    level: int
    owner: int
    since: int

    def xml(self) -> str:
        """Return the element as oned shows it."""
        return (
            f"<LOCK><LOCKED>{self.level}</LOCKED><OWNER>{self.owner}</OWNER>"
            f"<TIME>{self.since}</TIME><REQ_ID>0</REQ_ID></LOCK>"
        )


@dataclass(eq=False)
class PoolObject:
    """An object of a pool. `uname` and `gname` are the names of owner and group when they were given."""

    id: int
    uid: int
    gid: int
    uname: str
    gname: str
    name: str
    permissions: Permissions = field(default_factory=Permissions, kw_only=True)
    lock: Lock | None = field(default=None, kw_only=True)
    clusters: set[int] = field(default_factory=set, kw_only=True)
    template: Template = field(default_factory=Template, kw_only=True)

    kind = Kind.VM

    def taken(self) -> Sequence[Charge]:
        """Return what the object takes of its owner's quotas."""
        return ()

    def changed(self) -> None:
        """Forget what was rendered of this object; called after every change."""

    def head(self) -> str:
        """Return the elements that the documents of all owned objects begin with."""
        return (
            f"<ID>{self.id}</ID><UID>{self.uid}</UID><GID>{self.gid}</GID>"
            f"<UNAME>{escape(self.uname)}</UNAME><GNAME>{escape(self.gname)}</GNAME>"
            f"<NAME>{escape(self.name)}</NAME>{self.permissions.xml()}"
        )

    def lock_xml(self) -> str:
        """Return the LOCK element, or nothing."""
        return self.lock.xml() if self.lock else ""


def ids(element: str, numbers: set[int] | list[int]) -> str:
    """Return an element with one ID for each of `numbers`, in ascending order."""
    return f"<{element}>{''.join(f'<ID>{number}</ID>' for number in sorted(numbers))}</{element}>"


NAME_MAX = 128
"""The most bytes a NAME may have (oned: `PoolObjectSQL::name_is_valid`)."""

_FORBIDDEN_IN_NAMES = "&|:\\\";/'#{}$<>\n"
"""Only 7.x refuses a line end."""


def check_name(name: str, also_forbidden: str = "") -> str:
    """Return why oned does not take `name`, or an empty text."""
    if not name:
        return "Invalid NAME, it cannot be empty"
    for character in name:
        if character in _FORBIDDEN_IN_NAMES or character in also_forbidden:
            return f"Invalid NAME, char '{character}' is not allowed"
    if len(name.encode()) > NAME_MAX:
        return f"Invalid NAME, max length is {NAME_MAX} chars"
    return ""


def demand_name(name: str, also_forbidden: str = "") -> str:
    """Return `name` if oned takes it, else refuse as oned does when an object is made (8192)."""
    reason = check_name(name, also_forbidden)
    if reason:
        raise internal(reason)
    return name
