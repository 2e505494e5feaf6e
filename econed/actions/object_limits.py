"""How much econed keeps on one object of OpenNebula: a bound on all that clients can have it write there.

What is kept on an object is read whole whenever the object is: a user's by every request of that user and once a minute
by the reconciler, a machine's and an image's by everybody who lists them, the elastic IP network's by every request for
an elastic IP of whatever user. The limits of EC2 alone (50 tags on a resource, 5,000 key pairs) do not bound a user,
whose key pairs have tags, nor a machine, whose disks have.

The bounds are in bytes of template text. They are checked before the first change, so that requests that are under way
at the same time may exceed them by what these write. What is replaced counts until it is. What takes away is never
refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from econed.errors import EC2Error
from econed.opennebula.attributes import Attributes, Value

_KIB = 1024

MAX_ON_USER = 2048 * _KIB
"""Key pairs and their tags, and announcements of images, on one user: 5,000 key pairs ED25519, some 3,400 of RSA 2048.

As XML within XML it is three times as much at most, which `econed.opennebula.methods.MAX_USER` lets through. Key pairs
are read in a thread.
"""

MAX_ON_MACHINE = 512 * _KIB
"""Tags of a machine and of the disks that it keeps them for: three times what the longest 50 tags take."""

MAX_ON_IMAGE = 512 * _KIB
"""Tags of an AMI and of its snapshot, and its description."""

MAX_OF_ADDRESSES = 256 * _KIB
"""Elastic IPs of one user and their tags, on the network that all users share."""

_OURS = "EC2_"
_MARKS = len('=[]"",')


def size_of(attributes: Iterable[tuple[str, Value]]) -> int:
    """Return how many bytes the template text of attributes takes, those of econed's alone."""
    return sum(_size(name, value) for name, value in attributes if name.startswith(_OURS))


def check_size(kept: Attributes, added: str, most: int, refusal: EC2Error) -> None:
    """Raise `refusal` where an object would keep more than `most` bytes with the template text `added`."""
    if added and size_of(kept) + len(added.encode()) > most:
        raise refusal


def _size(name: str, value: Value) -> int:
    if isinstance(value, str):
        return len(name) + len(value.encode()) + _MARKS
    return len(name) + _MARKS + sum(len(member) + len(text.encode()) + _MARKS for member, text in value.items())
