"""`python -m tests.packages.load PORT`: sends requests until its input ends, then prints how they ended (JSON).

Every request has a connection of its own, as those of clients that have just been started.
"""

from __future__ import annotations

import http.client
import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event

CLIENTS = 4
TIMEOUT = 60.0
"""Seconds that a connection and its response may take."""


def outcome(port: int) -> str:
    """Send an unsigned request, which econed rejects; return the status of the response, or the name of the error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/?Action=DescribeRegions")
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()
    return str(response.status)


def outcomes(port: int, ended: Event) -> Counter[str]:
    """Send requests one after the other, until `ended`."""
    counted: Counter[str] = Counter()
    while not ended.is_set():
        counted[outcome(port)] += 1
    return counted


def main(port: int) -> None:
    """Run all clients."""
    ended = Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(outcomes, port, ended) for _ in range(CLIENTS)]
        sys.stdin.read()
        ended.set()
        total = sum((client.result() for client in clients), Counter[str]())
    json.dump(total, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
