"""YAML nodes of econe.conf: their text, their line, and errors that name both.

Nodes are read rather than constructed objects because a node knows its line, and because composing never runs code.
Ruby's symbols (`:ec2`) are read as the words they name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

YAML_TAG = "tag:yaml.org,2002:"
_NULL = YAML_TAG + "null"
_SYMBOL_TAGS = ("!ruby/symbol", "!ruby/sym")
_SYMBOL = re.compile(r":([A-Za-z_].*)", re.DOTALL)
_MAX_QUOTED = 60


@dataclass(frozen=True)
class NodeProblem:
    """One problem in the file: the node and a description; `within` names the part of the value, if any."""

    node: yaml.Node
    text: str
    within: str = ""


class InvalidValue(Exception):
    """A value is not valid for its key, for one or more reasons."""

    def __init__(self, *problems: NodeProblem) -> None:
        super().__init__(*(problem.text for problem in problems))
        self.problems = problems

    @classmethod
    def expected(cls, what: str, node: yaml.Node) -> InvalidValue:
        """Return the error for a node that does not hold `what`."""
        return cls(NodeProblem(node, f"expected {what}, got {describe(node)}"))


@dataclass(frozen=True)
class Entry:
    """A key of a mapping, its name, and its value."""

    name: str
    key: yaml.Node
    value: yaml.Node


def plain(text: str) -> yaml.ScalarNode:
    """Return the node of a text without quotes, as it would be after a key; it has no line."""
    resolver: Any = yaml.SafeLoader("")
    return yaml.ScalarNode(resolver.resolve(yaml.ScalarNode, text, (True, False)), text)


def is_empty(node: yaml.Node) -> bool:
    """Whether the value of a key is missing or `null`, which means that the key is not set."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def quote(text: str) -> str:
    """Return `text` for a message: quoted, shortened, and with the user and password of a URL masked."""
    masked = re.sub(r"//[^/]*@", "//…@", text)
    return repr(masked if len(masked) <= _MAX_QUOTED else masked[: _MAX_QUOTED - 1] + "…")


def describe(node: yaml.Node) -> str:
    """Return what a node holds, for the end of a message: "'abc'", "a list", "nothing" (quoted: "the text …")."""
    if is_empty(node):
        return "nothing"
    if isinstance(node, yaml.ScalarNode):
        return f"the text {quote(node.value)}" if node.style else quote(node.value)
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


def entries_of(node: yaml.MappingNode) -> tuple[list[Entry], list[NodeProblem]]:
    """Return the entries of a mapping, and the problems with its keys: not a name, or set twice.

    `port`, `:port` and `":port"` are the same key.
    """
    entries: dict[str, Entry] = {}
    problems: list[NodeProblem] = []
    for key, value in node.value:
        try:
            name = _key_name(key)
        except InvalidValue as error:
            problems += error.problems
            continue
        if name in entries:
            problems.append(NodeProblem(key, f"set twice, first in line {line_of(entries[name].key)}", name))
        else:
            entries[name] = Entry(name, key, value)
    return list(entries.values()), problems


def line_of(node: yaml.Node) -> int:
    """Return the line on which a node begins, counted from 1."""
    return int(node.start_mark.line) + 1


def scalar(node: yaml.Node, what: str) -> yaml.ScalarNode:
    """Return a node that is a scalar; otherwise raise `InvalidValue`: expected `what`."""
    if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith((YAML_TAG, *_SYMBOL_TAGS)):
        raise InvalidValue.expected(what, node)
    return node


def word(node: yaml.Node, what: str) -> str:
    """Return the text of a scalar, without the colon of a plain symbol; raises `InvalidValue` like `scalar`."""
    scalar_node = scalar(node, what)
    text = str(scalar_node.value)
    symbol = _SYMBOL.fullmatch(text)
    return symbol[1] if symbol and scalar_node.style is None else text


def _key_name(node: yaml.Node) -> str:
    name = str(scalar(node, "a key").value)
    symbol = _SYMBOL.fullmatch(name)
    return symbol[1] if symbol else name
