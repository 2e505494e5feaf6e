"""Rows about lists: all machines, the running ones, another client meanwhile, and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping

from benchmarks.bench import Bench, Compared, Figures, Outcome, Timed, keys
from benchmarks.client import EC2Client, Failed
from benchmarks.memories import MB, recorded_memory
from benchmarks.prober import probing
from benchmarks.series import Series
from benchmarks.usage import memory

SET = 1000
"""Machines of a set, when oned is asked for sets."""

LISTS = 10
"""Lists after which the memory of the worker is measured."""

_MINE, _NOT_DONE = -3, -1
_RUNNING = {"Filter.1.Name": "instance-state-name", "Filter.1.Value.1": "running"}


def list_all(bench: Bench) -> Outcome:
    """DescribeInstances, all machines, complete."""
    return measured_lists(bench, {})


def list_running(bench: Bench) -> Outcome:
    """DescribeInstances with instance-state-name=running."""
    return measured_lists(bench, _RUNNING)


def measured_lists(bench: Bench, parameters: Mapping[str, str]) -> Outcome:
    """Measure complete lists with these parameters, and those of oned, in turn."""
    oned, machines = bench.cloud.furniture.user.oned, bench.cloud.machines
    one_call, sets, econed_times = list[float](), list[float](), Timed()
    sent = received = 0
    with bench.econed() as econed:
        client = bench.client(econed)
        _complete_list(client, len(machines), parameters)
        oned("one.vmpool.infoextended", _MINE, -1, -1, _NOT_DONE, "")
        for _ in range(bench.effort.rounds):
            reply = oned("one.vmpool.infoextended", _MINE, -1, -1, _NOT_DONE, "")
            one_call.append(reply.seconds)
            sent = len(reply.body)
            sets.append(sum(oned("one.vmpool.infoset", ids, True).seconds for ids in _sets(machines)))
            cpu = econed.cpu
            response = _complete_list(client, len(machines), parameters)
            econed_times.seconds.append(response[0])
            econed_times.cpu.append(econed.cpu - cpu)
            received = response[1]
    raw: Figures = {
        "one_call_seconds": Series.of(one_call).summary(),
        "sets_seconds": Series.of(sets).summary(),
        "bytes": sent,
    }
    ratio = statistics.median(econed_times.seconds) / statistics.median(one_call)
    figures = {
        "machines": len(machines),
        **econed_times.figures(),
        "bytes": received,
        "times_sets": statistics.median(econed_times.seconds) / statistics.median(sets),
    }
    return Outcome(raw, figures, Compared(ratio, "× raw"))


def first_list(bench: Bench) -> Outcome:
    """DescribeInstances, all machines, as the first list of a process, which has not seen any of them."""
    oned, count = bench.cloud.furniture.user.oned, len(bench.cloud.machines)
    one_call, econed_times = list[float](), Timed()
    sent = 0
    for _ in range(bench.effort.rounds):
        reply = oned("one.vmpool.infoextended", _MINE, -1, -1, _NOT_DONE, "")
        one_call.append(reply.seconds)
        sent = len(reply.body)
        with bench.econed() as econed:
            cpu = econed.cpu
            econed_times.seconds.append(_complete_list(bench.client(econed), count, {})[0])
            econed_times.cpu.append(econed.cpu - cpu)
    raw: Figures = {"one_call_seconds": Series.of(one_call).summary(), "bytes": sent}
    ratio = statistics.median(econed_times.seconds) / statistics.median(one_call)
    return Outcome(raw, {"machines": count, **econed_times.figures()}, Compared(ratio, "× raw"))


def _sets(machines: tuple[int, ...]) -> Iterator[str]:
    for start in range(0, len(machines), SET):
        yield ",".join(map(str, machines[start : start + SET]))


def _complete_list(client: EC2Client, count: int, parameters: Mapping[str, str]) -> tuple[float, int]:
    """List and return seconds and bytes; fails if a machine is missing."""
    response = client("DescribeInstances", parameters)
    if response.body.count(b"<instanceId>") < count:
        raise Failed(f"the list has not all of the {count} machines")
    return response.seconds, len(response.body)


def stall(bench: Bench) -> Outcome:
    """DescribeRegions of another client during lists of all machines."""
    count = len(bench.cloud.machines)
    with bench.econed() as econed:
        client, other = bench.client(econed), keys(bench.cloud.furniture.other)
        _complete_list(client, count, {})
        with probing(econed.url, other, "DescribeRegions") as alone:
            time.sleep(bench.effort.quiet_seconds)
        with probing(econed.url, other, "DescribeRegions") as during:
            lists = [_complete_list(client, count, {})[0] for _ in range(bench.effort.rounds)]
    figures: Figures = {
        "alone_seconds": alone.seconds.distribution(),
        "during_seconds": during.seconds.distribution(),
        "list_seconds": Series.of(lists).summary(),
    }
    return Outcome({}, figures, Compared(during.seconds.percentile(99), "s"))


def memory_of_lists(bench: Bench) -> Outcome:
    """Memory of the worker after ten lists, and while they run."""
    count = len(bench.cloud.machines)
    with bench.econed() as econed, recorded_memory(econed.workers[0]) as recorded:
        client = bench.client(econed)
        for _ in range(LISTS):
            _complete_list(client, count, {})
        (after,) = (memory(pid) for pid in econed.workers)
    figures: Figures = {
        "machines": count,
        "worker_rss_mb": after.rss / MB,
        "worker_pss_mb": after.pss / MB,
        "worker_uss_mb": after.uss / MB,
        "worker_peak_rss_mb": recorded.peak / MB,
        "over_time": recorded.over_time(),
    }
    return Outcome({}, figures, Compared(after.rss / MB, "MB"))
