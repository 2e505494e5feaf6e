"""oned with onlookers: for the metrics of a process, the log, and the calls that one request made."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from econed.errors import InvalidReply, OpenNebulaRefusal, OpenNebulaUnavailable
from econed.interfaces import IOpenNebula

if TYPE_CHECKING:
    from lxml.etree import _Element

_T = TypeVar("_T")

OUTCOMES = ("ok", "refused", "unavailable", "nonsense", "cancelled", "failed")
"""How a call can end; failed is a fault of econed's own."""


class CallObserver(Protocol):
    """Is told of every call that has ended. It may not raise."""

    def __call__(self, method: str, seconds: float, outcome: str, /) -> None:
        """Take note: `method` as oned names it, `seconds` from the call to its end, waiting for its turn included.

        `outcome` is one of `OUTCOMES`. Neither the session nor an argument is told: they hold secrets.
        """


@implementer(IOpenNebula)
class ObservedOpenNebula:
    """oned, each call of which is told to all observers, once, when it has ended, however it ends."""

    def __init__(self, one: IOpenNebula, clock: IReactorTime, *observers: CallObserver) -> None:
        """Pass everything on to `one`, unchanged; `clock` times it."""
        self._one = one
        self._clock = clock
        self._observers = observers

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        return await self._observed(method, self._one.call(user, method, *args))

    async def document(self, user: str | None, method: str, *args: object) -> _Element:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        return await self._observed(method, self._one.document(user, method, *args))

    async def _observed(self, method: str, work: Awaitable[_T]) -> _T:
        outcome, began = "cancelled", self._clock.seconds()
        try:
            result = await work
            outcome = "ok"
            return result
        except Exception as error:
            outcome = _outcome(error)
            raise
        finally:  # also of a coroutine that is closed
            for observer in self._observers:
                observer(method, self._clock.seconds() - began, outcome)


class Tally:
    """An observer that counts: for the calls of one request.

    `seconds` is the sum over the calls, so calls that overlap in time may add up to more than the request took.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0

    def __call__(self, method: str, seconds: float, outcome: str) -> None:
        """Count a call, however it ended."""
        self.calls += 1
        self.seconds += seconds


def _outcome(error: Exception) -> str:
    match error:
        case OpenNebulaRefusal():
            return "refused"
        case OpenNebulaUnavailable():
            return "unavailable"
        case InvalidReply():
            return "nonsense"
        case CancelledError():
            return "cancelled"
    return "failed"
