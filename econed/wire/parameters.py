"""Decodes the pairs of a request into members of the model: `InstanceId.1=i-1` to `{"InstanceIds": ["i-1"]}`.

Lists may start at any index and have gaps, as clients send them (libcloud and fog count from 0). Unknown parameters are
refused, never ignored: a request that loses its selector would apply to everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from econed.errors import EC2Error
from econed.wire.model import ServiceOperation, input_name
from econed.wire.query import require_unique, shortened
from econed.wire.scalars import invalid_value, parse_scalar
from econed.wire.shapes import ListShape, Shape, StructureShape

PROTOCOL_PARAMETERS: Final = frozenset(
    {
        "Action",
        "Version",
        "AWSAccessKeyId",
        "Signature",
        "SignatureMethod",
        "SignatureVersion",
        "Timestamp",
        "Expires",
        "SecurityToken",
    }
)
"""Parameters of the Query protocol and its signatures, in addition to those that begin with X-Amz-."""

MAY_BE_EMPTY: Final = frozenset(
    {
        ("Tag", "Value"),
        ("AttributeValue", "Value"),
        ("BlobAttributeValue", "Value"),
        ("SecureBlobAttributeValue", "Value"),
        ("ModifyInstanceAttributeRequest", "Value"),
        ("ModifyImageAttributeRequest", "Value"),
        ("CopyImageRequest", "Description"),
        ("RegisterImageRequest", "Description"),
        ("BlockDeviceMapping", "NoDevice"),
        ("InstanceBlockDeviceMappingSpecification", "NoDevice"),
    }
)
"""The members, by shape, where the empty string is a value. Elsewhere it means "not given", as Terraform sends it.

DeleteTags of an empty value is not DeleteTags of any value. An empty value clears an attribute, an empty description
removes an existing one, and an empty NoDevice omits a device (EC2 API Reference, Tag, AttributeValue, CopyImage,
BlockDeviceMapping).
"""

MAX_DEPTH: Final = 16
"""Maximum number of parts of a parameter's name: EC2's deepest, in RequestSpotFleet, has 11."""

MAX_ELEMENTS: Final = 1000
"""Maximum number of elements of a list: Amazon's limit for the ids of TerminateInstances and CreateTags.

Here it applies to every list except those of filters, whose values Amazon counts together (`econed.actions.filters`).
"""

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def is_protocol_parameter(name: str) -> bool:
    """Whether a parameter belongs to the Query protocol or its signature, not to the action."""
    return name in PROTOCOL_PARAMETERS or name.startswith("X-Amz-")


def decode(
    operation: ServiceOperation, pairs: Iterable[tuple[str, str]], *, required: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the parameters of a request under the names of the model, with the types that boto3 takes.

    A list without an index is a list of one element, and a single value may have one index. Empty strings count as not
    given, except in `MAY_BE_EMPTY` and as elements of lists, where the action refuses `""`: it is an id that a client
    failed to fill in. `required` names the top-level members that must be given; None: those that the model requires.

    Raises `EC2Error` UnknownParameter, MissingParameter or InvalidParameterValue, the last also for duplicate
    parameters and for a list of more than `MAX_ELEMENTS` elements.
    """
    root = _root(pairs)
    shape = operation.input_shape
    if shape is not None:
        return _members(shape, root, "", shape.required_members if required is None else required)
    _refuse_children(root, "")
    return {}


def wire_names(shape: StructureShape) -> dict[str, str]:
    """Return the members of a structure by their names in a request."""
    return {input_name(member, key): key for key, member in shape.members.items()}


@dataclass(slots=True)
class _Node:
    """A name in a request: its value, and the pairs whose names continue after it.

    Those names are split only as far as the model goes, so that unknown parameters cost no more than their length.
    """

    value: str | None = None
    descendants: list[tuple[str, str]] = field(default_factory=list)

    def children(self) -> dict[str, _Node]:
        """Return the nodes by the next part of their names, in the order of the request."""
        nodes: dict[str, _Node] = {}
        for name, value in self.descendants:
            part, dot, suffix = name.partition(".")
            node = nodes.setdefault(part, _Node())
            if dot:
                node.descendants.append((suffix, value))
            else:
                node.value = value
        return nodes


def _root(pairs: Iterable[tuple[str, str]]) -> _Node:
    """Return the action's own parameters; raises `EC2Error` for duplicates and for names deeper than any of EC2's."""
    own = []
    for name, value in require_unique(pairs):
        if name.count(".") >= MAX_DEPTH:
            raise _unknown_parameter(name)
        if not is_protocol_parameter(name):
            own.append((name, value))
    return _Node(descendants=own)


def _members(shape: StructureShape, node: _Node, path: str, required: Sequence[str]) -> dict[str, Any]:
    """Return the members of a structure; at the top level, or if any is given, all of `required` must be given."""
    key_by_name = wire_names(shape)
    members: dict[str, Any] = {}
    for name, child in node.children().items():
        child_path = _join(path, name)
        if name not in key_by_name:
            raise _unknown_parameter(child_path)
        key = key_by_name[name]
        member = shape.members[key]
        if member.type_name not in ("structure", "list"):
            child = _without_index(child, child_path)
        max_elements = None if _belongs_to_filters(shape, member) else MAX_ELEMENTS
        keep_empty = (shape.name, key) in MAY_BE_EMPTY
        value = _value(member, child, child_path, keep_empty=keep_empty, max_elements=max_elements)
        if value is not None:
            members[key] = value
    if members or not path:
        _check_required(shape, members, path, required)
    return members


def _check_required(shape: StructureShape, members: dict[str, Any], path: str, required: Sequence[str]) -> None:
    for key in required:
        if key not in members:
            name = _join(path, input_name(shape.members[key], key))
            raise EC2Error("MissingParameter", f"The request must contain the parameter {name}")


def _belongs_to_filters(shape: Shape, member: Shape) -> bool:
    return shape.name == "Filter" or member.name == "FilterList"


def _value(shape: Shape, node: _Node, path: str, *, keep_empty: bool, max_elements: int | None = MAX_ELEMENTS) -> Any:
    """Return the value of a node, None if it counts as not given. `max_elements` is the limit for a list."""
    if shape.type_name == "structure":
        if node.value:
            raise invalid_value(path, node.value, "It has members, each of which must be given by its own name.")
        structure = cast(StructureShape, shape)
        return _members(structure, node, path, structure.required_members) or None
    if shape.type_name == "list":
        return _list(cast(ListShape, shape).member, node, path, max_elements)
    _refuse_children(node, path)
    text = node.value or ""
    return parse_scalar(shape, text, path) if text or keep_empty else None


def _list(member: Shape, node: _Node, path: str, max_elements: int | None) -> list[Any]:
    children = node.children()
    if node.value is not None:
        if children:
            raise invalid_value(path, node.value, "It is given with an index and without one.")
        return [_element(member, node, path)]
    if max_elements is not None and len(children) > max_elements:
        raise EC2Error("InvalidParameterValue", f"{path} cannot contain over {max_elements} values.")
    for index in children:
        if not _INDEX.fullmatch(index):
            raise _unknown_parameter(_join(path, index))
    return [_element(member, children[index], _join(path, index)) for index in sorted(children, key=int)]


def _element(member: Shape, node: _Node, path: str) -> Any:
    value = _value(member, node, path, keep_empty=True)
    if value is None:
        raise invalid_value(path, "", "An element of a list must not be empty.")
    return value


def _without_index(node: _Node, path: str) -> _Node:
    """Return the node of a single value that may have been sent as a list of one element (boto 2: `InstanceId.1`)."""
    children = node.children()
    if not children or any(not _INDEX.fullmatch(name) or child.value is None for name, child in children.items()):
        return node
    nodes = [*children.values()] if node.value is None else [node, *children.values()]
    if len(nodes) > 1:
        raise invalid_value(path, ", ".join(other.value or "" for other in nodes[:2]), "It takes one value only.")
    return nodes[0]


def _refuse_children(node: _Node, path: str) -> None:
    for name in node.children():
        raise _unknown_parameter(_join(path, name))


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part


def _unknown_parameter(name: str) -> EC2Error:
    return EC2Error("UnknownParameter", f"The parameter {shortened(name)} is not recognized")
