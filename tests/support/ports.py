"""Free ports, for tests that have to write one into a file before it is bound."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

_PORTS = range(20_000, 32_000)
"""Below the range of Linux for outgoing connections, from which another program could get the port meanwhile."""

_ANY = random.SystemRandom()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no process listens."""
    while True:
        port = _ANY.choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
