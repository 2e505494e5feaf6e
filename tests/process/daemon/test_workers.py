"""Workers that are killed, stopped or hang, and their shares of limits."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.process.daemon.requesting import WORKERS, connection, get, get_once, url
from tests.support.daemon import ROOT, Daemon, Load, signed_path
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.processes import STARTING, until

pytestmark = pytest.mark.slow


def test_all_workers_serve_and_a_killed_worker_is_replaced_while_the_port_stays_open(
    cloud: FurnishedCloud, port: int
) -> None:
    """Killed by SIGKILL, as the kernel does when memory is exhausted."""
    path = signed_path(cloud.alice, url(port))
    with Daemon(cloud, {"port": port, "workers": WORKERS}) as daemon:
        first = daemon.workers
        assert len(first) == WORKERS

        def served() -> bool:
            with ThreadPoolExecutor(8) as pool:
                assert set(pool.map(lambda _: get_once(port, path), range(16))) == {(200, None)}
            return all(f"worker {number}] DescribeInstances" in daemon.text for number in (1, 2))

        until(served, "both workers to serve", STARTING)
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(set(daemon.workers) - set(first)) == 1, "another worker", STARTING)
        for _ in range(8):
            assert get_once(port, path) == (200, None)
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
    return f"{site}:{ROOT}"


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
        path = signed_path(cloud.alice, url(port))
        assert [get(kept, path)[0] for _ in range(2)] == [200, 503]


def test_a_trusted_proxy_may_open_any_number_of_connections(cloud: FurnishedCloud, port: int) -> None:
    """Two, where other addresses may open one."""
    settings = {"port": port, "workers": 1, "max_connections_per_address": 1, "trusted_proxies": "127.0.0.1"}
    with Daemon(cloud, settings), closing(connection(port)) as first, closing(connection(port)) as second:
        assert [get(kept, "/")[0] for kept in (first, second, first)] == [403] * 3
