"""What actions take: structures by Amazon's names, with no member beyond what is carried out, and texts to keep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

from econed.errors import EC2Error

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Filter(TypedDict, total=False):
    """A condition on what a Describe action lists (EC2 Filter): any of `Values` may match, with `*` and `?`."""

    Name: str
    Values: Sequence[str]


class Tag(TypedDict, total=False):
    """A tag (EC2 Tag); the value may be empty, or missing in DeleteTags."""

    Key: str
    Value: str


class TagSpecification(TypedDict, total=False):
    """Tags for what an action creates (EC2 TagSpecification)."""

    ResourceType: str
    Tags: Sequence[Tag]


class Placement(TypedDict, total=False):
    """Where to run an instance (EC2 Placement): the availability zone, which is an OpenNebula cluster."""

    AvailabilityZone: str


def check_text(parameter: str, text: str, most: int) -> None:
    """Raise `EC2Error` InvalidParameterValue for a text that could not be shown again as it was given.

    XML has no control characters but tab and line ends: an answer could not hold them. `most` is how many
    characters EC2 allows.
    """
    if len(text) > most:
        raise EC2Error("InvalidParameterValue", f"Value for parameter {parameter} exceeds {most} characters.")
    if _NOT_IN_XML.search(text):
        raise EC2Error("InvalidParameterValue", f"Value for parameter {parameter} has a control character.")
