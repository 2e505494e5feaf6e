"""Fixtures of the tests of the supervisor."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from econed.process.listening import BoundSocket
from tests.process.supervisor.supervising import SupervisorHarness


@pytest.fixture
def harness() -> SupervisorHarness:
    """A supervisor that is not started."""
    return SupervisorHarness()


@pytest.fixture
def listener() -> Iterator[BoundSocket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield BoundSocket(server, False)
