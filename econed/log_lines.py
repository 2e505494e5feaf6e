"""How an event of the log looks: a line of text as Twisted writes it, or an object of JSON.

Nobody outside can forge a line or a part of one, and what failed is told by where it did and by what, never by
something that a client sent: the message of an exception may hold anything.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeAlias

from twisted.logger import LogEvent, LogLevel, formatEvent, formatTime
from twisted.python.failure import Failure

from econed.errors import EC2Error, OpenNebulaError, ScriptFailed

Formatter: TypeAlias = Callable[[LogEvent], str | None]
"""Returns the line of an event without the newline at its end; None if there is nothing to be said."""

_OURS = "econed"
_UNFORMATTABLE = ("Unable to format event ", "MESSAGE LOST: ")
"""How Twisted begins where it can only show all the fields of an event as they are, with whatever is in them."""

_MOST_FRAMES = 60
_MOST_CAUSES = 8
_PLAIN = re.compile(r"[\w.:@/+=,-]+", re.ASCII)

_SAYS_WHAT_IT_IS = (
    AttributeError,
    ImportError,
    IndexError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ZeroDivisionError,
)
"""Exceptions of Python's own whose messages are about code and not about data."""

_SECRET = re.compile(
    r"-----BEGIN[^-]*PRIVATE KEY-----.*?(?:-----END[^-]*-----|$)"
    r"|[0-9A-Fa-f]{32,}"  # digests: secret keys of the driver core, signatures
    r"|(?<![\w./-])[A-Za-z0-9+][A-Za-z0-9+/]{39,}={0,2}"  # base64: session tokens, user data, keys; not paths
    r"|(?i:signature|authorization|credential|secret|password|token)[\w.-]*[\"']?\s*[=:]\s*\S+",
    re.DOTALL,
)


def text(worker: int | None = None) -> Formatter:
    """Return what writes lines as Twisted always has: `time [logger#level] message`; `worker` is this one's number.

    What stands on lines of its own in a traceback begins with a tab.
    """
    mark = "" if worker is None else f",worker {worker}"

    def line(event: LogEvent) -> str | None:
        message, failure = _said(event)
        if not message and failure is None:
            return None
        lines = [f"{formatTime(event.get('log_time'))} [{printable(_system(event))}{mark}] {printable(message)}"]
        if failure is not None:
            lines += map(printable, told(failure))
        return "\n\t".join(lines)

    return line


def as_json(pid: Callable[[], int], worker: int | None = None) -> Formatter:
    """Return what writes objects of JSON, one a line; `pid` and `worker` say which process it is, when it says so.

    The fields of econed's own events stand beside those that every event has.
    """
    number = {} if worker is None else {"worker": worker}

    def line(event: LogEvent) -> str | None:
        message, failure = _said(event)
        if not message and failure is None:
            return None
        always: dict[str, object] = {
            "time": _utc(event.get("log_time")),
            "level": level(event).name,
            "logger": str(event.get("log_namespace", "-")),
            "message": message,
            "pid": pid(),
            **number,
        }
        if failure is not None:
            always["traceback"] = "\n".join(told(failure))
        return json.dumps({**always, **{key: value for key, value in _fields(event) if key not in always}})

    return line


def level(event: LogEvent) -> Any:
    """Return the level of an event; what has none is information."""
    return event.get("log_level") or LogLevel.info


def printable(given: str) -> str:
    """Return a text without line ends and anything else that does not print; it stands there escaped."""
    if given.isprintable():
        return given
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in given)


def quoted(given: str, most: int = 200) -> str:
    """Return a word from outside for a line of words: as it is if it is one, else in quotation marks, and cut off."""
    if len(given) > most:
        given = given[:most] + "…"
    return given if _PLAIN.fullmatch(given) else printable(json.dumps(given, ensure_ascii=False))


def told(failure: Failure) -> list[str]:
    """Return what failed and where, line by line: the frames, and of exceptions what `harmless` lets through.

    No values of variables, no arguments.
    """
    lines: list[str] = []
    error: BaseException | None = failure.value
    frames: TracebackType | None = failure.getTracebackObject()
    for each in _causes(error):
        lines.append("Traceback (most recent call last):" if not lines else "which came of (most recent call last):")
        lines += _frames(frames if each is error else each.__traceback__)
        lines.append(f"{_name(each)}: {harmless(each)}")
    return lines


def harmless(error: BaseException) -> str:
    """Return the message of an exception, if it can hold nothing that a client sent or that is secret."""
    match error:
        case EC2Error() | OpenNebulaError() | ScriptFailed():
            return redacted(str(error))
        case OSError(strerror=str()):
            return redacted(f"[Errno {error.errno}] {error.strerror}")
        case UnicodeDecodeError() | UnicodeEncodeError():
            return redacted(f"{error.encoding}, position {error.start}: {error.reason}")
        case _ if type(error) in _SAYS_WHAT_IT_IS or type(error).__module__ == "twisted.internet.error":
            return redacted(str(error))
    return "(its message is not shown: it may hold what a client sent)" if str(error) else ""


def redacted(said: str) -> str:
    """Return a text without what looks like a key, a signature, a token, or a password."""
    return _SECRET.sub("[redacted]", said)


def _said(event: LogEvent) -> tuple[str, Failure | None]:
    """Return the message of an event, and what failed if it is about that."""
    failure = event.get("log_failure")
    if "log_text" in event and isinstance(event.get("failure"), Failure):  # of log.err: its text has the traceback
        return str(event.get("why") or "Unhandled Error"), event["failure"]
    message = formatEvent(event)
    if message.startswith(_UNFORMATTABLE):
        message = "an event that cannot be shown; it has " + ", ".join(sorted(map(str, event)))
    return message, failure if isinstance(failure, Failure) else None


def _system(event: LogEvent) -> str:
    system = event.get("log_system")
    if system is not None:
        return str(system)
    return f"{event.get('log_namespace', '-')}#{level(event).name}"


def _fields(event: LogEvent) -> Iterator[tuple[str, object]]:
    """Yield what an event of econed's own says beside its message; those of others can hold any object."""
    if str(event.get("log_namespace", "")).partition(".")[0] != _OURS:
        return
    for key, value in event.items():
        if key.startswith("log_"):
            continue
        if value is None or isinstance(value, str | int | float):
            yield key, value


def _utc(when: float | None) -> str | None:
    if when is None:
        return None
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, what it came of, and so on."""
    seen: list[BaseException] = []
    while error is not None and not any(error is each for each in seen) and len(seen) < _MOST_CAUSES:
        seen.append(error)
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(frames: TracebackType | None) -> Iterator[str]:
    for frame in traceback.extract_tb(frames, limit=-_MOST_FRAMES):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        if frame.line:
            yield f"    {frame.line}"


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
