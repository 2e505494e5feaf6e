"""Rates of requests, measured by wrk."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CLIENTS = 8
"""Connections of wrk, which has one thread."""

_SCRIPT = Path(__file__).with_name("prepared.lua")
_LEEWAY = 60.0


class WrkFailed(Exception):
    """wrk is missing, or requests failed."""


@dataclass(frozen=True)
class Rate:
    """Requests a second, and the latencies in seconds by percentage of the requests that took no longer."""

    per_second: float
    latencies: Mapping[float, float]


def find_wrk() -> str:
    """Return the path of wrk; raises `WrkFailed` with what to install."""
    path = shutil.which("wrk")
    if path is None:
        raise WrkFailed("wrk is not installed: make deps (or: apt-get install wrk)")
    return path


def measured_rate(url: str, requests: Sequence[bytes], seconds: int, directory: Path) -> Rate:
    """Send prepared requests in turn, `CLIENTS` at a time; raises `WrkFailed` if a request fails."""
    prepared = directory / "requests"
    prepared.write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in requests))
    command = [find_wrk(), "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "60s", "-s", str(_SCRIPT), url]
    finished = subprocess.run(
        [*command, "--", str(prepared)], capture_output=True, text=True, timeout=seconds + _LEEWAY, check=False
    )
    if finished.returncode != 0:
        raise WrkFailed(finished.stderr or finished.stdout)
    return parsed(finished.stdout.splitlines()[-1])


def parsed(line: str) -> Rate:
    """Return the rate that the script printed; raises `WrkFailed` if a request failed."""
    result = json.loads(line)
    if result["refused"] or result["broken"] or not result["requests"]:
        raise WrkFailed(f"requests failed: {line}")
    latencies = {float(percent): value / 1e6 for percent, value in result["percentiles"].items()}
    return Rate(result["requests"] / (result["microseconds"] / 1e6), latencies)
