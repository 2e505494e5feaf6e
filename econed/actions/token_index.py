"""Which of a user's machines carry which client tokens, as far as this process has read them.

oned cannot search for a token, so without memory every launch would read all machines that the user has created during
the lifetime of tokens. A token is on its machine from the beginning, and oned inserts machines one at a time and in the
order of their ids (`PoolSQL::allocate` takes an id and inserts the machine under one lock, from 5.12 to 7.4): when a
machine can be read, so can all machines with lower ids. So it is sufficient to read the machines with higher ids than
the highest that was read before.

The index contains ids only, and their machines are always read again, so it never returns a machine that has lost its
token. It lacks machines that got their token, or their owner, after they were read: only the user themselves or an
administrator can do that, by hand. A launch with such a token then creates machines as if the token were new, where a
new process would have found that machine. Neither changes machines that it has not created.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_ENTRIES: Final = 20_000
"""Maximum number of sessions and machines together (some 8 MB).

The sessions that were used least recently are forgotten, each with all its machines, and are read again when they are
used. A session with more than half of that is not remembered: each of its launches reads all its machines.
"""

MAX_TOKEN: Final = 64
"""Maximum length of a token in the index. Calls cannot have longer ones, but users can write them on their machines."""


class TokenMachine(NamedTuple):
    """A machine with a client token; `created` is in seconds since the epoch."""

    id: int
    token: str
    created: int


class TokenIndex:
    """The index of one process, by session (`Call.session_key`)."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._sessions: OrderedDict[Hashable, _MachinesOfSession] = OrderedDict()
        self._entries = 0

    def newest_id(self, session: Hashable) -> int | None:
        """Return the id up to which all machines of a session are in the index; None if none are."""
        known = self._sessions.get(session)
        return None if known is None else known.newest_id

    def ids(self, session: Hashable, token: str) -> frozenset[int]:
        """Return the ids of the machines with a token."""
        known = self._sessions.get(session)
        return frozenset() if known is None else frozenset(machine.id for machine in known.by_token.get(token, ()))

    def add(
        self, session: Hashable, after: int | None, newest_id: int, machines: Iterable[TokenMachine], oldest: int
    ) -> None:
        """Add what was read: all machines with ids above `after`, up to `newest_id`, that have a token.

        With None as `after`, all machines created since `oldest` (epoch seconds) were read. Older ones are removed.
        """
        known = self._sessions.get(session) or _MachinesOfSession()
        if after is not None and after > known.newest_id:
            return  # some of the machines before these have been forgotten
        self.forget(session)
        known.add(newest_id, machines)
        known.remove_older(oldest)
        if known.entries > self._max_entries // 2:
            return
        self._sessions[session] = known
        self._entries += known.entries
        while self._entries > self._max_entries:
            _, forgotten = self._sessions.popitem(last=False)
            self._entries -= forgotten.entries

    def forget(self, session: Hashable) -> None:
        """Forget a session."""
        known = self._sessions.pop(session, None)
        self._entries -= 0 if known is None else known.entries


@dataclass
class _MachinesOfSession:
    """The machines of one session, up to `newest_id`, by token in the order of the tokens' first ids."""

    newest_id: int = -1
    by_token: OrderedDict[str, list[TokenMachine]] = field(default_factory=OrderedDict)
    entries: int = 1

    def add(self, newest_id: int, machines: Iterable[TokenMachine]) -> None:
        for machine in sorted(machines):
            if machine.id > self.newest_id and len(machine.token) <= MAX_TOKEN:
                self.by_token.setdefault(machine.token, []).append(machine)
                self.entries += 1
        self.newest_id = max(self.newest_id, newest_id)

    def remove_older(self, oldest: int) -> None:
        while self.by_token and next(iter(self.by_token.values()))[-1].created < oldest:
            _, machines = self.by_token.popitem(last=False)
            self.entries -= len(machines)
