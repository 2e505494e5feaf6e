"""Counts added up over all workers, and limits divided among them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from econed.config.settings import Settings
from econed.process.generations import COUNTS_TIMEOUT, worker_share
from econed.process.messages import CountsReply, GetCounts, Heartbeat
from econed.telemetry.merging import gauge, merged
from tests.process.supervisor.supervising import SupervisorHarness

# Counts


def snapshots(harness: SupervisorHarness) -> Deferred[Any]:
    """Request the counts of all workers."""
    return Deferred.fromCoroutine(harness.supervisor.snapshots())


def test_the_counts_of_running_workers_are_requested_and_those_of_dead_workers_kept(
    harness: SupervisorHarness,
) -> None:
    """The sum never decreases."""
    harness.serve()
    harness.fake_workers[0].reports(Heartbeat({"econed_uploads": [[["ok"], [5.0]]]}))
    harness.fake_workers[0].exits("signal SIGKILL")
    requested = snapshots(harness)
    (request,) = [command for command in harness.fake_workers[1].commands if isinstance(command, GetCounts)]
    harness.fake_workers[1].reports(CountsReply(request.number, {"econed_uploads": [[["ok"], [2.0]]]}))
    results: list[Any] = []
    requested.addCallback(results.append)
    counts = merged(results[0])
    assert counts["econed_uploads"] == [(["ok"], [7.0])]
    assert gauge(counts, "econed_workers") == 1
    assert counts["econed_worker_restarts"] == [([], [1.0])]


def test_of_a_worker_that_does_not_reply_the_last_reported_counts_are_used(harness: SupervisorHarness) -> None:
    """After `COUNTS_TIMEOUT`."""
    harness.serve(1)
    harness.fake_workers[0].reports(Heartbeat({"econed_uploads": [[["ok"], [5.0]]]}))
    results: list[Any] = []
    snapshots(harness).addCallback(results.append)
    assert results == []
    harness.clock.advance(COUNTS_TIMEOUT)
    assert merged(results[0])["econed_uploads"] == [(["ok"], [5.0])]


# Shares of limits


@pytest.mark.parametrize(("whole", "of"), [(8, 1), (8, 2), (8, 3), (15, 4), (5, 5)])
def test_the_shares_of_one_calls_add_up_to_the_whole(whole: int, of: int) -> None:
    """Each is at least one, and they differ by at most one."""
    shares = [worker_share(Settings(one_calls=whole), index, of).one_calls for index in range(of)]
    assert sum(shares) == whole
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1


def test_the_rate_of_requests_is_divided_and_limits_for_each_process_are_not() -> None:
    """A burst is at least one request."""
    share = worker_share(Settings(rate_limit=9.0, rate_burst=2), 2, 3)
    assert (share.rate_limit, share.rate_burst) == (3.0, 1)
    assert worker_share(Settings(rate_limit=None), 0, 3).rate_limit is None
    assert share.max_connections_per_address == Settings().max_connections_per_address
