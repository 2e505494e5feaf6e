"""The daemon as processes: workers that die and are replaced, signals, drains, new configurations, new processes.

Real processes on a sandbox. What is tried under load has clients that try nothing twice, and no failure is allowed.
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
from contextlib import closing, contextmanager
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
    """An oned with a user."""
    with furnished_cloud("7.4", tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def port() -> int:
    """Where the daemon is to listen."""
    return free_port()


def url(port: int) -> str:
    """Return where clients find it."""
    return f"http://127.0.0.1:{port}/"


def connection(port: int) -> http.client.HTTPConnection:
    """Return a connection that is kept."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=STARTING)


def answer(kept: http.client.HTTPConnection, path: str) -> tuple[int, str | None]:
    """Ask, and return the status and the header Connection."""
    kept.request("GET", path)
    response = kept.getresponse()
    response.read()
    return response.status, response.getheader("connection")


@contextmanager
def ended(daemons: list[Daemon]) -> Iterator[list[Daemon]]:
    """See to it that none of them runs on."""
    try:
        yield daemons
    finally:
        for each in daemons:
            each.kill()


def once(port: int, path: str) -> tuple[int, str | None]:
    """Ask on a connection of its own."""
    with closing(connection(port)) as short:
        return answer(short, path)


def is_cut(kept: http.client.HTTPConnection) -> bool:
    """Whether the other side has closed a connection, in whichever way."""
    assert kept.sock is not None
    try:
        return kept.sock.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open(port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# Side by side


def test_all_workers_serve_and_a_dead_one_is_replaced_while_the_port_goes_on(cloud: FurnishedCloud, port: int) -> None:
    """Killed as the kernel does it when memory is short."""
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
        daemon.await_logged("serves", WORKERS + 1)
        assert "has died: signal SIGKILL" in daemon.text
        assert first[1] in daemon.workers


def test_a_worker_alone_that_is_told_to_end_drains_and_is_replaced(cloud: FurnishedCloud, port: int) -> None:
    """Its end is no death, and nothing is missing meanwhile."""
    with Daemon(cloud, {"port": port, "workers": 1}) as daemon, Load(cloud.alice, url(port)) as load:
        (alone,) = daemon.workers
        os.kill(alone, signal.SIGTERM)
        until(lambda: alone not in daemon.workers, "its end", STARTING)
        load.go_on(20)
        assert "has ended: exit code 0" in daemon.text
        assert "has died" not in daemon.text
    assert load.failures == []


def test_a_worker_that_hangs_is_killed_and_replaced(cloud: FurnishedCloud, port: int) -> None:
    """It is stopped here; the looks are what is counted, so this takes as long as they do."""
    with Daemon(cloud, {"port": port, "workers": 1}, environ={"PYTHONPATH": hurried(cloud.directory)}) as daemon:
        (hung,) = daemon.workers
        os.kill(hung, signal.SIGSTOP)
        until(lambda: hung not in daemon.workers and daemon.workers, "another worker", STARTING)
        daemon.await_logged("serves", 2)
        assert "has not reported for" in daemon.text


def hurried(directory: Path) -> str:
    """Return a PYTHONPATH with which the supervisor is quick to take silence for a hanging reactor."""
    site = directory / "hurried"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(
        "import econed.process.supervisor\neconed.supervisor.LOOK_EVERY, econed.supervisor.QUIET = 0.2, 15\n", "utf-8"
    )
    return f"{site}:{Path(__file__).parents[2]}"


def test_without_their_supervisor_workers_end_too(cloud: FurnishedCloud, port: int) -> None:
    """Nobody would look after them, and the port would be taken for the next."""
    with Daemon(cloud, {"port": port, "workers": WORKERS}) as daemon:
        workers = daemon.workers
        daemon.process.kill()
        daemon.wait()
        for pid in workers:
            until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"the end of {pid}", STARTING)  # type: ignore[misc]
    assert "the supervisor is gone" in daemon.text


def test_every_worker_has_its_share_of_what_the_whole_daemon_may(cloud: FurnishedCloud, port: int) -> None:
    """Of a burst of two requests one, with two workers: on one connection there is one of them."""
    settings = {"port": port, "workers": WORKERS, "rate_limit": 0.001, "rate_burst": WORKERS}
    with Daemon(cloud, settings), closing(connection(port)) as kept:
        path = asked(cloud.alice, url(port))
        assert [answer(kept, path)[0] for _ in range(2)] == [200, 503]


def test_a_proxy_that_is_trusted_may_have_any_number_of_connections(cloud: FurnishedCloud, port: int) -> None:
    """Here two, where anybody else may have one."""
    settings = {"port": port, "workers": 1, "max_connections_per_address": 1, "trusted_proxies": "127.0.0.1"}
    with Daemon(cloud, settings), closing(connection(port)) as one, closing(connection(port)) as other:
        assert [answer(each, "/")[0] for each in (one, other, one)] == [403] * 3


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_finishes_the_requests_under_way_and_exits_with_0(
    cloud: FurnishedCloud, port: int, number: signal.Signals
) -> None:
    """No new connections meanwhile; the kept one whose request runs is closed after its answer."""
    relay = FaultyRelay(cloud.url)
    try:
        with Daemon(cloud, {"port": port, "workers": WORKERS, "one_xmlrpc": relay.url}) as daemon:
            kept = connection(port)
            path = asked(cloud.alice, url(port))
            assert answer(kept, path) == (200, None)
            relay.set_mode(Mode.HELD)
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(answer, kept, path)
                until(lambda: relay.held, "the request to be under way", STARTING)
                daemon.signal(number)
                daemon.await_notification("STOPPING=1")
                until(lambda: not is_open(port), "the port to close", STARTING)
                assert daemon.process.poll() is None
                relay.set_mode(Mode.PASS)
                assert running.result(STARTING) == (200, "close")
            assert daemon.wait() == 0
    finally:
        relay.close()


def test_a_change_for_which_nobody_waits_any_more_is_finished_before_the_end(cloud: FurnishedCloud, port: int) -> None:
    """Its client has gone away, and no connection is left."""
    relay, name = FaultyRelay(cloud.url), f"left-behind-{port}"
    try:
        with Daemon(cloud, {"port": port, "workers": 1, "one_xmlrpc": relay.url}) as daemon:
            assert once(port, asked(cloud.alice, url(port))) == (200, None)
            relay.set_mode(Mode.HELD)
            gone = connection(port)
            gone.request("GET", "/?" + v2_form(cloud.alice, url(port), {"Action": "CreateKeyPair", "KeyName": name}))
            until(lambda: relay.held, "the request to be under way", STARTING)
            gone.close()
            daemon.await_logged("0 ClientGone")
            daemon.signal(signal.SIGTERM)
            daemon.await_logged("drains: no new connections, 0 to finish")
            relay.set_mode(Mode.PASS)
            assert daemon.wait() == 0
        assert name in etree.tostring(cloud.alice.oned.document("one.user.info", -1), encoding="unicode")
    finally:
        relay.close()


def test_a_connection_that_is_kept_gets_one_more_answer_and_is_closed_with_it(cloud: FurnishedCloud, port: int) -> None:
    """And then nothing is left, and the daemon ends long before drain_timeout."""
    with Daemon(cloud, {"port": port, "workers": 1, "drain_timeout": 600}) as daemon:
        kept, path = connection(port), asked(cloud.alice, url(port))
        assert answer(kept, path) == (200, None)
        daemon.signal(signal.SIGTERM)
        until(lambda: not is_open(port), "the port to close", STARTING)
        assert answer(kept, path) == (200, "close")
        assert daemon.wait() == 0


def test_what_is_not_finished_in_time_is_cut(cloud: FurnishedCloud, port: int) -> None:
    """An idle connection too; the exit code is 0 all the same."""
    with Daemon(cloud, {"port": port, "workers": 1, "drain_timeout": 0.5}) as daemon:
        kept = connection(port)
        assert answer(kept, asked(cloud.alice, url(port))) == (200, None)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert "1 connections were left" in daemon.text
        assert is_cut(kept)


def test_told_a_second_time_it_ends_at_once(cloud: FurnishedCloud, port: int) -> None:
    """With its workers, however much time they were to have."""
    with Daemon(cloud, {"port": port, "workers": WORKERS, "drain_timeout": 600}) as daemon:
        kept = connection(port)
        assert answer(kept, asked(cloud.alice, url(port))) == (200, None)
        daemon.signal(signal.SIGTERM)
        daemon.await_notification("STOPPING=1")
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert is_cut(kept)


def test_one_process_without_a_supervisor_drains_the_same_way(cloud: FurnishedCloud, port: int) -> None:
    """That of --listen; SIGHUP leaves its configuration, which it says."""
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    with Daemon(cloud, {"drain_timeout": 600, "workers": 3}, options=listen) as daemon:
        assert daemon.workers == []
        assert "workers has no effect with --sandbox and --listen" in daemon.text
        kept, path = connection(port), asked(cloud.alice, url(port))
        assert answer(kept, path) == (200, None)
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        assert "keeps its settings" in daemon.text
        daemon.signal(signal.SIGTERM)
        until(lambda: not is_open(port), "the port to close", STARTING)
        assert answer(kept, path) == (200, "close")
        assert daemon.wait() == 0


# Nothing is lost


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "over TLS"])
def test_a_new_configuration_under_load_loses_no_request(
    cloud: FurnishedCloud, port: int, tmp_path: Path, *, with_tls: bool
) -> None:
    """Twice, with other numbers of workers; the port never closes."""
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
            until(lambda old=old: not old & set(daemon.workers), "the old workers to end", STARTING)  # type: ignore[misc]
            assert len(daemon.workers) == workers
            load.go_on(20)
    assert load.failures == []
    assert load.closed >= 4, "connections to the old workers were closed after an answer"


def test_a_restart_under_socket_activation_loses_no_request_under_load(cloud: FurnishedCloud) -> None:
    """The socket is held by somebody else, as systemd does; process after process is given it."""
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


# What is refused


def test_a_bad_configuration_is_refused_and_the_old_one_serves_on(cloud: FurnishedCloud, port: int) -> None:
    """With the reason in the log; once it is mended it is taken."""
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
        until(lambda: not set(before) & set(daemon.workers), "the old worker to end", STARTING)


def test_a_file_of_an_instance_type_that_is_not_understood_is_refused_before_any_worker_starts(
    cloud: FurnishedCloud, port: int
) -> None:
    """At the start by one line with file and line, on SIGHUP by the log, and what serves serves on."""
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


def test_new_certificates_are_taken_on_a_hangup_and_bad_ones_refused(
    cloud: FurnishedCloud, port: int, tmp_path: Path
) -> None:
    """They are for new workers; a connection that is there is not dropped."""
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
        assert f"the old one stays: {cert}: ssl_cert: is not the certificate of the key in {key}" in daemon.text
        assert shown().split() == old.split()
        replace_file(key, new_key.read_bytes())
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 3)
        daemon.await_logged("drains: no new connections")
        assert shown().split() == new.split()
        assert answer(kept, "/") == (403, "close")


def test_plain_http_where_others_can_reach_it_is_warned_of_at_the_start(cloud: FurnishedCloud, port: int) -> None:
    """And on loopback it is not."""
    everywhere = "0.0.0.0"
    with Daemon(cloud, {"host": everywhere, "port": port}) as daemon:
        assert f"plain HTTP on {everywhere}:{port}, which other machines can reach" in daemon.text
    with Daemon(cloud, {"port": port}) as daemon:
        assert "plain HTTP on" not in daemon.text


def test_a_port_that_is_taken_ends_the_start_with_one_line(cloud: FurnishedCloud) -> None:
    """On standard error, without a traceback, and with an exit code that says so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(cloud, {"port": port})
        try:
            assert daemon.wait() == 1
            assert daemon.text == f"econe: nothing can listen on 127.0.0.1:{port}: Address already in use\n"
        finally:
            daemon.kill()


def test_if_no_worker_can_start_the_daemon_ends_with_an_error_and_not_in_a_circle(
    cloud: FurnishedCloud, port: int
) -> None:
    """What keeps them from it is said; here the credentials go away after the supervisor has read them."""
    away = cloud.directory / "away"
    away.write_text("serveradmin:serverpassword\n", "ascii")
    site = cloud.directory / "thief"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import os, econed.process.spawning as s\n"
        f"real = s.Spawner.__call__\n"
        f"def call(*given):\n"
        f"    if os.path.exists({str(away)!r}):\n"
        f"        os.remove({str(away)!r})\n"
        f"    return real(*given)\n"
        f"s.Spawner.__call__ = call\n",
        "utf-8",
    )
    environ = {"ONE_CIPHER_AUTH": str(away), "PYTHONPATH": f"{site}:{Path(__file__).parents[2]}"}
    daemon = Daemon(cloud, {"port": port, "workers": WORKERS}, environ=environ)
    try:
        assert daemon.wait() == 1
        assert daemon.text.count("has died") == WORKERS
        assert f"looked for {away}" in daemon.text
        assert "no worker can start: the daemon ends" in daemon.text
        assert "READY=1" not in daemon.read_notifications()
    finally:
        daemon.kill()


# systemd


def test_it_is_ready_although_oned_is_down_and_keeps_the_watchdog_quiet(cloud: FurnishedCloud, port: int) -> None:
    """A cloud may boot with oned still to come; that is what /readyz tells."""
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


def test_where_the_clock_is_put_back_nothing_waits_until_it_is_that_late_again(
    cloud: FurnishedCloud, port: int, tmp_path: Path
) -> None:
    """The watchdog hears of the supervisor, and a worker closes the idle connection that it had before."""
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
        once(port, asked(cloud.alice, url(port)))  # who connected first has been accepted
        replace_file(set_by, b"-3600")
        daemon.await_notification("WATCHDOG=1", daemon.read_notifications().count("WATCHDOG=1") + 3)
        assert idle.recv(1) == b""


def test_nothing_of_systemds_variables_reaches_the_workers(cloud: FurnishedCloud) -> None:
    """Nor the scripts that they run."""
    environ = {"WATCHDOG_USEC": "5000000"}
    with (
        socket.create_server(("127.0.0.1", 0)) as held,
        Daemon(cloud, {"workers": 1}, sockets=[held], environ=environ) as daemon,
    ):
        (worker,) = daemon.workers
        seen = Path(f"/proc/{worker}/environ").read_bytes()
        assert b"ONE_CIPHER_AUTH=" in seen
        for name in (b"NOTIFY_SOCKET", b"LISTEN_", b"WATCHDOG_"):
            assert name not in seen
        assert once(held.getsockname()[1], "/")[0] == 403


def test_of_handed_sockets_that_on_ssl_port_speaks_tls(cloud: FurnishedCloud) -> None:
    """And the other plain HTTP."""
    cert, key = write_server_pair(cloud.directory)
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as tls:
        port = tls.getsockname()[1]
        settings = {"workers": 1, "ssl_cert": str(cert), "ssl_key": str(key), "ssl_port": port}
        with Daemon(cloud, settings, sockets=[plain, tls]):
            trusting = ssl.create_default_context(cafile=cert)
            with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=STARTING, context=trusting)) as secure:
                assert answer(secure, "/")[0] == 403
            assert once(plain.getsockname()[1], "/")[0] == 403


# Where everything comes together


def test_the_administrators_port_sums_up_and_moves_with_the_configuration(cloud: FurnishedCloud, port: int) -> None:
    """It is the supervisor's."""
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
            assert f"\n{name} " in numbers, f"nobody has said {name}"
        daemon.configure({"port": port, "workers": WORKERS, "admin_port": other})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        until(lambda: is_open(other) and not is_open(admin), "the port to move", STARTING)
        with urlopen(f"http://127.0.0.1:{other}/metrics") as page:
            assert 'econed_requests_total{action="DescribeInstances",code="ok"} 20.0' in page.read().decode()


def test_the_log_of_all_processes_is_opened_anew(cloud: FurnishedCloud, port: int) -> None:
    """After it has been moved away, on SIGUSR1."""
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


def test_a_hangup_opens_the_log_anew_before_it_says_anything(cloud: FurnishedCloud, port: int, tmp_path: Path) -> None:
    """Also that of the supervisor."""
    log, moved = tmp_path / "econe.log", tmp_path / "econe.log.1"
    with Daemon(cloud, {"port": port, "workers": 1, "log_file": str(log)}) as daemon:
        log.rename(moved)
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        said = "a new configuration is read"
        assert (said in log.read_text("utf-8"), said in moved.read_text("utf-8")) == (True, False)


def test_a_new_configuration_may_name_another_log(cloud: FurnishedCloud, port: int, tmp_path: Path) -> None:
    """It is then that of the workers and of the supervisor itself, in the form that it names."""
    settings, log = {"port": port, "workers": 1, "log_file": str(tmp_path / "old.log")}, tmp_path / "new.log"
    with Daemon(cloud, settings) as daemon:
        daemon.configure({**settings, "log_file": str(log), "log_format": "json"})
        daemon.signal(signal.SIGHUP)
        daemon.await_notification("READY=1", 2)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert "all workers have ended" in [each["message"] for each in lines if "worker" not in each]
    assert "nothing is left to finish" in [each["message"] for each in lines if each.get("worker") == 1]
