"""The access log: a line for each request, and at the debug level a line for each call to oned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from twisted.logger import Logger

from econed.telemetry.log_lines import quoted, redacted
from econed.telemetry.observed_calls import CallObserver

_MAX_WORD = 200
_MAX_ACTION = 64
"""As long as the longest of EC2's names of actions."""

_MAX_KEY = 96
"""With it and the reason, the line of a request that is not authenticated is no longer than with an action of
`_MAX_WORD` characters: strangers cannot make the log grow faster."""


@dataclass(frozen=True)
class AccessRecord:
    """The facts about a finished request; its `str` is the line in the log.

    `action` is the requested action, which need not exist; `user` is the authenticated user. Both are empty if the
    request failed before they were known. `source` is the client's address, `status` the HTTP status (0 if the client
    disconnected before the response), `code` EC2's error code (empty on success), `length` the size of the response
    body in bytes, `seconds` the time from request to response. `oned_calls` and `oned_seconds` are the number and the
    total duration of the finished calls made for this request alone; concurrent calls may add up to more than
    `seconds`. If authentication failed, `refused_key` is the access key or the subject of the certificate that the
    client claimed, and `refusal_reason` why it was refused; both are empty if it claimed none.
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
    refused_key: str = ""
    refusal_reason: str = ""

    def __str__(self) -> str:
        request = f"{_word(self._logged_action, _MAX_ACTION)} by {_word(self.user)} from {_word(self.source)}"
        response = f"{self.status} {self.code or 'ok'}, {self.length} bytes in {_milliseconds(self.seconds)} ms"
        oned = f"{self.oned_calls} oned calls in {_milliseconds(self.oned_seconds)} ms"
        key = _word(claimed_key(self.refused_key), _MAX_KEY)
        refusal = f", key {key}: {self.refusal_reason}" if self.refusal_reason else ""
        return f"{request}: {response}, {oned}, id {self.request_id}{refusal}"

    @cached_property
    def _logged_action(self) -> str:
        return claimed_action(self.action)

    def write(self, log: Logger) -> None:
        """Write the line to `log`."""
        refusal = {"refused_key": claimed_key(self.refused_key), "refusal_reason": self.refusal_reason}
        log.info(
            "{access}",
            access=self,
            action=self._logged_action,
            user=self.user[:_MAX_WORD],
            source=self.source[:_MAX_WORD],
            status=self.status,
            code=self.code or "ok",
            bytes=self.length,
            milliseconds=_milliseconds(self.seconds),
            oned_calls=self.oned_calls,
            oned_milliseconds=_milliseconds(self.oned_seconds),
            request_id=self.request_id,
            **(refusal if self.refusal_reason else {}),
        )


def claimed_key(key: str) -> str:
    """Return the key that a client claims as it is logged: shortened, and without what looks like a secret key.

    Clients are configured with access key and secret key in each other's place.
    """
    return redacted(key)[:_MAX_KEY]


def claimed_action(action: str) -> str:
    """Return the action that a client requests as it is logged: shortened, and without what looks like a secret."""
    return redacted(action[: 4 * _MAX_ACTION])[:_MAX_ACTION]


def call_logger(log: Logger, request_id: str = "") -> CallObserver:
    """Return an observer that logs each call to oned at the debug level, with the id of the request it was made for."""

    def log_call(method: str, seconds: float, outcome: str) -> None:
        log.debug(
            "oned: {method} {outcome} in {milliseconds} ms, for {request_id}",
            method=method,
            outcome=outcome,
            milliseconds=_milliseconds(seconds),
            request_id=request_id or "no request",
        )

    return log_call


def _word(text: str, maximum: int = _MAX_WORD) -> str:
    return quoted(text, maximum) if text else "-"


def _milliseconds(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1000)  # the clock may be set back
