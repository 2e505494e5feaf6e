"""Calls of requests, and which of them are one call to oned.

Equal reads in one session are one call. So are reads of a few machines each in one session, none of which two readers
have in common: the call reads all their machines, and each reader gets a document with its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from econed.calls.kinds import CallKind, kind_of
from econed.opennebula.machine_sets import arguments_for, divide, ids_in, is_small_set
from econed.opennebula.replies import parse_document

if TYPE_CHECKING:
    from econed.calls.turns import Owner, Ticket
    from econed.calls.wait_limit import WaitLimit
    from econed.interfaces import IOpenNebula, Parse
    from econed.user import Login

MAX_MERGED: Final = 250
"""Maximum machines in a call for several reads."""

SLOW: Final = 1.0
"""Seconds for which reads of a few objects gather while a call is in flight, which may be lost."""


@dataclass(frozen=True, eq=False)
class Requester:
    """A request, or a part of the daemon. `session_key` is what replies depend on besides the session."""

    owner: Owner
    session_key: Hashable
    wait_limit: WaitLimit[QueuedCall]


@dataclass(eq=False)
class QueuedCall:
    """A call of a request that has not ended. `flight` is the call to oned that it is part of, once that is sent.

    `parse` parses the reply if that is a document, otherwise it is None.
    """

    requester: Requester
    user: Login
    method: str
    args: tuple[object, ...]
    parse: Parse[Any] | None = None
    kind: CallKind = field(init=False)
    result: Deferred[Any] = field(init=False)
    gathering: Gathering = field(init=False)
    ticket: Ticket | None = None
    flight: Flight | None = None

    def __post_init__(self) -> None:
        self.kind = kind_of(self.method, self.args)

    @property
    def key(self) -> Hashable:
        """What equal reads have in common; None for a change. True and 1 are different arguments for oned."""
        if self.kind is CallKind.CHANGE:
            return None
        return (self._session, self.method, self.args, tuple(map(type, self.args)), self.parse)

    @property
    def set_key(self) -> Hashable:
        """What reads of a few machines have in common if they can be one call; None for other calls."""
        if self.parse is parse_document and is_small_set(self.method, self.args):
            return (self._session, self.method, self.args[1:])
        return None

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of the machines that a read of a few reads."""
        return ids_in(self.args)

    @property
    def _session(self) -> Hashable:
        return None if self.user is None else (self.user, self.requester.session_key)

    async def send(self, oned: IOpenNebula, args: Sequence[object]) -> Any:
        """Make the call with these arguments."""
        if self.parse is None:
            return await oned.call(self.user, self.method, *args)
        return await oned.document(self.user, self.method, *args, parse=self.parse)


class Gathering:
    """Calls that can be one: those that wait, in their order, and the number of those in flight."""

    def __init__(self, key: Hashable, kind: CallKind, *, has_sets: bool) -> None:
        self.key = key
        self.waiting: OrderedDict[QueuedCall, None] = OrderedDict()
        self._kind = kind
        self._has_sets = has_sets
        self._in_flight = 0
        self._max_in_flight = 1
        self._timer: IDelayedCall | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no call waits or is in flight."""
        return not self._in_flight and not self.waiting

    @property
    def may_send(self) -> bool:
        """Whether a call that waits may be sent; otherwise the calls gather until the one in flight has ended."""
        return self._in_flight < self._max_in_flight

    def begin(self) -> None:
        """Count a call in flight."""
        self._in_flight += 1

    def end(self) -> None:
        """Stop counting a call in flight."""
        self._in_flight -= 1
        if not self._in_flight:
            self._max_in_flight = 1
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def when_slow(self, clock: IReactorTime, send: Callable[[Gathering], None]) -> None:
        """Call `send` when a read of few objects has gathered for `SLOW` seconds: from then on one more may be sent."""
        if self._kind is CallKind.OBJECT and self._timer is None and self._max_in_flight == 1:
            self._timer = clock.callLater(SLOW, self._is_slow, send)

    def _is_slow(self, send: Callable[[Gathering], None]) -> None:
        self._timer = None
        self._max_in_flight = 2
        send(self)

    def sent_with(self, first: QueuedCall) -> list[QueuedCall]:
        """Return the calls that are one call with `first`, including it.

        These are all that wait, or of reads of a few machines those with up to `MAX_MERGED` machines together. Two
        that read some of their machines in common, but not all, are never one: each would need a copy of documents,
        which may be long.
        """
        others = (call for call in self.waiting if call is not first)
        if not self._has_sets:
            return [first, *others]
        together, sets, ids = [first], {first.ids}, set(first.ids)
        for call in islice(others, MAX_MERGED):
            if call.ids not in sets:
                if len(ids) + len(call.ids) > MAX_MERGED or not ids.isdisjoint(call.ids):
                    continue
                sets.add(call.ids)
                ids |= call.ids
            together.append(call)
        return together


class Flight:
    """A call to oned in flight. `calls` are those that wait for its reply."""

    def __init__(self, gathering: Gathering, ticket: Ticket, calls: Sequence[QueuedCall]) -> None:
        self.gathering = gathering
        self.ticket = ticket
        self.calls = OrderedDict.fromkeys(calls)
        self.is_merged = len({call.key for call in calls}) > 1
        self.running: Deferred[Any] | None = None

    async def send(self, oned: IOpenNebula) -> Any:
        """Make the call and return oned's reply."""
        first = next(iter(self.calls))
        if not self.is_merged:
            return await first.send(oned, first.args)
        ids = {id_ for call in self.calls for id_ in call.ids}
        return await first.send(oned, arguments_for(ids, first.args))

    def answers(self, reply: Any) -> Mapping[QueuedCall, Any]:
        """Return what each call gets of a reply; equal reads get the same document."""
        if not self.is_merged or isinstance(reply, Failure):
            return dict.fromkeys(self.calls, reply)
        documents = divide(reply, dict.fromkeys(call.ids for call in self.calls))
        return {call: documents[call.ids] for call in self.calls}
