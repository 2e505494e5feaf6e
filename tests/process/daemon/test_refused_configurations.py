"""Configurations with which no worker can start: the old one stays in use, or the daemon exits."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest

from tests.process.daemon.requesting import WORKERS, get, get_once, url
from tests.support.certificates import replace_file, write_server_pair
from tests.support.daemon import ROOT, Daemon, signed_path
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import STARTING, until

pytestmark = pytest.mark.slow


def test_an_invalid_configuration_is_refused_and_the_old_one_stays_in_use(cloud: FurnishedCloud, port: int) -> None:
    """The log has the reason. When it is corrected, it is used."""
    with Daemon(cloud, {"port": port, "workers": 1}) as daemon:
        before = daemon.workers
        daemon.configure({"port": port, "workers": 1, "drain_timeout": "soon"})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert "drain_timeout: expected a number of seconds" in daemon.text
        assert daemon.workers == before
        assert get_once(port, signed_path(cloud.alice, url(port))) == (200, None)
        daemon.configure({"port": port, "workers": 1, "drain_timeout": 5})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 3)
        until(lambda: not set(before) & set(daemon.workers), "the old worker to exit", STARTING)


def test_a_log_that_cannot_be_opened_is_refused(cloud: FurnishedCloud, port: int) -> None:
    """The daemon would go on without a word in it."""
    with Daemon(cloud, {"port": port}) as daemon:
        daemon.configure({"port": port, "log_file": str(cloud.directory)})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert f"{cloud.directory}: log_file: the log cannot be opened: Is a directory" in daemon.text


def test_an_invalid_file_of_an_instance_type_is_refused_before_any_worker_starts(
    cloud: FurnishedCloud, port: int
) -> None:
    """At the start with file and line on standard error, on SIGHUP in the log; the old workers go on."""
    files = cloud.directory / "ec2query_templates"
    files.mkdir(exist_ok=True)
    (files / "bad.erb").write_text('CPU="1"\n<% system("id") %>\n', "ascii")
    bad = {"port": port, "use_file_templates": True, "instance_types": {"m1.small": {"template": "bad.erb"}}}
    failing = Daemon(cloud, bad)
    try:
        assert failing.wait() == 1
        assert re.search(r"^econe: invalid configuration:\n\S+/bad\.erb:2: ", failing.text), failing.text
        assert "worker" not in failing.text
    finally:
        failing.kill()
    with Daemon(cloud, {"port": port}) as daemon:
        daemon.configure(bad)
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert "bad.erb:2: " in daemon.text
        assert get_once(port, signed_path(cloud.alice, url(port))) == (200, None)


def test_sighup_loads_new_certificates_and_refuses_invalid_ones(
    cloud: FurnishedCloud, port: int, tmp_path: Path
) -> None:
    """New workers use them; existing connections stay open."""
    (tmp_path / "new").mkdir()
    (cert, key), (new_cert, new_key) = write_server_pair(tmp_path), write_server_pair(tmp_path / "new")
    old, new = cert.read_text("ascii"), new_cert.read_text("ascii")
    trusting = ssl.create_default_context(cadata=old)

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=STARTING)

    settings = {"port": port, "workers": 1, "ssl_cert": str(cert), "ssl_key": str(key)}
    with (
        Daemon(cloud, settings) as daemon,
        closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=STARTING, context=trusting)) as kept,
    ):
        assert get(kept, "/") == (403, None)
        replace_file(cert, new.encode())
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert f"keeping the old one: {cert}: ssl_cert: is not the certificate of the key in {key}" in daemon.text
        assert shown().split() == old.split()
        replace_file(key, new_key.read_bytes())
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 3)
        daemon.await_logged("draining: ")
        assert shown().split() == new.split()
        assert get(kept, "/") == (403, "close")


def test_plain_http_on_an_address_that_others_can_reach_is_logged_as_a_warning(
    cloud: FurnishedCloud, port: int
) -> None:
    """Not on loopback."""
    everywhere = "0.0.0.0"
    with Daemon(cloud, {"host": everywhere, "port": port}) as daemon:
        assert f"plain HTTP on {everywhere}:{port}, which other machines can reach" in daemon.text
    with Daemon(cloud, {"port": port}) as daemon:
        assert "plain HTTP on" not in daemon.text


def test_a_port_in_use_ends_the_start_with_one_line_and_exit_code_1(cloud: FurnishedCloud) -> None:
    """On standard error, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        daemon = Daemon(cloud, {"port": port})
        try:
            assert daemon.wait() == 1
            assert daemon.text == f"econe: nothing can listen on 127.0.0.1:{port}: Address already in use\n"
        finally:
            daemon.kill()


def test_if_no_worker_can_start_the_daemon_exits_with_an_error_without_a_restart(
    cloud: FurnishedCloud, port: int
) -> None:
    """The log has the reason: here the credentials are removed after the supervisor has read them."""
    credentials = cloud.directory / "removed"
    credentials.write_text("serveradmin:serverpassword\n", "ascii")
    site = cloud.directory / "remover"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import os, econed.process.spawning as s\n"
        f"real = s.Spawner.__call__\n"
        f"def call(*args):\n"
        f"    if os.path.exists({str(credentials)!r}):\n"
        f"        os.remove({str(credentials)!r})\n"
        f"    return real(*args)\n"
        f"s.Spawner.__call__ = call\n",
        "utf-8",
    )
    environ = {"ONE_CIPHER_AUTH": str(credentials), "PYTHONPATH": f"{site}:{ROOT}"}
    daemon = Daemon(cloud, {"port": port, "workers": WORKERS}, environ=environ)
    try:
        assert daemon.wait() == 1
        assert daemon.text.count(" died: ") == WORKERS
        assert f"looked for {credentials}" in daemon.text
        assert "no worker can start: exiting" in daemon.text
        assert "READY=1" not in daemon.read_notifications()
    finally:
        daemon.kill()
