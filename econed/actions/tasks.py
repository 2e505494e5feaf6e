"""Running coroutines with results of different types concurrently."""

from __future__ import annotations

from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

_T = TypeVar("_T")


class Task(Generic[_T]):
    """A coroutine that was started in a `TaskGroup`."""

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._outcome: list[Any] = []
        running: Deferred[Any] = Deferred.fromCoroutine(coroutine)
        self.ended = running.addBoth(self._outcome.append)

    @property
    def result(self) -> _T:
        """Its result, or the exception that it raised, after the end of the group's block."""
        (outcome,) = self._outcome
        if isinstance(outcome, Failure):
            outcome.raiseException()
        result: _T = outcome
        return result


class TaskGroup:
    """Runs coroutines concurrently, as asyncio's TaskGroup: the end of the `async with` block waits for all.

    Then the first failure is raised, in the order in which the coroutines were started. Nothing is cancelled, so
    nothing is still running after the response.
    """

    def __init__(self) -> None:
        self._tasks: list[Task[Any]] = []

    def start(self, coroutine: Coroutine[Any, Any, _T]) -> Task[_T]:
        """Start a coroutine."""
        task = Task(coroutine)
        self._tasks.append(task)
        return task

    async def __aenter__(self) -> TaskGroup:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await DeferredList([task.ended for task in self._tasks])
        if error is None:
            for task in self._tasks:
                task.result  # noqa: B018 - raises its exception
