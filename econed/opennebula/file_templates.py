"""Instance types as files: template text with the small part of ERB that administrators' files use, and no Ruby.

`<%= erb_vm_info[:key] %>` stands for a value; `<% if E %>`, `<% elsif E %>`, `<% else %>` and `<% end %>` choose, by
which values there are: E is `erb_vm_info[:key]`, `!`, `&&`, `||` and parentheses. All else is an error that names its
line.

A file is read as template text first, with marks where the values go, and the values are put into what was read. So no
value, whatever it holds, can become anything but a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from econed.errors import NotKeepable
from econed.opennebula.attributes import Attributes, Value
from econed.opennebula.template import is_quotable, is_storable, is_storable_in_context
from econed.opennebula.template_reader import TemplateSyntaxError, read_strictly

if TYPE_CHECKING:
    pass


ALWAYS: Final = ("img_id", "ec2_img_id", "instance_type")
"""The values that every machine has."""

WITH_A_KEY: Final = ("public_key", "key_name")
"""The values of a machine with a key pair."""

WITH_DATA: Final = ("user_data",)
"""The value of a machine with user data."""

KEYS: Final = (*ALWAYS, *WITH_DATA, *WITH_A_KEY)
"""All that a file can ask for (OpenNebula 5.12, `src/cloud/ec2/lib/instance.rb`)."""

_TAG: Final = re.compile(r"<%(.*?)%>", re.DOTALL)
_VALUE: Final = re.compile(r"\s*erb_vm_info\s*\[\s*:(\w+)\s*\]\s*")
_WORD: Final = re.compile(r"\s*(if|elsif|else|end)\b(.*)", re.DOTALL)
_TOKEN: Final = re.compile(r"\s*(erb_vm_info\s*\[\s*:\w+\s*\]|&&|\|\||!|\(|\)|$)")
_MARK: Final = re.compile("\0([a-z0-9_]+)\0")

Condition = Callable[[Collection[str]], bool]
"""Whether something holds when these values are there."""


class FileTemplateError(ValueError):
    """A file is no template of an instance type. `line` counts from 1, `text` says what is wrong there."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


@dataclass(frozen=True)
class _Text:
    """A stretch of the file, marks for values included, and the line on which it begins."""

    text: str
    line: int


@dataclass(frozen=True)
class _Choice:
    """The branches of an `if`, in order; the first whose condition holds counts."""

    branches: tuple[tuple[Condition, tuple[_Node, ...]], ...]


_Node = _Text | _Choice


@dataclass(frozen=True)
class FileTemplate:
    """A file that was read: what it holds for every set of values that a machine may have, with marks."""

    _read: Mapping[frozenset[str], tuple[tuple[str, Value], ...]]

    @classmethod
    def parse(cls, text: str) -> FileTemplate:
        """Read the text of a file; raises `FileTemplateError`, also for what is wrong in a branch seldom taken."""
        if "\0" in text:
            raise FileTemplateError(_line(text, text.index("\0")), "a NUL byte, which no template can hold")
        nodes = _Parser(text + "\n").nodes()
        known = (frozenset((*ALWAYS, *data, *key)) for data, key in product(((), WITH_DATA), ((), WITH_A_KEY)))
        return cls(MappingProxyType({each: _read(nodes, each) for each in known}))

    def attributes(self, values: Mapping[str, str]) -> Attributes:
        """Return the attributes for a machine with these values, by key.

        Raises `NotKeepable` for a value that oned would not keep where the file puts it.
        """
        return Attributes((name, _filled(name, value, values)) for name, value in self._read[frozenset(values)])


class _Parser:
    """From the text of a file to its nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._opened: list[int] = []

    def nodes(self) -> tuple[_Node, ...]:
        """Return the nodes of the whole file."""
        found, word, line, _ = self._until_word()
        if word:
            raise FileTemplateError(line, f"<% {word} %> without an <% if … %> before it")
        return found

    def _until_word(self) -> tuple[tuple[_Node, ...], str, int, str]:
        """Return the nodes up to `elsif`, `else` or `end`, that word, its line and what follows it."""
        found: list[_Node] = []
        while tag := _TAG.search(self._text, self._at):
            found.append(self._plain(tag.start()))
            line = _line(self._text, tag.start())
            self._at = tag.end()
            if tag[1].startswith("="):
                found.append(_Text(f"\0{_key(tag[1][1:], line)}\0", line))
                continue
            statement = _WORD.fullmatch(tag[1])
            if not statement:
                raise _unknown(tag[0], line)
            word, rest = statement[1], statement[2]
            if word != "if":
                return tuple(found), word, line, rest
            found.append(self._choice(rest, line))
        found.append(self._plain(len(self._text)))
        self._at = len(self._text)
        return tuple(found), "", 0, ""

    def _choice(self, condition: str, begun: int) -> _Choice:
        branches: list[tuple[Condition, tuple[_Node, ...]]] = []
        holds, is_last, line = _condition(condition, begun), False, begun
        while True:
            nodes, word, line, rest = self._until_word()
            branches.append((holds, nodes))
            if not word:
                raise FileTemplateError(begun, "<% if … %> without an <% end %>")
            if word != "elsif" and rest.strip():
                raise _unknown(f"<% {word}{rest}%>", line)
            if word == "end":
                return _Choice(tuple(branches))
            if is_last:
                raise FileTemplateError(line, f"<% {word} %> after <% else %>")
            is_last = word == "else"
            holds = _always if is_last else _condition(rest, line)

    def _plain(self, end: int) -> _Text:
        text, line = self._text[self._at : end], _line(self._text, self._at)
        for stray in ("<%", "%>"):
            if stray in text:
                raise FileTemplateError(
                    line + text.count("\n", 0, text.index(stray)), f"{stray} without its other half"
                )
        return _Text(text, line)


def _key(text: str, line: int) -> str:
    match = _VALUE.fullmatch(text)
    if not match:
        raise _unknown(f"<%={text}%>", line)
    if match[1] not in KEYS:
        raise FileTemplateError(line, f"erb_vm_info has no :{match[1]}, only {', '.join(':' + key for key in KEYS)}")
    return match[1]


def _condition(text: str, line: int) -> Condition:
    tokens = list(_tokens(text, line))
    condition, rest = _either(tokens, line)
    if rest:
        raise _unknown(text, line)
    return condition


def _tokens(text: str, line: int) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise _unknown(text, line)
        if match[1]:
            yield match[1]
        at = max(match.end(), at + 1)


def _either(tokens: Sequence[str], line: int) -> tuple[Condition, Sequence[str]]:
    first, rest = _both(tokens, line)
    if rest[:1] != ["||"]:
        return first, rest
    second, rest = _either(rest[1:], line)
    return (lambda there: first(there) or second(there)), rest


def _both(tokens: Sequence[str], line: int) -> tuple[Condition, Sequence[str]]:
    first, rest = _one(tokens, line)
    if rest[:1] != ["&&"]:
        return first, rest
    second, rest = _both(rest[1:], line)
    return (lambda there: first(there) and second(there)), rest


def _one(tokens: Sequence[str], line: int) -> tuple[Condition, Sequence[str]]:
    token, rest = (tokens[0], tokens[1:]) if tokens else ("", tokens)
    if token == "!":
        inner, rest = _one(rest, line)
        return (lambda there: not inner(there)), rest
    if token == "(":
        inner, rest = _either(rest, line)
        if rest[:1] != [")"]:
            raise FileTemplateError(line, "a condition with a parenthesis that is not closed")
        return inner, rest[1:]
    if token.startswith("erb_vm_info"):
        key = _key(token, line)
        return (lambda there: key in there), rest
    raise FileTemplateError(line, "a condition is made of erb_vm_info[:key], !, &&, || and parentheses")


def _always(_: Collection[str]) -> bool:
    return True


def _unknown(text: str, line: int) -> FileTemplateError:
    return FileTemplateError(line, f"{' '.join(text.split())!r} is not understood: no Ruby is run here")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _read(nodes: Sequence[_Node], there: Collection[str]) -> tuple[tuple[str, Value], ...]:
    """Return what the file says when these values are there."""
    pieces = list(_chosen(nodes, there))
    text = "".join(piece.text for piece in pieces)
    read: list[tuple[str, Value]] = []
    try:
        for at, name, value in read_strictly(text):
            if not all(is_quotable(_MARK.sub("", each)) for each in _texts(value)):
                raise FileTemplateError(_line_of(pieces, at), f"{name} holds a text that OpenNebula does not keep")
            read.append((name, value))
    except TemplateSyntaxError as error:
        raise FileTemplateError(_line_of(pieces, error.at), "no template text: NAME = value is expected") from None
    return tuple(read)


def _texts(value: Value) -> Collection[str]:
    return (value,) if isinstance(value, str) else value.values()


def _chosen(nodes: Sequence[_Node], there: Collection[str]) -> Iterator[_Text]:
    for node in nodes:
        if isinstance(node, _Text):
            yield node
            continue
        for holds, branch in node.branches:
            if holds(there):
                yield from _chosen(branch, there)
                break


def _line_of(pieces: Sequence[_Text], at: int) -> int:
    for piece in pieces:
        if at < len(piece.text):
            return piece.line + piece.text.count("\n", 0, at)
        at -= len(piece.text)
    return pieces[-1].line + pieces[-1].text.count("\n") - 1


def _filled(name: str, value: Value, values: Mapping[str, str]) -> Value:
    """Put the values where the marks are; what oned would read as something else is refused."""
    if isinstance(value, str):
        return _filled_text(name, value, values, is_storable)
    keeps = is_storable_in_context if name == "CONTEXT" else is_storable
    return {key: _filled_text(f"{name}/{key}", text, values, keeps) for key, text in value.items()}


def _filled_text(name: str, text: str, values: Mapping[str, str], keeps: Callable[[str], bool]) -> str:
    if not _MARK.search(text):
        return text
    # In CONTEXT oned expands the file's own variables: what is asked there is asked of the values alone.
    put_in = [values.get(key, "") for key in _MARK.findall(text)]
    filled = _MARK.sub(lambda mark: values.get(mark[1], ""), text)
    if not all(map(keeps, put_in)) or not is_storable(filled):
        raise NotKeepable(name)
    return filled


FileTypes = Mapping[str, FileTemplate]
"""The files of the instance types, by the names of these."""
