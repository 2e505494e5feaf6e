"""Parameters that several actions have: structures with the supported members of Amazon's, and checks of texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

from econed.errors import EC2Error

_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Filter(TypedDict, total=False):
    """A condition on what a Describe action lists (EC2 Filter): any of `Values` may match, with `*` and `?`."""

    Name: str
    Values: Sequence[str]


class Tag(TypedDict, total=False):
    """A tag (EC2 Tag); the value may be empty; in DeleteTags it may be missing."""

    Key: str
    Value: str


class TagSpecification(TypedDict, total=False):
    """Tags for the resources that an action creates (EC2 TagSpecification)."""

    ResourceType: str
    Tags: Sequence[Tag]


class Placement(TypedDict, total=False):
    """Where to run an instance (EC2 Placement): the availability zone, an OpenNebula cluster, and a placement group."""

    AvailabilityZone: str
    GroupName: str
    GroupId: str


class AttributeValue(TypedDict, total=False):
    """A text in a structure of its own, which may be empty (EC2 AttributeValue)."""

    Value: str


class AttributeBooleanValue(TypedDict, total=False):
    """A truth value in a structure of its own (EC2 AttributeBooleanValue)."""

    Value: bool


def check_text(parameter: str, text: str, max_length: int) -> None:
    """Raise `EC2Error` InvalidParameterValue for a text that is too long, or that no response could return unchanged.

    XML allows no control characters except tab and line ends. `max_length` is how many characters EC2 allows.
    """
    if len(text) > max_length:
        raise EC2Error("InvalidParameterValue", f"Value for parameter {parameter} exceeds {max_length} characters.")
    if _NOT_IN_XML.search(text):
        raise EC2Error("InvalidParameterValue", f"Value for parameter {parameter} has a control character.")
