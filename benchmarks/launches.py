"""Rows about RunInstances, and about another user meanwhile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import uuid4

from benchmarks.bench import Bench, Compared, Figures, Outcome, Timed, keys
from benchmarks.client import EC2Client
from benchmarks.furniture import INSTANCE_TYPE
from benchmarks.oned import Refused
from benchmarks.population import Population
from benchmarks.prober import probing
from benchmarks.series import Series
from econed.ids import IMAGE
from tests.support.processes import until

CALLS = 8
"""Concurrent direct calls of oned: econed's default `one_calls`."""

_ENDING = 900.0
_NOT_DONE = -1


def launch_one(bench: Bench) -> Outcome:
    """RunInstances of 1, with a client token."""
    raw, times = list[float](), Timed()
    with bench.econed() as econed, _ending_launched(bench):
        client = bench.client(econed)
        _run_instances(bench, client, 1)
        for index in range(bench.effort.rounds):
            start = time.perf_counter()
            _instantiate_and_release(bench, index)
            raw.append(time.perf_counter() - start)
            cpu = econed.cpu
            times.seconds.append(_run_instances(bench, client, 1))
            times.cpu.append(econed.cpu - cpu)
    extra = statistics.median(times.seconds) - statistics.median(raw)
    raw_figures: Figures = {"seconds": Series.of(raw).summary()}
    return Outcome(raw_figures, times.figures(), Compared(extra, "s more than raw"))


def launch_many(bench: Bench) -> Outcome:
    """RunInstances of 200, with a client token."""
    count = bench.effort.launched
    raw, times = list[float](), Timed()
    with bench.econed() as econed:
        client = bench.client(econed)
        for _ in range(bench.effort.launch_rounds):
            with _ending_launched(bench), ThreadPoolExecutor(CALLS) as threads:
                start = time.perf_counter()
                list(threads.map(lambda index: _instantiate_and_release(bench, index), range(count)))
                raw.append(time.perf_counter() - start)
            with _ending_launched(bench):
                cpu = econed.cpu
                times.seconds.append(_run_instances(bench, client, count))
                times.cpu.append(econed.cpu - cpu)
    ratio = statistics.median(times.seconds) / statistics.median(raw)
    raw_figures: Figures = {"seconds": Series.of(raw).summary()}
    return Outcome(raw_figures, {"instances": count, **times.figures()}, Compared(ratio, "× raw"))


def fairness(bench: Bench) -> Outcome:
    """DescribeInstances of another user during a RunInstances of 200."""
    other = keys(bench.cloud.furniture.other)
    with bench.econed() as econed:
        client = bench.client(econed)
        bench.other_client(econed)("DescribeInstances")
        with probing(econed.url, other, "DescribeInstances") as alone:
            time.sleep(bench.effort.quiet_seconds)
        with _ending_launched(bench), probing(econed.url, other, "DescribeInstances") as during:
            launched = _run_instances(bench, client, bench.effort.launched)
    figures: Figures = {
        "alone_seconds": alone.seconds.distribution(),
        "during_seconds": during.seconds.distribution(),
        "launch_seconds": launched,
    }
    return Outcome({}, figures, Compared(during.seconds.median / alone.seconds.median, "× alone"))


def _run_instances(bench: Bench, client: EC2Client, count: int) -> float:
    parameters: Mapping[str, str] = {
        "ImageId": IMAGE.format(bench.cloud.furniture.image),
        "InstanceType": INSTANCE_TYPE,
        "MinCount": str(count),
        "MaxCount": str(count),
        "ClientToken": str(uuid4()),
    }
    return client("RunInstances", parameters).seconds


def _instantiate_and_release(bench: Bench, index: int) -> None:
    furniture, oned = bench.cloud.furniture, bench.cloud.furniture.user.oned
    text = Population(furniture.image, b"").text(index, None)
    machine = oned("one.template.instantiate", furniture.template, "", True, text, False).number
    _ = oned("one.vm.action", "release", machine).value


@contextmanager
def _ending_launched(bench: Bench) -> Iterator[None]:
    """End the machines that are launched in the block, after it, and wait until they have ended."""
    admin, kept = bench.cloud.furniture.admin, _machines(bench)

    def all_ended() -> bool:
        launched = _machines(bench) - kept
        for machine in launched:
            with suppress(Refused):  # in a state in which oned refuses
                _ = admin("one.vm.action", "terminate-hard", machine).value
        return not launched

    try:
        yield
    finally:
        until(all_ended, "the launched machines to end", _ENDING, every=0.5)


def _machines(bench: Bench) -> set[int]:
    """Return the ids of all machines of the user that have not ended."""
    furniture = bench.cloud.furniture
    pool = furniture.admin("one.vmpool.info", furniture.user.id, -1, -1, _NOT_DONE, "").document
    return {int(str(element.findtext("ID"))) for element in pool.iterchildren("VM")}
