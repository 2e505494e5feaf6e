"""Decodes the pairs of a request into members of the model: `InstanceId.1=i-1` to `{"InstanceIds": ["i-1"]}`.

Lists may start at any index and have gaps, as clients send them (libcloud and fog count from 0). Unknown parameters are
refused, never ignored: a request that loses its selector would apply to everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from econed.errors import EC2Error
from econed.wire.model import ServiceOperation, input_name
from econed.wire.parameter_tree import (
    INDEX,
    MAX_ELEMENTS,
    Node,
    in_order,
    joined,
    refuse_children,
    root_of,
    unknown_parameter,
)
from econed.wire.query_parameters import decode_query
from econed.wire.scalars import invalid_value, parse_scalar
from econed.wire.shapes import ListShape, Shape, StructureShape

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


def decode(
    operation: ServiceOperation, pairs: Iterable[tuple[str, str]], *, required: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the parameters of a request under the names of the model, with the types that boto3 takes.

    The query protocol has rules of its own (`econed.wire.query_parameters`). In EC2's protocol a list without an index
    is a list of one element, and a single value may have one index. Empty strings count as not given, except in
    `MAY_BE_EMPTY` and as elements of lists, where the action refuses `""`: it is an id that a client failed to fill in.
    `required` names the top-level members that must be given; None: those that the model requires.

    Raises `EC2Error` UnknownParameter, MissingParameter or InvalidParameterValue, the last also for duplicate
    parameters and for a list of more than `MAX_ELEMENTS` elements.
    """
    shape = operation.input_shape
    if shape is not None and required is None:
        required = shape.required_members
    if operation.service.protocol == "query":
        return decode_query(operation, pairs, required or ())
    root = root_of(pairs)
    if shape is not None:
        return _members(shape, root, "", required or ())
    refuse_children(root, "")
    return {}


def wire_names(shape: StructureShape) -> dict[str, str]:
    """Return the members of a structure by their names in a request."""
    return {input_name(member, key): key for key, member in shape.members.items()}


def _members(shape: StructureShape, node: Node, path: str, required: Sequence[str]) -> dict[str, Any]:
    """Return the members of a structure; at the top level, or if any is given, all of `required` must be given."""
    key_by_name = wire_names(shape)
    members: dict[str, Any] = {}
    for name, child in node.children().items():
        child_path = joined(path, name)
        if name not in key_by_name:
            raise unknown_parameter(child_path)
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
            name = joined(path, input_name(shape.members[key], key))
            raise EC2Error("MissingParameter", f"The request must contain the parameter {name}")


def _belongs_to_filters(shape: Shape, member: Shape) -> bool:
    return shape.name == "Filter" or member.name == "FilterList"


def _value(shape: Shape, node: Node, path: str, *, keep_empty: bool, max_elements: int | None = MAX_ELEMENTS) -> Any:
    """Return the value of a node, None if it counts as not given. `max_elements` is the limit for a list."""
    if shape.type_name == "structure":
        if node.value:
            raise invalid_value(path, node.value, "It has members, each of which must be given by its own name.")
        structure = cast(StructureShape, shape)
        return _members(structure, node, path, structure.required_members) or None
    if shape.type_name == "list":
        return _list(cast(ListShape, shape).member, node, path, max_elements)
    refuse_children(node, path)
    text = node.value or ""
    return parse_scalar(shape, text, path) if text or keep_empty else None


def _list(member: Shape, node: Node, path: str, max_elements: int | None) -> list[Any]:
    children = node.children()
    if node.value is not None:
        if children:
            raise invalid_value(path, node.value, "It is given with an index and without one.")
        return [_element(member, node, path)]
    return [_element(member, child, child_path) for child_path, child in in_order(children, path, max_elements)]


def _element(member: Shape, node: Node, path: str) -> Any:
    value = _value(member, node, path, keep_empty=True)
    if value is None:
        raise invalid_value(path, "", "An element of a list must not be empty.")
    return value


def _without_index(node: Node, path: str) -> Node:
    """Return the node of a single value that may have been sent as a list of one element (boto 2: `InstanceId.1`)."""
    children = node.children()
    if not children or any(not INDEX.fullmatch(name) or child.value is None for name, child in children.items()):
        return node
    nodes = [*children.values()] if node.value is None else [node, *children.values()]
    if len(nodes) > 1:
        raise invalid_value(path, ", ".join(other.value or "" for other in nodes[:2]), "It takes one value only.")
    return nodes[0]
