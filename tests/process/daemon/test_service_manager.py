"""The daemon under systemd: notifications, the watchdog, variables and passed sockets."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest

from tests.process.daemon.requesting import get, get_once, url
from tests.support.certificates import replace_file, write_server_pair
from tests.support.daemon import ROOT, Daemon, signed_path
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.ports import free_port
from tests.support.processes import STARTING

pytestmark = pytest.mark.slow


def test_systemd_is_notified_also_while_oned_is_unreachable(cloud: FurnishedCloud, port: int) -> None:
    """A cloud may boot with oned started later; /readyz reports that."""
    settings = {"port": port, "one_xmlrpc": f"http://127.0.0.1:{free_port()}/RPC2"}
    with Daemon(cloud, settings, environ={"WATCHDOG_USEC": "400000"}) as daemon:
        daemon.await_notification("WATCHDOG=1", 3)
        assert "STATUS=1 of 1 workers serve" in daemon.notifications


_SET_CLOCK = """
import os, time
def now(real=time.time):
    with open(os.environ["CLOCK_SET_BY"]) as seconds:
        return real() + float(seconds.read())
time.time = now
"""


def test_setting_the_clock_back_delays_no_timer(cloud: FurnishedCloud, port: int, tmp_path: Path) -> None:
    """The supervisor notifies the watchdog, and a worker closes a connection that was idle before."""
    (tmp_path / "sitecustomize.py").write_text(_SET_CLOCK, "ascii")
    set_by = tmp_path / "seconds"
    set_by.write_text("0", "ascii")
    environ = {
        "WATCHDOG_USEC": "400000",
        "CLOCK_SET_BY": str(set_by),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    with (
        Daemon(cloud, {"port": port, "idle_timeout": 3}, environ=environ) as daemon,
        socket.create_connection(("127.0.0.1", port), STARTING) as idle,
    ):
        get_once(port, signed_path(cloud.alice, url(port)))  # so `idle`, which connected earlier, was accepted
        replace_file(set_by, b"-3600")
        daemon.await_notification("WATCHDOG=1", daemon.read_notifications().count("WATCHDOG=1") + 3)
        assert idle.recv(1) == b""


def test_workers_do_not_inherit_the_variables_of_systemd(cloud: FurnishedCloud) -> None:
    """Nor do the scripts that they run."""
    environ = {"WATCHDOG_USEC": "5000000"}
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        Daemon(cloud, {"workers": 1}, sockets=[held], environ=environ) as daemon,
    ):
        (worker,) = daemon.workers
        inherited = Path(f"/proc/{worker}/environ").read_bytes()
        assert b"ONE_CIPHER_AUTH=" in inherited
        for name in (b"NOTIFY_SOCKET", b"LISTEN_", b"WATCHDOG_"):
            assert name not in inherited
        assert get_once(held.getsockname()[1], "/")[0] == 403


def test_the_socket_from_systemd_on_ssl_port_serves_tls(cloud: FurnishedCloud) -> None:
    """The other serves plain HTTP."""
    cert, key = write_server_pair(cloud.directory)
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as tls:
        port = tls.getsockname()[1]
        settings = {"workers": 1, "ssl_cert": str(cert), "ssl_key": str(key), "ssl_port": port}
        with Daemon(cloud, settings, sockets=[plain, tls]):
            trusting = ssl.create_default_context(cafile=cert)
            with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=STARTING, context=trusting)) as secure:
                assert get(secure, "/")[0] == 403
            assert get_once(plain.getsockname()[1], "/")[0] == 403
