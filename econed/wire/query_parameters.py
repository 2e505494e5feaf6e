"""Decodes the pairs of a request of the query protocol: `Tags.member.1.Key=a` to `{"Tags": [{"Key": "a"}]}`.

AWS Query protocol (Smithy, "AWS query protocol"). STS and IAM use it. Unlike in EC2's protocol, a list is within
`member`, and an empty string is a value. Here, too, unknown parameters are refused: a request that loses the name of a
user would apply to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from econed.wire.constraints import check_constraints
from econed.wire.model import ServiceOperation, own_name
from econed.wire.parameter_tree import Node, in_order, joined, refuse_children, root_of, unknown_parameter
from econed.wire.scalars import invalid_value, parse_unconstrained
from econed.wire.shapes import ListShape, MapShape, Shape, StructureShape


def decode_query(
    operation: ServiceOperation, pairs: Iterable[tuple[str, str]], required: Sequence[str]
) -> dict[str, Any]:
    """Return the parameters of a request under the names of the model, with the types that boto3 takes.

    `required` names the top-level members that must be given. Raises `EC2Error` ValidationError for a value, or a
    missing one, that the model does not permit, UnknownParameter, or InvalidParameterValue for a value of another type
    or a list that is too long.
    """
    root = root_of(pairs)
    shape = operation.input_shape
    if shape is None:
        refuse_children(root, "")
        return {}
    members = _members(shape, root, "")
    check_constraints(shape, members, required)
    return members


def _members(shape: StructureShape, node: Node, path: str) -> dict[str, Any]:
    if node.value:
        raise invalid_value(path, node.value, "It has members, each of which must be given by its own name.")
    key_by_name = {own_name(member, key): key for key, member in shape.members.items()}
    members: dict[str, Any] = {}
    for name, child in node.children().items():
        child_path = joined(path, name)
        if name not in key_by_name:
            raise unknown_parameter(child_path)
        key = key_by_name[name]
        members[key] = _value(shape.members[key], child, child_path)
    return members


def _value(shape: Shape, node: Node, path: str) -> Any:
    match shape:
        case StructureShape():
            return _members(shape, node, path)
        case ListShape():
            within = None if shape.is_flattened else shape.member.location_name or "member"
            return [_value(shape.member, child, child_path) for child_path, child in _items(node, path, within)]
        case MapShape():
            within = None if shape.is_flattened else "entry"
            return dict(_entry(shape, child, child_path) for child_path, child in _items(node, path, within))
    refuse_children(node, path)
    return parse_unconstrained(shape, cast(str, node.value), path)


def _items(node: Node, path: str, within: str | None) -> list[tuple[str, Node]]:
    """Return the items of a list or a map; an empty value without an index is an empty one (`ListArg=`)."""
    if node.value:
        raise invalid_value(path, node.value, "Each of its elements must be given with an index.")
    children = node.children()
    if within is None:
        return in_order(children, path)
    for name, child in children.items():
        if name != within or child.value is not None:
            raise unknown_parameter(joined(path, name))
    return in_order(children[within].children(), joined(path, within)) if children else []


def _entry(shape: MapShape, node: Node, path: str) -> tuple[Any, Any]:
    """Return the key and the value of an entry of a map."""
    names = (shape.key.location_name or "key", shape.value.location_name or "value")
    children = node.children()
    for name in children:
        if name not in names:
            raise unknown_parameter(joined(path, name))
    if len(children) < len(names):
        raise invalid_value(path, node.value or "", f"It must have a {names[0]} and a {names[1]}.")
    key, value = (
        _value(part, children[name], joined(path, name))
        for part, name in zip((shape.key, shape.value), names, strict=True)
    )
    return key, value
