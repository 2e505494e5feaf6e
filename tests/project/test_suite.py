"""The test suite works in every environment that starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import LONG
from tests.support.shared_builds import built_once

ROOT = Path(__file__).parent.parent.parent

_IGNORED_IN_A_CHILD = """
import signal, sys
sys.exit(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""


def test_child_processes_can_be_interrupted() -> None:
    """Ctrl-C sends SIGINT."""
    assert subprocess.run([sys.executable, "-c", _IGNORED_IN_A_CHILD], check=False).returncode == 0


def test_child_processes_can_be_interrupted_if_the_shell_ignores_sigint() -> None:
    """A shell does so for `nohup make test &`; pytest is started in this way to run the test above."""
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    test_id = f"{__file__}::{test_child_processes_can_be_interrupted.__name__}"
    finished = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest_run, test_id],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1 passed" in finished.stdout


def test_a_failed_shared_build_is_tried_again_by_the_next_test(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every attempt reports the error, and its incomplete output is removed."""

    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise RuntimeError("a tool is missing")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="a tool is missing"):
            built_once(tmp_path_factory, "built-by-a-test", fail)
    directory = built_once(tmp_path_factory, "built-by-a-test", lambda directory: (directory / "whole").touch())
    assert [path.name for path in directory.iterdir()] == ["whole"]
