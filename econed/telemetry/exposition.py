"""Writing metrics as text, with prometheus-client."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from econed.telemetry.metrics import FAMILIES, Family, Snapshot


def exposition(snapshot: Snapshot, accept: str = "") -> tuple[bytes, str]:
    """Return a snapshot as text for Prometheus, and its media type.

    `accept` is the Accept header of the request: the format is OpenMetrics if requested, otherwise Prometheus' own.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Collector:
    """A snapshot as a collector of prometheus-client."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield every family, including those without values, so that all names are documented in the output."""
        for family in FAMILIES:
            yield _metric(family, self._snapshot)


def _metric(family: Family, snapshot: Snapshot) -> Metric:
    series = snapshot.get(family.name, ())
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        bounds = [*map(str, family.buckets), "+Inf"]
        for labels, values in series:
            histogram.add_metric(labels, list(zip(bounds, values[:-1], strict=True)), values[-1])
        return histogram
    family_class = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = family_class(family.name, family.help, labels=family.labels)
    for labels, (value,) in series:
        metric.add_metric(labels, value)
    return metric
