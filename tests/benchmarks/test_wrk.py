"""The results that wrk prints."""

from __future__ import annotations

import pytest

from benchmarks.wrk import WrkFailed, parsed

LINE = (
    '{"requests": 5000, "microseconds": 2000000, "refused": 0, "broken": 0, "percentiles": {"50": 1500, "99.9": 20000}}'
)


def test_a_rate_is_requests_by_time_and_latencies_are_in_seconds() -> None:
    rate = parsed(LINE)
    assert rate.per_second == 2500
    assert rate.latencies == {50.0: 0.0015, 99.9: 0.02}


@pytest.mark.parametrize("failed", ['"refused": 0', '"broken": 0', '"requests": 5000'])
def test_a_run_with_failed_requests_or_without_any_is_an_error(failed: str) -> None:
    name, _, value = failed.partition(": ")
    with pytest.raises(WrkFailed, match="requests failed"):
        parsed(LINE.replace(failed, f"{name}: {0 if value == '5000' else 1}"))
