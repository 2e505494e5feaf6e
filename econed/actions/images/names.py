"""Names of AMIs. EC2 has a name space of AMIs alone; OpenNebula has one of all images of an owner.

An AMI's name is used by the owner's other AMIs only: it is free again when the AMI is gone. Its image takes the same
name in OpenNebula where no other image has it, else the name with a number behind it, and keeps the AMI's name as an
attribute. All processes that see the same images choose the same name, so that oned, which refuses a name that is
taken, lets one of them at most make an AMI of a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

from econed.actions.disk_images.ami_facts import AMI_NAME
from econed.actions.disk_images.volume_facts import is_reserved
from econed.actions.images.view import ami_name, is_ami
from econed.errors import EC2Error, OpenNebulaCode, OpenNebulaRefusal
from econed.ids import IMAGE
from econed.opennebula.pools import OwnerFilter
from econed.opennebula.template import attribute, removal

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.documents import Image

_LONGEST = 128
"""Characters of a name, on both sides (EC2, RegisterImage; oned)."""

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}", re.ASCII)


def check_name(name: str) -> None:
    """Raise `EC2Error` InvalidAMIName.Malformed for a name that Amazon would not take, or oned not keep."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise EC2Error(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
            "'(', ')', '[', ']', ' ', '.', '/', '-', ''', '@' and '_'.",
        )


def demand_free(owned: Iterable[Image], name: str, besides: int | None = None) -> None:
    """Raise `EC2Error` InvalidAMIName.Duplicate if an AMI of the caller's, but for the image `besides`, has a name."""
    for image in owned:
        if image.id != besides and is_ami(image) and ami_name(image) == name:
            raise duplicate(name, IMAGE.format(image.id))


def duplicate(name: str, used_by: str) -> EC2Error:
    """Return the error for the name of an AMI that another one has, or is about to have."""
    return EC2Error("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {used_by}")


def image_name(owned: Iterable[Image], name: str) -> str:
    """Return the name in OpenNebula of the image of a new AMI: its own, or that with the first free number behind it.

    Not one that would make the image a volume or a snapshot.
    """
    taken = {image.name for image in owned}
    return next(each for each in _candidates(name) if each not in taken and not is_reserved(each))


def name_text(name: str, image_name: str) -> str:
    """Return the template text that gives an AMI its name, where it is not its image's."""
    return attribute(AMI_NAME, name) if name != image_name else removal(AMI_NAME)


async def refused(call: Call, image_name: str, name: str, refusal: OpenNebulaRefusal) -> Exception:
    """Return what a client is told when oned did not make the image of an AMI.

    Its name in OpenNebula was free a moment ago: whoever has taken it is about to have an AMI of the same name.
    """
    if refusal.code == OpenNebulaCode.ALLOCATE:
        owned = await call.session.images(OwnerFilter.MINE)
        taken: Sequence[Image] = [image for image in owned if image.name == image_name]
        if taken:
            return duplicate(name, IMAGE.format(taken[0].id))
    return refusal


def _candidates(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        suffix = f" ({number})"
        yield name[: _LONGEST - len(suffix)] + suffix
