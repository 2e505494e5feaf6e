"""The installed alert rules work, and docs/guide/monitoring.md documents all metrics and alerts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from econed.process.admin import TIMEOUT
from econed.process.health import CHECK_INTERVAL, FAILURE_GRACE, PROBE_AFTER
from econed.telemetry.metrics import FAMILIES
from tests.support.promtool import KNOWN, check_expressions, metrics_in, promtool

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "etc/prometheus/econed.rules.yml"
UNIT_TESTS = ROOT / "tests/data/prometheus/econed.rules.test.yml"
GUIDE = (ROOT / "docs/guide/monitoring.md").read_text("utf-8")


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by name."""
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    assert group["rules"]
    return {rule["alert"]: rule for rule in group["rules"]}


def table_of(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading of the page, without the header row."""
    section = re.split(rf"^#+ {heading}$", GUIDE, flags=re.M)[1]
    rows = re.search(r"(?:^\|.*\n)+", section, re.M)
    assert rows is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


# The rules


def test_the_rules_pass_the_check_of_promtool() -> None:
    check = promtool("check", "rules", RULES)
    assert check.returncode == 0, check.stderr
    assert f"{len(alerts())} rules found" in check.stdout


def test_alerts_fire_exactly_for_the_series_in_the_unit_tests() -> None:
    """The unit tests of promtool have series of a normal day and of failures."""
    result = promtool("test", "rules", UNIT_TESTS)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_unit_test() -> None:
    assert [name for name in alerts() if f'"{name}"' not in UNIT_TESTS.read_text("utf-8")] == []


def test_alerts_use_existing_metrics_and_labels() -> None:
    for name, rule in alerts().items():
        used = list(metrics_in(rule["expr"]))
        assert used, name
        for metric, labels in used:
            assert labels <= KNOWN[metric], name


def test_every_alert_has_severity_summary_and_description() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert "$labels.instance" in rule["annotations"]["summary"], name
        assert rule["annotations"]["description"], name


def test_the_error_codes_in_alerts_are_codes_of_econed() -> None:
    answers = (ROOT / "econed/answers.py").read_text("utf-8")
    (codes,) = re.findall(r'code=~"([^"]*)"', alerts()["EconedServerErrors"]["expr"])
    assert [code for code in codes.split("|") if f'"{code}"' not in answers] == []


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "InsufficientAddressCapacity"])
def test_a_lack_of_capacity_does_not_count_as_a_server_error_despite_its_status_5xx(code: str) -> None:
    """This holds for the alert and for the page's query of the share of failed requests."""
    for text in (alerts()["EconedServerErrors"]["expr"], GUIDE):
        counted = re.findall(r'econed_requests_total\{code=~"([^"]*)"', text)
        assert counted
        assert [codes for codes in counted if re.fullmatch(codes, code)] == []


# The page


def test_the_page_lists_all_metrics_with_kind_and_labels() -> None:
    """It lists no others."""
    rows = table_of("What is counted")
    listed = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows]
    assert listed == [(f"`{family.exposed_name}`", family.kind, family.labels) for family in FAMILIES]


def test_the_page_lists_all_alerts() -> None:
    assert [row[0].strip("`") for row in table_of("Alerts")] == list(alerts())


def test_the_durations_on_the_page_are_those_of_the_code() -> None:
    text = " ".join(GUIDE.split())
    assert f"Each answers within {TIMEOUT:g} seconds." in text
    assert f"for {FAILURE_GRACE:g} seconds" in text
    assert f"for {PROBE_AFTER:g} seconds, each process asks" in text
    assert f"every {CHECK_INTERVAL:g} seconds while there is no answer" in text


def test_the_configuration_on_the_page_passes_the_check_of_promtool(tmp_path: Path) -> None:
    """It uses the installed rules."""
    section = GUIDE.partition("\n## Prometheus\n")[2].partition("\nThe rules expect")[0]
    text = section.replace("/etc/prometheus/econed.rules.yml", str(RULES))
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(re.sub(r"^ {4}", "", text, flags=re.M), "utf-8")
    check = promtool("check", "config", configuration)
    assert check.returncode == 0, check.stderr
    assert yaml.safe_load(configuration.read_text("utf-8"))["scrape_configs"][0]["job_name"] == "econed"


@pytest.mark.parametrize("query", re.findall(r"^    (?!#)((?:sum|hist|topk|rate).*)$", GUIDE, flags=re.M))
def test_the_queries_on_the_page_pass_the_check_of_promtool(query: str, tmp_path: Path) -> None:
    assert check_expressions([query], tmp_path) == ""
