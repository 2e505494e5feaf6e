"""Waiting, within a time limit, until oned has finished what it was told to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from econed.actions.call import Call

_T = TypeVar("_T")

INTERVAL = 0.5
"""Seconds between two reads of what is waited for."""


async def wait_until(
    call: Call,
    is_done: Callable[[_T], bool],
    read: Callable[[], Awaitable[_T]],
    *,
    timeout: float,
    interval: float = INTERVAL,
    known: _T | None = None,
) -> _T:
    """Read until `is_done`, or until `timeout` seconds have passed, and return what was read last.

    `known` is what was read before, so that nothing is read where that is done already.
    """
    until = call.clock.seconds() + timeout
    value = await read() if known is None else known
    while not is_done(value) and call.clock.seconds() < until:
        await call.pause(interval)
        value = await read()
    return value
