"""Set-up for all tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

SLOW = ("e2e", "packages", "soak")
"""The directories whose tests are all marked `slow`; elsewhere a module or a test bears the mark itself."""


def pytest_sessionstart() -> None:
    """Let SIGINT interrupt the programs that tests start, also where the shell ignores it (`nohup make test &`).

    A program inherits ignored signals, and then neither Python nor Twisted handles them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in the directories of `SLOW`."""
    root = Path(__file__).parent
    for item in items:
        if item.path.relative_to(root).parts[0] in SLOW:
            item.add_marker(pytest.mark.slow)
