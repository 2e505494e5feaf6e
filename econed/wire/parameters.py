"""From the pairs of a request to the members of the model: `InstanceId.1=i-1` to `{"InstanceIds": ["i-1"]}`.

Lists may start anywhere and have gaps, as real clients send them (libcloud and fog count from 0). What is not
understood is refused, never left out: a selector that gets lost would mean everything there is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from botocore.model import ListShape, Shape, StructureShape

from econed.errors import EC2Error
from econed.wire.model import Operation, input_name
from econed.wire.query import given_twice, shown
from econed.wire.scalars import invalid, scalar

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
"""What belongs to the Query protocol and its signatures, not to an action; beside these all that begin with X-Amz-."""

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
"""The members, by shape, where the empty string is a value; anywhere else it says "not given", as Terraform sends it.

DeleteTags of an empty value is not DeleteTags of any value; an attribute is set to nothing by an empty value, a
description that there is already taken away by an empty one; an empty NoDevice leaves a device out (EC2 API Reference,
Tag, AttributeValue, CopyImage, BlockDeviceMapping).
"""

MAX_DEPTH: Final = 16
"""The most parts that a parameter's name may have: EC2's deepest, in RequestSpotFleet, has 11."""

MAX_ELEMENTS: Final = 1000
"""Elements of a list: Amazon's bound on the ids of TerminateInstances and CreateTags, here that of every list
but those of filters, whose values Amazon counts together (`econed.actions.filters`).
"""

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def is_protocol_parameter(name: str) -> bool:
    """Whether a parameter belongs to the Query protocol or its signature, not to the action."""
    return name in PROTOCOL_PARAMETERS or name.startswith("X-Amz-")


def decode(
    operation: Operation, pairs: Iterable[tuple[str, str]], *, optional: Collection[str] = frozenset()
) -> dict[str, Any]:
    """Return the parameters of a request under the names of the model, as boto3 takes them.

    A list without an index is a list of one, and one index on a single value is let pass. Empty strings are not given,
    but for `MAY_BE_EMPTY` and the elements of lists, where `""` stays for the action to refuse: it stands for an id
    that someone failed to fill in. `optional` names top-level members that are not insisted on although
    the model requires them.

    Raises `EC2Error` UnknownParameter, MissingParameter, InvalidParameterValue; the latter also for a list of more than
    `MAX_ELEMENTS`.
    """
    root = _root(pairs)
    if operation.input_shape is not None:
        return _members(operation.input_shape, root, "", optional)
    _expect_no_more(root, "")
    return {}


def wire_names(shape: StructureShape) -> dict[str, str]:
    """Return the members of a structure by their names in a request."""
    return {input_name(member, key): key for key, member in shape.members.items()}


@dataclass(slots=True)
class _Node:
    """What a request says under one name: a value, and others under longer names.

    Longer names are taken apart only as far as the model goes along, so that those it has not cost nothing.
    """

    value: str | None = None
    longer: list[tuple[str, str]] = field(default_factory=list)

    def parts(self) -> dict[str, _Node]:
        """Return what stands under each next part of the longer names, in the order of the request."""
        nodes: dict[str, _Node] = {}
        for name, value in self.longer:
            part, dot, rest = name.partition(".")
            node = nodes.setdefault(part, _Node())
            if dot:
                node.longer.append((rest, value))
            else:
                node.value = value
        return nodes


def _root(pairs: Iterable[tuple[str, str]]) -> _Node:
    """Return the action's own parameters, none of them given twice, none deeper than any of EC2's."""
    seen: set[str] = set()
    own = []
    for name, value in pairs:
        if name in seen:
            raise given_twice(name)
        seen.add(name)
        if name.count(".") >= MAX_DEPTH:
            raise _unknown(name)
        if not is_protocol_parameter(name):
            own.append((name, value))
    return _Node(longer=own)


def _members(shape: StructureShape, node: _Node, path: str, optional: Collection[str] = frozenset()) -> dict[str, Any]:
    by_name = wire_names(shape)
    members: dict[str, Any] = {}
    for part, child in node.parts().items():
        where = _join(path, part)
        if part not in by_name:
            raise _unknown(where)
        key = by_name[part]
        member = shape.members[key]
        if member.type_name not in ("structure", "list"):
            child = _without_index(child, where)
        most = None if _is_of_filters(shape, member) else MAX_ELEMENTS
        value = _value(member, child, where, keep_empty=(shape.name, key) in MAY_BE_EMPTY, most=most)
        if value is not None:
            members[key] = value
    if members or not path:
        _insist(shape, members, path, optional)
    return members


def _insist(shape: StructureShape, members: dict[str, Any], path: str, optional: Collection[str]) -> None:
    for key in shape.required_members:
        if key not in members and key not in optional:
            name = input_name(shape.members[key], key)
            raise EC2Error("MissingParameter", f"The request must contain the parameter {_join(path, name)}")


def _is_of_filters(shape: Shape, member: Shape) -> bool:
    return shape.name == "Filter" or member.name == "FilterList"


def _value(shape: Shape, node: _Node, path: str, *, keep_empty: bool, most: int | None = MAX_ELEMENTS) -> Any:
    """Return what stands under a name; None for what counts as not given. A list has `most` elements at most."""
    if shape.type_name == "structure":
        if node.value:
            raise invalid(path, node.value, "It has members, each is given by its own name.")
        return _members(cast(StructureShape, shape), node, path) or None
    if shape.type_name == "list":
        return _list(cast(ListShape, shape).member, node, path, most)
    _expect_no_more(node, path)
    text = node.value or ""
    return scalar(shape, text, path) if text or keep_empty else None


def _list(member: Shape, node: _Node, path: str, most: int | None) -> list[Any]:
    parts = node.parts()
    if node.value is not None:
        if parts:
            raise invalid(path, node.value, "It is given with an index and without one.")
        return [_element(member, node, path)]
    if most is not None and len(parts) > most:
        raise EC2Error("InvalidParameterValue", f"{path} cannot contain over {most} values.")
    for part in parts:
        if not _INDEX.fullmatch(part):
            raise _unknown(_join(path, part))
    return [_element(member, parts[index], _join(path, index)) for index in sorted(parts, key=int)]


def _element(member: Shape, node: _Node, path: str) -> Any:
    value = _value(member, node, path, keep_empty=True)
    if value is None:
        raise invalid(path, "", "An element of a list must not be empty.")
    return value


def _without_index(node: _Node, path: str) -> _Node:
    """Return the node of a single value that may have been sent as a list of one (boto 2: `InstanceId.1`)."""
    parts = node.parts()
    if not parts or any(not _INDEX.fullmatch(part) or child.value is None for part, child in parts.items()):
        return node
    nodes = [*parts.values()] if node.value is None else [node, *parts.values()]
    if len(nodes) > 1:
        raise invalid(path, ", ".join(one.value or "" for one in nodes[:2]), "It takes one value only.")
    return nodes[0]


def _expect_no_more(node: _Node, path: str) -> None:
    for part in node.parts():
        raise _unknown(_join(path, part))


def _join(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part


def _unknown(name: str) -> EC2Error:
    return EC2Error("UnknownParameter", f"The parameter {shown(name)} is not recognized")
