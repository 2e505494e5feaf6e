"""The queue between the requests and oned: fair, and with one call for all reads that wait for the same.

Every client of oned in a process makes its calls through a share of one `CallQueue`: a request in the name of its user,
a part of the daemon in its own name. `Turns` decides whose call is sent next, `Gathering` which calls are one.

While a call is in flight, reads that could have been part of it gather for the next: a read never gets the reply to a
call that was sent before the read was requested.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.calls.gathering import Flight, Gathering, QueuedCall, Requester
from econed.calls.turns import Owner, Ticket, Turns
from econed.calls.wait_limit import MAX_WAIT, WaitLimit
from econed.errors import InvalidReply, OpenNebulaUnavailable
from econed.interfaces import ICallLimiter, IOpenNebula, Parse
from econed.opennebula.replies import parse_document
from econed.slots import MAX_CALLS_PER_REQUEST, Slots

if TYPE_CHECKING:
    from econed.user import Login, User


@implementer(ICallLimiter)
class CallQueue:
    """The calls of one process to `oned`, at most `limit` at a time. `clock` measures how long requests wait."""

    def __init__(self, oned: IOpenNebula, limit: int, clock: IReactorTime) -> None:
        self._oned = oned
        self._clock = clock
        self._turns = Turns(limit)
        self._gatherings: dict[Hashable, Gathering] = {}
        """The reads that wait or are in flight, by what they have in common."""
        self.calls_waiting = 0
        """The number of calls that have not been sent (`ICallLimiter`)."""

    @property
    def calls_in_flight(self) -> int:
        """The number of calls in flight (`ICallLimiter`)."""
        return self._turns.taken

    def share(self, owner: Owner, session_key: Hashable = None) -> CallShare:
        """Return oned for one request, or for one part of the daemon.

        `session_key` is what the replies to users' calls depend on besides their session: only requests with equal
        keys share reads. All requests share the reads of serveradmin.
        """
        return CallShare(self, Requester(owner, session_key, WaitLimit(self._clock, self._give_up)))

    def for_user(self, user: User) -> CallShare:
        """Return oned for one request of a user."""
        return self.share(Owner(user.id), user.session_key)

    def make(self, call: QueuedCall) -> Deferred[Any]:
        """Send a call when it is its turn. Cancelling the Deferred leaves the queue, or cancels the call in flight."""
        call.result = Deferred(lambda _: self._abandon(call))
        self._join(call, call.set_key)
        return call.result

    def _join(self, call: QueuedCall, set_key: Hashable = None) -> None:
        """Add a call to those that wait: with reads of other machines if there is a `set_key`, or with equal reads."""
        key = set_key or call.key
        gathering = self._gatherings.get(key)
        if gathering is None:
            gathering = Gathering(key, call.kind, has_sets=set_key is not None)
            if key is not None:
                self._gatherings[key] = gathering
        call.gathering = gathering
        gathering.waiting[call] = None
        self.calls_waiting += 1
        self._enter(call)
        if call in gathering.waiting:
            call.requester.wait_limit.begin_wait(call)

    def _enter(self, call: QueuedCall) -> None:
        """Queue a call for a slot, unless it still gathers."""
        if call.gathering.may_send:
            call.ticket = Ticket(call.requester.owner, call.requester, call.kind, partial(self._send, call))
            self._turns.enter(call.ticket)
        else:
            call.gathering.when_slow(self._clock, self._enter_gathered)

    def _enter_gathered(self, gathering: Gathering) -> None:
        for call in tuple(gathering.waiting):
            if call.ticket is None and call.flight is None:  # not sent with an earlier one
                self._enter(call)

    def _leave(self, call: QueuedCall) -> None:
        """Remove a call from those that wait."""
        del call.gathering.waiting[call]
        self.calls_waiting -= 1
        call.requester.wait_limit.end_wait(call)
        if call.ticket is not None and not call.ticket.has_slot:
            self._turns.leave(call.ticket)

    def _send(self, first: QueuedCall) -> None:
        """Send a call, which has a slot now, with those that are one with it."""
        assert first.ticket is not None  # noqa: S101 - it has just got its slot
        calls = first.gathering.sent_with(first)
        flight = Flight(first.gathering, first.ticket, calls)
        flight.gathering.begin()
        for call in calls:
            self._leave(call)
            call.flight = flight
            call.requester.wait_limit.progress()
        flight.running = Deferred.fromCoroutine(flight.send(self._oned))
        flight.running.addBoth(self._end, flight)

    def _end(self, reply: Any, flight: Flight) -> None:
        """Queue the calls that have gathered meanwhile, release the slot, and pass the reply on."""
        gathering = flight.gathering
        gathering.end()
        self._enter_gathered(gathering)
        self._turns.leave(flight.ticket)
        self._forget_if_idle(gathering)
        is_split = flight.is_merged and isinstance(reply, Failure) and reply.check(InvalidReply) is not None
        answers = {} if is_split else flight.answers(reply)
        while flight.calls:  # the result of one call may lead to the cancellation of another
            call, _ = flight.calls.popitem(last=False)
            call.requester.wait_limit.progress()
            if is_split:  # one document of all may be too long, or invalid
                call.flight, call.ticket = None, None
                self._join(call)
            else:
                call.result.callback(answers[call])  # a Failure makes it fail

    def _abandon(self, call: QueuedCall) -> None:
        """Drop a call whose result nobody waits for."""
        flight = call.flight
        if flight is None:
            self._leave(call)
            self._forget_if_idle(call.gathering)
            return
        flight.calls.pop(call, None)
        if not flight.calls and flight.running is not None:
            flight.running.cancel()

    def _give_up(self, call: QueuedCall) -> None:
        self._abandon(call)
        reason = f"the call was not sent within {MAX_WAIT:g} s"
        call.result.errback(OpenNebulaUnavailable(call.method, reason, never_sent=True))

    def _forget_if_idle(self, gathering: Gathering) -> None:
        if gathering.is_idle and self._gatherings.get(gathering.key) is gathering:
            del self._gatherings[gathering.key]


@implementer(IOpenNebula)
class CallShare:
    """oned for one request: at most `MAX_CALLS_PER_REQUEST` calls at a time; further calls wait within the request.

    A call fails with `OpenNebulaUnavailable` if it waits in the queue and for `MAX_WAIT` seconds no call of the request
    was sent or ended. Other requests may get the same document, so its elements must not be changed.
    """

    def __init__(self, queue: CallQueue, requester: Requester) -> None:
        self._queue = queue
        self._requester = requester
        self._slots = Slots(MAX_CALLS_PER_REQUEST)

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Call `method` and return the value of the reply (`IOpenNebula.call`)."""
        async with self._slots:
            value: str | int | bool = await self._queue.make(QueuedCall(self._requester, user, method, args))
            return value

    async def document(self, user: Login, method: str, *args: object, parse: Parse[Any] = parse_document) -> Any:
        """Call `method` and return the root of the document in the reply (`IOpenNebula.document`)."""
        async with self._slots:
            return await self._queue.make(QueuedCall(self._requester, user, method, args, parse))
