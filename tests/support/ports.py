"""Ports for tests that have to name one beforehand: in a file, 0 is none."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections, of which any other program may get the one that was free."""

_ANY = random.SystemRandom()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    while True:
        port = _ANY.choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
