"""Instance types as files: template text with the part of ERB that administrators' files use, and no Ruby.

`<%= erb_vm_info[:key] %>` inserts a value. `<% if E %>`, `<% elsif E %>`, `<% else %>` and `<% end %>` select by which
values are present: E consists of `erb_vm_info[:key]`, `!`, `&&`, `||` and parentheses. Anything else is an error with a
line number.

A file is first parsed as template text, with placeholders for the values. The values are then inserted into the parsed
attributes, so that no value can change the structure of the template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Final, TypeAlias

from econed.errors import NotStorable
from econed.opennebula.attributes import Attributes, Value
from econed.opennebula.template import is_quotable, is_storable, is_storable_in_context
from econed.opennebula.template_reader import TemplateSyntaxError, read_strictly

_BASE_KEYS: Final = ("img_id", "ec2_img_id", "instance_type")
"""The values that every machine has."""

_KEY_PAIR_KEYS: Final = ("public_key", "key_name")
"""The values of a machine with a key pair."""

_USER_DATA_KEYS: Final = ("user_data",)
"""The value of a machine with user data."""

_KEYS: Final = (*_BASE_KEYS, *_USER_DATA_KEYS, *_KEY_PAIR_KEYS)
"""All values that a file can use (OpenNebula 5.12, `src/cloud/ec2/lib/instance.rb`)."""

_TAG: Final = re.compile(r"<%(.*?)%>", re.DOTALL)
_VALUE: Final = re.compile(r"\s*erb_vm_info\s*\[\s*:(\w+)\s*\]\s*")
_STATEMENT: Final = re.compile(r"\s*(if|elsif|else|end)\b(.*)", re.DOTALL)
_TOKEN: Final = re.compile(r"\s*(erb_vm_info\s*\[\s*:\w+\s*\]|&&|\|\||!|\(|\)|$)")
_PLACEHOLDER: Final = re.compile("\0([a-z0-9_]+)\0")

Condition = Callable[[Collection[str]], bool]
"""Whether a condition is true when the values with these keys are present."""


class FileTemplateError(ValueError):
    """A file is not a valid template of an instance type. `line` counts from 1, `text` describes the error."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


@dataclass(frozen=True)
class _Text:
    """A part of the file, with placeholders for values, and the line on which it begins."""

    text: str
    line: int


@dataclass(frozen=True)
class _Choice:
    """The branches of an `if`, in order; the first whose condition is true is taken."""

    branches: tuple[tuple[Condition, tuple[_Node, ...]], ...]


_Node = _Text | _Choice


@dataclass(frozen=True)
class FileTemplate:
    """A parsed file: its attributes, with placeholders, for every set of values that a machine may have."""

    _attributes_by_keys: Mapping[frozenset[str], tuple[tuple[str, Value], ...]]

    @classmethod
    def parse(cls, text: str) -> FileTemplate:
        """Parse the text of a file; raises `FileTemplateError` for errors in any branch."""
        if "\0" in text:
            raise FileTemplateError(_line(text, text.index("\0")), "a template cannot contain a NUL byte")
        nodes = _Parser(text + "\n").nodes()
        optional = product(((), _USER_DATA_KEYS), ((), _KEY_PAIR_KEYS))
        key_sets = (frozenset((*_BASE_KEYS, *user_data, *key_pair)) for user_data, key_pair in optional)
        return cls(MappingProxyType({keys: _parsed_attributes(nodes, keys) for keys in key_sets}))

    def attributes(self, values: Mapping[str, str]) -> Attributes:
        """Return the attributes for a machine with these values, by key.

        Raises `NotStorable` for a value that oned would not store unchanged where the file uses it.
        """
        attributes = self._attributes_by_keys[frozenset(values)]
        return Attributes((name, _filled(name, value, values)) for name, value in attributes)


class _Parser:
    """Splits the text of a file into nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def nodes(self) -> tuple[_Node, ...]:
        """Return the nodes of the whole file."""
        nodes, keyword, line, _ = self._until_branch_ends()
        if keyword:
            raise FileTemplateError(line, f"<% {keyword} %> without an <% if … %> before it")
        return nodes

    def _until_branch_ends(self) -> tuple[tuple[_Node, ...], str, int, str]:
        """Return the nodes up to `elsif`, `else`, `end` or the end; the keyword, its line and its operand."""
        nodes: list[_Node] = []
        while tag := _TAG.search(self._text, self._position):
            nodes.append(self._plain(tag.start()))
            line = _line(self._text, tag.start())
            self._position = tag.end()
            if tag[1].startswith("="):
                nodes.append(_Text(f"\0{_key(tag[1][1:], line)}\0", line))
                continue
            statement = _STATEMENT.fullmatch(tag[1])
            if not statement:
                raise _unsupported(tag[0], line)
            keyword, operand = statement[1], statement[2]
            if keyword != "if":
                return tuple(nodes), keyword, line, operand
            nodes.append(self._choice(operand, line))
        nodes.append(self._plain(len(self._text)))
        self._position = len(self._text)
        return tuple(nodes), "", 0, ""

    def _choice(self, if_condition: str, if_line: int) -> _Choice:
        branches: list[tuple[Condition, tuple[_Node, ...]]] = []
        condition, is_else = _condition(if_condition, if_line), False
        while True:
            nodes, keyword, line, operand = self._until_branch_ends()
            branches.append((condition, nodes))
            if not keyword:
                raise FileTemplateError(if_line, "<% if … %> without an <% end %>")
            if keyword != "elsif" and operand.strip():
                raise _unsupported(f"<% {keyword}{operand}%>", line)
            if keyword == "end":
                return _Choice(tuple(branches))
            if is_else:
                raise FileTemplateError(line, f"<% {keyword} %> after <% else %>")
            is_else = keyword == "else"
            condition = _always if is_else else _condition(operand, line)

    def _plain(self, end: int) -> _Text:
        text, line = self._text[self._position : end], _line(self._text, self._position)
        for delimiter, missing in (("<%", "%>"), ("%>", "<%")):
            if delimiter in text:
                stray_line = line + text.count("\n", 0, text.index(delimiter))
                raise FileTemplateError(stray_line, f"{delimiter} without {missing}")
        return _Text(text, line)


def _key(text: str, line: int) -> str:
    match = _VALUE.fullmatch(text)
    if not match:
        raise _unsupported(f"<%={text}%>", line)
    if match[1] not in _KEYS:
        raise FileTemplateError(line, f"erb_vm_info has no :{match[1]}, only {', '.join(':' + key for key in _KEYS)}")
    return match[1]


def _condition(text: str, line: int) -> Condition:
    tokens = list(_tokens(text, line))
    condition, rest = _or_condition(tokens, line)
    if rest:
        raise _unsupported(text, line)
    return condition


def _tokens(text: str, line: int) -> Iterator[str]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise _unsupported(text, line)
        if match[1]:
            yield match[1]
        position = max(match.end(), position + 1)


def _or_condition(tokens: Sequence[str], line: int) -> tuple[Condition, Sequence[str]]:
    first, rest = _and_condition(tokens, line)
    if rest[:1] != ["||"]:
        return first, rest
    second, rest = _or_condition(rest[1:], line)
    return (lambda keys: first(keys) or second(keys)), rest


def _and_condition(tokens: Sequence[str], line: int) -> tuple[Condition, Sequence[str]]:
    first, rest = _simple_condition(tokens, line)
    if rest[:1] != ["&&"]:
        return first, rest
    second, rest = _and_condition(rest[1:], line)
    return (lambda keys: first(keys) and second(keys)), rest


def _simple_condition(tokens: Sequence[str], line: int) -> tuple[Condition, Sequence[str]]:
    token, rest = (tokens[0], tokens[1:]) if tokens else ("", tokens)
    if token == "!":
        inner, rest = _simple_condition(rest, line)
        return (lambda keys: not inner(keys)), rest
    if token == "(":
        inner, rest = _or_condition(rest, line)
        if rest[:1] != [")"]:
            raise FileTemplateError(line, "a parenthesis in a condition is not closed")
        return inner, rest[1:]
    if token.startswith("erb_vm_info"):
        key = _key(token, line)
        return (lambda keys: key in keys), rest
    raise FileTemplateError(line, "a condition may contain only erb_vm_info[:key], !, &&, || and parentheses")


def _always(_: Collection[str]) -> bool:
    return True


def _unsupported(text: str, line: int) -> FileTemplateError:
    return FileTemplateError(line, f"{' '.join(text.split())!r} is not supported: Ruby code is not run")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _parsed_attributes(nodes: Sequence[_Node], keys: Collection[str]) -> tuple[tuple[str, Value], ...]:
    """Return the attributes of the file, with placeholders, when the values with these keys are present."""
    parts = list(_selected(nodes, keys))
    text = "".join(part.text for part in parts)
    attributes: list[tuple[str, Value]] = []
    try:
        for position, name, value in read_strictly(text):
            if not all(is_quotable(_PLACEHOLDER.sub("", member)) for member in _texts(value)):
                raise FileTemplateError(_line_of(parts, position), f"OpenNebula cannot store the value of {name}")
            attributes.append((name, value))
    except TemplateSyntaxError as error:
        raise FileTemplateError(_line_of(parts, error.position), "not template text: expected NAME = value") from None
    return tuple(attributes)


def _texts(value: Value) -> Collection[str]:
    return (value,) if isinstance(value, str) else value.values()


def _selected(nodes: Sequence[_Node], keys: Collection[str]) -> Iterator[_Text]:
    for node in nodes:
        if isinstance(node, _Text):
            yield node
            continue
        for condition, branch in node.branches:
            if condition(keys):
                yield from _selected(branch, keys)
                break


def _line_of(parts: Sequence[_Text], position: int) -> int:
    for part in parts:
        if position < len(part.text):
            return part.line + part.text.count("\n", 0, position)
        position -= len(part.text)
    return parts[-1].line + parts[-1].text.count("\n") - 1


def _filled(name: str, value: Value, values: Mapping[str, str]) -> Value:
    """Replace the placeholders by the values; raises `NotStorable` for values that oned would not store unchanged."""
    if isinstance(value, str):
        return _filled_text(name, value, values, is_storable)
    can_store = is_storable_in_context if name == "CONTEXT" else is_storable
    return {key: _filled_text(f"{name}/{key}", text, values, can_store) for key, text in value.items()}


def _filled_text(name: str, text: str, values: Mapping[str, str], can_store: Callable[[str], bool]) -> str:
    if not _PLACEHOLDER.search(text):
        return text
    # In CONTEXT oned expands variables, as is intended for those in the file: only the values are checked for them.
    inserted = [values.get(key, "") for key in _PLACEHOLDER.findall(text)]
    filled = _PLACEHOLDER.sub(lambda match: values.get(match[1], ""), text)
    if not all(map(can_store, inserted)) or not is_storable(filled):
        raise NotStorable(name)
    return filled


FileTypes: TypeAlias = Mapping[str, FileTemplate]
"""The parsed files of instance types, by instance type."""
