"""Programs that some tests run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def require_tool(name: str) -> str:
    """Return the path of a program, from the virtual environment that runs the tests or else from PATH or /usr/sbin.

    If it is not installed, the test is skipped with the reason; in CI (ECONED_CI is set) it fails.
    """
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin")
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is not None:
        return path
    reason = f"{name} is not installed: make deps and make test install all programs that the tests run"
    if os.environ.get("ECONED_CI"):
        pytest.fail(reason)
    pytest.skip(reason)
