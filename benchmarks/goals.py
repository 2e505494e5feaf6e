"""The rows of the benchmarks in the order of the page, with their goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import launches, lists, rates, sizes, starts, uploads
from benchmarks.bench import Bench, Outcome


@dataclass(frozen=True)
class Goal:
    """A limit for the number of a row: at most this, or at least this."""

    limit: float
    is_minimum: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value meets the goal."""
        return value >= self.limit if self.is_minimum else value <= self.limit


@dataclass(frozen=True)
class Goals:
    """What is to be reached, and what is tried for then; None where there is nothing further."""

    reach: Goal
    further: Goal | None = None


@dataclass(frozen=True)
class Row:
    """A row: its name for `--only`, its title, how it is measured, its goals, and what the Ruby server of 5.12 did.

    `ruby` was measured once on a real oned 5.12 with as many machines. `goals_on_oned` are those on a real oned where
    they differ from those on the sandbox.
    """

    name: str
    title: str
    measure: Callable[[Bench], Outcome]
    goals: Goals | None = None
    goals_on_oned: Goals | None = None
    ruby: str = ""
    ends_machines: bool = False

    def goals_on(self, *, is_real: bool) -> Goals | None:
        """Return the goals on a real oned or on the sandbox."""
        return self.goals_on_oned or self.goals if is_real else self.goals


def _at_most(reach: float, further: float | None = None) -> Goals:
    return Goals(Goal(reach), None if further is None else Goal(further))


def _at_least(reach: float, further: float | None = None) -> Goals:
    return Goals(Goal(reach, is_minimum=True), None if further is None else Goal(further, is_minimum=True))


_REGIONS = _at_least(0.11, 0.15)

ROWS = (
    Row("start", "start to ready", starts.start, _at_most(1.0)),
    Row("idle", "memory idle, supervisor and worker", starts.idle_memory, _at_most(125.0)),
    Row("regions-v2", "DescribeRegions, Version 2, 8 clients", rates.regions_v2, _REGIONS, ruby="1,000–1,175 /s"),
    Row("regions-v4", "DescribeRegions, Version 4, 8 clients", rates.regions_v4, _REGIONS, ruby="1,000–1,175 /s"),
    Row(
        "by-id",
        "DescribeInstances by id, 8 clients",
        rates.by_id,
        _at_least(0.06),
        _at_least(0.6, 1.0),
        ruby="150–186 /s",
    ),
    Row(
        "list",
        "DescribeInstances, all machines, complete",
        lists.list_all,
        _at_most(2.0, 1.6),
        ruby="1.5 s, a quarter of the data",
    ),
    Row(
        "running",
        "DescribeInstances, instance-state-name=running",
        lists.list_running,
        _at_most(2.0, 1.6),
        ruby="1.4 s",
    ),
    Row("first-list", "DescribeInstances, all machines, first list of a process", lists.first_list, _at_most(2.0)),
    Row(
        "stall",
        "DescribeRegions of another client during lists (99%)",
        lists.stall,
        _at_most(0.025, 0.010),
        ruby="all wait",
    ),
    Row(
        "memory",
        "memory of the worker after ten lists",
        lists.memory_of_lists,
        _at_most(150.0, 120.0),
        ruby="1.5–2.5 GB",
    ),
    Row("workers", "DescribeRegions, Version 4, of two workers", rates.workers),
    Row("upload", "UploadImage", uploads.upload_rate, _at_least(0.5)),
    Row("upload-memory", "growth of the worker during UploadImage", uploads.upload_memory, _at_most(20.0)),
    Row(
        "sizes",
        "memory of the worker after ten lists of twice as many machines",
        sizes.sizes,
        _at_most(150.0, 120.0),
        ruby="1.5–2.5 GB",
    ),
    Row("ended", "lists beside machines that ended long ago", sizes.ended, _at_most(1.5)),
    Row("pages", "DescribeInstances of very many machines in pages", sizes.pages),
    Row("launch-1", "RunInstances of 1", launches.launch_one, _at_most(0.030, 0.010), ends_machines=True),
    Row("launch-200", "RunInstances of 200", launches.launch_many, _at_most(1.1), ends_machines=True),
    Row(
        "fairness",
        "DescribeInstances of another user meanwhile",
        launches.fairness,
        _at_most(2.0),
        ends_machines=True,
    ),
)
"""Rows that end machines are the last: for a while, ended machines are in the lists."""
