"""The number of connections, of an address and of the process."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest_twisted

from tests.http.connections.connecting import Serve, used_connection
from tests.support.reactor_turns import wait_until
from tests.support.serving import connected, get

ROOT = Path(__file__).parents[3]


@pytest_twisted.ensureDeferred
async def test_the_connections_of_an_address_are_limited(serve: Serve) -> None:
    """Further connections are closed at once; other addresses are not affected; a closed connection makes room."""
    server = serve(max_connections_per_address=3)
    clients = [await used_connection(server) for _ in range(3)]
    for _ in range(2):
        refused = await connected(server)
        await wait_until(lambda: refused.is_closed)  # noqa: B023 - called at once
        assert refused.received == b""
    other = await connected(server, "127.0.0.2")
    other.send(get(server))
    await wait_until(lambda: other.has_response)
    assert server.refused == ["max_connections_per_address"] * 2
    warnings = [event["log_format"] for event in server.events if event["log_level"].name == "warn"]
    assert len(warnings) == 1, "a flood of connections must not flood the log"
    clients[0].close()
    await wait_until(lambda: server.site.connections == 3)
    await used_connection(server)


@pytest_twisted.ensureDeferred
async def test_connections_leave_descriptors_for_the_files_of_the_process_itself(serve: Serve) -> None:
    """Otherwise many addresses could keep it from connecting to oned. A closed connection makes room."""
    server = serve(max_connections=3)
    clients = [await used_connection(server) for _ in range(3)]
    for source in ("127.0.0.2", "127.0.0.3"):
        refused = await connected(server, source)
        await wait_until(lambda: refused.is_closed)  # noqa: B023 - called at once
    assert server.refused == ["descriptors"] * 2
    assert [event["count"] for event in server.events if event["log_level"].name == "warn"] == [3]
    clients[0].close()
    await wait_until(lambda: server.site.connections == 2)
    await used_connection(server)


def test_the_connection_limit_follows_from_the_descriptor_limit() -> None:
    command = "import resource; from econed.process.listening import max_connections; print(max_connections())"
    counts = []
    for descriptors in (1024, 300):
        shell = f"ulimit -n {descriptors}; exec {sys.executable} -c '{command}'"
        counts.append(subprocess.run(["/bin/sh", "-c", shell], capture_output=True, check=True, cwd=ROOT).stdout)
    assert [int(count) for count in counts] == [768, 150]


@pytest_twisted.ensureDeferred
async def test_a_trusted_proxy_may_have_any_number_of_connections(serve: Serve) -> None:
    server = serve(max_connections_per_address=1, trusted_proxies=(ip_network("127.0.0.1"),))
    for _ in range(5):
        await used_connection(server)
    assert server.site.connections == 5


@pytest_twisted.ensureDeferred
async def test_addresses_without_connections_are_forgotten(serve: Serve) -> None:
    server = serve()
    for number in range(2, 10):
        (await connected(server, f"127.0.0.{number}")).close()
    await wait_until(lambda: not server.site.connections)
    assert not server.site._counts
    assert not server.site._channels
