"""The administrator's port of real daemons: its numbers are those of what clients did, and no sum ever goes down."""

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

Numbers = Mapping[tuple[Any, ...], float]

AWAY = 60.0
"""Seconds in which an oned that is away has to be noticed; the page for administrators says less."""


class Port:
    """The administrator's port of a daemon."""

    def __init__(self) -> None:
        self.number = free_port()

    def ask(self, page: str) -> tuple[int, str]:
        """Return status and text of a page; 0 where nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.number, timeout=STARTING)
        try:
            connection.request("GET", page)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except ConnectionRefusedError:
            return 0, ""
        finally:
            connection.close()

    def numbers(self) -> Numbers:
        """Return what Prometheus gets to see now."""
        status, text = self.ask("/metrics")
        assert status == 200, text
        return parse_exposition(text)

    def await_page(self, page: str, status: int) -> str:
        """Return the text of a page when its status is this one."""
        until(lambda: self.ask(page)[0] == status, f"{page} to be {status}", AWAY)
        return self.ask(page)[1]


@pytest.fixture
def port() -> Port:
    """Return a port on which nobody listens yet."""
    return Port()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FurnishedCloud]:
    """An oned with users."""
    with furnished_cloud("7.4", tmp_path_factory.mktemp("cloud")) as made:
        yield made


def url_of(settings: Mapping[str, object]) -> str:
    """Return where clients find a daemon."""
    return f"http://127.0.0.1:{settings['port']}/"


def settings_for(port: Port, **more: object) -> dict[str, object]:
    """Return settings with an administrator's port; clients that keep connections are not waited for."""
    return {"port": free_port(), "admin_port": port.number, "drain_timeout": 1, **more}


def of_requests(numbers: Numbers) -> dict[tuple[str, str], float]:
    """Return how many requests were answered, by action and code."""
    return {key[1:]: value for key, value in numbers.items() if key[0] == "econed_requests_total"}


def counters(numbers: Numbers) -> dict[tuple[Any, ...], float]:
    """Return what may never go down, but for the processor time of a process that was killed."""
    ends = ("_total", "_count", "_sum", "_bucket")
    return {key: value for key, value in numbers.items() if key[0].endswith(ends) and "cpu" not in key[0]}


def assert_grown(before: Numbers, after: Numbers) -> None:
    """Fail if a sum went down."""
    assert {key: (old, after.get(key)) for key, old in counters(before).items() if after.get(key, 0) < old} == {}


def test_the_numbers_of_one_process_are_those_of_what_clients_did(tmp_path: Path, port: Port) -> None:
    """`twistd -n econe --sandbox`, asked by boto3: answers, refusals, a wrong signature, and what oned had to do."""
    settings = settings_for(port, host="127.0.0.1")
    (tmp_path / "econe.conf").write_text(yaml.safe_dump(settings), "utf-8")
    alice = Person("alice", 2, "secret", RawOned("", lambda: ""))
    mallory = Person("alice", 2, "guess", RawOned("", lambda: ""))
    arguments = ["econe", "--sandbox", "--sandbox-user", "alice:secret", "--config", str(tmp_path / "econe.conf")]
    process = Process("econed", [twistd(), "-n", "--pidfile=", *arguments], tmp_path)
    try:
        port.await_page("/readyz", 200)
        ec2 = boto(alice, url_of(settings))
        for _ in range(3):
            ec2.describe_instances()
        with pytest.raises(ClientError) as raised:
            ec2.start_instances(InstanceIds=["i-00009999"])
        assert refusal(raised.value)[0] == "InvalidInstanceID.NotFound"
        with pytest.raises(ClientError):
            boto(mallory, url_of(settings)).describe_regions()
        with pytest.raises(ClientError):
            ec2.describe_vpcs()
        numbers = port.numbers()
        assert of_requests(numbers) == {
            ("DescribeInstances", "ok"): 3,
            ("StartInstances", "InvalidInstanceID.NotFound"): 1,
            ("DescribeRegions", "AuthFailure"): 1,
            ("unknown", "InvalidAction"): 1,
        }
        assert numbers["econed_request_duration_seconds_count", "DescribeInstances"] == 3
        assert 0 < numbers["econed_request_duration_seconds_sum", "DescribeInstances"] < STARTING
        assert numbers["econed_requests_in_flight",] == 0
        assert numbers["econed_connections",] >= 1, "boto3 keeps its own"
        assert numbers["econed_oned_calls_total", "one.userpool.info", "ok"] >= 1
        assert numbers["econed_cache_lookups_total", "user", "hit"] >= 3
        assert (numbers["econed_ready",], numbers["econed_workers",], numbers["econed_oned_reachable",]) == (1, 1, 1)
        until(lambda: ("econed_reactor_lag_seconds",) in port.numbers(), "the lag to be measured", STARTING)
        assert port.ask("/healthz") == (200, "ok\n")
    finally:
        process.stop()


def test_what_goes_on_beside_the_answers_is_counted_too(cloud: FurnishedCloud, port: Port) -> None:
    """An upload, a script, rounds of the reconciler, and a request that was refused unread."""
    econed = cloud.econed(settings={"admin_port": port.number, "max_headers": 4096, "drain_timeout": 1}, interval=1.0)
    try:
        port.await_page("/readyz", 200)
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
            lambda: port.numbers()["econed_reconciler_rounds_total", "done"] >= 1, "a round of the reconciler", STARTING
        )
        numbers = port.numbers()
        assert numbers["econed_uploads_total", "received"] == 1
        assert numbers["econed_upload_bytes_total",] == len(b"a disk")
        assert numbers["econed_refusals_total", "max_headers"] == 1
        assert numbers["econed_scripts_total", "ok", "associate"] == 1
    finally:
        econed.process.stop()


def _state(ec2: Any, instance: str) -> str:
    (found,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return str(found["Instances"][0]["State"]["Name"])


def test_the_numbers_of_workers_come_as_one_and_stay_when_workers_go(cloud: FurnishedCloud, port: Port) -> None:
    """One is killed, then all are replaced by those of a new configuration: no sum goes down at any moment."""
    settings = settings_for(port, workers=2)
    with Daemon(cloud, settings) as daemon:
        port.await_page("/readyz", 200)
        clients = [boto(cloud.alice, url_of(settings)) for _ in range(8)]
        for number in range(40):
            clients[number % 8].describe_regions()
        first = port.numbers()
        assert of_requests(first) == {("DescribeRegions", "ok"): 40}
        assert first["econed_request_duration_seconds_count", "DescribeRegions"] == 40
        assert first["econed_workers",] == 2
        assert first["process_start_time_seconds",] == pytest.approx(_began(daemon.process.pid), abs=2)
        alone = sum(_resident(pid) for pid in (daemon.process.pid, *daemon.workers))
        assert first["process_resident_memory_bytes",] == pytest.approx(alone, rel=0.2)

        os.kill(daemon.workers[0], signal.SIGKILL)
        seen = [first]
        until(lambda: _next(port, seen)["econed_worker_restarts_total",] == 1, "the death to be counted", STARTING)
        until(lambda: _next(port, seen)["econed_workers",] == 2, "another to take its place", STARTING)
        assert of_requests(seen[-1]) == {("DescribeRegions", "ok"): 40}

        daemon.signal(signal.SIGHUP)
        until(
            lambda: _next(port, seen)["econed_reloads_total", "taken", "configuration"] == 1,
            "a new configuration to be in use",
            STARTING,
        )
        until(lambda: len(daemon.workers) == 2, "the old ones to end", STARTING)
        assert of_requests(_next(port, seen)) == {("DescribeRegions", "ok"): 40}
        for client in (boto(cloud.alice, url_of(settings)) for _ in range(4)):
            client.describe_regions()
        assert of_requests(_next(port, seen)) == {("DescribeRegions", "ok"): 44}
        for before, after in pairwise(seen):
            assert_grown(before, after)


def _next(port: Port, seen: list[Numbers]) -> Numbers:
    """Return what Prometheus sees now, and keep it with what it saw before."""
    seen.append(port.numbers())
    return seen[-1]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def _began(pid: int) -> float:
    boot = next(line for line in Path("/proc/stat").read_text("ascii").splitlines() if line.startswith("btime"))
    ticks = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    return int(boot.split()[1]) + int(ticks) / os.sysconf("SC_CLK_TCK")


def test_a_worker_that_stands_still_holds_nobody_up(cloud: FurnishedCloud, port: Port) -> None:
    """It counts with what it said last."""
    settings = settings_for(port, workers=2)
    with Daemon(cloud, settings) as daemon:
        port.await_page("/readyz", 200)
        boto(cloud.alice, url_of(settings)).describe_regions()
        assert of_requests(port.numbers()) == {("DescribeRegions", "ok"): 1}
        still = daemon.workers[0]
        os.kill(still, signal.SIGSTOP)
        try:
            assert of_requests(port.numbers()) == {("DescribeRegions", "ok"): 1}
            assert port.ask("/readyz") == (200, "ok\n")
            assert port.ask("/healthz") == (200, "ok\n")
        finally:
            os.kill(still, signal.SIGCONT)


def test_a_daemon_without_its_oned_is_alive_and_not_ready_until_it_is_back(cloud: FurnishedCloud, port: Port) -> None:
    """Also one that booted before oned."""
    relay = FaultyRelay(cloud.url)
    relay.set_mode(Mode.DOWN)
    try:
        with Daemon(cloud, settings_for(port, workers=1, one_xmlrpc=relay.url)) as daemon:
            assert port.await_page("/readyz", 503) == "oned has not replied yet\n"
            assert port.ask("/healthz") == (200, "ok\n")
            relay.set_mode(Mode.PASS)
            assert port.await_page("/readyz", 200) == "ok\n"
            relay.set_mode(Mode.DOWN)
            assert "oned last replied at 2" in port.await_page("/readyz", 503)
            daemon.await_logged("oned is unreachable")
            assert port.ask("/healthz") == (200, "ok\n")
            numbers = port.numbers()
            assert (numbers["econed_ready",], numbers["econed_oned_reachable",]) == (0, 0)
            assert numbers["econed_oned_calls_total", "one.system.version", "unavailable"] >= 1
            relay.set_mode(Mode.PASS)
            port.await_page("/readyz", 200)
            daemon.await_logged("oned is reachable again")
    finally:
        relay.close()


def test_a_daemon_that_is_to_end_is_not_ready_while_it_finishes(cloud: FurnishedCloud, port: Port) -> None:
    """A request whose last byte has not come is under way."""
    settings = settings_for(port, workers=1, drain_timeout=STARTING)
    with Daemon(cloud, settings) as daemon:
        port.await_page("/readyz", 200)
        with socket.create_connection(("127.0.0.1", int(str(settings["port"])))) as slow:
            slow.sendall(b"GET /?Action=DescribeRegions HTTP/1.1\r\nHost: x\r\n")
            until(lambda: port.numbers()["econed_connections",] == 1, "the connection to be there", STARTING)
            daemon.signal(signal.SIGTERM)
            assert port.await_page("/readyz", 503).startswith("draining: ")
            assert port.ask("/healthz")[0] == 200
            assert port.numbers()["econed_ready",] == 0
            slow.sendall(b"\r\n")
            assert slow.recv(1 << 16).startswith(b"HTTP/1.1 4")
        assert daemon.wait() == 0


def test_a_port_that_is_taken_ends_the_start_with_a_word(cloud: FurnishedCloud, port: Port, tmp_path: Path) -> None:
    """Before anything is served."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port.number))
        taken.listen()
        daemon = Daemon(cloud, settings_for(port))
        try:
            assert daemon.wait() == 1
        finally:
            daemon.kill()
    said = f"econe: admin_port: nothing can listen on 127.0.0.1:{port.number}: Address already in use"
    assert said in daemon.text
    assert "Traceback" not in daemon.text
