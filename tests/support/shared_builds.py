"""What is expensive to make and never changed is made once for all the processes that run the tests."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def built_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a directory that `make` has filled, in whichever process of this run came first; the others wait.

    pytest-xdist gives each of its processes a directory of its own below one that is common to them.
    """
    base = factory.getbasetemp()
    common = base.parent if base.name.startswith("popen-") else base
    directory, done = common / name, common / f"{name}.made"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(directory, ignore_errors=True)  # of one that failed, or was skipped, half-way
            directory.mkdir()
            make(directory)
            done.touch()
    return directory
