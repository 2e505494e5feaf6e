"""Repeated measurements of one thing, and their medians."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

PERCENTAGES = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
"""The points of a distribution in the results."""


@dataclass(frozen=True)
class Series:
    """Measurements in the order in which they were taken, all in the same unit; at least one."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a series has at least one measurement")

    @classmethod
    def of(cls, values: Sequence[float]) -> Series:
        """Return the series of these measurements."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def worst(self) -> float:
        """The largest value."""
        return max(self.values)

    @property
    def best(self) -> float:
        """The smallest value."""
        return min(self.values)

    def percentile(self, percent: float) -> float:
        """Return the smallest value that at least `percent` per cent of the values do not exceed (nearest rank)."""
        ordered = sorted(self.values)
        rank = -(-len(ordered) * percent // 100)
        return ordered[max(int(rank), 1) - 1]

    def summary(self) -> dict[str, float]:
        """Return median, spread (quartiles and extremes) and number of measurements, for the results."""
        return {
            "median": _rounded(self.median),
            "first_quartile": _rounded(self.percentile(25)),
            "third_quartile": _rounded(self.percentile(75)),
            "least": _rounded(self.best),
            "most": _rounded(self.worst),
            "measurements": len(self.values),
        }

    def distribution(self) -> dict[str, float]:
        """Return the values by the percentage of the measurements that do not exceed them, for the results."""
        return {f"{percent:g}": _rounded(self.percentile(percent)) for percent in PERCENTAGES}


def _rounded(value: float) -> float:
    """Return a value with four significant digits: more would only be noise in the files of results."""
    return float(f"{value:.4g}")
