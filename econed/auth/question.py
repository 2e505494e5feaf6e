"""A question to oned that many requests have at once, asked once for all of them and not too often."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")

RETRY_INTERVAL = 1.0
"""Seconds for which a failure is everybody's answer, before oned is asked again."""

LookedUp = Callable[[str], None]
"""Is told, whenever somebody wants an answer, where it comes from: hit (known), joined (on its way), failed (it lately
could not be had), or miss (oned is asked)."""


class Question(Generic[T]):
    """A question and its last answer.

    However many want the answer, `ask` runs once at a time, and while its answer is fresh enough, not at all. Whoever
    waits may be cancelled without harm to the others. An answer's age counts from when the question was put: what
    happened in oned after that may not be in it. `looked_up` is for who counts.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[], Coroutine[Deferred[Any], Any, T]],
        looked_up: LookedUp | None = None,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._looked_up = looked_up
        self._answer: tuple[float, T] | None = None
        self._failure: tuple[float, BaseException] | None = None
        self._waiting: list[Deferred[T]] | None = None

    async def answer(self, max_age: float) -> T:
        """Return the known answer if it is less than `max_age` seconds old, else the one on its way, or a new one.

        Raises what `ask` raises.
        """
        if self._answer is not None and self._is_recent(self._answer[0], max_age):
            self._tell("hit")
            return self._answer[1]
        waiter: Deferred[T] = Deferred()
        if self._waiting is not None:
            self._tell("joined")
            self._waiting.append(waiter)
        elif self._failure is not None and self._is_recent(self._failure[0], RETRY_INTERVAL):
            self._tell("failed")
            raise self._failure[1].with_traceback(None)
        else:
            self._tell("miss")
            self._put(waiter)
        return await waiter

    @property
    def last(self) -> tuple[float, T] | None:
        """When the last answer was asked for, and the answer, however old; None if there is none."""
        return self._answer

    def learn(self, answer: T, asked_at: float) -> None:
        """Take an answer that came another way, to a question put at `asked_at`, unless one put later is known."""
        if self._answer is None or asked_at >= self._answer[0]:
            self._answer = (asked_at, answer)

    def _is_recent(self, moment: float, max_age: float) -> bool:
        # Where the clock was set back, ages are negative; such an answer may be any age.
        return 0 <= self._clock.seconds() - moment < max_age

    def _tell(self, result: str) -> None:
        if self._looked_up is not None:
            self._looked_up(result)

    def _put(self, waiter: Deferred[T]) -> None:
        asked_at = self._clock.seconds()
        self._waiting = [waiter]
        asking = Deferred.fromCoroutine(self._ask())
        asking.addCallbacks(self._answered, self._failed, callbackArgs=(asked_at,), errbackArgs=(asked_at,))

    def _answered(self, answer: T, asked_at: float) -> None:
        self._failure = None
        self.learn(answer, asked_at)
        for waiter in self._released():
            waiter.callback(answer)

    def _failed(self, failure: Failure, asked_at: float) -> None:
        assert failure.value is not None  # noqa: S101
        self._failure = (asked_at, failure.value)
        for waiter in self._released():
            waiter.errback(failure.value)

    def _released(self) -> list[Deferred[T]]:
        waiting, self._waiting = self._waiting or [], None
        return waiting
