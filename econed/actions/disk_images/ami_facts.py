"""Which attributes of an image keep what EC2 says of it as an AMI; its description, which snapshots have too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.opennebula.template import attribute, decode_member, encode_member, member_names, removal, template

if TYPE_CHECKING:
    from econed.opennebula.documents import Image

IS_AMI = "EC2_AMI"
"""The attribute that makes an image an AMI, if it is YES."""

AMI_NAME = "EC2_AMI_NAME"
"""The Name an image was registered with, where it is not its name in OpenNebula."""

SAVED_FROM_MACHINE = "SAVED_VM_ID"
"""oned's own note of the machine whose disk an image was saved from."""

MAX_DESCRIPTION = 255
"""Characters of a description (EC2, RegisterImage)."""

_DESCRIPTION = "DESCRIPTION"
_ENCODED_DESCRIPTION = "DESCRIPTION_BASE64"


def description(image: Image) -> str:
    """Return what is said of an image, in OpenNebula's own attribute or beside it."""
    text = image.template.text(_DESCRIPTION)
    return text or decode_member({_ENCODED_DESCRIPTION: image.template.text(_ENCODED_DESCRIPTION)}, _DESCRIPTION) or ""


def new_description_text(text: str) -> str:
    """Return the template text that describes an image still to be made by `text`, whatever it holds.

    OpenNebula's own DESCRIPTION keeps it where it can, so that Sunstone shows it; else it stands beside it, encoded.
    """
    return template(*(attribute(name, value) for name, value in _spelled(text).items()))


def description_text(text: str) -> str:
    """Return the template text that describes an image that there is by `text`; what was said before goes."""
    gone = (name for name in member_names(_DESCRIPTION) if name not in _spelled(text))
    return template(new_description_text(text), *map(removal, gone))


def _spelled(description: str) -> dict[str, str]:
    return encode_member(_DESCRIPTION, description) if description else {}
