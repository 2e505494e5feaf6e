"""The daemon as processes: replacement of workers, signals, draining, new configurations, restarts.

Real processes on a sandbox. The clients of tests under load never retry, and no request may fail.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest
from lxml import etree

from tests.support.certificates import replace_file, write_server_pair
from tests.support.clients import v2_form
from tests.support.cloud_forms import furnished_cloud
from tests.support.daemon import ROOT, Daemon, Load, asked
from tests.support.faulty_relay import FaultyRelay, Mode
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.ports import free_port
from tests.support.processes import STARTING, until

pytestmark = pytest.mark.slow

WORKERS = 2


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FurnishedCloud]:
    """An oned with a user account."""
    with furnished_cloud("7.4", tmp_path_factory.mktemp("cloud")) as furnished:
        yield furnished


@pytest.fixture
def port() -> int:
    """The port on which the daemon listens."""
    return free_port()


def url(port: int) -> str:
    """Return the URL for clients."""
    return f"http://127.0.0.1:{port}/"


def connection(port: int) -> http.client.HTTPConnection:
    """Return a persistent connection."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=STARTING)


def answer(kept: http.client.HTTPConnection, path: str) -> tuple[int, str | None]:
    """Send a request, and return the status and the Connection header of the response."""
    kept.request("GET", path)
    response = kept.getresponse()
    response.read()
    return response.status, response.getheader("connection")


def once(port: int, path: str) -> tuple[int, str | None]:
    """Send a request on a new connection, and return as `answer`."""
    with closing(connection(port)) as short:
        return answer(short, path)


def is_closed(kept: http.client.HTTPConnection) -> bool:
    """Whether the server has closed or reset a connection."""
    assert kept.sock is not None
    try:
        return kept.sock.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open(port: int) -> bool:
    """Whether a process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Several workers


def test_all_workers_serve_and_a_killed_worker_is_replaced_while_the_port_stays_open(
    cloud: FurnishedCloud, port: int
) -> None:
    """Killed by SIGKILL, as the kernel does when memory is exhausted."""
    path = asked(cloud.alice, url(port))
    with Daemon(cloud, {"port": port, "workers": WORKERS}) as daemon:
        first = daemon.workers
        assert len(first) == WORKERS

        def served() -> bool:
            with ThreadPoolExecutor(8) as pool:
                assert set(pool.map(lambda _: once(port, path), range(16))) == {(200, None)}
            return all(f"worker {number}] DescribeInstances" in daemon.text for number in (1, 2))

        until(served, "both workers to serve", STARTING)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(set(daemon.workers) - set(first)) == 1, "another worker", STARTING)
        for _ in range(8):
            assert once(port, path) == (200, None)
        daemon.await_logged("listens", WORKERS + 1)
        assert "died: signal SIGKILL" in daemon.text
        assert first[1] in daemon.workers


def test_a_worker_that_receives_sigterm_drains_and_is_replaced(cloud: FurnishedCloud, port: int) -> None:
    """No request fails, and its exit is not logged as an error."""
    with Daemon(cloud, {"port": port, "workers": 1}) as daemon, Load(cloud.alice, url(port)) as load:
        (alone,) = daemon.workers
        os.kill(alone, signal.SIGTERM)
        until(lambda: alone not in daemon.workers, "its exit", STARTING)
        load.go_on(20)
        assert "exited: exit code 0" in daemon.text
        assert "died" not in daemon.text
    assert load.failures == []


def test_a_worker_that_hangs_is_killed_and_replaced(cloud: FurnishedCloud, port: int) -> None:
    """SIGSTOP makes it hang. Missed health checks are counted, so the test takes as long as they do."""
    environ = {"PYTHONPATH": with_short_checks(cloud.directory)}
    with Daemon(cloud, {"port": port, "workers": 1}, environ=environ) as daemon:
        (hung,) = daemon.workers
        os.kill(hung, signal.SIGSTOP)
        until(lambda: hung not in daemon.workers and daemon.workers, "another worker", STARTING)
        daemon.await_logged("listens", 2)
        assert ": no report for" in daemon.text


def with_short_checks(directory: Path) -> str:
    """Return a PYTHONPATH with which the supervisor checks its workers more often."""
    site = directory / "short-checks"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(
        "import econed.process.supervisor as s\ns.CHECK_INTERVAL, s.MAX_MISSED_REPORTS = 0.2, 15\n", "utf-8"
    )
    return f"{site}:{Path(__file__).parents[2]}"


def test_workers_exit_when_their_supervisor_was_killed(cloud: FurnishedCloud, port: int) -> None:
    """Otherwise they would keep the port, without supervision."""
    with Daemon(cloud, {"port": port, "workers": WORKERS}) as daemon:
        workers = daemon.workers
        daemon.process.kill()
        daemon.wait()
        for pid in workers:
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"the exit of {pid}", STARTING)  # type: ignore[misc]
    assert "draining: the supervisor has exited" in daemon.text


def test_every_worker_has_its_share_of_the_limits_of_the_daemon(cloud: FurnishedCloud, port: int) -> None:
    """One request of a burst of two, with two workers: one worker serves the connection."""
    settings = {"port": port, "workers": WORKERS, "rate_limit": 0.001, "rate_burst": WORKERS}
    with Daemon(cloud, settings), closing(connection(port)) as kept:
        path = asked(cloud.alice, url(port))
        assert [answer(kept, path)[0] for _ in range(2)] == [200, 503]


def test_a_trusted_proxy_may_open_any_number_of_connections(cloud: FurnishedCloud, port: int) -> None:
    """Two, where other addresses may open one."""
    settings = {"port": port, "workers": 1, "max_connections_per_address": 1, "trusted_proxies": "127.0.0.1"}
    with Daemon(cloud, settings), closing(connection(port)) as first, closing(connection(port)) as second:
        assert [answer(kept, "/")[0] for kept in (first, second, first)] == [403] * 3


# Draining and exit


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_lets_requests_finish_and_the_exit_code_is_0(
    cloud: FurnishedCloud, port: int, number: signal.Signals
) -> None:
    """The port closes at once; the connection with a request in progress is closed after its response."""
    relay = FaultyRelay(cloud.url)
    try:
        settings = {"port": port, "workers": WORKERS, "one_xmlrpc": relay.url}
        with Daemon(cloud, settings) as daemon, closing(connection(port)) as kept:
            path = asked(cloud.alice, url(port))
            assert answer(kept, path) == (200, None)
            relay.set_mode(Mode.HELD)
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(answer, kept, path)
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
            assert once(port, asked(cloud.alice, url(port))) == (200, None)
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
        path = asked(cloud.alice, url(port))
        assert answer(kept, path) == (200, None)
        daemon.signal(signal.SIGTERM)
        until(lambda: not is_open(port), "the port to close", STARTING)
        assert answer(kept, path) == (200, "close")
        assert daemon.wait() == 0


def test_connections_are_closed_after_drain_timeout(cloud: FurnishedCloud, port: int) -> None:
    """Also an idle connection; the exit code is 0."""
    settings = {"port": port, "workers": 1, "drain_timeout": 0.5}
    with Daemon(cloud, settings) as daemon, closing(connection(port)) as kept:
        assert answer(kept, asked(cloud.alice, url(port))) == (200, None)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert "closing 1 connections, 0 with a request in progress: not finished after 0.5 s" in daemon.text
        assert is_closed(kept)


def test_a_second_stop_signal_ends_the_daemon_immediately(cloud: FurnishedCloud, port: int) -> None:
    """And its workers, whatever drain_timeout is."""
    settings = {"port": port, "workers": WORKERS, "drain_timeout": 600}
    with Daemon(cloud, settings) as daemon, closing(connection(port)) as kept:
        assert answer(kept, asked(cloud.alice, url(port))) == (200, None)
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
        path = asked(cloud.alice, url(port))
        assert answer(kept, path) == (200, None)
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert "without a supervisor the configuration is not reloaded" in daemon.text
        daemon.signal(signal.SIGTERM)
        until(lambda: not is_open(port), "the port to close", STARTING)
        assert answer(kept, path) == (200, "close")
        assert daemon.wait() == 0


# No request is lost


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


# Refused configurations


def test_an_invalid_configuration_is_refused_and_the_old_one_stays_in_use(cloud: FurnishedCloud, port: int) -> None:
    """The log has the reason. When it is corrected, it is used."""
    with Daemon(cloud, {"port": port, "workers": 1}) as daemon:
        before = daemon.workers
        daemon.configure({"port": port, "workers": 1, "drain_timeout": "soon"})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert "drain_timeout: expected a number of seconds" in daemon.text
        assert daemon.workers == before
        assert once(port, asked(cloud.alice, url(port))) == (200, None)
        daemon.configure({"port": port, "workers": 1, "drain_timeout": 5})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 3)
        until(lambda: not set(before) & set(daemon.workers), "the old worker to exit", STARTING)


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
        assert re.search(r"^econe: the configuration cannot be used:\n\S+/bad\.erb:2: ", failing.text), failing.text
        assert "worker" not in failing.text
    finally:
        failing.kill()
    with Daemon(cloud, {"port": port}) as daemon:
        daemon.configure(bad)
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert "bad.erb:2: " in daemon.text
        assert once(port, asked(cloud.alice, url(port))) == (200, None)


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
        assert answer(kept, "/") == (403, None)
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
        assert answer(kept, "/") == (403, "close")


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
    environ = {"ONE_CIPHER_AUTH": str(credentials), "PYTHONPATH": f"{site}:{Path(__file__).parents[2]}"}
    daemon = Daemon(cloud, {"port": port, "workers": WORKERS}, environ=environ)
    try:
        assert daemon.wait() == 1
        assert daemon.text.count(" died: ") == WORKERS
        assert f"looked for {credentials}" in daemon.text
        assert "no worker can start: exiting" in daemon.text
        assert "READY=1" not in daemon.read_notifications()
    finally:
        daemon.kill()


# systemd


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
        once(port, asked(cloud.alice, url(port)))  # so `idle`, which connected earlier, was accepted
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
        assert once(held.getsockname()[1], "/")[0] == 403


def test_of_the_sockets_from_systemd_the_one_on_ssl_port_serves_tls(cloud: FurnishedCloud) -> None:
    """The other serves plain HTTP."""
    cert, key = write_server_pair(cloud.directory)
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as tls:
        port = tls.getsockname()[1]
        settings = {"workers": 1, "ssl_cert": str(cert), "ssl_key": str(key), "ssl_port": port}
        with Daemon(cloud, settings, sockets=[plain, tls]):
            trusting = ssl.create_default_context(cafile=cert)
            with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=STARTING, context=trusting)) as secure:
                assert answer(secure, "/")[0] == 403
            assert once(plain.getsockname()[1], "/")[0] == 403


# Administrator's port and log


def test_the_administrators_port_adds_up_the_workers_and_moves_on_reload(cloud: FurnishedCloud, port: int) -> None:
    """The supervisor listens on it."""
    admin, other = free_port(), free_port()
    with Daemon(cloud, {"port": port, "workers": WORKERS, "admin_port": admin}) as daemon:
        path = asked(cloud.alice, url(port))
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: once(port, path)[0], range(20))) == {200}
        with urlopen(f"http://127.0.0.1:{admin}/metrics") as page:
            numbers = page.read().decode()
        assert 'econed_requests_total{action="DescribeInstances",code="ok"} 20.0' in numbers
        assert f"econed_workers {WORKERS}.0" in numbers
        for name in ("econed_oned_calls_in_flight", "econed_oned_calls_waiting", "econed_connections"):
            assert f"\n{name} " in numbers, f"{name} is missing"
        daemon.configure({"port": port, "workers": WORKERS, "admin_port": other})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        until(lambda: is_open(other) and not is_open(admin), "the port to move", STARTING)
        with urlopen(f"http://127.0.0.1:{other}/metrics") as page:
            assert 'econed_requests_total{action="DescribeInstances",code="ok"} 20.0' in page.read().decode()


def test_sigusr1_makes_all_processes_reopen_the_log_file(cloud: FurnishedCloud, port: int) -> None:
    """After it was renamed."""
    log, moved = cloud.directory / "econe.log", cloud.directory / "econe.log.1"
    with Daemon(cloud, {"port": port, "workers": WORKERS, "log_file": str(log)}) as daemon:
        log.rename(moved)
        daemon.signal(signal.SIGUSR1)
        until(log.exists, "the new file", STARTING)
        path = asked(cloud.alice, url(port))

        def both_write() -> bool:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: once(port, path), range(16)))
            return all(f"worker {number}] DescribeInstances" in log.read_text("utf-8") for number in (1, 2))

        until(both_write, "both workers to write to the new file", STARTING)


def test_sighup_reopens_the_log_file_before_anything_is_logged(
    cloud: FurnishedCloud, port: int, tmp_path: Path
) -> None:
    """Also in the supervisor."""
    log, moved = tmp_path / "econe.log", tmp_path / "econe.log.1"
    with Daemon(cloud, {"port": port, "workers": 1, "log_file": str(log)}) as daemon:
        log.rename(moved)
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        message = "starting workers on the new configuration"
        assert (message in log.read_text("utf-8"), message in moved.read_text("utf-8")) == (True, False)


def test_a_new_configuration_may_change_the_log_file_and_its_format(
    cloud: FurnishedCloud, port: int, tmp_path: Path
) -> None:
    """For the workers and the supervisor."""
    settings, log = {"port": port, "workers": 1, "log_file": str(tmp_path / "old.log")}, tmp_path / "new.log"
    with Daemon(cloud, settings) as daemon:
        daemon.configure({**settings, "log_file": str(log), "log_format": "json"})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert "all workers have exited" in [line["message"] for line in lines if "worker" not in line]
    assert "drained: all requests are finished" in [line["message"] for line in lines if line.get("worker") == 1]
