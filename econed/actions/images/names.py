"""Names of AMIs. In EC2 they are unique among the owner's AMIs, in OpenNebula among all images of an owner.

An AMI's name can be used again when the AMI has been deregistered. Its image gets the same name in OpenNebula unless
another image has it; otherwise a number is appended to it, and the AMI's name is stored as an attribute. All
processes that see the same images choose the same image name, and oned refuses a name that is taken: so at most one of
them creates an AMI with a given name.
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

_MAX_LENGTH = 128
"""Maximum length of a name in characters, for both AMIs and images (EC2, RegisterImage; oned)."""

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}", re.ASCII)


def check_name(name: str) -> None:
    """Raise `EC2Error` InvalidAMIName.Malformed for a name that EC2 rejects or that oned would not store unchanged."""
    if not _NAME.fullmatch(name) or name != name.strip():
        raise EC2Error(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, "
            "'(', ')', '[', ']', ' ', '.', '/', '-', ''', '@' and '_'.",
        )


def check_name_unused(owned: Iterable[Image], name: str, ignored_id: int | None = None) -> None:
    """Raise `EC2Error` InvalidAMIName.Duplicate if one of the caller's AMIs, other than `ignored_id`, has the name."""
    for image in owned:
        if image.id != ignored_id and is_ami(image) and ami_name(image) == name:
            raise duplicate_name(name, image)


def duplicate_name(name: str, image: Image | None) -> EC2Error:
    """Return the error for a name that another AMI has, or will have when it is finished; `image` is that AMI's."""
    used_by = "an AMI that is being created" if image is None else f"AMI {IMAGE.format(image.id)}"
    return EC2Error("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by {used_by}")


def unused_image_name(owned: Iterable[Image], name: str) -> str:
    """Return the name of the image of a new AMI in OpenNebula: the AMI's, or that with the first free number appended.

    It is never a name that would make the image a volume or a snapshot.
    """
    taken = {image.name for image in owned}
    return next(candidate for candidate in _candidates(name) if candidate not in taken and not is_reserved(candidate))


def name_text(name: str, image_name: str) -> str:
    """Return the template text that stores the name of an AMI, if it differs from that of its image."""
    return attribute(AMI_NAME, name) if name != image_name else removal(AMI_NAME)


async def creation_error(call: Call, image_name: str, name: str, refusal: OpenNebulaRefusal) -> Exception:
    """Return the error for an AMI whose image oned refused to create.

    If the image name was taken since it was chosen, another call is creating an AMI with the same name.
    """
    if refusal.code == OpenNebulaCode.ALLOCATE:
        owned = await call.session.images(OwnerFilter.MINE)
        images: Sequence[Image] = [image for image in owned if image.name == image_name]
        if images:
            return duplicate_name(name, images[0])
    return refusal


def _candidates(name: str) -> Iterator[str]:
    yield name
    for number in count(2):
        suffix = f" ({number})"
        yield name[: _MAX_LENGTH - len(suffix)] + suffix
