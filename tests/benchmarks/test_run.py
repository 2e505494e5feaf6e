"""All rows of the benchmarks can be measured, here with so few machines that the figures mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.goals import ROWS
from tests.support.tools import require_tool

ROOT = Path(__file__).parents[2]
LIMIT = 1200.0


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks on the sandbox."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ECONED_LIVE_")}
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.mark.slow
def test_all_rows_are_measured_and_written(tmp_path: Path) -> None:
    require_tool("wrk")
    finished = run("--machines", "20", "--quick", "--results", str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    measured = json.loads((tmp_path / "sandbox.json").read_text("utf-8"))
    assert json.loads(finished.stdout) == measured
    assert {*measured["rows"]} == {row.name for row in ROWS}
    for row in ROWS:
        assert ("reach" in measured["rows"][row.name]) == (row.goals is not None), row.name


@pytest.mark.slow
def test_a_row_that_does_not_exist_is_an_error() -> None:
    finished = run("--only", "list,nothing")
    assert finished.returncode == 2
    assert "no such row: nothing" in finished.stderr
