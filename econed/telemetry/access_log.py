"""The one line that each request gets in the log, and what the log says of calls to oned at its highest level."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.logger import Logger

from econed.telemetry.log_lines import quoted
from econed.telemetry.observed_calls import CallObserver

_LONGEST = 200


@dataclass(frozen=True)
class Access:
    """What there is to say of a request that is over; its `str` is the line.

    `action` is what the client asked for, which need not exist; `user` who he has proved to be. Both are empty where it
    never came to that. `source` is the client's address, `status` HTTP's (0 if the client went away before an answer),
    `code` EC2's error code, empty if there was none, `length` the bytes of the body, `seconds` from the request to the
    answer. `oned_calls` and `oned_seconds` are of the calls that were made for this request alone: how many have ended,
    and the sum of how long each took, so that calls at the same time may add up to more than `seconds`.
    """

    action: str
    user: str
    source: str
    status: int
    code: str
    length: int
    seconds: float
    oned_calls: int
    oned_seconds: float
    request_id: str

    def __str__(self) -> str:
        who = f"{_word(self.action)} by {_word(self.user)} from {_word(self.source)}"
        what = f"{self.status} {self.code or 'ok'}, {self.length} bytes in {_milliseconds(self.seconds)} ms"
        oned = f"{self.oned_calls} oned calls in {_milliseconds(self.oned_seconds)} ms"
        return f"{who}: {what}, {oned}, id {self.request_id}"

    def say(self, log: Logger) -> None:
        """Write the line."""
        log.info(
            "{access}",
            access=self,
            action=self.action[:_LONGEST],
            user=self.user[:_LONGEST],
            source=self.source[:_LONGEST],
            status=self.status,
            code=self.code or "ok",
            bytes=self.length,
            milliseconds=_milliseconds(self.seconds),
            oned_calls=self.oned_calls,
            oned_milliseconds=_milliseconds(self.oned_seconds),
            request_id=self.request_id,
        )


def call_logger(log: Logger, request_id: str = "") -> CallObserver:
    """Return an observer that writes a line for each call to oned, for debugging; `request_id` is whom it was for."""

    def say(method: str, seconds: float, outcome: str) -> None:
        log.debug(
            "oned: {method} {outcome} in {milliseconds} ms, for {request_id}",
            method=method,
            outcome=outcome,
            milliseconds=_milliseconds(seconds),
            request_id=request_id or "no request",
        )

    return say


def _word(given: str) -> str:
    return quoted(given, _LONGEST) if given else "-"


def _milliseconds(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1000)  # the time of day may be set back
