"""Records the calls to oned that a request makes, and which of them wait for the reply to another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.actions.call import Call
from econed.interfaces import IOpenNebula
from econed.opennebula.methods import is_read_only
from econed.user import Login
from tests.support.cloud import Cloud

_TURNS = 5
"""Turns of the reactor in which a request makes all calls that it can make without another reply."""

_STEP, _MAX_STEPS = 0.1, 12_000


@dataclass(frozen=True)
class MadeCall:
    """A call to oned; `user` is None for serveradmin."""

    user: Login
    method: str
    args: tuple[object, ...]

    @property
    def only_reads(self) -> bool:
        """Whether it changes nothing."""
        return is_read_only(self.method)

    def __str__(self) -> str:
        return f"{self.method.removeprefix('one.')}{'' if self.user else '*'}"


Wave = Sequence[MadeCall]
"""Calls that were all made before any of them had a reply."""


@implementer(IOpenNebula)
class HeldReplies:
    """oned that holds its replies back until `reply` is called."""

    def __init__(self, oned: IOpenNebula) -> None:
        self._oned = oned
        self._held: list[Deferred[None]] = []
        self.waves: list[list[MadeCall]] = []

    @property
    def has_held(self) -> bool:
        """Whether calls wait for their replies."""
        return bool(self._held)

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        await self._hold(MadeCall(user, method, args))
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        await self._hold(MadeCall(user, method, args))
        return await self._oned.document(user, method, *args, **options)

    def reply(self) -> None:
        """Reply to all calls of the wave."""
        held, self._held = self._held, []
        for call in held:
            call.callback(None)

    def _hold(self, call: MadeCall) -> Deferred[None]:
        if not self._held:
            self.waves.append([])
        self.waves[-1].append(call)
        self._held.append(Deferred())
        return self._held[-1]


def waves_of(cloud: Cloud, user: str, request: Callable[[Call], Coroutine[Any, Any, object]]) -> list[list[MadeCall]]:
    """Run a request of a user, which must succeed, and return its calls to oned in waves."""
    cloud.cached_users[user] = cloud.user(user)  # authentication has read the user
    cloud.oned.calls.clear()
    oned = cloud.backend
    cloud.backend = held = HeldReplies(oned)
    results: list[Any] = []
    try:
        Deferred.fromCoroutine(request(cloud.call_as(user))).addBoth(results.append)
        for _ in range(_MAX_STEPS):
            for _ in range(_TURNS):
                cloud.clock.advance(0)
            if results:
                break
            if held.has_held:
                held.reply()
            else:
                cloud.clock.advance(_STEP)
    finally:
        cloud.backend = oned
    assert results, "the request has not ended"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    made = sorted(call.method for wave in held.waves for call in wave)
    assert made == sorted(call.method for call in cloud.oned.calls), "not all calls were recorded"
    return held.waves


def described(waves: Sequence[Wave]) -> str:
    """Return waves as text: `vm.info*, 2 image.info | vm.action`; `*` marks calls as serveradmin, `|` a wait."""
    return " | ".join(", ".join(_counted(wave)) for wave in waves) or "none"


def _counted(wave: Wave) -> list[str]:
    return [name if count == 1 else f"{count} {name}" for name, count in sorted(Counter(map(str, wave)).items())]
