"""Long builds are run once for all the processes that run the tests."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def built_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a directory that `make` has filled: in the first process of this run that asks, while the others wait.

    pytest-xdist gives each of its processes a directory of its own below a common one.
    """
    base = factory.getbasetemp()
    common = base.parent if base.name.startswith("popen-") else base
    directory, done = common / name, common / f"{name}.made"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)  # left by a process in which `make` failed or was skipped
            directory.mkdir()
            make(directory)
            done.touch()
    return directory
