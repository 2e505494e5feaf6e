"""Real processes for tests, which are always ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

STARTING = 60.0
"""Seconds that a process may take to become ready, on a busy machine."""

STOPPING = 15.0
"""Seconds that a process may take to exit after SIGTERM."""

_EVERY = 0.05
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")
"""Environment variables that processes under test inherit: none of OpenNebula's or Amazon's."""


def until(condition: Callable[[], _T], description: str, timeout: float, every: float = _EVERY) -> _T:
    """Wait until the value of `condition` is true and return it; fail after `timeout` seconds with `description`.

    This is for other processes, whose clocks a test cannot advance.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s:  {description}")
        time.sleep(every)


class Process:
    """A process whose output goes to a file in `directory`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str] | None = None,
        program: str = sys.executable,
    ) -> None:
        self.name = name
        self.output = directory / f"{name}.log"
        passed_on = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [program, *arguments],
                cwd=directory,
                env={**passed_on, "PYTHONPATH": str(Path(__file__).parents[2]), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """Its output so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not exited."""
        return self._process.poll() is None

    def await_output(self, pattern: str) -> str:
        """Return the first group of a pattern once the output matches it; fails if the process exits before."""

        def matched() -> str:
            match = re.search(pattern, self.text)
            if match is None and not self.is_running:
                raise AssertionError(f"{self.name} exited with {self._process.returncode}:\n{self.text}")
            return "" if match is None else str(match.group(1))

        return until(matched, f"{self.name} to print {pattern}", STARTING)

    def stop(self) -> None:
        """End it by SIGTERM, or by SIGKILL if it does not exit."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        if self.is_running:
            self._process.send_signal(by)
            try:
                self._process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
