"""Observation of calls to oned: for the metrics of a process, the log, and the calls of a single request."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from econed.errors import InvalidReply, OpenNebulaRefusal, OpenNebulaUnavailable, ServerAccountRefused
from econed.interfaces import IOpenNebula
from econed.user import Login

_T = TypeVar("_T")

OUTCOMES = ("ok", "refused", "rejected", "unavailable", "nonsense", "cancelled", "failed")
"""The outcomes of a call: rejected are the credentials of the server account, and failed is a bug in econed."""


class CallObserver(Protocol):
    """A function that is called after every call to oned. It must not raise."""

    def __call__(self, method: str, seconds: float, outcome: str, /) -> None:
        """Record a call: `method` is oned's name, `seconds` the duration.

        The time in the queue is included if a share of the queue is observed. `outcome` is one of `OUTCOMES`. Session
        and arguments are not passed on: they contain secrets.
        """


@implementer(IOpenNebula)
class ObservedOpenNebula:
    """A client of oned that reports every call to its observers, once, when it ends in any way."""

    def __init__(self, oned: IOpenNebula, clock: IReactorTime, *observers: CallObserver) -> None:
        """Pass all calls on to `oned` unchanged; `clock` measures their duration."""
        self._oned = oned
        self._clock = clock
        self._observers = observers

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        return await self._observed(method, self._oned.call(user, method, *args))

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        return await self._observed(method, self._oned.document(user, method, *args, **options))

    async def _observed(self, method: str, work: Awaitable[_T]) -> _T:
        outcome, start = "cancelled", self._clock.seconds()
        try:
            result = await work
            outcome = "ok"
            return result
        except Exception as error:
            outcome = _outcome(error)
            raise
        finally:  # reached by a coroutine that is closed, too
            for observer in self._observers:
                observer(method, self._clock.seconds() - start, outcome)


class CallCounter:
    """An observer that counts the calls of one request.

    `seconds` is the total duration of the calls; concurrent calls may add up to more than the duration of the request.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.seconds = 0.0

    def __call__(self, method: str, seconds: float, outcome: str) -> None:
        """Count a call with any outcome."""
        self.calls += 1
        self.seconds += seconds


def _outcome(error: Exception) -> str:
    match error:
        case ServerAccountRefused():
            return "rejected"
        case OpenNebulaRefusal():
            return "refused"
        case OpenNebulaUnavailable():
            return "unavailable"
        case InvalidReply():
            return "nonsense"
        case CancelledError():
            return "cancelled"
    return "failed"
