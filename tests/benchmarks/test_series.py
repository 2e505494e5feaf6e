"""Medians, quartiles and percentiles of measurements."""

from __future__ import annotations

import pytest

from benchmarks.series import Series


def test_the_summary_has_the_median_and_the_spread() -> None:
    assert Series.of([4.0, 1.0, 3.0, 2.0, 100.0]).summary() == {
        "median": 3.0,
        "first_quartile": 2.0,
        "third_quartile": 4.0,
        "least": 1.0,
        "most": 100.0,
        "measurements": 5,
    }


@pytest.mark.parametrize(("percent", "expected"), [(1, 1.0), (50, 50.0), (99, 99.0), (99.5, 100.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert Series.of([float(value) for value in range(100, 0, -1)]).percentile(percent) == expected


def test_the_distribution_of_a_single_value_is_that_value() -> None:
    assert {*Series.of([0.25]).distribution().values()} == {0.25}


def test_a_distribution_ends_with_the_largest_value() -> None:
    assert Series.of([3.0, 1.0, 2.0]).distribution()["100"] == 3.0


def test_values_in_results_have_four_significant_digits() -> None:
    assert Series.of([0.123456]).summary()["median"] == 0.1235


def test_a_series_cannot_be_empty() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Series.of([])
