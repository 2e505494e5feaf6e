"""The end of a command: its exit code, also if nobody reads its output any more."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

OUTPUT_CLOSED: Final = 128 + signal.SIGPIPE
"""The exit code that a shell reports for a program that SIGPIPE has ended."""


def exit_with(command: Callable[[], int]) -> NoReturn:
    """Run a command and exit with its code; silently with `OUTPUT_CLOSED` if the reader of its output has ended.

    So `econe-server check | head -1` ends as programs do that do not ignore SIGPIPE. Python ignores the signal, and
    must: a write to a connection that the other side has closed would raise it too.
    """
    try:
        try:
            code = command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        code = OUTPUT_CLOSED
    sys.exit(code)


def _discard_output() -> None:
    """Have the interpreter write what is left in its buffers to nowhere when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
