"""The files of results: one for each cloud, with the same layout whatever was measured."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from benchmarks.bench import Figures, Outcome
from benchmarks.goals import Goal, Row

DIRECTORY = Path(__file__).with_name("results")


def row_figures(row: Row, outcome: Outcome, *, is_real: bool) -> Figures:
    """Return the figures of a row, with its goals and whether they are met."""
    figures: Figures = {"title": row.title, "raw": outcome.raw, "econed": outcome.econed}
    if outcome.compared is not None:
        figures["compared"] = {"value": float(f"{outcome.compared.value:.4g}"), "unit": outcome.compared.unit}
        goals = row.goals_on(is_real=is_real)
        if goals is not None:
            figures["reach"] = _goal_figures(goals.reach, outcome.compared.value)
            if goals.further is not None:
                figures["try_for"] = _goal_figures(goals.further, outcome.compared.value)
    return figures


def _goal_figures(goal: Goal, value: float) -> Figures:
    return {"at_least" if goal.is_minimum else "at_most": goal.limit, "holds": goal.holds(value)}


def machine_figures() -> Figures:
    """Return what the results depend on: processors and Python."""
    return {"processors": os.cpu_count() or 1, "python": platform.python_version()}


def write(directory: Path, name: str, results: Mapping[str, object]) -> None:
    """Write the results of a cloud."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False)
    (directory / f"{name}.json").write_text(f"{text}\n", "utf-8")


def read(directory: Path) -> dict[str, Figures]:
    """Return the results of all clouds by name."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(directory.glob("*.json"))}
