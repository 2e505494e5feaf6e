"""Lines of a command that systemd runs, with the priority by which the journal finds them (sd-daemon(3))."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TextIO

from econed.telemetry.log_targets import is_journal


class Priority(IntEnum):
    """Priorities of syslog(3) that the log of the daemon has too."""

    ERROR = 3
    WARNING = 4


def write_text(text: str, stream: TextIO, priority: Priority, environ: Mapping[str, str]) -> None:
    """Write lines to a stream; if it is the journal, with the priority before each, as the journal splits the text."""
    if _is_journal(stream, environ):
        text = "\n".join(f"<{priority:d}>{line}" for line in text.splitlines())
    print(text, file=stream, flush=True)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    try:
        return is_journal(stream.fileno(), environ)
    except OSError:  # a stream without a descriptor
        return False
