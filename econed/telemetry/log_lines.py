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

LONGEST = 4096
"""Bytes that a line of text may have, and the longest value in an object of JSON; longer ones are cut in the middle."""

LONGEST_OBJECT = 2 * LONGEST
"""Bytes that an object of JSON may have: a message and a traceback, both in one line."""

_LONGEST_MESSAGE = 1024
"""Bytes of an exception's message: what oned says may be of any length."""

_LONGEST_READ = 1 << 14
"""Characters of such a message that are searched for secrets; more of it is not looked at and not shown."""

_MARGIN = 8
"""Bytes of a line for the tab or the priority at its beginning, and the end of the line."""

_SHORTEST = 64
"""Bytes to which no value is cut down in favour of others."""

_LARGEST_NUMBER = 2**63
_CUT = "…"

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
    r"|(?i:authorization)[\"']?\s{0,4}[=:]\s{0,4}(?:[\w-]{1,40}[ \t]{1,4})?\S+"  # with its scheme
    r"|(?i:secret|password)[\w.-]{0,40}[\"']?\s{0,4}[=:]\s{0,4}\S+"
    r"|(?i:signature|credential|token)[\w.-]{0,40}[\"']?\s{0,4}"
    r"(?:=\s{0,4}|:\s{0,4}(?!\s|[A-Za-z]{1,15}[,;.)]?(?:\s|$)))\S+",
    re.DOTALL,
)
"""What a secret looks like, or is called. Of what stands behind a colon a plain word is none: `InvalidToken: The …`."""


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
        return "\n\t".join(cut(each, LONGEST - _MARGIN) for each in lines)

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
        return _object({**always, **{key: value for key, value in _fields(event) if key not in always}})

    return line


def level(event: LogEvent) -> Any:
    """Return the level of an event; what has none is information."""
    return event.get("log_level") or LogLevel.info


def printable(given: str) -> str:
    """Return a text without line ends and anything else that does not print; it stands there escaped."""
    if given.isprintable():
        return given
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in given)


def cut(given: str, most: int = LONGEST) -> str:
    """Return a printable text with what is in the middle left out, if it has more than `most` bytes in UTF-8.

    Both ends stay: at the beginning stands what it is about, at the end often why, or an id.
    """
    if len(given) * 4 <= most:
        return given
    whole = given.encode("utf-8", "backslashreplace")
    if len(whole) <= most:
        return given
    end = (most - len(_CUT.encode())) // 2
    return f"{whole[:end].decode('utf-8', 'ignore')}{_CUT}{whole[-end:].decode('utf-8', 'ignore')}"


def quoted(given: str, most: int = 200) -> str:
    """Return a word from outside for a line of words: as it is if it is one, else in quotation marks, and cut off.

    Where it is escaped it may be longer than `most` characters, but not by more than twice.
    """
    if len(given) > most:
        given = given[:most] + _CUT
    if _PLAIN.fullmatch(given):
        return given
    shown = printable(json.dumps(given, ensure_ascii=False))
    return shown if len(shown) <= 2 * most else f'{shown[: 2 * most]}{_CUT}"'


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
    return cut(_harmless(error), _LONGEST_MESSAGE)


def _harmless(error: BaseException) -> str:
    match error:
        case EC2Error():
            return f"{error.code}: {redacted(error.message)}"  # codes are our own words
        case OpenNebulaError() | ScriptFailed():
            return redacted(str(error))
        case OSError(strerror=str()):
            return redacted(f"[Errno {error.errno}] {error.strerror}")
        case UnicodeDecodeError() | UnicodeEncodeError():
            return redacted(f"{error.encoding}, position {error.start}: {error.reason}")
        case _ if type(error) in _SAYS_WHAT_IT_IS or type(error).__module__ == "twisted.internet.error":
            return redacted(str(error))
    return "(its message is not shown: it may hold what a client sent)" if str(error) else ""


def redacted(said: str) -> str:
    """Return a text without what looks like a key, a signature, a token, or a password.

    Of a very long one the beginning is returned, without its last word: half a secret would not be known for one.
    """
    if len(said) > _LONGEST_READ:
        beginning = said[:_LONGEST_READ].rstrip()
        return redacted(beginning[: max(map(beginning.rfind, " \t\n"), default=-1) + 1]) + _CUT
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
        if isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:  # Python refuses to write one of 5,000 digits
            yield key, f"{value:#x}"
        elif value is None or isinstance(value, str | int | float):
            yield key, value


def _object(values: dict[str, object]) -> str:
    """Return an object of JSON; the longest of its texts are cut until it is no longer than it may be."""
    shown = {key: cut(value) if isinstance(value, str) else value for key, value in values.items()}
    while len(line := json.dumps(shown)) > LONGEST_OBJECT:
        sizes = {key: len(json.dumps(value)) for key, value in shown.items() if isinstance(value, str)}
        longest = max(sizes, key=lambda key: sizes[key], default="")
        if sizes.get(longest, 0) <= _SHORTEST * 6:  # by as much a character may grow in JSON
            break
        text = str(shown[longest])
        shown[longest] = cut(text, len(text.encode("utf-8", "backslashreplace")) // 2)
    return line


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
