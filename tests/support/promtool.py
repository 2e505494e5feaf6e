"""Prometheus' promtool, and the metrics and labels that its expressions may use."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import yaml

from econed.telemetry.metrics import FAMILIES
from tests.support.tools import require_tool

_LABELS = frozenset({"job", "instance", "le"})

KNOWN: Mapping[str, Set[str]] = {
    "up": _LABELS,
    **{family.exposed_name: _LABELS.union(family.labels) for family in FAMILIES},
}
"""The labels of each metric. `up` is Prometheus' own."""


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    command = [require_tool("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def check_expressions(expressions: list[str], directory: Path) -> str:
    """Return the errors that promtool finds in expressions, each as that of a rule; empty if there are none."""
    rules = directory / "rules.yml"
    records = [{"record": f"r{number}", "expr": expression} for number, expression in enumerate(expressions)]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": records}]}), "utf-8")
    check = promtool("check", "rules", rules)
    return check.stderr if check.returncode else ""


def metrics_in(expression: str) -> Iterator[tuple[str, Set[str]]]:
    """Yield each metric in an expression, a histogram by its name without `_bucket`, with the labels in its braces."""
    for name, matchers in re.findall(r"\b(up|(?:econed|process)_\w+)(?:\{(.*?)\})?", expression):
        yield name.removesuffix("_bucket"), set(re.findall(r"(\w+)!?=", matchers))
