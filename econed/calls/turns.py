"""Whose call to oned is sent next: users take turns, and so do the requests of a user.

A call enters with a `Ticket`, gets a slot when it is its turn, and leaves when it has ended. Users take turns, whatever
the number of their calls, so a call of a user with no others is sent after at most one call of each other user. Within
a user the kinds of calls have an order (`CallKind`); within a kind the requests take turns. Entering, leaving and
granting take constant time, and an owner is forgotten when their last call leaves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from econed.calls.kinds import CallKind

MAX_CHANGES: Final = 4
"""Maximum changes of one owner in flight. oned makes changes one after the other: more do not make it faster.

On OpenNebula 5.12 with SQLite, three, five and eight at a time give the same rate of new machines, about twice that of
one at a time (measured).
"""

MAX_BULK_READS: Final = 4
"""Maximum reads of many objects of one owner in flight."""

MAX_PASSED: Final = 4
"""How many calls of other kinds an owner's waiting call lets pass at most, after the other calls of its kind."""


@dataclass(frozen=True)
class Owner:
    """Whose turn it is: a user of OpenNebula (their id), or a part of the daemon (its name).

    The calls of an owner that `goes_first` are sent before those of all others. It must limit their number itself.
    """

    key: int | str
    goes_first: bool = False


@dataclass(eq=False)
class Ticket:
    """A call in the queue or in flight. `on_turn` is called when it has a slot, and must not raise."""

    owner: Owner
    request: Hashable
    kind: CallKind
    on_turn: Callable[[], None]
    has_slot: bool = False


class Turns:
    """A number of slots, and the calls that wait for one.

    One owner has at most three quarters of the slots, so that there is always one for a call of others soon.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._share = max(1, limit - max(1, limit // 4))
        self._owners: dict[Owner, _Calls] = {}
        self._ready: OrderedDict[Owner, _Calls] = OrderedDict()
        """The owners with a call that may be sent, in the order of their turns."""
        self._is_granting = False

    @property
    def is_idle(self) -> bool:
        """Whether no call is in the queue or in flight."""
        return not self._owners

    def enter(self, ticket: Ticket) -> None:
        """Add a call to the queue; it may get its slot immediately."""
        calls = self._owners.get(ticket.owner)
        if calls is None:
            calls = self._owners[ticket.owner] = _Calls(self._share)
        calls.add(ticket)
        self._update(ticket.owner, calls)
        self._grant()

    def leave(self, ticket: Ticket) -> None:
        """Remove a call from the queue, or release its slot; each call leaves once."""
        calls = self._owners[ticket.owner]
        if ticket.has_slot:
            calls.release(ticket)
            self.taken -= 1
        else:
            calls.remove(ticket)
        self._update(ticket.owner, calls)
        self._grant()

    def _update(self, owner: Owner, calls: _Calls) -> None:
        if not calls.are_ready:
            self._ready.pop(owner, None)
            if calls.is_empty:
                del self._owners[owner]
        elif owner not in self._ready:
            self._ready[owner] = calls
            if owner.goes_first:
                self._ready.move_to_end(owner, last=False)

    def _grant(self) -> None:
        """Grant all free slots. `on_turn` may let calls enter and leave: that does not recurse."""
        if self._is_granting:
            return
        self._is_granting = True
        try:
            while self._ready and self.taken < self.limit:
                owner, calls = next(iter(self._ready.items()))
                ticket = calls.take()
                self.taken += 1
                if not owner.goes_first:
                    self._ready.move_to_end(owner)
                self._update(owner, calls)
                ticket.on_turn()
        finally:
            self._is_granting = False


class _Calls:
    """The calls of one owner: at most `limit` in flight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        limits = {CallKind.OBJECT: limit, CallKind.CHANGE: MAX_CHANGES, CallKind.BULK: MAX_BULK_READS}
        self._lanes = tuple(_Lane(limits[kind]) for kind in CallKind)

    @property
    def is_empty(self) -> bool:
        return not self._taken and not any(lane.requests for lane in self._lanes)

    @property
    def are_ready(self) -> bool:
        return self._taken < self._limit and any(lane.is_ready for lane in self._lanes)

    def add(self, ticket: Ticket) -> None:
        self._lanes[ticket.kind].requests.setdefault(ticket.request, OrderedDict())[ticket] = None

    def remove(self, ticket: Ticket) -> None:
        self._lanes[ticket.kind].remove(ticket)

    def take(self) -> Ticket:
        """Remove the ticket whose turn it is from the queue and give it a slot."""
        ready = [lane for lane in self._lanes if lane.is_ready]
        lane = max(ready, key=lambda lane: lane.passed >= MAX_PASSED)  # the first of several
        for other in ready:
            other.passed += 1
        lane.passed = 0
        lane.taken += 1
        self._taken += 1
        return lane.take()

    def release(self, ticket: Ticket) -> None:
        self._lanes[ticket.kind].taken -= 1
        self._taken -= 1


class _Lane:
    """The calls of one owner of one kind: at most `limit` in flight, and those that wait, by request."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0
        self.passed = 0
        """How many calls of other kinds were sent while one of this kind could have been."""
        self.requests: OrderedDict[Hashable, OrderedDict[Ticket, None]] = OrderedDict()

    @property
    def is_ready(self) -> bool:
        return bool(self.requests) and self.taken < self._limit

    def take(self) -> Ticket:
        request, tickets = next(iter(self.requests.items()))
        ticket = next(iter(tickets))
        self.requests.move_to_end(request)
        self.remove(ticket)
        ticket.has_slot = True
        return ticket

    def remove(self, ticket: Ticket) -> None:
        tickets = self.requests[ticket.request]
        del tickets[ticket]
        if not tickets:
            del self.requests[ticket.request]
