"""A clock on which a test gives the reactor its turns one by one."""

from __future__ import annotations

from twisted.internet.task import Clock


class TurnClock(Clock):
    """A clock that stands still; what is called back at once comes in the next turn, as on a real reactor."""

    def turn(self) -> None:
        """Make the calls that are due, but none that they add."""
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            self.calls.remove(call)
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)
