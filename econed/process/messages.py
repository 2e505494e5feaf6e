"""The messages between the supervisor and its workers: lines of JSON objects, with the types defined here.

The supervisor sends commands, a worker sends reports. Any other line is an `InvalidMessage`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias

MAX_LINE: Final = 1 << 24
"""Maximum length of a line in bytes; the longest lines hold a configuration, or the counts of a worker."""


@dataclass(frozen=True)
class PassedSocket:
    """A listening socket passed to a worker: its descriptor there, its protocol, and its address for log messages."""

    descriptor: int
    is_tls: bool
    where: str


@dataclass(frozen=True)
class Begin:
    """Serve as worker `index` of `of` on these sockets. `text` is the content of econe.conf, read from `path`.

    `log` is where the log goes unless econe.conf sets it (the fields of `econed.telemetry.logs.TwistdLogTarget`).
    """

    text: str
    path: str
    index: int
    of: int
    sockets: tuple[PassedSocket, ...]
    log: Mapping[str, str]

    def __post_init__(self) -> None:
        sockets = (item if isinstance(item, PassedSocket) else PassedSocket(**item) for item in self.sockets)
        object.__setattr__(self, "sockets", tuple(sockets))


@dataclass(frozen=True)
class Drain:
    """Accept no more connections, finish the requests in progress, and exit."""


@dataclass(frozen=True)
class ReopenLog:
    """Reopen the log file: it was renamed."""


@dataclass(frozen=True)
class GetCounts:
    """Report the current counts. The reply has the same number."""

    number: int


@dataclass(frozen=True)
class Ready:
    """The worker accepts connections."""


@dataclass(frozen=True)
class Failed:
    """The worker cannot start, for this reason, and exits."""

    reason: str


@dataclass(frozen=True)
class Draining:
    """The worker received a signal to stop, and accepts no more connections."""


@dataclass(frozen=True)
class Heartbeat:
    """The worker's reactor runs. Holds its current counts."""

    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CountsReply:
    """The reply to `GetCounts`."""

    number: int
    counts: Mapping[str, Any] = field(default_factory=dict)


Command: TypeAlias = Begin | Drain | ReopenLog | GetCounts
Report: TypeAlias = Ready | Failed | Draining | Heartbeat | CountsReply
_COMMANDS: Final = {kind.__name__: kind for kind in (Begin, Drain, ReopenLog, GetCounts)}
_REPORTS: Final = {kind.__name__: kind for kind in (Ready, Failed, Draining, Heartbeat, CountsReply)}


class InvalidMessage(Exception):
    """A line is not a message."""


def encode(message: Command | Report) -> bytes:
    """Return a message as a line."""
    return json.dumps({"type": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode() + b"\n"


def parse_command(line: bytes) -> Command:
    """Return the command in a line; raises `InvalidMessage`."""
    return _decode(line, _COMMANDS)  # type: ignore[no-any-return]


def parse_report(line: bytes) -> Report:
    """Return the report in a line; raises `InvalidMessage`."""
    return _decode(line, _REPORTS)  # type: ignore[no-any-return]


def _decode(line: bytes, types: Mapping[str, Any]) -> Any:
    try:
        fields = json.loads(line)
        return types[fields.pop("type")](**fields)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidMessage(f"{type(error).__name__}: {error}") from None


class LineBuffer:
    """Splits the data from a pipe into lines."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes; raises `InvalidMessage` if a line is too long."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_LINE:
            raise InvalidMessage("a line is too long")
        return lines
