"""The metrics of what a process uses."""

from __future__ import annotations

import time
from pathlib import Path

from econed.telemetry.process_usage import start_time, usage

DAY = 24 * 3600


def test_the_start_time_is_in_the_last_day() -> None:
    assert time.time() - DAY < start_time() < time.time()


def test_a_process_without_proc_starts_and_has_the_metrics_that_need_none(tmp_path: Path) -> None:
    before = time.time()
    assert before <= start_time(tmp_path) <= time.time()
    without = usage(tmp_path)
    assert without.keys() == {"process_cpu_seconds", "process_max_fds"}
    assert without.keys() < usage().keys()
