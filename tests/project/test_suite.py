"""The suite runs wherever and however a person starts it."""

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


def test_programs_that_tests_start_can_be_interrupted() -> None:
    """By SIGINT, as ctrl-C sends it."""
    assert subprocess.run([sys.executable, "-c", _IGNORED_IN_A_CHILD], check=False).returncode == 0


def test_they_can_where_the_shell_ignores_interrupts() -> None:
    """As it does for `nohup make test &`: the test above, by a pytest that was started so."""
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    wanted = f"{__file__}::{test_programs_that_tests_start_can_be_interrupted.__name__}"
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest_run, wanted],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_what_could_not_be_made_once_is_tried_again_by_the_next_test(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What it lacks is then said of each, and what was left half-made is gone."""

    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise RuntimeError("it lacks something")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="it lacks something"):
            built_once(tmp_path_factory, "made-by-a-test", fail)
    made = built_once(tmp_path_factory, "made-by-a-test", lambda directory: (directory / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]
