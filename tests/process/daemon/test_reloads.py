"""New configurations and restarts under load, which no request may fail."""

from __future__ import annotations

import signal
import socket
import ssl
from pathlib import Path

import pytest

from tests.process.daemon.requesting import WORKERS, url
from tests.support.certificates import write_server_pair
from tests.support.daemon import Daemon, Load
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import STARTING, until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "over TLS"])
def test_a_new_configuration_under_load_loses_no_request(
    cloud: FurnishedCloud, port: int, tmp_path: Path, *, with_tls: bool
) -> None:
    """Two reloads, with different numbers of workers; the port never closes."""
    pair, tls = {}, None
    if with_tls:
        cert, key = write_server_pair(tmp_path)
        pair, tls = {"ssl_cert": str(cert), "ssl_key": str(key)}, ssl.create_default_context(cafile=str(cert))
    with (
        Daemon(cloud, {"port": port, "workers": WORKERS, **pair}) as daemon,
        Load(cloud.alice, url(port), tls=tls) as load,
    ):
        for times, workers in enumerate((1, 3), start=2):
            old = set(daemon.workers)
            daemon.configure({"port": port, "workers": workers, **pair})
            daemon.signal(signal.SIGHUP)
            daemon.await_notification("READY=1", times)
            until(lambda old=old: not old & set(daemon.workers), "the old workers to exit", STARTING)  # type: ignore[misc]
            assert len(daemon.workers) == workers
            load.go_on(20)
    assert load.failures == []
    assert load.closed >= 4, "connections to the old workers were closed after a response"


def test_a_restart_under_socket_activation_loses_no_request_under_load(cloud: FurnishedCloud) -> None:
    """The test holds the socket, as systemd does, and passes it to one process after the other."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as held:
        where = url(held.getsockname()[1])
        with Daemon(cloud, {"workers": WORKERS}, sockets=[held]) as first, Load(cloud.alice, where) as load:
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
            with Daemon(cloud, {"workers": WORKERS}, sockets=[held]) as second:
                load.go_on(20)
                second.signal(signal.SIGTERM)
                assert second.wait() == 0
                with Daemon(cloud, {"workers": 1}, sockets=[held]):
                    load.go_on(20)
                    load.__exit__(None, None, None)
    assert load.failures == []
    assert load.closed >= 4
