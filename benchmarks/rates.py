"""Rows about small requests: how many of them a second are answered to 8 clients."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from urllib.parse import urlsplit

from benchmarks.bench import Bench, Compared, Figures, Outcome, keys
from benchmarks.econed import Econed
from benchmarks.series import Series
from benchmarks.signing import Keys, Message, signed_v2, signed_v4
from benchmarks.wrk import CLIENTS, Rate, measured_rate
from econed.ids import INSTANCE
from tests.support.processes import Process

_TIMESTAMPS = 240
"""A run signs with as many timestamps, of the seconds before it, as a real client would use one after the other."""

_MANY = 5000
_SEED = 5
Sign = Callable[[Keys, str, Mapping[str, str], float], Message]


def by_id(bench: Bench) -> Outcome:
    """DescribeInstances of one instance each, all different."""
    order = random.Random(_SEED)
    machines = [order.choice(bench.cloud.machines) for _ in range(_MANY)]
    oned = bench.cloud.furniture.user.oned

    def ec2_requests(url: str) -> list[bytes]:
        now, user = time.time(), keys(bench.cloud.furniture.user)
        described = ({"Action": "DescribeInstances", "InstanceId.1": INSTANCE.format(machine)} for machine in machines)
        return [signed_v4(user, url, parameters, now).serialized(url) for parameters in described]

    def raw_requests() -> list[bytes]:
        bodies = (oned.prepared("one.vm.info", machine, False) for machine in machines)
        return [_posted(bench.cloud.url, body) for body in bodies]

    return _rates(bench, ec2_requests, raw_requests, lambda raw, bare: raw if bench.cloud.is_real else bare)


def regions_v2(bench: Bench) -> Outcome:
    """DescribeRegions, signed with Version 2."""
    return _regions(bench, signed_v2)


def regions_v4(bench: Bench) -> Outcome:
    """DescribeRegions, signed with Version 4."""
    return _regions(bench, signed_v4)


def _regions(bench: Bench, sign: Sign) -> Outcome:
    def ec2_requests(url: str) -> list[bytes]:
        now, user = time.time(), keys(bench.cloud.furniture.user)
        return [sign(user, url, {"Action": "DescribeRegions"}, now - age).serialized(url) for age in range(_TIMESTAMPS)]

    return _rates(bench, ec2_requests, None, lambda _, bare: bare)


def workers(bench: Bench) -> Outcome:
    """DescribeRegions of one and of two workers."""
    figures: Figures = {}
    rates = []
    for count in (1, 2):
        with bench.econed(workers=count) as econed:
            rate, figure = _econed_rate(bench, econed, partial(_regions_requests, bench))
            figures[f"workers_{count}"] = figure
            rates.append(rate)
    return Outcome({}, figures, Compared(rates[1] / rates[0], "× one worker"))


def _regions_requests(bench: Bench, url: str) -> list[bytes]:
    now, user = time.time(), keys(bench.cloud.furniture.user)
    parameters = {"Action": "DescribeRegions"}
    return [signed_v4(user, url, parameters, now - age).serialized(url) for age in range(_TIMESTAMPS)]


def _econed_rate(bench: Bench, econed: Econed, requests: Callable[[str], list[bytes]]) -> tuple[float, Figures]:
    measure = partial(measured_rate, econed.url, directory=bench.cloud.directory)
    _log_in(bench, econed)
    measure(requests(econed.url), bench.effort.warm_up_seconds)
    cpu, rates = econed.cpu, list[Rate]()
    for _ in range(bench.effort.rate_rounds):
        rates.append(measure(requests(econed.url), bench.effort.rate_seconds))
    total = sum(rate.per_second * bench.effort.rate_seconds for rate in rates)
    return median(rate.per_second for rate in rates), _figures(rates, (econed.cpu - cpu) / total)


def _rates(
    bench: Bench,
    ec2_requests: Callable[[str], list[bytes]],
    raw_requests: Callable[[], list[bytes]] | None,
    reference: Callable[[float, float], float],
) -> Outcome:
    """Measure econed, oned and a bare resource in turn; `reference` selects the rate that econed's is divided by."""
    effort = bench.effort
    own, raw, bare = list[Rate](), list[Rate](), list[Rate]()
    with bench.econed() as econed, _bare_server(bench) as bare_url:
        measure = partial(measured_rate, directory=bench.cloud.directory)
        _log_in(bench, econed)
        measure(econed.url, ec2_requests(econed.url), effort.warm_up_seconds)
        cpu = 0.0
        for _ in range(effort.rate_rounds):
            bare.append(measure(bare_url, [_bare_request(bare_url)], effort.rate_seconds))
            if raw_requests is not None:
                raw.append(measure(bench.cloud.url, raw_requests(), effort.rate_seconds))
            before = econed.cpu
            own.append(measure(econed.url, ec2_requests(econed.url), effort.rate_seconds))
            cpu += econed.cpu - before
    requests = sum(rate.per_second * effort.rate_seconds for rate in own)
    rate_of = {name: median(rate.per_second for rate in rates) if rates else 0.0 for name, rates in _named(raw, bare)}
    raw_figures: Figures = {name: _figures(rates) for name, rates in _named(raw, bare) if rates}
    ratio = median(rate.per_second for rate in own) / reference(rate_of["oned"], rate_of["bare_resource"])
    is_of_raw = raw_requests is not None and bench.cloud.is_real
    unit = "of raw" if is_of_raw else "of a bare resource"
    return Outcome(raw_figures, {"clients": CLIENTS, **_figures(own, cpu / requests)}, Compared(ratio, unit))


def _log_in(bench: Bench, econed: Econed) -> None:
    """Make the first request of the user, for which oned runs an auth driver."""
    bench.client(econed)("DescribeRegions")


def _named(raw: list[Rate], bare: list[Rate]) -> Iterator[tuple[str, list[Rate]]]:
    yield "oned", raw
    yield "bare_resource", bare


def _figures(rates: Sequence[Rate], cpu: float | None = None) -> Figures:
    """Return the figures of some runs; the latencies are those of the run with the median rate."""
    typical = sorted(rates, key=lambda rate: rate.per_second)[len(rates) // 2]
    figures: Figures = {
        "per_second": Series.of([rate.per_second for rate in rates]).summary(),
        "latency_seconds": {f"{percent:g}": value for percent, value in sorted(typical.latencies.items())},
    }
    return figures if cpu is None else {**figures, "cpu_seconds_per_request": float(f"{cpu:.4g}")}


def _posted(url: str, body: bytes) -> bytes:
    address = urlsplit(url)
    head = f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: text/xml\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


_BARE_LENGTH = 500
"""Bytes of the bare resource's response, as many as DescribeRegions has."""


@contextmanager
def _bare_server(bench: Bench) -> Iterator[str]:
    process = Process("bare", ["-m", "benchmarks.bare", "0", str(_BARE_LENGTH)], bench.cloud.directory)
    try:
        yield f"http://127.0.0.1:{process.await_output(r'listening on ([0-9]+)[.]')}/"
    finally:
        process.stop()


def _bare_request(url: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()
