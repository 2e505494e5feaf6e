"""A clock that makes delayed calls in turns, as the reactor does."""

from __future__ import annotations

from twisted.internet.task import Clock


class TurnClock(Clock):
    """A clock that does not advance; `callLater(0, …)` is called in the next turn, as by a real reactor."""

    def turn(self) -> None:
        """Make the calls that are due, but not those that they add."""
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            self.calls.remove(call)
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)
