"""What some tests need of the machine that they run on."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def require_tool(name: str) -> str:
    """Return the path of a program, from the virtual environment that runs the tests or else from PATH or /usr/sbin.

    If it is not installed, the test ends as in `cannot_run`.
    """
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin")
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is None:
        cannot_run(f"{name} is not installed: make test-deps and make test install all programs that the tests run")
    return path


def optional_tool(name: str) -> str:
    """Return the path of a program that the tests do not install; skip the test if it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def cannot_run(reason: str) -> NoReturn:
    """Skip a test that cannot run on this machine; in CI (ECONED_CI is set) it fails."""
    if os.environ.get("ECONED_CI"):
        pytest.fail(reason)
    pytest.skip(reason)
