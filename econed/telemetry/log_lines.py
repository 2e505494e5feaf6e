"""The formats of log events: lines of text like Twisted's, or JSON objects.

Input from clients cannot forge a line or a part of a line. A failure is logged with its traceback and type, but without
anything that a client sent: the message of an exception may contain client data.
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
"""Returns the line of an event without the final newline; None for an event without a message."""

_NAMESPACE = "econed"
_UNFORMATTABLE = ("Unable to format event ", "MESSAGE LOST: ")
"""Prefixes of Twisted's messages that consist of the raw fields of an event, which may contain secrets."""

MAX_LINE = 4096
"""Maximum bytes of a line of text, and of a value in a JSON object; longer text is cut in the middle."""

MAX_OBJECT = 2 * MAX_LINE
"""Maximum bytes of a JSON object, which has message and traceback in one line."""

_MAX_MESSAGE = 1024
"""Maximum bytes of an exception's message: replies of oned may be of any length."""

_MAX_SEARCHED = 1 << 14
"""Characters of a message that are searched for secrets; the rest is dropped."""

_MARGIN = 8
"""Bytes reserved for the tab or the priority at the beginning of a line, and for the newline."""

_MIN_VALUE = 64
"""Bytes that a value keeps when an object is shortened."""

_MAX_INTEGER = 2**63
_ELLIPSIS = "…"

_MAX_FRAMES = 60
_MAX_CAUSES = 8
_PLAIN = re.compile(r"[\w.:@/+=,-]+", re.ASCII)

_SAFE_EXCEPTIONS = (
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
"""Built-in exceptions whose messages are about code, not about data."""

_SECRET = re.compile(
    r"-----BEGIN[^-]*PRIVATE KEY-----.*?(?:-----END[^-]*-----|$)"
    r"|[0-9A-Fa-f]{32,}"  # digests: secret keys of the driver core, signatures
    r"|(?<![\w.+/-])(?=[\w+/-]*[0-9])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])"  # tried at the beginning of a word alone
    r"[A-Za-z0-9+_-][A-Za-z0-9+/_-]{49,}={0,2}"  # URL-safe base64: session tokens
    r"|(?<![\w./-])[A-Za-z0-9+][A-Za-z0-9+/]{39,}={0,2}"  # base64: session tokens, user data, keys; not paths
    r"|(?i:authorization)[\"']?\s{0,4}[=:]\s{0,4}(?:[\w-]{1,40}[ \t]{1,4})?\S+"  # with its scheme
    r"|(?i:secret|password)[\w.-]{0,40}[\"']?\s{0,4}[=:]\s{0,4}\S+"
    r"|(?i:signature|credential|token)[\w.-]{0,40}[\"']?\s{0,4}"
    r"(?:=\s{0,4}|:\s{0,4}(?!\s|[A-Za-z]{1,15}[,;.)]?(?:\s|$)))\S+",
    re.DOTALL,
)
"""Patterns and names of secrets. A plain word after a colon is not a secret: `InvalidToken: The …`."""

_SHORTEST_SECRET = 32
"""Characters of the shortest text that `_SECRET` finds by its form alone; beside names of secrets there are signs."""


def text_formatter(worker: int | None = None, *, has_time: bool = True) -> Formatter:
    """Return a formatter for lines like Twisted's: `time [logger#level] message`.

    `worker` is the number of the worker that this process is, if any. The time is left out without `has_time`. The
    lines of a traceback begin with a tab.
    """
    suffix = "" if worker is None else f",worker {worker}"

    def line(event: LogEvent) -> str | None:
        message, failure = _message(event)
        if not message and failure is None:
            return None
        time = f"{formatTime(event.get('log_time'))} " if has_time else ""
        lines = [f"{time}[{printable(_system(event))}{suffix}] {printable(message)}"]
        if failure is not None:
            lines += map(printable, traceback_lines(failure))
        return "\n\t".join(cut(part, MAX_LINE - _MARGIN) for part in lines)

    return line


def json_formatter(pid: Callable[[], int], worker: int | None = None) -> Formatter:
    """Return a formatter for JSON objects, one per line, with the process id and the number of the worker, if any.

    Events of econed have their own fields in addition to the common ones.
    """
    worker_field = {} if worker is None else {"worker": worker}

    def line(event: LogEvent) -> str | None:
        message, failure = _message(event)
        if not message and failure is None:
            return None
        common: dict[str, object] = {
            "time": utc_time(event.get("log_time")),
            "level": level(event).name,
            "logger": str(event.get("log_namespace", "-")),
            "message": message,
            "pid": pid(),
            **worker_field,
        }
        if failure is not None:
            common["traceback"] = "\n".join(traceback_lines(failure))
        return _object({**common, **{key: value for key, value in _fields(event) if key not in common}})

    return line


def level(event: LogEvent) -> Any:
    """Return the level of an event; the default is info."""
    return event.get("log_level") or LogLevel.info


def printable(text: str) -> str:
    """Return a text with newlines and all other characters that are not printable escaped."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def cut(text: str, maximum: int = MAX_LINE) -> str:
    """Return a printable text with its middle removed, if it has more than `maximum` bytes in UTF-8.

    Both ends are kept: the beginning says what the text is about, the end often has the reason or an id.
    """
    if len(text) * 4 <= maximum:
        return text
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= maximum:
        return text
    half = (maximum - len(_ELLIPSIS.encode())) // 2
    return f"{encoded[:half].decode('utf-8', 'ignore')}{_ELLIPSIS}{encoded[-half:].decode('utf-8', 'ignore')}"


def quoted(text: str, maximum: int = 200) -> str:
    """Return text from a client as one field of a line: unchanged if it is plain, otherwise quoted; truncated if long.

    With escapes the result may have up to twice `maximum` characters.
    """
    if len(text) > maximum:
        text = text[:maximum] + _ELLIPSIS
    if _PLAIN.fullmatch(text):
        return text
    escaped = printable(json.dumps(text, ensure_ascii=False))
    return escaped if len(escaped) <= 2 * maximum else f'{escaped[: 2 * maximum]}{_ELLIPSIS}"'


def traceback_lines(failure: Failure) -> list[str]:
    """Return the lines of a failure's traceback: the frames, and each exception with its `safe_message`.

    Values of variables and arguments are left out.
    """
    lines: list[str] = []
    error: BaseException | None = failure.value
    frames: TracebackType | None = failure.getTracebackObject()
    for exception in _causes(error):
        lines.append("Traceback (most recent call last):" if not lines else "caused by (most recent call last):")
        lines += _frames(frames if exception is error else exception.__traceback__)
        lines.append(f"{_name(exception)}: {safe_message(exception)}")
    return lines


def safe_message(error: BaseException) -> str:
    """Return the message of an exception without secrets; a placeholder if it may contain client data."""
    return cut(_safe_message(error), _MAX_MESSAGE)


def _safe_message(error: BaseException) -> str:
    match error:
        case EC2Error():
            return f"{error.code}: {redacted(error.message)}"  # codes are constants
        case OpenNebulaError() | ScriptFailed():
            return redacted(str(error))
        case OSError(strerror=str()):
            return redacted(f"[Errno {error.errno}] {error.strerror}")
        case UnicodeDecodeError() | UnicodeEncodeError():
            return redacted(f"{error.encoding}, position {error.start}: {error.reason}")
        case _ if type(error) in _SAFE_EXCEPTIONS or type(error).__module__ == "twisted.internet.error":
            return redacted(str(error))
    return "(its message is not shown: it may hold what a client sent)" if str(error) else ""


def redacted(text: str) -> str:
    """Return a text with everything that looks like a key, a signature, a token or a password replaced.

    A very long text is truncated before its last word: the first half of a secret would not be recognized.
    """
    if len(text) > _MAX_SEARCHED:
        beginning = text[:_MAX_SEARCHED].rstrip()
        return redacted(beginning[: max(map(beginning.rfind, " \t\n"), default=-1) + 1]) + _ELLIPSIS
    if len(text) < _SHORTEST_SECRET and text.isalnum():
        return text
    return _SECRET.sub("[redacted]", text)


def _message(event: LogEvent) -> tuple[str, Failure | None]:
    """Return the message of an event, and its failure, if any."""
    failure = event.get("log_failure")
    if "log_text" in event and isinstance(event.get("failure"), Failure):  # from log.err, whose text has the traceback
        return str(event.get("why") or "Unhandled Error"), event["failure"]
    message = _formatted(event)
    if message.startswith(_UNFORMATTABLE):
        message = "an event that cannot be formatted, with the fields " + ", ".join(sorted(map(str, event)))
    return message, failure if isinstance(failure, Failure) else None


def _formatted(event: LogEvent) -> str:
    """Return the text of an event as `formatEvent` does, which takes ten times as long for the formats of econed."""
    text_format = event.get("log_format")
    if isinstance(text_format, str) and "log_flattened" not in event:
        try:
            return text_format.format_map(event)
        except Exception:  # noqa: BLE001, S110 - a call in the format, or an event that cannot be formatted
            pass
    return formatEvent(event)


def _system(event: LogEvent) -> str:
    system = event.get("log_system")
    if system is not None:
        return str(system)
    return f"{event.get('log_namespace', '-')}#{level(event).name}"


def _fields(event: LogEvent) -> Iterator[tuple[str, object]]:
    """Yield the fields of an event of econed; events of other packages may hold arbitrary objects."""
    if str(event.get("log_namespace", "")).partition(".")[0] != _NAMESPACE:
        return
    for key, value in event.items():
        if key.startswith("log_"):
            continue
        if isinstance(value, int) and abs(value) >= _MAX_INTEGER:  # Python refuses to convert more than 4,300 digits
            yield key, f"{value:#x}"
        elif value is None or isinstance(value, str | int | float):
            yield key, value


def _object(values: dict[str, object]) -> str:
    """Return a JSON object of at most `MAX_OBJECT` bytes; its longest strings are cut until it fits."""
    shortened = {key: cut(value) if isinstance(value, str) else value for key, value in values.items()}
    while len(line := json.dumps(shortened)) > MAX_OBJECT:
        sizes = {key: len(json.dumps(value)) for key, value in shortened.items() if isinstance(value, str)}
        longest = max(sizes, key=lambda key: sizes[key], default="")
        if sizes.get(longest, 0) <= _MIN_VALUE * 6:  # a character may take 6 bytes in JSON
            break
        text = str(shortened[longest])
        shortened[longest] = cut(text, len(text.encode("utf-8", "backslashreplace")) // 2)
    return line


def utc_time(timestamp: float | None) -> str | None:
    """Return a time in seconds since the epoch in ISO 8601, in UTC and with milliseconds."""
    if timestamp is None:
        return None
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause or context, and so on."""
    seen: list[BaseException] = []
    while error is not None and not any(error is other for other in seen) and len(seen) < _MAX_CAUSES:
        seen.append(error)
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(frames: TracebackType | None) -> Iterator[str]:
    for frame in traceback.extract_tb(frames, limit=-_MAX_FRAMES):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        if frame.line:
            yield f"    {frame.line}"


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
