"""The plots of docs/performance.md, as SVG files that only change if the results change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.tables import Results

_LATENCIES = (
    ("by-id", "latency_seconds", "DescribeInstances by id, 8 clients"),
    ("regions-v2", "latency_seconds", "DescribeRegions, Version 2, 8 clients"),
    ("regions-v4", "latency_seconds", "DescribeRegions, Version 4, 8 clients"),
    ("stall", "alone_seconds", "DescribeRegions of one client"),
    ("stall", "during_seconds", "DescribeRegions of one client, during lists"),
    ("fairness", "alone_seconds", "DescribeInstances of another user"),
    ("fairness", "during_seconds", "DescribeInstances of another user, during a launch"),
)
_TITLES = {"sandbox": "the sandbox"}
_METADATA = {"Date": None, "Creator": None}


def write_plots(clouds: Mapping[str, Results], directory: Path) -> list[str]:
    """Write the plots for which there are results; return their names."""
    mpl.rcParams.update({"svg.hashsalt": "econed", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3})
    directory.mkdir(exist_ok=True)
    names = []
    for cloud, results in sorted(clouds.items()):
        for kind, plot in (("sizes", _sizes), ("latencies", _latencies), ("memory", _memory)):
            figure = plot(results["rows"], _TITLES.get(cloud, f"OpenNebula {cloud}"))
            if figure is not None:
                name = f"{kind}-{cloud}.svg"
                figure.savefig(directory / name, format="svg", metadata=_METADATA)
                names.append(name)
    return names


def _axes(title: str, horizontal: str, vertical: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=horizontal, ylabel=vertical)
    return figure, axes


def _sizes(rows: Results, cloud: str) -> Figure | None:
    sizes = rows.get("sizes", {})
    if "econed" not in sizes:
        return None
    counts = sorted(int(name) for name in sizes["econed"])
    figure, axes = _axes(f"DescribeInstances of all machines, on {cloud}", "running machines", "seconds")

    def line(label: str, values: Sequence[float], style: str) -> None:
        axes.plot(counts, values, style, label=label)

    lists = [sizes["econed"][str(count)]["list"] for count in counts]
    alone = [sizes["raw"][str(count)] for count in counts]
    line("econed", [each["seconds"]["median"] for each in lists], "o-")
    line("econed, processor time", [each["cpu_seconds"]["median"] for each in lists], "o--")
    line("oned in one call", [each["one_call_seconds"]["median"] for each in alone], "s-")
    line("oned in sets of 1,000", [each["sets_seconds"]["median"] for each in alone], "s--")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def _latencies(rows: Results, cloud: str) -> Figure | None:
    measured = [
        (label, rows[name]["econed"][kind])
        for name, kind, label in _LATENCIES
        if kind in rows.get(name, {}).get("econed", {})
    ]
    if not measured:
        return None
    figure, axes = _axes(f"Responses within a time, on {cloud}", "milliseconds", "per cent of the responses")
    for label, distribution in measured:
        points = sorted((float(percent), seconds * 1000) for percent, seconds in distribution.items())
        axes.plot([milliseconds for _, milliseconds in points], [percent for percent, _ in points], ".-", label=label)
    axes.set_xscale("log")
    axes.legend(fontsize="small")
    return figure


def _memory(rows: Results, cloud: str) -> Figure | None:
    samples = rows.get("memory", {}).get("econed", {}).get("over_time")
    if not samples:
        return None
    figure, axes = _axes(f"Worker during ten lists of all machines, on {cloud}", "seconds", "resident memory, MB")
    axes.plot([at for at, _ in samples], [used for _, used in samples])
    axes.set_ylim(bottom=0)
    return figure
