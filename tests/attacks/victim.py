"""Another user meanwhile: one request after the other on a kept connection, and how long each took."""

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
class Named:
    """A user who signs."""

    name: str
    secret: str = SECRET


@dataclass
class Waits:
    """How long each request took, in seconds, and what was answered that was no 200."""

    seconds: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def told(self) -> str:
        """Return them in words."""
        if not self.seconds:
            return "no request was answered"
        median, worst = statistics.median(self.seconds), max(self.seconds)
        told = f"{len(self.seconds)} requests, median {median * 1000:.0f} ms, worst {worst * 1000:.0f} ms"
        return told + (f", {len(self.refused)} refused: {sorted(set(self.refused))}" if self.refused else "")


@contextmanager
def waiting(url: str, user: Named, action: str) -> Iterator[Waits]:
    """Ask for as long as the block runs, and once more after it."""
    waits, over = Waits(), threading.Event()
    thread = threading.Thread(target=_ask, args=(url, user, action, waits, over), daemon=True)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join(120)


def _ask(url: str, user: Named, action: str, waits: Waits, over: threading.Event) -> None:
    connection = connected(url)
    is_last = False
    while not is_last:
        is_last = over.is_set()
        path = f"{urlsplit(url).path}?{v2_form(user, url, {'Action': action})}"
        began = time.monotonic()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
        except OSError:
            connection.close()
            waits.refused.append(0)
        else:
            if response.status != 200:
                waits.refused.append(response.status)
        waits.seconds.append(time.monotonic() - began)
        time.sleep(_PAUSE)
    connection.close()
