"""The figures in docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.page import BEGIN, END, with_figures
from benchmarks.tables import tables

SUMMARY = {"median": 0.5, "first_quartile": 0.4, "third_quartile": 0.625, "least": 0.1, "most": 2, "measurements": 7}
LIST = {
    "title": "DescribeInstances, all machines, complete",
    "raw": {"one_call_seconds": {**SUMMARY, "median": 0.25}, "sets_seconds": SUMMARY, "bytes": 45_800_000},
    "econed": {"seconds": {**SUMMARY, "median": 1.2345}, "cpu_seconds": SUMMARY},
    "compared": {"value": 4.938, "unit": "× raw"},
    "reach": {"at_most": 2.0, "holds": False},
}


def cloud(**rows: Any) -> dict[str, Any]:
    """Return the results of a cloud with these rows."""
    return {"oned": "5.12.0.4", "machines": 5000, "processors": 2, "python": "3.11.7", "rows": rows}


def test_a_row_has_what_oned_does_alone_what_econed_does_and_whether_its_goal_holds() -> None:
    text = tables({"7.4": cloud(list=LIST)})
    assert text.splitlines()[-1] == (
        "| DescribeInstances, all machines, complete "
        "| 250 ms (400 ms to 625 ms) in one call (45.8 MB); 500 ms (400 ms to 625 ms) in sets of 1,000 "
        "| 1.23 s (400 ms to 625 ms) | 500 ms | **4.94 × raw** | at most 2: does **not** hold | – |"
    )


def test_a_time_that_is_compared_has_a_readable_unit() -> None:
    launch = {**LIST, "compared": {"value": 0.0301, "unit": "s more than raw"}}
    assert "**30.1 ms more than raw**" in tables({"7.4": cloud(list=launch)})


def test_only_the_cloud_of_the_ruby_server_has_its_figures() -> None:
    assert "Ruby server" not in tables({"7.4": cloud(list=LIST)})
    assert "| 1.5 s, a quarter of the data |" in tables({"5.12": cloud(list=LIST)})


def test_a_row_that_was_not_measured_says_why() -> None:
    text = tables({"5.12": cloud(ended={"title": "lists", "not_measured": "only the sandbox can"})})
    assert "not measured: only the sandbox can" in text


def test_real_clouds_come_before_the_sandbox() -> None:
    text = tables({"sandbox": cloud(), "7.4": cloud(), "5.12": cloud()})
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        "### OpenNebula 5.12",
        "### OpenNebula 7.4",
        "### The sandbox",
    ]


def test_the_text_around_the_figures_is_kept() -> None:
    page = f"before\n{BEGIN}\nold figures\n{END}\nafter\n"
    once = with_figures(page, {"5.12": cloud(list=LIST)}, ["sizes-sandbox.svg"])
    assert once.startswith(f"before\n{BEGIN}\n### OpenNebula 5.12\n")
    assert once.endswith(f"(performance/sizes-sandbox.svg)\n{END}\nafter\n")
    assert "old figures" not in once
    assert with_figures(once, {"5.12": cloud(list=LIST)}, ["sizes-sandbox.svg"]) == once


def test_a_page_without_a_place_for_figures_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no lines"):
        with_figures("text", {}, [])


def test_the_page_has_a_place_for_figures() -> None:
    page = (Path(__file__).parents[2] / "docs/performance.md").read_text("utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
