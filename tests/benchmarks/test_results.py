"""Goals, and the files of results."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.bench import Bench, Compared, Outcome
from benchmarks.goals import ROWS, Goal, Goals, Row


def unmeasured(bench: Bench) -> Outcome:
    raise NotImplementedError


ROW = Row("name", "title", unmeasured, Goals(Goal(2.0), Goal(1.6)), Goals(Goal(0.6, is_minimum=True)))


@pytest.mark.parametrize(("goal", "value", "holds"), [
    (Goal(2.0), 2.0, True),
    (Goal(2.0), 2.01, False),
    (Goal(0.6, is_minimum=True), 0.6, True),
    (Goal(0.6, is_minimum=True), 0.59, False),
])  # fmt: skip
def test_a_goal_is_a_limit(goal: Goal, value: float, holds: bool) -> None:
    assert goal.holds(value) is holds


def test_the_figures_of_a_row_say_which_goals_hold() -> None:
    outcome = Outcome({"a": 1}, {"b": 2}, Compared(1.87654, "× raw"))
    assert results.row_figures(ROW, outcome, is_real=False) == {
        "title": "title",
        "raw": {"a": 1},
        "econed": {"b": 2},
        "compared": {"value": 1.877, "unit": "× raw"},
        "reach": {"at_most": 2.0, "holds": True},
        "try_for": {"at_most": 1.6, "holds": False},
    }


def test_a_real_oned_can_have_goals_of_its_own() -> None:
    figures = results.row_figures(ROW, Outcome({}, {}, Compared(0.7, "of raw")), is_real=True)
    assert figures["reach"] == {"at_least": 0.6, "holds": True}
    assert "try_for" not in figures


def test_a_row_without_a_number_to_compare_has_no_goals() -> None:
    assert results.row_figures(ROW, Outcome({}, {"b": 2}), is_real=False) == {
        "title": "title",
        "raw": {},
        "econed": {"b": 2},
    }


def test_results_are_read_as_they_were_written_with_the_same_layout_whatever_their_order(tmp_path: Path) -> None:
    results.write(tmp_path, "sandbox", {"b": 1, "a": {"d": "×", "c": 2}})
    first = (tmp_path / "sandbox.json").read_bytes()
    results.write(tmp_path, "sandbox", {"a": {"c": 2, "d": "×"}, "b": 1})
    assert (tmp_path / "sandbox.json").read_bytes() == first
    assert results.read(tmp_path) == {"sandbox": {"a": {"c": 2, "d": "×"}, "b": 1}}


def test_rows_have_different_names() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_rows_that_end_machines_are_the_last() -> None:
    """The machines that they end are in the lists for a while."""
    order = [row.ends_machines for row in ROWS]
    assert order == sorted(order)
