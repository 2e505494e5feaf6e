"""The installed Grafana dashboard shows all metrics of econed, with expressions that Prometheus accepts."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from botocore.exceptions import ClientError

from econed.telemetry.metrics import FAMILIES, FAMILY
from tests.support.clients import boto
from tests.support.econed_process import Person, twistd
from tests.support.ports import free_port
from tests.support.processes import STARTING, Process, until
from tests.support.promtool import KNOWN, check_expressions, metrics_in
from tests.support.raw_oned import RawOned
from tests.support.tools import require_tool

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = json.loads((ROOT / "etc/grafana/econed.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
NOT_SHOWN = {"process_virtual_memory_bytes", "process_start_time_seconds"}
"""Metrics that help nobody who looks at a dashboard."""

by_title = pytest.mark.parametrize("panel", PANELS, ids=[panel["title"] for panel in PANELS])


def expressions(panel: dict[str, Any]) -> list[str]:
    """Return the expressions of a panel as Grafana sends them."""
    replaced = {"$instance": ".*", "$__rate_interval": "5s"}
    texts = [target["expr"] for target in panel["targets"]]
    for variable, value in replaced.items():
        texts = [text.replace(variable, value) for text in texts]
    assert not any("$" in text for text in texts)
    return texts


def series_of(panel: dict[str, Any], prometheus: int) -> int:
    """Return how many series with a value Prometheus returns for a panel."""
    count = 0
    for expression in expressions(panel):
        query = urlencode({"query": expression})
        with urlopen(f"http://127.0.0.1:{prometheus}/api/v1/query?{query}", timeout=STARTING) as response:
            result = json.load(response)["data"]["result"]
        count += sum(series["value"][1] != "NaN" for series in result)
    return count


def is_ready(page: str) -> bool:
    """Whether a page returns 200."""
    with suppress(OSError), urlopen(page, timeout=STARTING) as response:
        return bool(response.status == 200)
    return False


@by_title
def test_every_metric_and_label_of_a_panel_exists(panel: dict[str, Any]) -> None:
    """Every series is one of the selected instances."""
    for expression in expressions(panel):
        used = list(metrics_in(expression))
        assert used
        for metric, labels in used:
            assert metric in KNOWN
            assert "instance" in labels <= KNOWN[metric]


@by_title
def test_labels_in_legends_and_groups_are_labels_of_the_metric(panel: dict[str, Any]) -> None:
    """A misspelled label would give one series without a name."""
    for target in panel["targets"]:
        known = set.union(*(set(KNOWN[metric]) for metric, _ in metrics_in(target["expr"])))
        groups = ",".join(re.findall(r"\bby \((.*?)\)", target["expr"]))
        grouped = set(re.findall(r"\w+", groups))
        in_legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert grouped | in_legend <= known
        assert in_legend <= (grouped or known)


@pytest.mark.parametrize("metric", FAMILIES, ids=[family.name for family in FAMILIES])
def test_every_metric_is_shown(metric: Any) -> None:
    """Few are left out."""
    shown = {name for panel in PANELS for expression in expressions(panel) for name, _ in metrics_in(expression)}
    assert (metric.exposed_name in shown) != (metric.exposed_name in NOT_SHOWN)


def test_counters_are_shown_as_rates_and_histograms_as_quantiles() -> None:
    """Their values since the start say little."""
    kinds = {family.exposed_name: family.kind for family in FAMILY.values()}
    for panel in PANELS:
        for expression in expressions(panel):
            for metric, _ in metrics_in(expression):
                if kinds[metric] == "counter":
                    assert re.search(rf"\b(?:rate|increase)\({metric}", expression), panel["title"]
                if kinds[metric] == "histogram":
                    assert "histogram_quantile(" in expression, panel["title"]
                    assert "le)" in expression, panel["title"]


def unit(panel: dict[str, Any], target: dict[str, Any]) -> str:
    """Return the unit of the values of a target."""
    overrides = {override["matcher"]["options"]: override for override in panel["fieldConfig"]["overrides"]}
    assert all(override["matcher"]["id"] == "byFrameRefID" for override in overrides.values())
    properties = overrides[target["refId"]]["properties"] if target["refId"] in overrides else []
    own = {item["id"]: item["value"] for item in properties}
    return str(own.get("unit", panel["fieldConfig"]["defaults"]["unit"]))


@by_title
def test_the_unit_is_that_of_the_expression(panel: dict[str, Any]) -> None:
    """Durations are in seconds; rates are per second, multiplied by 60 per minute, or of seconds of a processor."""
    for target in panel["targets"]:
        expression, shown_as = target["expr"], unit(panel, target)
        if "histogram_quantile(" in expression or "time()" in expression:
            assert shown_as == "s"
        elif "rate(process_cpu_seconds_total" in expression:
            assert shown_as == "percentunit"
        elif "rate(" in expression:
            assert (shown_as == "opm") == expression.endswith(" * 60")
            assert shown_as in {"opm", "ops", "reqps", "Bps"}
        else:
            assert shown_as in {"short", "s", "bytes", "percentunit"}


def test_panels_over_time_show_all_series() -> None:
    """The function `topk` chooses at each time, so that a panel would show parts of many more series than it names."""
    over_time = [panel for panel in PANELS if panel["type"] == "timeseries"]
    assert [panel["title"] for panel in over_time if "topk(" in "".join(expressions(panel))] == []


def test_legends_of_actions_and_methods_are_sorted_tables_beside_the_graph() -> None:
    """There are dozens of them, and a list below the graph would leave little room for it."""
    by_many = [panel for panel in PANELS if re.search(r"\bby \((?:action|method)", "".join(expressions(panel)))]
    assert len(by_many) == 4
    for panel in by_many:
        legend = panel["options"]["legend"]
        assert (legend["displayMode"], legend["placement"]) == ("table", "right"), panel["title"]
        (column,) = legend["calcs"]
        assert (legend["sortBy"], legend["sortDesc"]) == (column.capitalize(), True), panel["title"]


def test_the_expressions_pass_the_check_of_promtool(tmp_path: Path) -> None:
    assert check_expressions([text for panel in PANELS for text in expressions(panel)], tmp_path) == ""


def test_every_panel_has_a_title_of_its_own_and_a_description() -> None:
    titles = [panel["title"] for panel in PANELS]
    assert len(set(titles)) == len(titles) > 20
    assert [panel["title"] for panel in PANELS if not panel["description"].endswith(".")] == []


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    """Grafana moves panels that do."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        are_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert are_beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_the_data_source_is_chosen_by_the_viewer() -> None:
    """An identifier of one Grafana would be unknown in another."""
    sources = [source["uid"] for source in _data_sources(DASHBOARD)]
    assert len(sources) > len(PANELS)
    assert set(sources) == {"${datasource}"}
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]


def _data_sources(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [source for item in value for source in _data_sources(item)]
    if not isinstance(value, dict):
        return []
    own = [value["datasource"]] if isinstance(value.get("datasource"), dict) else []
    return own + [source for key, item in value.items() if key != "datasource" for source in _data_sources(item)]


WITHOUT_SERIES = {
    *("Certificate expires in", "Refused by a limit", "Failed calls by outcome", "Uploads"),
    "Scripts of elastic IPs",
}
"""Panels without series before there is a certificate, a refusal, a call that fails, an upload or a run of a script."""


@pytest.mark.slow
def test_prometheus_returns_series_of_a_running_econed_for_every_panel(tmp_path: Path) -> None:
    """A real Prometheus scrapes it while a client sends requests, of which some fail."""
    port, admin, prometheus = free_port(), free_port(), free_port()
    settings = {"host": "127.0.0.1", "port": port, "admin_port": admin, "drain_timeout": 1}
    (tmp_path / "econe.conf").write_text(yaml.safe_dump(settings), "utf-8")
    scrape = {"job_name": "econed", "static_configs": [{"targets": [f"127.0.0.1:{admin}"]}]}
    conf = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(conf), "utf-8")
    listen = f"--web.listen-address=127.0.0.1:{prometheus}"
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", listen]
    sandbox = ["econe", "--sandbox", "--sandbox-user", "alice:secret", "--config", str(tmp_path / "econe.conf")]
    processes = [
        Process("econed", [twistd(), "-n", "--pidfile=", *sandbox], tmp_path),
        Process("prometheus", arguments, tmp_path, program=require_tool("prometheus")),
    ]
    client = boto(Person("alice", 2, "secret", RawOned("", lambda: "")), f"http://127.0.0.1:{port}/")

    def empty_panels() -> set[str]:
        client.describe_instances()
        with pytest.raises(ClientError):
            client.start_instances(InstanceIds=["i-00009999"])
        return {panel["title"] for panel in PANELS if not series_of(panel, prometheus)}

    try:
        for page in (f"http://127.0.0.1:{admin}/readyz", f"http://127.0.0.1:{prometheus}/-/ready"):
            until(partial(is_ready, page), page, STARTING)
        until(lambda: empty_panels() <= WITHOUT_SERIES, "all other panels to have series", STARTING, every=1)
        assert empty_panels() == WITHOUT_SERIES
    finally:
        for process in processes:
            process.stop()
