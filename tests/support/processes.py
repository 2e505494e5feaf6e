"""Real processes for end-to-end tests: started, waited for, and ended whatever happens."""

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
"""Seconds that a process may take to say that it is ready, on a machine that is busy."""

STOPPING = 15.0
"""Seconds that a process may take to end after it was asked to."""

_EVERY = 0.05
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")
"""What processes under test get to see of the environment: nothing of OpenNebula's, nothing of Amazon's."""


def until(condition: Callable[[], _T], what: str, patience: float, every: float = _EVERY) -> _T:
    """Return what `condition` gives once that is true; fails after `patience` seconds, saying `what` was waited for.

    This is for other processes, whose clocks no test can turn.
    """
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for: {what}")
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
        shown = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [program, *arguments],
                cwd=directory,
                env={**shown, "PYTHONPATH": str(Path(__file__).parents[2]), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def says(self, pattern: str) -> str:
        """Return the first group of a pattern once the output has it; fails if the process ends before."""

        def said() -> str:
            found = re.search(pattern, self.text)
            if found is None and not self.is_running:
                raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.text}")
            return "" if found is None else str(found.group(1))

        return until(said, f"{self.name} to say {pattern}", STARTING)

    def stop(self) -> None:
        """End it: politely, then by force."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        if self.is_running:
            self._process.send_signal(by)
            try:
                self._process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
