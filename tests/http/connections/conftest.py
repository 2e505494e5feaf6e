"""The servers of the tests of connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.web.resource import IResource

from econed.config.settings import Settings

if TYPE_CHECKING:
    from tests.http.connections.connecting import Serve
    from tests.support.serving import Server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers with these settings; they stop after the test and must not have logged an unforeseen failure."""
    from tests.support.serving import Server  # imports the reactor, which is installed after this file is read

    servers: list[Server] = []

    def start(
        resource: IResource | None = None, wrapped: Any = None, max_connections: int | None = None, **settings: Any
    ) -> Server:
        all_settings = Settings(tmpdir=str(tmp_path), **settings)
        servers.append(Server(all_settings, resource=resource, wrapped=wrapped, max_connections=max_connections))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
        server.site.abort()
        assert [event for event in server.events if "log_failure" in event] == []
