"""The parameters of a request as a tree: `Tag.1.Key` is Key in 1 in Tag. Both protocols name parameters in this way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from econed.errors import EC2Error
from econed.wire.query import require_unique, shortened

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
"""Parameters of the protocols and their signatures, in addition to those that begin with X-Amz-."""

MAX_DEPTH: Final = 16
"""Maximum number of parts of a parameter's name: EC2's deepest, in RequestSpotFleet, has 11."""

MAX_ELEMENTS: Final = 1000
"""Maximum number of elements of a list: Amazon's limit for the ids of TerminateInstances and CreateTags.

Here it applies to every list except those of filters, whose values Amazon counts together (`econed.actions.filters`).
"""

INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


def is_protocol_parameter(name: str) -> bool:
    """Whether a parameter belongs to the protocol or its signature, not to the action."""
    return name in PROTOCOL_PARAMETERS or name.startswith("X-Amz-")


@dataclass(slots=True)
class Node:
    """A name in a request: its value, and the pairs whose names continue after it.

    Those names are split only as far as the model goes, so that unknown parameters cost no more than their length.
    """

    value: str | None = None
    descendants: list[tuple[str, str]] = field(default_factory=list)

    def children(self) -> dict[str, Node]:
        """Return the nodes by the next part of their names, in the order of the request."""
        nodes: dict[str, Node] = {}
        for name, value in self.descendants:
            part, dot, suffix = name.partition(".")
            node = nodes.setdefault(part, Node())
            if dot:
                node.descendants.append((suffix, value))
            else:
                node.value = value
        return nodes


def root_of(pairs: Iterable[tuple[str, str]]) -> Node:
    """Return the action's own parameters; raises `EC2Error` for duplicates and for names deeper than any of EC2's."""
    own = []
    for name, value in require_unique(pairs):
        if name.count(".") >= MAX_DEPTH:
            raise unknown_parameter(name)
        if not is_protocol_parameter(name):
            own.append((name, value))
    return Node(descendants=own)


def in_order(nodes: Mapping[str, Node], path: str, max_elements: int | None = MAX_ELEMENTS) -> list[tuple[str, Node]]:
    """Return the elements of a list with their paths, in the order of their indexes; raises `EC2Error`.

    `max_elements` is the limit for their number.
    """
    if max_elements is not None and len(nodes) > max_elements:
        raise EC2Error("InvalidParameterValue", f"{path} cannot contain over {max_elements} values.")
    for index in nodes:
        if not INDEX.fullmatch(index):
            raise unknown_parameter(joined(path, index))
    return [(joined(path, index), nodes[index]) for index in sorted(nodes, key=int)]


def refuse_children(node: Node, path: str) -> None:
    """Raise `EC2Error` if a name continues after a parameter that has no members."""
    for name in node.children():
        raise unknown_parameter(joined(path, name))


def joined(path: str, part: str) -> str:
    """Return the name of a part of a parameter."""
    return f"{path}.{part}" if path else part


def unknown_parameter(name: str) -> EC2Error:
    """Return the error for a parameter that the model does not have."""
    return EC2Error("UnknownParameter", f"The parameter {shortened(name)} is not recognized")
