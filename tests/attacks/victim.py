"""Requests of another user during an attack, on one connection, and the duration of each."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.clients import connected, v2_form
from tests.support.deployment import SECRET

_PAUSE = 0.005


@dataclass(frozen=True)
class Signer:
    """The name and secret key with which a user signs."""

    name: str
    secret: str = SECRET


@dataclass
class Measurement:
    """The durations of requests in seconds, and the statuses other than 200."""

    seconds: list[float] = field(default_factory=list)
    other_statuses: list[int] = field(default_factory=list)

    def summary(self) -> str:
        """Return them as text."""
        if not self.seconds:
            return "no request was completed"
        median, worst = statistics.median(self.seconds), max(self.seconds)
        text = f"{len(self.seconds)} requests, median {median * 1000:.0f} ms, worst {worst * 1000:.0f} ms"
        if self.other_statuses:
            text += f", {len(self.other_statuses)} failed: {sorted(set(self.other_statuses))}"
        return text


@contextmanager
def measured_requests(url: str, user: Signer, action: str) -> Iterator[Measurement]:
    """Send requests while the block runs, and one more after it."""
    measurement, stopped = Measurement(), threading.Event()
    thread = threading.Thread(target=_send_requests, args=(url, user, action, measurement, stopped), daemon=True)
    thread.start()
    try:
        yield measurement
    finally:
        stopped.set()
        thread.join(120)


def _send_requests(url: str, user: Signer, action: str, measurement: Measurement, stopped: threading.Event) -> None:
    connection = connected(url)
    is_last = False
    while not is_last:
        is_last = stopped.is_set()
        path = f"{urlsplit(url).path}?{v2_form(user, url, {'Action': action})}"
        start = time.monotonic()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
        except OSError:
            connection.close()
            measurement.other_statuses.append(0)
        else:
            if response.status != 200:
                measurement.other_statuses.append(response.status)
        measurement.seconds.append(time.monotonic() - start)
        time.sleep(_PAUSE)
    connection.close()
