"""The admin port of real daemons: metrics match what clients did, and no counter decreases."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from tests.support.clients import boto, refusal, send, upload_form
from tests.support.cloud_forms import furnished_cloud
from tests.support.daemon import Daemon
from tests.support.econed_process import Person, twistd
from tests.support.faulty_relay import FaultyRelay, Mode
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.metrics import parse_exposition
from tests.support.ports import free_port
from tests.support.processes import STARTING, Process, until
from tests.support.raw_oned import RawOned

pytestmark = pytest.mark.slow

Values = Mapping[tuple[Any, ...], float]

DETECTION_TIMEOUT = 60.0
"""Seconds within which an unreachable oned must be detected; the guide promises less."""


class AdminPort:
    """The admin port of a daemon."""

    def __init__(self) -> None:
        self.number = free_port()

    def fetch(self, path: str) -> tuple[int, str]:
        """Return status and text of a path; status 0 if nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.number, timeout=STARTING)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except ConnectionRefusedError:
            return 0, ""
        finally:
            connection.close()

    def values(self) -> Values:
        """Return the values that Prometheus would scrape now."""
        status, text = self.fetch("/metrics")
        assert status == 200, text
        return parse_exposition(text)

    def await_status(self, path: str, status: int) -> str:
        """Wait until a path has a status, and return its text."""
        until(lambda: self.fetch(path)[0] == status, f"{path} to be {status}", DETECTION_TIMEOUT)
        return self.fetch(path)[1]


@pytest.fixture
def port() -> AdminPort:
    """A port on which nothing listens yet."""
    return AdminPort()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FurnishedCloud]:
    """An oned with users."""
    with furnished_cloud("7.4", tmp_path_factory.mktemp("cloud")) as furnished:
        yield furnished


def url_of(settings: Mapping[str, object]) -> str:
    """Return the URL of a daemon."""
    return f"http://127.0.0.1:{settings['port']}/"


def settings_for(port: AdminPort, **more: object) -> dict[str, object]:
    """Return settings with an admin port, and a drain timeout too short for clients that keep connections open."""
    return {"port": free_port(), "admin_port": port.number, "drain_timeout": 1, **more}


def requests(values: Values) -> dict[tuple[str, str], float]:
    """Return the number of requests by action and code."""
    return {key[1:]: value for key, value in values.items() if key[0] == "econed_requests_total"}


def counters(values: Values) -> dict[tuple[Any, ...], float]:
    """Return the values that must never decrease; CPU time does when a process is killed."""
    suffixes = ("_total", "_count", "_sum", "_bucket")
    return {key: value for key, value in values.items() if key[0].endswith(suffixes) and "cpu" not in key[0]}


def assert_grown(before: Values, after: Values) -> None:
    """Fail if a counter has decreased."""
    assert {key: (old, after.get(key)) for key, old in counters(before).items() if after.get(key, 0) < old} == {}


def test_the_metrics_of_one_process_match_what_clients_did(tmp_path: Path, port: AdminPort) -> None:
    """`twistd -n econe --sandbox`, with boto3: successes, errors, a wrong signature, and calls to oned."""
    settings = settings_for(port, host="127.0.0.1")
    (tmp_path / "econe.conf").write_text(yaml.safe_dump(settings), "utf-8")
    alice = Person("alice", 2, "secret", RawOned("", lambda: ""))
    mallory = Person("alice", 2, "guess", RawOned("", lambda: ""))
    arguments = ["econe", "--sandbox", "--sandbox-user", "alice:secret", "--config", str(tmp_path / "econe.conf")]
    process = Process("econed", [twistd(), "-n", "--pidfile=", *arguments], tmp_path)
    try:
        port.await_status("/readyz", 200)
        ec2 = boto(alice, url_of(settings))
        for _ in range(3):
            ec2.describe_instances()
        with pytest.raises(ClientError) as raised:
            ec2.start_instances(InstanceIds=["i-00009999"])
        assert refusal(raised.value)[0] == "InvalidInstanceID.NotFound"
        with pytest.raises(ClientError):
            boto(mallory, url_of(settings)).describe_regions()
        with pytest.raises(ClientError):
            ec2.describe_ipams()
        values = port.values()
        assert requests(values) == {
            ("DescribeInstances", "ok"): 3,
            ("StartInstances", "InvalidInstanceID.NotFound"): 1,
            ("DescribeRegions", "AuthFailure"): 1,
            ("unknown", "UnsupportedOperation"): 1,
        }
        assert values["econed_request_duration_seconds_count", "DescribeInstances"] == 3
        assert 0 < values["econed_request_duration_seconds_sum", "DescribeInstances"] < STARTING
        assert values["econed_requests_in_flight",] == 0
        assert values["econed_connections",] >= 1, "boto3 keeps its connection open"
        assert values["econed_oned_calls_total", "one.userpool.info", "ok"] >= 1
        assert values["econed_cache_lookups_total", "user", "hit"] >= 3
        assert (values["econed_ready",], values["econed_workers",], values["econed_oned_reachable",]) == (1, 1, 1)
        until(lambda: ("econed_reactor_lag_seconds",) in port.values(), "the lag to be measured", STARTING)
        assert port.fetch("/healthz") == (200, "ok\n")
    finally:
        process.stop()


def test_uploads_scripts_rounds_and_refused_requests_are_counted(cloud: FurnishedCloud, port: AdminPort) -> None:
    """One request is refused before it is read."""
    econed = cloud.econed(settings={"admin_port": port.number, "max_headers": 4096, "drain_timeout": 1}, interval=1.0)
    try:
        port.await_status("/readyz", 200)
        content_type, body = upload_form(cloud.alice, econed.url, b"a disk")
        assert send(econed.url, "POST", body, {"Content-Type": content_type}).status == 200
        assert send(econed.url, "GET", "x" * 4096).status == 414
        ec2 = boto(cloud.alice, econed.url)
        launched = ec2.run_instances(
            ImageId=f"ami-{cloud.ami:08d}", InstanceType=cloud.instance_type, MinCount=1, MaxCount=1
        )
        instance, address = launched["Instances"][0]["InstanceId"], ec2.allocate_address()["PublicIp"]
        until(lambda: _state(ec2, instance) == "running", "the instance to run", STARTING)
        ec2.associate_address(PublicIp=address, InstanceId=instance)
        until(
            lambda: port.values()["econed_reconciler_rounds_total", "done"] >= 1, "a round of the reconciler", STARTING
        )
        values = port.values()
        assert values["econed_uploads_total", "received"] == 1
        assert values["econed_upload_bytes_total",] == len(b"a disk")
        assert values["econed_refusals_total", "max_headers"] == 1
        assert values["econed_scripts_total", "ok", "associate"] == 1
    finally:
        econed.process.stop()


def _state(ec2: Any, instance: str) -> str:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return str(reservation["Instances"][0]["State"]["Name"])


def test_the_metrics_of_workers_are_merged_and_outlive_them(cloud: FurnishedCloud, port: AdminPort) -> None:
    """One is killed, then all are replaced at a reload: no counter ever decreases."""
    settings = settings_for(port, workers=2)
    with Daemon(cloud, settings) as daemon:
        port.await_status("/readyz", 200)
        clients = [boto(cloud.alice, url_of(settings)) for _ in range(8)]
        for number in range(40):
            clients[number % 8].describe_regions()
        initial = port.values()
        assert requests(initial) == {("DescribeRegions", "ok"): 40}
        assert initial["econed_request_duration_seconds_count", "DescribeRegions"] == 40
        assert initial["econed_workers",] == 2
        assert initial["process_start_time_seconds",] == pytest.approx(_start_time(daemon.process.pid), abs=2)
        expected = sum(_resident_bytes(pid) for pid in (daemon.process.pid, *daemon.workers))
        assert initial["process_resident_memory_bytes",] == pytest.approx(expected, rel=0.2)

        os.kill(daemon.workers[0], signal.SIGKILL)
        scrapes = [initial]
        until(
            lambda: _scrape(port, scrapes)["econed_worker_restarts_total",] == 1, "the restart to be counted", STARTING
        )
        until(lambda: _scrape(port, scrapes)["econed_workers",] == 2, "another worker to replace it", STARTING)
        assert requests(scrapes[-1]) == {("DescribeRegions", "ok"): 40}

        daemon.signal(signal.SIGHUP)
        until(
            lambda: _scrape(port, scrapes)["econed_reloads_total", "taken", "configuration"] == 1,
            "the new configuration to be used",
            STARTING,
        )
        until(lambda: len(daemon.workers) == 2, "the old workers to exit", STARTING)
        assert requests(_scrape(port, scrapes)) == {("DescribeRegions", "ok"): 40}
        for client in (boto(cloud.alice, url_of(settings)) for _ in range(4)):
            client.describe_regions()
        assert requests(_scrape(port, scrapes)) == {("DescribeRegions", "ok"): 44}
        for before, after in pairwise(scrapes):
            assert_grown(before, after)


def _scrape(port: AdminPort, scrapes: list[Values]) -> Values:
    """Append the current values to `scrapes`, and return them."""
    scrapes.append(port.values())
    return scrapes[-1]


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def _start_time(pid: int) -> float:
    boot = next(line for line in Path("/proc/stat").read_text("ascii").splitlines() if line.startswith("btime"))
    ticks = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    return int(boot.split()[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")


def test_a_stopped_worker_does_not_delay_the_admin_port(cloud: FurnishedCloud, port: AdminPort) -> None:
    """Its last snapshot is used."""
    settings = settings_for(port, workers=2)
    with Daemon(cloud, settings) as daemon:
        port.await_status("/readyz", 200)
        boto(cloud.alice, url_of(settings)).describe_regions()
        assert requests(port.values()) == {("DescribeRegions", "ok"): 1}
        stopped = daemon.workers[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert requests(port.values()) == {("DescribeRegions", "ok"): 1}
            assert port.fetch("/readyz") == (200, "ok\n")
            assert port.fetch("/healthz") == (200, "ok\n")
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_a_daemon_is_healthy_but_not_ready_while_oned_is_unreachable(cloud: FurnishedCloud, port: AdminPort) -> None:
    """This includes a daemon that was started before oned."""
    relay = FaultyRelay(cloud.url)
    relay.set_mode(Mode.DOWN)
    try:
        with Daemon(cloud, settings_for(port, workers=1, one_xmlrpc=relay.url)) as daemon:
            assert port.await_status("/readyz", 503) == "oned has not replied yet\n"
            assert port.fetch("/healthz") == (200, "ok\n")
            relay.set_mode(Mode.PASS)
            assert port.await_status("/readyz", 200) == "ok\n"
            relay.set_mode(Mode.DOWN)
            assert "oned last replied at 2" in port.await_status("/readyz", 503)
            daemon.await_logged("oned is unreachable")
            assert port.fetch("/healthz") == (200, "ok\n")
            values = port.values()
            assert (values["econed_ready",], values["econed_oned_reachable",]) == (0, 0)
            assert values["econed_oned_calls_total", "one.system.version", "unavailable"] >= 1
            relay.set_mode(Mode.PASS)
            port.await_status("/readyz", 200)
            daemon.await_logged("oned is reachable again")
    finally:
        relay.close()


def test_a_daemon_is_not_ready_while_oned_rejects_its_credentials(
    cloud: FurnishedCloud, port: AdminPort, tmp_path: Path
) -> None:
    """A reload with renewed credentials makes it ready."""
    auth_file = tmp_path / "ec2_auth"
    auth_file.write_text("serveradmin:an old password\n", "ascii")
    auth_file.chmod(0o600)
    expected = (503, "oned rejects the credentials of serveradmin\n")
    with Daemon(cloud, settings_for(port, workers=2), environ={"ONE_CIPHER_AUTH": str(auth_file)}) as daemon:
        until(lambda: port.fetch("/readyz") == expected, "credentials to be rejected", STARTING)
        daemon.await_logged("oned rejects the credentials of serveradmin: every request fails")
        assert port.fetch("/healthz") == (200, "ok\n")
        values = port.values()
        assert (values["econed_ready",], values["econed_oned_credentials_rejected",]) == (0, 1)
        assert values["econed_oned_reachable",] == 1
        auth_file.write_text(cloud.auth_file.read_text("ascii"), "ascii")
        daemon.signal(signal.SIGHUP)
        port.await_status("/readyz", 200)
        assert port.values()["econed_oned_credentials_rejected",] == 0


def test_a_daemon_is_not_ready_while_it_drains(cloud: FurnishedCloud, port: AdminPort) -> None:
    """An incomplete request is in flight."""
    settings = settings_for(port, workers=1, drain_timeout=STARTING)
    with Daemon(cloud, settings) as daemon:
        port.await_status("/readyz", 200)
        with socket.create_connection(("127.0.0.1", int(str(settings["port"])))) as slow:
            slow.sendall(b"GET /?Action=DescribeRegions HTTP/1.1\r\nHost: x\r\n")
            until(lambda: port.values()["econed_connections",] == 1, "the connection to be there", STARTING)
            daemon.signal(signal.SIGTERM)
            assert port.await_status("/readyz", 503).startswith("draining: ")
            assert port.fetch("/healthz")[0] == 200
            assert port.values()["econed_ready",] == 0
            slow.sendall(b"\r\n")
            assert slow.recv(1 << 16).startswith(b"HTTP/1.1 4")
        assert daemon.wait() == 0


def test_a_port_in_use_is_a_clear_error_at_start(cloud: FurnishedCloud, port: AdminPort, tmp_path: Path) -> None:
    """Nothing is served before."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port.number))
        other.listen()
        daemon = Daemon(cloud, settings_for(port))
        try:
            assert daemon.wait() == 1
        finally:
            daemon.kill()
    message = f"econe: admin_port: nothing can listen on 127.0.0.1:{port.number}: Address already in use"
    assert message in daemon.text
    assert "Traceback" not in daemon.text
