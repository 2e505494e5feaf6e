"""The tables of docs/performance.md, from the files of results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from benchmarks.goals import ROWS

Results: TypeAlias = Mapping[str, Any]
"""The file of results of a cloud, or a part of it."""

RUBY_CLOUD = "5.12"
"""The cloud in which the Ruby server was measured."""

_DIGITS = 3


def tables(clouds: Mapping[str, Results]) -> str:
    """Return the section of each cloud, real ones first, with a table of all rows."""
    order = sorted(clouds, key=lambda name: (name == "sandbox", name))
    return "\n\n".join(_section(name, clouds[name]) for name in order)


def _section(name: str, results: Results) -> str:
    title = "The sandbox" if name == "sandbox" else f"OpenNebula {name}"
    about = (
        f"oned {results['oned']}, {results['machines']:,} running machines, {results['processors']} processors for all "
        f"processes together, Python {results['python']}."
    )
    has_ruby = name == RUBY_CLOUD
    heads = ["work", "alone", "econed", "processor time", "compared", "goal", "try for"]
    lines = [_line([*heads, *(["Ruby server"] if has_ruby else [])])]
    lines.append("|" + "---|" * (len(heads) + has_ruby))
    lines += [
        _line([*_cells(results["rows"][row.name]), *([row.ruby or "–"] if has_ruby else [])])
        for row in ROWS
        if row.name in results["rows"]
    ]
    return "\n".join([f"### {title}", about, "", *lines])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(figures: Results) -> list[str]:
    if "not_measured" in figures:
        return [figures["title"], "", f"not measured: {figures['not_measured']}", "", "", "", ""]
    compared = figures.get("compared")
    return [
        figures["title"],
        "; ".join(_alone(figures["raw"])) or "–",
        "; ".join(_econed(figures["econed"])) or "–",
        _processor_time(figures["econed"]),
        _compared(compared) if compared else "–",
        _goal(figures.get("reach")),
        _goal(figures.get("try_for")),
    ]


def _alone(raw: Results) -> Iterator[str]:
    if "one_call_seconds" in raw:
        yield f"{_time(raw['one_call_seconds'])} in one call ({raw['bytes'] / 1e6:.1f} MB)"
        if "sets_seconds" in raw:
            yield f"{_time(raw['sets_seconds'])} in sets of 1,000"
    if "seconds" in raw:
        yield _time(raw["seconds"])
    if "copy_seconds" in raw:
        yield f"{_time(raw['copy_seconds'])} for a copy"
    if "oned" in raw:
        yield f"{_rate(raw['oned'])} of oned"
    if "bare_resource" in raw:
        yield f"{_rate(raw['bare_resource'])} of a bare resource"


def _econed(figures: Results) -> Iterator[str]:
    if "seconds" in figures and isinstance(figures["seconds"], Mapping):
        yield _time(figures["seconds"])
    if "per_second" in figures:
        yield f"{_rate(figures)}, 99% within {_seconds(figures['latency_seconds']['99'])}"
    for name, label in (("alone_seconds", "alone"), ("during_seconds", "meanwhile")):
        if name in figures:
            half, most, worst = (_seconds(figures[name][percent]) for percent in ("50", "99", "100"))
            yield f"{label} {half}, 99% within {most}, at most {worst}"
    for name, label in (("supervisor_rss_mb", "supervisor"), ("worker_rss_mb", "worker")):
        if name in figures:
            yield f"{label} {figures[name]:.0f} MB"
    if "worker_peak_rss_mb" in figures:
        yield f"at most {figures['worker_peak_rss_mb']:.0f} MB while they run"
    for count in (1, 2):
        if f"workers_{count}" in figures:
            yield f"{_rate(figures[f'workers_{count}'])} of {'one worker' if count == 1 else 'two workers'}"
    if "growth_mb" in figures:
        yield f"grows by {figures['growth_mb']:.0f} MB"
    if "page_seconds" in figures:
        yield f"{figures['machines']:,} machines in {_seconds(figures['seconds'])}"
        yield f"a page in {_time(figures['page_seconds'])}"
    sizes = sorted(int(name) for name in figures if name.isdigit())
    for size in sizes:
        yield f"{size:,} machines: {figures[str(size)]['memory']['worker_rss_mb']:.0f} MB"
    for name in (name for name in figures if name.endswith(" ended")):
        yield f"{name}: {_time(figures[name]['seconds'])}"


def _processor_time(figures: Results) -> str:
    if "cpu_seconds_per_request" in figures:
        return _seconds(figures["cpu_seconds_per_request"])
    cpu = figures.get("cpu_seconds")
    if isinstance(cpu, Mapping):
        return _seconds(cpu["median"])
    return "–" if cpu is None else _seconds(cpu)


def _compared(compared: Results) -> str:
    value, unit = compared["value"], compared["unit"]
    if unit.partition(" ")[0] == "s":
        return f"**{_seconds(value)}{unit[1:]}**"
    return f"**{_amount(value)} {unit}**"


def _goal(goal: Results | None) -> str:
    if goal is None:
        return "–"
    limit = f"at least {_amount(goal['at_least'])}" if "at_least" in goal else f"at most {_amount(goal['at_most'])}"
    return f"{limit}: {'holds' if goal['holds'] else 'does **not** hold'}"


def _time(summary: Results) -> str:
    """Return the median of a series, and its quartiles if they differ from it."""
    median, low, high = (_seconds(summary[name]) for name in ("median", "first_quartile", "third_quartile"))
    return median if low == high else f"{median} ({low} to {high})"


def _rate(figures: Results) -> str:
    return f"{round(figures['per_second']['median']):,} /s"


def _seconds(value: float) -> str:
    return f"{_amount(value)} s" if value >= 1 else f"{_amount(value * 1000)} ms"


def _amount(value: float) -> str:
    """Return a number with three digits."""
    return f"{float(f'{value:.{_DIGITS}g}'):,.10g}"
