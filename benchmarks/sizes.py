"""Rows about numbers of machines: what lists cost with fewer and more of them, and beside many that have ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from benchmarks.bench import Bench, Compared, Figures, NotMeasured, Outcome
from benchmarks.client import EC2Client
from benchmarks.lists import list_all, memory_of_lists
from benchmarks.series import Series

PAGE = 1000
"""Instances of a page (MaxResults, NextToken)."""

_FEW = 100


def sizes(bench: Bench) -> Outcome:
    """Lists and memory with a fifth of the machines, with all, and with twice as many."""
    count = len(bench.cloud.machines)
    raw: Figures = {}
    figures: Figures = {}
    worker = 0.0
    for machines in (max(count // 5, 1), count, 2 * count):
        with bench.in_sandbox(machines) as other:
            lists, memory = list_all(other), memory_of_lists(other)
            raw[str(machines)] = lists.raw
            figures[str(machines)] = {"list": lists.econed, "memory": _without_samples(memory.econed)}
            worker = cast(float, memory.econed["worker_rss_mb"])
    return Outcome(raw, figures, Compared(worker, "MB"))


def _without_samples(figures: Figures) -> Figures:
    return {name: value for name, value in figures.items() if name != "over_time"}


def pages(bench: Bench) -> Outcome:
    """Lists of very many machines in pages."""
    if not bench.effort.paged:
        raise NotMeasured("only measured with FULL=1")
    with bench.in_sandbox(bench.effort.paged) as other, other.econed() as econed:
        client = other.client(econed)
        seconds, received, cpu = list[float](), 0, econed.cpu
        for page_seconds, instances in _pages(client):
            seconds.append(page_seconds)
            received += instances
        figures: Figures = {
            "machines": received,
            "page_seconds": Series.of(seconds).summary(),
            "seconds": sum(seconds),
            "cpu_seconds": econed.cpu - cpu,
        }
    return Outcome({}, figures)


def _pages(client: EC2Client) -> Iterator[tuple[float, int]]:
    """List in pages; yield seconds and number of instances of each."""
    parameters: Mapping[str, str] = {"MaxResults": str(PAGE)}
    while True:
        response = client("DescribeInstances", parameters)
        yield response.seconds, response.body.count(b"<instanceId>")
        tokens = response.texts("nextToken")
        if not tokens or not tokens[0]:
            return
        parameters = {"MaxResults": str(PAGE), "NextToken": tokens[0]}


def ended(bench: Bench) -> Outcome:
    """Lists beside many machines that ended long ago, compared with the same lists without them."""
    figures: Figures = {}
    raw: Figures = {}
    ratios = []
    for machines in (_FEW, 2 * len(bench.cloud.machines)):
        medians = []
        for count in (0, bench.effort.ended):
            with bench.in_sandbox(machines, count) as other:
                outcome = list_all(other)
            name = f"{machines} running, {count} ended"
            figures[name], raw[name] = outcome.econed, outcome.raw
            medians.append(_median_seconds(outcome.econed))
        ratios.append(medians[1] / medians[0])
    return Outcome(raw, figures, Compared(max(ratios), "× without them"))


def _median_seconds(figures: Figures) -> float:
    return cast("dict[str, float]", figures["seconds"])["median"]
