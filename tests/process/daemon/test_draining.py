"""Stop signals: requests and changes are finished, connections are closed, and the daemon exits."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from lxml import etree

from tests.process.daemon.requesting import WORKERS, connection, get, get_once, is_closed, is_open, url
from tests.support.clients import v2_form
from tests.support.daemon import Daemon, signed_path
from tests.support.faulty_relay import FaultyRelay, Mode
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import STARTING, until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_lets_requests_finish_and_the_exit_code_is_0(
    cloud: FurnishedCloud, port: int, number: signal.Signals
) -> None:
    """The port closes at once; the connection with a request in progress is closed after its response."""
    relay = FaultyRelay(cloud.url)
    try:
        settings = {"port": port, "workers": WORKERS, "one_xmlrpc": relay.url}
        with Daemon(cloud, settings) as daemon, closing(connection(port)) as kept:
            path = signed_path(cloud.alice, url(port))
            assert get(kept, path) == (200, None)
            relay.set_mode(Mode.HELD)
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(get, kept, path)
                until(lambda: relay.held, "the request to be in progress", STARTING)
                daemon.signal(number)
                daemon.await_notification("STOPPING=1")
                until(lambda: not is_open(port), "the port to close", STARTING)
                assert daemon.process.poll() is None
                relay.set_mode(Mode.PASS)
                assert running.result(STARTING) == (200, "close")
            assert daemon.wait() == 0
    finally:
        relay.close()


def test_a_change_whose_client_has_disconnected_is_finished_before_the_exit(cloud: FurnishedCloud, port: int) -> None:
    """Although no connection is left."""
    relay, name = FaultyRelay(cloud.url), f"left-behind-{port}"
    try:
        with Daemon(cloud, {"port": port, "workers": 1, "one_xmlrpc": relay.url}) as daemon:
            assert get_once(port, signed_path(cloud.alice, url(port))) == (200, None)
            relay.set_mode(Mode.HELD)
            client = connection(port)
            client.request("GET", "/?" + v2_form(cloud.alice, url(port), {"Action": "CreateKeyPair", "KeyName": name}))
            until(lambda: relay.held, "the request to be in progress", STARTING)
            client.close()
            daemon.await_logged("0 ClientGone")
            daemon.signal(signal.SIGTERM)
            daemon.await_logged("draining: 0 connections to finish")
            relay.set_mode(Mode.PASS)
            assert daemon.wait() == 0
        assert name in etree.tostring(cloud.alice.oned.document("one.user.info", -1), encoding="unicode")
    finally:
        relay.close()


def test_a_persistent_connection_gets_one_more_response_and_is_closed_after_it(
    cloud: FurnishedCloud, port: int
) -> None:
    """Then no connection is left, and the daemon exits long before drain_timeout."""
    settings = {"port": port, "workers": 1, "drain_timeout": 600}
    with Daemon(cloud, settings) as daemon, closing(connection(port)) as kept:
        path = signed_path(cloud.alice, url(port))
        assert get(kept, path) == (200, None)
        daemon.signal(signal.SIGTERM)
        until(lambda: not is_open(port), "the port to close", STARTING)
        assert get(kept, path) == (200, "close")
        assert daemon.wait() == 0


def test_connections_are_closed_after_drain_timeout(cloud: FurnishedCloud, port: int) -> None:
    """Also an idle connection; the exit code is 0."""
    settings = {"port": port, "workers": 1, "drain_timeout": 0.5}
    with Daemon(cloud, settings) as daemon, closing(connection(port)) as kept:
        assert get(kept, signed_path(cloud.alice, url(port))) == (200, None)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert "closing 1 connections, 0 with a request in progress: not finished after 0.5 s" in daemon.text
        assert is_closed(kept)


def test_a_second_stop_signal_ends_the_daemon_immediately(cloud: FurnishedCloud, port: int) -> None:
    """And its workers, whatever drain_timeout is."""
    settings = {"port": port, "workers": WORKERS, "drain_timeout": 600}
    with Daemon(cloud, settings) as daemon, closing(connection(port)) as kept:
        assert get(kept, signed_path(cloud.alice, url(port))) == (200, None)
        daemon.signal(signal.SIGTERM)
        daemon.await_notification("STOPPING=1")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert is_closed(kept)


def test_one_process_without_a_supervisor_drains_the_same_way(cloud: FurnishedCloud, port: int) -> None:
    """With --listen. SIGHUP does not reload its configuration, and the log says so."""
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    settings = {"drain_timeout": 600, "workers": 3}
    with Daemon(cloud, settings, options=listen) as daemon, closing(connection(port)) as kept:
        assert daemon.workers == []
        assert "workers has no effect with --sandbox and --listen" in daemon.text
        path = signed_path(cloud.alice, url(port))
        assert get(kept, path) == (200, None)
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert "without a supervisor the configuration is not reloaded" in daemon.text
        daemon.signal(signal.SIGTERM)
        until(lambda: not is_open(port), "the port to close", STARTING)
        assert get(kept, path) == (200, "close")
        assert daemon.wait() == 0
