"""SCHED_REQUIREMENTS: whether a host is one that a machine asks for (oned: `expr_bool`)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

_TOKEN: Final = re.compile(r'\s*(?:(?P<op>!=|@>|>=|<=|[=<>&|!()])|"(?P<quoted>[^"]*)"|(?P<word>[^\s=!<>&|()"]+))')


class Unreadable(ValueError):
    """The expression is none that oned's scheduler can read; such a machine is never placed."""


def satisfied(expression: str, facts: Mapping[str, str]) -> bool:
    """Whether `facts` of a host meet `expression`; an empty one is always met. Raises `Unreadable`."""
    tokens = _read(expression)
    if not tokens:
        return True
    reader = _Reader(tokens, facts)
    value = reader.any()
    if reader.left():
        raise Unreadable(expression)
    return value


@lru_cache(maxsize=256)
def _read(expression: str) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    at, text = 0, expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise Unreadable(expression)
        kind = str(match.lastgroup)
        found.append(("op" if kind == "op" else "text", match[kind]))
        at = match.end()
    return tuple(found)


class _Reader:
    def __init__(self, tokens: tuple[tuple[str, str], ...], facts: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._facts = facts
        self._at = 0

    def left(self) -> bool:
        return self._at < len(self._tokens)

    def _peek(self) -> str:
        kind, text = self._tokens[self._at] if self.left() else ("", "")
        return text if kind == "op" else ""

    def _next(self, wanted: str) -> str:
        if not self.left() or self._tokens[self._at][0] != wanted:
            raise Unreadable("unexpected end or token")
        self._at += 1
        return self._tokens[self._at - 1][1]

    def any(self) -> bool:
        value = self._all()
        while self._peek() == "|":
            self._at += 1
            value = self._all() or value
        return value

    def _all(self) -> bool:
        value = self._one()
        while self._peek() == "&":
            self._at += 1
            value = self._one() and value
        return value

    def _one(self) -> bool:
        if self._peek() == "!":
            self._at += 1
            return not self._one()
        if self._peek() == "(":
            self._at += 1
            value = self.any()
            if self._next("op") != ")":
                raise Unreadable("missing )")
            return value
        name, operator, wanted = self._next("text"), self._next("op"), self._next("text")
        return _compare(self._facts.get(name.upper(), ""), operator, wanted)


def _compare(have: str, operator: str, wanted: str) -> bool:
    if operator == "@>":
        return wanted in have.split(",")
    if operator in ("=", "!="):
        same = _number(have) == _number(wanted) if _is_number(wanted) and _is_number(have) else None
        equal = fnmatch.fnmatchcase(have, wanted) if same is None else same
        return equal == (operator == "=")
    if operator in (">", "<") and _is_number(have) and _is_number(wanted):
        return _number(have) > _number(wanted) if operator == ">" else _number(have) < _number(wanted)
    return False


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text))


def _number(text: str) -> float:
    return float(text)
