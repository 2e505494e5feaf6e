"""Reading template text as oned reads it (OpenNebula, `src/parsers/template_parser.l` and `template_syntax.y`).

`NAME="value"` and `NAME=[K="value",…]`: names in `[A-Za-z0-9_]`, upper-cased; `\\"` is the one escape; a value without
quotes ends before the next blank or one of ``=#,[]``. The scanner takes the longest token and passes over characters
that begin none, which is why a backslash before the closing quote swallows it, `"1"B` is a value with quotes in it, and
`A==1` is read as `A=1`. A line of a value with `]]>` in it cannot be kept: values travel in CDATA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from econed.opennebula.attributes import Value

_Rules: TypeAlias = tuple[tuple[str, re.Pattern[str]], ...]

# The rules of the scanner: the longest match counts, of equally long ones the first. None of them matches nothing.
_PLAIN: Final[_Rules] = (
    ("", re.compile(r"[ \t]*#[^\n]*\n|[ \t\n]+")),
    ("name", re.compile(r"[A-Za-z0-9_]+")),
    ("=", re.compile(r"[ \t]*=[ \t]*")),
    ("=nothing", re.compile(r"[ \t]*=[ \t]*\n")),
    (",", re.compile(r"[ \t\n]*,[ \t\n]*")),
    ("]", re.compile(r"[ \t\n]*\][ \t\n]*")),
)
_VALUE: Final[_Rules] = (
    ("[", re.compile(r"[ \t]*\[[ \t\n]*")),
    ("CDATA", re.compile(r"[^\n]*\]\]>[^\n]*")),
    ("quoted", re.compile(r'"(?:\\"|[^"])*"')),
    ("bare", re.compile(r"[^=#\t \n,\[\]]+")),
)


class TemplateSyntaxError(ValueError):
    """A text is no template text. `at` is where it stops being one: the characters before that."""

    def __init__(self, at: int) -> None:
        super().__init__("no template text")
        self.at = at


class _Token(NamedTuple):
    """A piece of template text: what it is, how it reads, and the characters before it."""

    kind: str
    text: str
    at: int


def read_template(text: str) -> Iterator[tuple[str, Value]]:
    """Yield the attributes that a template text holds, names in capitals; raises `TemplateSyntaxError` on the way."""
    for _, name, value in _read(_tokens(text)):
        yield name, value


def read_strictly(text: str) -> Iterator[tuple[int, str, Value]]:
    """Yield the same as `read_template`, each with where it begins: the characters before it.

    What oned's scanner would pass over is no template text here.
    """
    return _read(_tokens(text, strictly=True))


def _read(tokens: Iterator[_Token]) -> Iterator[tuple[int, str, Value]]:
    for name in tokens:
        if name.kind == "end":
            return
        _demand(name, "name")
        equal = _demand(next(tokens), "=", "=nothing")
        yield name.at, name.text.upper(), "" if equal.kind == "=nothing" else _value(tokens)


def _tokens(text: str, *, strictly: bool = False) -> Iterator[_Token]:
    at = 0
    rules = _PLAIN
    while at < len(text):
        found = [(kind, match) for kind, rule in rules if (match := rule.match(text, at))]
        if not found:
            if strictly:
                raise TemplateSyntaxError(at)
            at += 1
            continue
        kind, match = max(found, key=lambda each: each[1].end())
        if kind:
            yield _Token(kind, match[0], at)
        at = match.end()
        rules = _VALUE if kind == "=" else _PLAIN
    yield _Token("end", "", len(text))


def _value(tokens: Iterator[_Token]) -> Value:
    first = next(tokens)
    return _vector(tokens) if first.kind == "[" else _single(first)


def _single(token: _Token) -> str:
    _demand(token, "quoted", "bare")
    return (token.text[1:-1] if token.kind == "quoted" else token.text).replace('\\"', '"')


def _vector(tokens: Iterator[_Token]) -> dict[str, str]:
    vector: dict[str, str] = {}
    for name in tokens:
        if name.kind == "]" and not vector:
            break
        _demand(name, "name")
        _demand(next(tokens), "=")
        vector.setdefault(name.text.upper(), _single(next(tokens)))
        if _demand(next(tokens), "]", ",").kind == "]":
            break
    return vector


def _demand(token: _Token, *kinds: str) -> _Token:
    if token.kind not in kinds:
        raise TemplateSyntaxError(token.at)
    return token
