"""Waiting for something in this process by turns of the real reactor, not by time."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater

reactor: Any = _reactor

_MAX_TURNS = 100_000


async def one_turn() -> None:
    """Let the reactor make one turn: it reads and writes what is ready, and makes the calls that are due."""
    await deferLater(reactor, 0)


async def wait_until(condition: Callable[[], object], each_turn: Callable[[], object] = lambda: None) -> None:
    """Let the reactor turn until `condition` is true; fails with the text of the condition if it never is.

    `each_turn` is called before each turn; a test advances its own clock there.
    """
    for _ in range(_MAX_TURNS):
        if condition():
            return
        each_turn()
        await one_turn()
    raise AssertionError(f"not true after {_MAX_TURNS} turns of the reactor: {_text_of(condition)}")


async def wait_until_unchanged(
    value: Callable[[], object], turns: int = 100, each_turn: Callable[[], object] = lambda: None
) -> None:
    """Let the reactor turn until `value` has been the same for so many turns; fails if it goes on changing."""
    last, unchanged = value(), 0

    def is_unchanged() -> bool:
        nonlocal last, unchanged
        now = value()
        last, unchanged = now, unchanged + 1 if now == last else 0
        return unchanged > turns

    try:
        await wait_until(is_unchanged, each_turn)
    except AssertionError:
        raise AssertionError(f"still changing after {_MAX_TURNS} turns of the reactor: {_text_of(value)}") from None


def _text_of(function: Callable[[], object]) -> str:
    """Return the line in which a function begins, with its place."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    line = linecache.getline(code.co_filename, code.co_firstlineno).strip()
    return f"{line} ({code.co_filename}:{code.co_firstlineno})"
