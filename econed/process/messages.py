"""What the supervisor and its workers tell each other: one JSON object a line, each of a type that stands here.

The supervisor sends commands, a worker reports. Whatever a line holds that is none of these is `Garbled`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias

LONGEST: Final = 1 << 24
"""Bytes that a line may have; the longest hold a configuration, or what a worker has counted."""


@dataclass(frozen=True)
class Handed:
    """A socket that listens, handed to a worker: its descriptor there, what it speaks, and where it is, in words."""

    descriptor: int
    is_tls: bool
    where: str


@dataclass(frozen=True)
class Begin:
    """Serve: with this text of econe.conf, which stands at `path`, as worker `index` of `of`, on these sockets.

    `log` says where the log goes if econe.conf does not (the fields of `econed.telemetry.logs.LogPlace`).
    """

    text: str
    path: str
    index: int
    of: int
    sockets: tuple[Handed, ...]
    log: Mapping[str, str]

    def __post_init__(self) -> None:
        made = (each if isinstance(each, Handed) else Handed(**each) for each in self.sockets)
        object.__setattr__(self, "sockets", tuple(made))


@dataclass(frozen=True)
class Drain:
    """Take no more connections, finish the requests under way, and end."""


@dataclass(frozen=True)
class ReopenLog:
    """The file of the log has been moved away: open it anew."""


@dataclass(frozen=True)
class Ask:
    """Tell what has been counted; the answer bears the same number."""

    number: int


@dataclass(frozen=True)
class Ready:
    """This worker takes connections."""


@dataclass(frozen=True)
class Failed:
    """This worker cannot start, and why; it ends."""

    reason: str


@dataclass(frozen=True)
class Draining:
    """This worker has been told to end, by somebody else: it takes no more connections."""


@dataclass(frozen=True)
class Beat:
    """This worker's reactor runs; with it what it has counted."""

    counted: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counted:
    """The answer to `Ask`."""

    number: int
    counted: Mapping[str, Any] = field(default_factory=dict)


Command: TypeAlias = Begin | Drain | ReopenLog | Ask
Report: TypeAlias = Ready | Failed | Draining | Beat | Counted
_COMMANDS: Final = {each.__name__: each for each in (Begin, Drain, ReopenLog, Ask)}
_REPORTS: Final = {each.__name__: each for each in (Ready, Failed, Draining, Beat, Counted)}


class Garbled(Exception):
    """A line is no message."""


def encode(message: Command | Report) -> bytes:
    """Return a message as a line."""
    return json.dumps({"is": type(message).__name__, **asdict(message)}, separators=(",", ":")).encode() + b"\n"


def command(line: bytes) -> Command:
    """Return the command in a line; raises `Garbled`."""
    return _decoded(line, _COMMANDS)  # type: ignore[no-any-return]


def report(line: bytes) -> Report:
    """Return the report in a line; raises `Garbled`."""
    return _decoded(line, _REPORTS)  # type: ignore[no-any-return]


def _decoded(line: bytes, kinds: Mapping[str, Any]) -> Any:
    try:
        said = json.loads(line)
        return kinds[said.pop("is")](**said)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Garbled(f"{type(error).__name__}: {error}") from None


class Lines:
    """Cuts what comes through a pipe into lines."""

    def __init__(self) -> None:
        self._begun = b""

    def of(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole now; raises `Garbled` for one that never ends."""
        *whole, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > LONGEST:
            raise Garbled("a line is too long")
        return whole
