"""`python -m benchmarks.prober URL ACTION`: requests of another client until standard input ends.

The keys are in the environment (PROBER_KEYS, NAME:SECRET). A request follows 5 ms after the response to the one before.
At the end the seconds of all requests are printed as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.series import Series
from benchmarks.signing import Keys
from tests.attacks.victim import Signer, measured_requests

_TIMEOUT = 180.0


class ProbeFailed(Exception):
    """A request of the other client failed."""


@dataclass
class Probe:
    """The requests of the other client; `seconds` is there at the end of the block of `probing`."""

    values: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> Series:
        """The duration of each request."""
        return Series.of(self.values)


@contextmanager
def probing(url: str, keys: Keys, action: str) -> Iterator[Probe]:
    """Let another client, a process of its own, make requests during the block; raises `ProbeFailed`."""
    probe = Probe()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.prober", url, action],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PROBER_KEYS": f"{keys.access_key}:{keys.secret_key}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield probe
        output, _ = process.communicate(timeout=_TIMEOUT)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    result = json.loads(output)
    if result["other_statuses"]:
        raise ProbeFailed(f"{action} of the other client: {result['other_statuses'][:10]}")
    probe.values.extend(result["seconds"])


def main(url: str, action: str) -> None:
    """Make requests until standard input ends."""
    name, _, secret = os.environ["PROBER_KEYS"].partition(":")
    with measured_requests(url, Signer(name, secret), action) as measurement:
        print("started", flush=True)
        sys.stdin.read()
    print(json.dumps({"seconds": measurement.seconds, "other_statuses": measurement.other_statuses}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
