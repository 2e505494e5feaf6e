"""A parser of template text that follows oned's (OpenNebula, `src/parsers/template_parser.l`, `template_syntax.y`).

`NAME="value"` and `NAME=[K="value",…]`: names in `[A-Za-z0-9_]`, upper-cased; `\\"` is the only escape; a value without
quotes ends before the next blank or one of ``=#,[]``. The scanner takes the longest token and skips characters that
begin no token. So a backslash before the closing quote escapes it, `"1"B` is a value that contains quotes, and `A==1`
is read as `A=1`. oned cannot store a line of a value with `]]>` in it: it puts values in CDATA sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from econed.opennebula.attributes import Value

_Rules: TypeAlias = tuple[tuple[str, re.Pattern[str]], ...]

# The rules of the scanner: the longest match wins, among equally long ones the first. No rule matches the empty string.
_PLAIN: Final[_Rules] = (
    ("", re.compile(r"[ \t]*#[^\n]*\n|[ \t\n]+")),
    ("name", re.compile(r"[A-Za-z0-9_]+")),
    ("=", re.compile(r"[ \t]*=[ \t]*")),
    ("=empty", re.compile(r"[ \t]*=[ \t]*\n")),
    (",", re.compile(r"[ \t\n]*,[ \t\n]*")),
    ("]", re.compile(r"[ \t\n]*\][ \t\n]*")),
)
_VALUE: Final[_Rules] = (
    ("[", re.compile(r"[ \t]*\[[ \t\n]*")),
    ("CDATA", re.compile(r"[^\n]*\]\]>[^\n]*")),
    ("quoted", re.compile(r'"[^"]*(?:(?<=\\)"[^"]*)*"')),
    ("bare", re.compile(r"[^=#\t \n,\[\]]+")),
)


class TemplateSyntaxError(ValueError):
    """A text is not template text; `position` is the index of the first character that does not fit."""

    def __init__(self, position: int) -> None:
        super().__init__("not template text")
        self.position = position


class _Token(NamedTuple):
    """A token of template text; `position` is the index of its first character."""

    kind: str
    text: str
    position: int


def read_template(text: str) -> Iterator[tuple[str, Value]]:
    """Yield the attributes of a template text, names in upper case; raises `TemplateSyntaxError` while iterating."""
    for _, name, value in _read(_tokens(text)):
        yield name, value


def read_strictly(text: str) -> Iterator[tuple[int, str, Value]]:
    """Yield the attributes as `read_template` does, each with the index of its first character.

    Characters that oned's scanner would skip raise `TemplateSyntaxError` here.
    """
    return _read(_tokens(text, strictly=True))


def _read(tokens: Iterator[_Token]) -> Iterator[tuple[int, str, Value]]:
    for name in tokens:
        if name.kind == "end":
            return
        _expect(name, "name")
        equals = _expect(next(tokens), "=", "=empty")
        yield name.position, name.text.upper(), "" if equals.kind == "=empty" else _value(tokens)


def _tokens(text: str, *, strictly: bool = False) -> Iterator[_Token]:
    position = 0
    rules = _PLAIN
    while position < len(text):
        matches = [(kind, match) for kind, rule in rules if (match := rule.match(text, position))]
        if not matches:
            if strictly:
                raise TemplateSyntaxError(position)
            position += 1
            continue
        kind, match = max(matches, key=lambda kind_and_match: kind_and_match[1].end())
        if kind:
            yield _Token(kind, match[0], position)
        position = match.end()
        rules = _VALUE if kind == "=" else _PLAIN
    yield _Token("end", "", len(text))


def _value(tokens: Iterator[_Token]) -> Value:
    first = next(tokens)
    return _vector(tokens) if first.kind == "[" else _single(first)


def _single(token: _Token) -> str:
    _expect(token, "quoted", "bare")
    return (token.text[1:-1] if token.kind == "quoted" else token.text).replace('\\"', '"')


def _vector(tokens: Iterator[_Token]) -> dict[str, str]:
    vector: dict[str, str] = {}
    for name in tokens:
        if name.kind == "]" and not vector:
            break
        _expect(name, "name")
        _expect(next(tokens), "=")
        vector.setdefault(name.text.upper(), _single(next(tokens)))
        if _expect(next(tokens), "]", ",").kind == "]":
            break
    return vector


def _expect(token: _Token, *kinds: str) -> _Token:
    if token.kind not in kinds:
        raise TemplateSyntaxError(token.position)
    return token
