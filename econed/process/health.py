"""What a process watches of itself and of oned, for the administrator's port and the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from econed.errors import OpenNebulaError, OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.recurring import Recurring

QUIET_FOR = 15.0
"""Seconds without a word of oned after which it is asked."""

LOOK_EVERY = 5.0
"""Seconds between two looks whether it has to be; and between two calls to one that does not answer."""

ASK_FOR = 10.0
"""Seconds after which a call that is only to see whether oned answers is given up."""

DOUBT_FOR = 10.0
"""Seconds after an answer in which a call that failed proves nothing: a single one may only have been too slow."""

HEARD_FOR = QUIET_FOR + LOOK_EVERY + ASK_FOR
"""Seconds after an answer for which oned is taken to be there, at most."""

PROBE = "one.system.version"
"""What oned is asked: it costs next to nothing and names nobody's data."""

LAG_EVERY = 1.0
"""Seconds between two measurements of the reactor's lag."""

LAG_KEPT = 60
"""How many of them the largest is of."""


class OnedState:
    """Whether oned is reachable, by the outcome of all calls of this process.

    It is an `econed.telemetry.observed_calls.CallObserver`.

    That oned refuses shows that it is there. That a call fails shows it only when nothing has been heard for a while.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failed = False
        self.last_answer: float | None = None
        """When oned last answered (epoch seconds); None: not yet."""

    def __call__(self, method: str, seconds: float, outcome: str) -> None:
        """Take note of a call that ended."""
        if outcome in ("ok", "refused"):
            self._failed = False
            self.last_answer = self._clock.seconds()
        elif outcome in ("unavailable", "nonsense"):
            self._failed = True

    @property
    def is_reachable(self) -> bool:
        """Whether oned has lately answered."""
        silent = self._silent_for()
        return silent is not None and silent < (DOUBT_FOR if self._failed else HEARD_FOR)

    @property
    def is_worth_asking(self) -> bool:
        """Whether it should be asked: it has been quiet, or a call has failed."""
        silent = self._silent_for()
        return self._failed or silent is None or silent >= QUIET_FOR

    def _silent_for(self) -> float | None:
        """Return for how many seconds oned has not answered; where the clock was set back, for none."""
        return None if self.last_answer is None else max(0.0, self._clock.seconds() - self.last_answer)


class OnedWatch(Recurring):
    """Asks oned for its version when nothing else was asked, and says in the log when it goes away and comes back.

    `one` is asked as serveradmin, and has to tell `state` of its calls (`ObservedOpenNebula`).
    """

    def __init__(self, one: IOpenNebula, state: OnedState, clock: IReactorTime, log: Logger) -> None:
        super().__init__(self._look, 0.0, clock, log, what="a look at oned", after_failure=LOOK_EVERY)
        self._one = one
        self._state = state
        self._clock = clock
        self._log = log
        self._was_reachable: bool | None = None

    async def _look(self) -> float:
        if self._state.is_worth_asking:
            await self._ask()
        is_reachable = self._state.is_reachable
        if is_reachable != self._was_reachable:
            self._say(is_reachable)
            self._was_reachable = is_reachable
        return LOOK_EVERY

    async def _ask(self) -> None:
        asking = Deferred.fromCoroutine(self._one.call(None, PROBE))
        try:
            await asking.addTimeout(ASK_FOR, self._clock, onTimeoutCancel=_too_late)
        except OpenNebulaUnavailable as error:
            self._state(PROBE, ASK_FOR, "unavailable")  # whoever observes was told that the call was cancelled
            self._log.debug("oned was asked whether it is there: {error}", error=str(error))
        except OpenNebulaError as error:
            self._log.debug("oned was asked whether it is there: {error}", error=str(error))

    def _say(self, is_reachable: bool) -> None:
        if not is_reachable:
            self._log.warn("oned does not answer")
        elif self._was_reachable is False:
            self._log.info("oned answers again")


class LagWatch(Recurring):
    """Measures by how much the reactor comes too late: what holds it up, holds up every client.

    `now` is a clock in seconds that nobody sets (`time.monotonic`).
    """

    def __init__(
        self, tell: Callable[[float], None], now: Callable[[], float], clock: IReactorTime, log: Logger
    ) -> None:
        super().__init__(self._measure, 0.0, clock, log, what="a measurement of the lag", after_failure=LAG_EVERY)
        self._tell = tell
        self._now = now
        self._due: float | None = None
        self._lags: deque[float] = deque(maxlen=LAG_KEPT)

    async def _measure(self) -> float:
        """Tell the largest lag of the last minute."""
        now = self._now()
        if self._due is not None:
            self._lags.append(max(0.0, now - self._due))
            self._tell(max(self._lags))
        self._due = now + LAG_EVERY
        return LAG_EVERY


def _too_late(result: object, seconds: float) -> object:
    raise OpenNebulaUnavailable(PROBE, f"no answer within {seconds:g} s")
