"""oned with delayed calls, and oned for a process that is killed between two calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from econed.interfaces import IOpenNebula
from econed.user import Login

if TYPE_CHECKING:
    pass


@implementer(IOpenNebula)
class DelayedOned:
    """oned behind a slow network: each call is delayed by the next of `delays` (seconds), and each reply by another."""

    def __init__(self, backend: IOpenNebula, clock: Clock, delays: Iterator[float]) -> None:
        self._backend = backend
        self._clock = clock
        self._delays = delays

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        await self._wait()
        try:
            return await self._backend.call(user, method, *args)
        finally:
            await self._wait()

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        await self._wait()
        try:
            return await self._backend.document(user, method, *args, **options)
        finally:
            await self._wait()

    async def _wait(self) -> None:
        waited: Deferred[None] = Deferred()
        self._clock.callLater(next(self._delays), waited.callback, None)
        await waited


@implementer(IOpenNebula)
class DyingOned:
    """oned as used by a process that is killed just before, or just after, its call number `calls` (from 0) is served.

    After that no call is served or returns. `served` is the number of calls served.
    """

    def __init__(self, backend: IOpenNebula, calls: int, *, after: bool = False) -> None:
        self._backend = backend
        self._calls = calls
        self._after = after
        self.served = 0

    @property
    def is_dead(self) -> bool:
        """Whether the process has been killed."""
        return self.served > self._calls

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        await self._before()
        result = await self._backend.call(user, method, *args)
        await self._afterwards()
        return result

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        await self._before()
        result = await self._backend.document(user, method, *args, **options)
        await self._afterwards()
        return result

    async def _before(self) -> None:
        if self.is_dead or (self.served == self._calls and not self._after):
            self.served = self._calls + 1
            await Deferred()

    async def _afterwards(self) -> None:
        self.served += 1
        if self.is_dead:
            await Deferred()


@implementer(IOpenNebula)
class SteppedOned:
    """oned whose calls wait for the next step: calls of the same step do not need each other's results."""

    def __init__(self, backend: IOpenNebula) -> None:
        self._backend = backend
        self._waiting: list[tuple[str, Deferred[None]]] = []

    def step(self) -> list[str]:
        """Make the calls that are waiting, and return their methods, sorted."""
        calls, self._waiting = self._waiting, []
        for _, waiting in calls:
            waiting.callback(None)
        return sorted(method for method, _ in calls)

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        await self._wait(method)
        return await self._backend.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        await self._wait(method)
        return await self._backend.document(user, method, *args, **options)

    async def _wait(self, method: str) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting.append((method, waiting))
        await waiting
