"""Waiting, with a timeout, until oned has finished what a call started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from econed.actions.call import Call

_T = TypeVar("_T")

INTERVAL = 0.5
"""Seconds between two reads."""


async def wait_until(
    call: Call,
    is_done: Callable[[_T], bool],
    read: Callable[[], Awaitable[_T]],
    *,
    timeout: float,
    interval: float = INTERVAL,
    known: _T | None = None,
) -> _T:
    """Read until `is_done`, or until `timeout` seconds have passed, and return the last value.

    `known` is a value that was read before: if it is done already, nothing is read.
    """
    deadline = call.clock.seconds() + timeout
    value = await read() if known is None else known
    while not is_done(value) and call.clock.seconds() < deadline:
        await call.pause(interval)
        value = await read()
    return value
