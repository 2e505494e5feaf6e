"""What an administrator sees of several processes: one page of metrics and one log file."""

from __future__ import annotations

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.process.daemon.requesting import WORKERS, get_once, is_open, url
from tests.support.daemon import Daemon, signed_path
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.ports import free_port
from tests.support.processes import STARTING, until

pytestmark = pytest.mark.slow


def test_the_administrators_port_adds_up_the_workers_and_moves_on_reload(cloud: FurnishedCloud, port: int) -> None:
    """The supervisor listens on it."""
    admin, other = free_port(), free_port()
    with Daemon(cloud, {"port": port, "workers": WORKERS, "admin_port": admin}) as daemon:
        path = signed_path(cloud.alice, url(port))
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: get_once(port, path)[0], range(20))) == {200}
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
        path = signed_path(cloud.alice, url(port))

        def both_write() -> bool:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: get_once(port, path), range(16)))
            return all(f"worker {number}] DescribeInstances" in log.read_text("utf-8") for number in (1, 2))

        until(both_write, "both workers to write to the new file", STARTING)


def test_all_workers_append_whole_lines_to_the_audit_log_and_reopen_it(
    cloud: FurnishedCloud, port: int, tmp_path: Path
) -> None:
    """A line for each refused request is in one of the two files; none is lost or mixed with another."""
    log, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    requests = 120

    def request_ids(path: Path) -> list[str]:
        return [json.loads(line)["request_id"] for line in path.read_text("ascii").splitlines()]

    with Daemon(cloud, {"port": port, "workers": WORKERS, "audit_log": str(log)}) as daemon:
        path = signed_path(cloud.alice, url(port), "NoSuchAction")
        with ThreadPoolExecutor(8) as pool:
            statuses = [pool.submit(get_once, port, path) for _ in range(requests)]
            until(lambda: len(request_ids(log)) > requests / 4, "some lines", STARTING)
            log.rename(moved)
            daemon.signal(signal.SIGUSR1)
            until(log.exists, "the new file", STARTING)
            assert {status.result()[0] for status in statuses} == {400}
        ids = request_ids(moved) + request_ids(log)
        assert len(set(ids)) == len(ids) == requests
        assert len(re.findall(r"worker [12]\] NoSuchAction", daemon.text)) == requests
        assert {"worker 1", "worker 2"} == set(re.findall(r"(worker [12])\] NoSuchAction", daemon.text))


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
