"""Commands in processes of their own: those of econed, and twistd."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import require_tool

LONG = 300
"""Seconds after which a command is taken to hang."""

_STOPPING = 10
"""Seconds that a command has to stop after SIGTERM, before it is killed."""


def twistd(*arguments: str) -> list[str]:
    """Return the command line of twistd in the foreground, without a pid file."""
    return [require_tool("twistd"), "--nodaemon", "--pidfile=", *arguments]


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line of a command of econed."""
    return [sys.executable, "-m", f"econed.cli.{module}", *arguments]


def finished(argv: list[str], cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=LONG, check=False)


@dataclass(frozen=True)
class Running:
    """A running command and its output."""

    process: subprocess.Popen[str]

    def lines_until(self, text: str) -> list[str]:
        """Return the next lines of its output, up to a line that contains `text`."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line.strip())
            if text in line:
                return lines
        raise AssertionError("\n".join((f"it exited without printing {text!r}", *lines)))

    def interrupted(self, signal_number: signal.Signals) -> int:
        """Send it a signal and return its exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(LONG)


@contextmanager
def running(argv: list[str], cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a command for as long as the block does."""
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield Running(process)
    finally:
        process.terminate()  # so that it stops the processes it has started
        try:
            process.communicate(timeout=_STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate(timeout=LONG)
