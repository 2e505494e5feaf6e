"""Evaluation of SCHED_REQUIREMENTS (oned: `expr_bool`)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

_TOKEN: Final = re.compile(r'\s*(?:(?P<op>!=|@>|>=|<=|[=<>&|!()])|"(?P<quoted>[^"]*)"|(?P<word>[^\s=!<>&|()"]+))')


class InvalidExpression(ValueError):
    """The scheduler cannot parse the expression, so it never places the machine."""


def is_satisfied(expression: str, attributes: Mapping[str, str]) -> bool:
    """Whether the attributes of a host or network satisfy `expression`; an empty expression is always satisfied.

    Raises `InvalidExpression`.
    """
    tokens = _tokenize(expression)
    if not tokens:
        return True
    evaluator = _Evaluator(tokens, attributes)
    value = evaluator.disjunction()
    if not evaluator.is_at_end():
        raise InvalidExpression(expression)
    return value


@lru_cache(maxsize=256)
def _tokenize(expression: str) -> tuple[tuple[str, str], ...]:
    tokens: list[tuple[str, str]] = []
    position, text = 0, expression.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise InvalidExpression(expression)
        kind = str(match.lastgroup)
        tokens.append(("op" if kind == "op" else "text", match[kind]))
        position = match.end()
    return tuple(tokens)


class _Evaluator:
    def __init__(self, tokens: tuple[tuple[str, str], ...], attributes: Mapping[str, str]) -> None:
        self._tokens = tokens
        self._attributes = attributes
        self._position = 0

    def is_at_end(self) -> bool:
        return self._position == len(self._tokens)

    def _peek(self) -> str:
        kind, text = ("", "") if self.is_at_end() else self._tokens[self._position]
        return text if kind == "op" else ""

    def _next(self, kind: str) -> str:
        if self.is_at_end() or self._tokens[self._position][0] != kind:
            raise InvalidExpression("unexpected end or token")
        self._position += 1
        return self._tokens[self._position - 1][1]

    def disjunction(self) -> bool:
        value = self._conjunction()
        while self._peek() == "|":
            self._position += 1
            value = self._conjunction() or value
        return value

    def _conjunction(self) -> bool:
        value = self._factor()
        while self._peek() == "&":
            self._position += 1
            value = self._factor() and value
        return value

    def _factor(self) -> bool:
        if self._peek() == "!":
            self._position += 1
            return not self._factor()
        if self._peek() == "(":
            self._position += 1
            value = self.disjunction()
            if self._next("op") != ")":
                raise InvalidExpression("missing )")
            return value
        name, operator, operand = self._next("text"), self._next("op"), self._next("text")
        return _compare(self._attributes.get(name.upper(), ""), operator, operand)


def _compare(value: str, operator: str, operand: str) -> bool:
    are_numbers = _is_number(value) and _is_number(operand)
    if operator == "@>":
        return operand in value.split(",")
    if operator in ("=", "!="):
        is_equal = float(value) == float(operand) if are_numbers else fnmatch.fnmatchcase(value, operand)
        return is_equal == (operator == "=")
    if operator in (">", "<") and are_numbers:
        return float(value) > float(operand) if operator == ">" else float(value) < float(operand)
    return False


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text))
