"""Set-up for all tests."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

SLOW = ("e2e", "packages", "soak")
"""The directories whose tests are all marked `slow`; elsewhere a module or a test bears the mark itself."""


FIRST = (
    "benchmarks/test_run.py",
    "packages/test_container.py",
    "process/test_tls_scan.py",
    "packages/test_debian_package.py",
    "packages/test_wheel.py",
)
"""The files with the longest tests, which wait for most of their time: begun last, they would prolong the whole run."""


def pytest_sessionstart() -> None:
    """Let SIGINT interrupt the programs that tests start, also where the shell ignores it (`nohup make test &`).

    A program inherits ignored signals, and then neither Python nor Twisted handles them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests in the directories of `SLOW`, and put those of the files in `FIRST` before all others."""
    root = Path(__file__).parent
    names = {item: item.path.relative_to(root) for item in items}
    for item, name in names.items():
        if name.parts[0] in SLOW:
            item.add_marker(pytest.mark.slow)
    order = {name: index for index, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(names[item].as_posix(), len(FIRST)))
