"""Several oneds as if they were one: calls go to the one that leads, and find the next when it falls.

A call is made again only where that can do no harm: one that only reads always, one that changes something where it is
certain that it was never begun. The deadline of a call is its caller's, who cancels it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IOnedProxy
from econed.opennebula.methods import is_read_only
from econed.opennebula.raft import AMBIGUOUS_CODES, was_not_started
from econed.opennebula.replies import parse_refusal
from econed.single_flight import SingleFlight
from econed.xmlrpc.leader import Leader, Standing, Zone

TO_CONNECT: Final = 2.0
"""Seconds in which one of several servers has to take a connection."""

FRESH: Final = 3.0
"""Seconds for which a leader is taken for one unasked: one that was put aside goes on answering reads, out of date."""

STALE: Final = 15.0
"""Seconds after which that is looked up before the next call, and no longer beside it."""

WATCH: Final = 3.0
"""Seconds after which, again and again, a call without an answer has it looked up whether its server still leads."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0


class Leadership:
    """Who leads, as far as is known: looked up when it is needed, for all who wait at once."""

    def __init__(self, zone: Zone, clock: IReactorTime, chance: Callable[[], float], log: Logger) -> None:
        """Look at `zone`. `chance` (0 to 1) spreads the pauses of many processes; `log` is told of changes."""
        self._zone = zone
        self._clock = clock
        self._chance = chance
        self._log = log
        self._known: Leader | None = None
        self._since = 0.0
        self._said: IOnedProxy | None = None
        self._is_missed = False
        self._search = SingleFlight(self._find)
        self._renewal = SingleFlight(self.looked_up)

    async def leader(self) -> Leader:
        """Return who leads; waits for as long as nobody does."""
        known = self._known
        if known is None or self._age > STALE:
            return await self._search.join()
        if self._age > FRESH and not self._renewal.is_running:
            self._renewal.join()  # nobody waits for it
        return self._known or known

    async def renewed(self) -> Leader | None:
        """Return who leads, or led a moment ago; None if nobody does."""
        if self._known is not None and self._age <= FRESH:
            return self._known
        return await self._renewal.join()

    def doubt(self, leader: Leader) -> None:
        """Take note that this one does not do what a leader does."""
        if self._known == leader:
            self._known = None

    async def looked_up(self) -> Leader | None:
        """Return who leads now; None if nobody does. This look began when it was asked for, and is for nobody else."""
        found, heard = await self._zone.leader(self._known)
        self._learn(found, heard)
        return found

    async def pause(self, number: int) -> None:
        """Wait before the next attempt, the longer the more there were, and not all at the same time."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**number)
        await deferLater(self._clock, longest * (1 + self._chance()) / 2)

    @property
    def _age(self) -> float:
        return self._clock.seconds() - self._since

    async def _find(self) -> Leader:
        number = 0
        while (found := await self.looked_up()) is None:
            await self.pause(min(number, 10))
            number += 1
        return found

    def _learn(self, found: Leader | None, heard: Sequence[Standing]) -> None:
        self._known, self._since = found, self._clock.seconds()
        if found is None:
            if not self._is_missed:
                self._log.warn("no oned leads: {standings}", standings="; ".join(map(str, heard)))
            self._is_missed = True
            return
        if self._said is None:
            self._log.info("oned at {url} leads", url=found.server.url)
        elif found.server is not self._said:
            self._log.warn("oned at {url} leads now, not {old}", url=found.server.url, old=self._said.url)
        elif self._is_missed:
            self._log.warn("oned at {url} leads again", url=found.server.url)
        self._said, self._is_missed = found.server, False


@implementer(IOnedProxy)
class OnedServers:
    """The servers of a zone as one (`IOnedProxy`)."""

    def __init__(self, zone: Zone, leadership: Leadership, clock: IReactorTime) -> None:
        """Call the leader of `zone`, whom `leadership` knows; `clock` times how long one is waited for."""
        self.url = ", ".join(server.url for server in zone.servers)
        self._leadership = leadership
        self._clock = clock

    def callRemote(self, method: str, session: str, *args: object) -> Deferred[bytes]:
        """Call `method` on the server that leads (`IOnedProxy.callRemote`).

        It waits for one to lead, for as long as it is not cancelled. A call that only reads fails with nothing but
        `InvalidReply`; any other one with `OpenNebulaUnavailable` where it may have been begun.
        """
        return Deferred.fromCoroutine(self._call(method, session, args))

    async def _call(self, method: str, session: str, args: tuple[object, ...]) -> bytes:
        attempt = _Attempts(self._leadership)
        while True:
            leader = await attempt.leader()
            try:
                body = await self._watched(leader, method, session, args)
            except OpenNebulaUnavailable as error:
                self._leadership.doubt(leader)
                if error.never_sent or is_read_only(method):
                    continue
                raise
            if not await self._is_to_be_repeated(leader, method, body):
                return body

    async def _is_to_be_repeated(self, leader: Leader, method: str, body: bytes) -> bool:
        """Whether an answer is only about the server; raises `OpenNebulaUnavailable` where part may have been done."""
        refusal = parse_refusal(method, body)
        if refusal is None or refusal.code not in AMBIGUOUS_CODES:
            return False
        if was_not_started(refusal):
            self._leadership.doubt(leader)
            return True
        if await self._leadership.looked_up() == leader:
            return False
        if is_read_only(method):
            return True
        reason = f"{leader.server.url} does not lead any more, and refused: {refusal.reason}"
        raise OpenNebulaUnavailable(method, reason)

    async def _watched(self, leader: Leader, method: str, session: str, args: tuple[object, ...]) -> bytes:
        """Call a server; given up when another has been elected meanwhile, as a machine without power says nothing."""
        answer = leader.server.callRemote(method, session, *args)
        successors: list[Leader] = []

        def give_up(successor: Leader) -> None:
            successors.append(successor)
            answer.cancel()

        watch = Deferred.fromCoroutine(self._successor(leader))
        watch.addCallbacks(give_up, _unless_cancelled)
        try:
            return await answer
        except CancelledError:
            if not successors:
                raise
            reason = f"no answer of {leader.server.url}, and {successors[0].server.url} leads now"
            raise OpenNebulaUnavailable(method, reason) from None
        finally:
            watch.cancel()

    async def _successor(self, leader: Leader) -> Leader:
        while True:
            await deferLater(self._clock, WATCH)
            now = await self._leadership.renewed()
            if now is not None and now.server is not leader.server:
                return now


class _Attempts:
    """The attempts of one call: the next one at once if another server leads, else after a pause."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._last: Leader | None = None
        self._pauses: Iterator[int] = iter(range(10))

    async def leader(self) -> Leader:
        leader = await self._leadership.leader()
        if leader == self._last:
            await self._leadership.pause(next(self._pauses, 10))
            leader = await self._leadership.leader()
        self._last = leader
        return leader


def _unless_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


def as_one(zone: Zone, clock: IReactorTime, chance: Callable[[], float], log: Logger) -> IOnedProxy:
    """Return the way to oned: to the one server itself, or to several."""
    if len(zone.servers) == 1:
        return zone.servers[0]
    return OnedServers(zone, Leadership(zone, clock, chance, log), clock)
