"""The attributes of an image that store EC2's facts about it as an AMI; its description, also of snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from econed.opennebula.template import attribute, decode_member, encode_member, member_names, removal, template

if TYPE_CHECKING:
    from econed.opennebula.documents import Image

IS_AMI = "EC2_AMI"
"""YES makes an image an AMI."""

AMI_NAME = "EC2_AMI_NAME"
"""The Name that an AMI was registered with, if it differs from the image's name in OpenNebula."""

SAVED_FROM_MACHINE = "SAVED_VM_ID"
"""The id of the machine whose disk an image was saved from; set by oned."""

MAX_DESCRIPTION = 255
"""Maximum length of a description in characters (EC2, RegisterImage)."""

_DESCRIPTION = "DESCRIPTION"
_ENCODED_DESCRIPTION = "DESCRIPTION_BASE64"


def description(image: Image) -> str:
    """Return the description of an image, from OpenNebula's own attribute or its encoded form."""
    text = image.template.text(_DESCRIPTION)
    return text or decode_member({_ENCODED_DESCRIPTION: image.template.text(_ENCODED_DESCRIPTION)}, _DESCRIPTION) or ""


def new_description_text(text: str) -> str:
    """Return the template text that sets the description of an image that is being created.

    It is stored in OpenNebula's own DESCRIPTION if oned can store it, so that Sunstone shows it; otherwise encoded.
    """
    return template(*(attribute(name, value) for name, value in _description_attributes(text).items()))


def description_text(text: str) -> str:
    """Return the template text that replaces the description of an existing image."""
    unused_names = (name for name in member_names(_DESCRIPTION) if name not in _description_attributes(text))
    return template(new_description_text(text), *map(removal, unused_names))


def _description_attributes(description: str) -> dict[str, str]:
    return encode_member(_DESCRIPTION, description) if description else {}
