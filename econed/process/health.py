"""Health checks of a process: whether oned is reachable and accepts it, and how much the reactor lags."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from econed.errors import OpenNebulaError, OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.recurring import Recurring

PROBE_AFTER = 15.0
"""Seconds without a reply from oned after which a probe is sent."""

CHECK_INTERVAL = 5.0
"""Seconds between two checks whether a probe is due, and between two probes while oned does not reply."""

PROBE_TIMEOUT = 10.0
"""Timeout of a probe in seconds."""

FAILURE_GRACE = 10.0
"""Seconds after a reply during which a failed call does not count: a single call may just have been too slow."""

REPLY_VALID_FOR = PROBE_AFTER + CHECK_INTERVAL + PROBE_TIMEOUT
"""Maximum seconds after a reply for which oned counts as reachable."""

PROBE = "one.system.version"
"""The method of the probe: it is cheap and reads no user's data."""

LAG_INTERVAL = 1.0
"""Seconds between two measurements of the reactor's lag."""

LAG_SAMPLES = 60
"""The number of measurements of which the largest is reported."""


class OnedState:
    """Whether oned is reachable and accepts the server account, from the outcomes of all calls of this process.

    It is an `econed.telemetry.observed_calls.CallObserver`.

    A refusal counts as a reply, also of the server account's credentials. A failed call counts only `FAILURE_GRACE`
    seconds after the last reply.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._has_failed = False
        self.last_reply: float | None = None
        """When oned last replied (epoch seconds); None if it has not yet."""
        self.rejects_credentials = False
        """Whether oned's last reply was that it does not accept the credentials of the server account."""

    def __call__(self, method: str, seconds: float, outcome: str) -> None:
        """Record the outcome of a call."""
        if outcome in ("ok", "refused", "rejected"):
            self._has_failed = False
            self.rejects_credentials = outcome == "rejected"
            self.last_reply = self._clock.seconds()
        elif outcome in ("unavailable", "nonsense"):
            self._has_failed = True

    @property
    def is_reachable(self) -> bool:
        """Whether oned has replied recently."""
        silence = self._seconds_since_reply()
        return silence is not None and silence < (FAILURE_GRACE if self._has_failed else REPLY_VALID_FOR)

    @property
    def is_probe_due(self) -> bool:
        """Whether a probe should be sent: a call failed or was rejected, or `PROBE_AFTER` seconds brought no reply."""
        silence = self._seconds_since_reply()
        return self._has_failed or self.rejects_credentials or silence is None or silence >= PROBE_AFTER

    def _seconds_since_reply(self) -> float | None:
        """Return the seconds since the last reply, at least 0: the clock may have been set back."""
        return None if self.last_reply is None else max(0.0, self._clock.seconds() - self.last_reply)


class OnedWatch(Recurring):
    """Calls oned when no request does, and logs when it becomes unreachable or rejects the credentials, or no longer.

    `oned` is called as serveradmin. It must report its calls to `state` (`ObservedOpenNebula`).
    """

    def __init__(self, oned: IOpenNebula, state: OnedState, clock: IReactorTime, log: Logger) -> None:
        super().__init__(self._check, 0.0, clock, log, what="checking oned", after_failure=CHECK_INTERVAL)
        self._oned = oned
        self._state = state
        self._clock = clock
        self._log = log
        self._was_reachable: bool | None = None
        self._did_reject = False

    async def _check(self) -> float:
        if self._state.is_probe_due:
            await self._probe()
        is_reachable = self._state.is_reachable
        if is_reachable != self._was_reachable:
            self._log_change(is_reachable)
            self._was_reachable = is_reachable
        if self._state.rejects_credentials != self._did_reject:
            self._did_reject = self._state.rejects_credentials
            self._log_credentials()
        return CHECK_INTERVAL

    async def _probe(self) -> None:
        probing = Deferred.fromCoroutine(self._oned.call(None, PROBE))
        try:
            await probing.addTimeout(PROBE_TIMEOUT, self._clock, onTimeoutCancel=_raise_timeout)
        except OpenNebulaUnavailable as error:
            self._state(PROBE, PROBE_TIMEOUT, "unavailable")  # observers have seen only a cancelled call
            self._log.debug("probing oned: {error}", error=str(error))
        except OpenNebulaError as error:
            self._log.debug("probing oned: {error}", error=str(error))

    def _log_change(self, is_reachable: bool) -> None:
        if not is_reachable:
            self._log.warn("oned is unreachable")
        elif self._was_reachable is False:
            self._log.info("oned is reachable again")

    def _log_credentials(self) -> None:
        if self._did_reject:
            self._log.error("oned rejects the credentials of serveradmin: every request fails")
        else:
            self._log.info("oned accepts the credentials of serveradmin again")


class LagWatch(Recurring):
    """Measures how late the reactor runs a timed call: anything that delays that call delays every client.

    `report` receives the largest lag of the last `LAG_SAMPLES` measurements in seconds. `now` is a monotonic clock in
    seconds (`time.monotonic`).
    """

    def __init__(
        self, report: Callable[[float], None], now: Callable[[], float], clock: IReactorTime, log: Logger
    ) -> None:
        super().__init__(self._measure, 0.0, clock, log, what="measuring the reactor's lag", after_failure=LAG_INTERVAL)
        self._report = report
        self._now = now
        self._due: float | None = None
        self._lags: deque[float] = deque(maxlen=LAG_SAMPLES)

    async def _measure(self) -> float:
        now = self._now()
        if self._due is not None:
            self._lags.append(max(0.0, now - self._due))
            self._report(max(self._lags))
        self._due = now + LAG_INTERVAL
        return LAG_INTERVAL


def _raise_timeout(result: object, seconds: float) -> object:
    raise OpenNebulaUnavailable(PROBE, f"no reply within {seconds:g} s")
