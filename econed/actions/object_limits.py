"""Limits on the size of the attributes that clients can make econed write on one OpenNebula object.

All attributes of an object are read whenever the object is read: a user's by every request of that user and once a
minute by the reconciler, a machine's and an image's by every user who lists them, the elastic IP network's by every
request about an elastic IP of any user. EC2's own limits (50 tags on a resource, 5,000 key pairs) do not limit the size
of a user, whose key pairs have tags, or of a machine, whose disks have tags.

The limits are in bytes of template text. They are checked before the first change, so concurrent requests may exceed
them together. Attributes that the change replaces are counted too. Removals are never refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from econed.errors import EC2Error
from econed.opennebula.attributes import Attributes, Value

_KIB = 1024

MAX_ON_USER = 2048 * _KIB
"""Key pairs with their tags, and announcements of images, on one user: 5,000 ED25519 or some 3,400 RSA 2048 keys.

Escaped as XML within XML it is at most three times as long, within `econed.opennebula.methods.MAX_USER`. Key pairs are
read in a thread.
"""

MAX_ON_MACHINE = 512 * _KIB
"""Tags of a machine and of its disks that are volumes: three times the size of the longest 50 tags."""

MAX_ON_IMAGE = 512 * _KIB
"""Tags of an AMI and of its snapshot, and its description."""

MAX_ON_NETWORK = 256 * _KIB
"""Tags of a subnet or a VPC, on its network, which every request about networks reads."""

MAX_ON_VM_GROUP = 256 * _KIB
"""Tags of a placement group, on its VM group."""

MAX_ON_GROUP = 512 * _KIB
"""Rules of a security group with their descriptions, and the tags of the group and of its rules."""

MAX_ON_ADDRESS_NETWORK = 256 * _KIB
"""Elastic IPs of one user with their tags, on the network that all users share."""

_PREFIX = "EC2_"
_PUNCTUATION = len('=[]"",')


def size_of(attributes: Iterable[tuple[str, Value]]) -> int:
    """Return the bytes of template text of those of the attributes that are econed's."""
    return sum(_size(name, value) for name, value in attributes if name.startswith(_PREFIX))


def check_size(present: Attributes, added: str, max_bytes: int, refusal: EC2Error) -> None:
    """Raise `refusal` if an object would have more than `max_bytes` with the template text `added`."""
    if added and size_of(present) + len(added.encode()) > max_bytes:
        raise refusal


def _size(name: str, value: Value) -> int:
    if isinstance(value, str):
        return len(name) + len(value.encode()) + _PUNCTUATION
    return (
        len(name)
        + _PUNCTUATION
        + sum(len(member) + len(text.encode()) + _PUNCTUATION for member, text in value.items())
    )
