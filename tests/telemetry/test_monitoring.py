"""What is installed and written for those who watch econed: alert rules that work, and a page that names everything."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from econed.process.admin import TIMEOUT
from econed.process.health import CHECK_INTERVAL, FAILURE_GRACE, PROBE_AFTER
from econed.telemetry.metrics import FAMILIES
from tests.support.tools import require_tool

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "etc/prometheus/econed.rules.yml"
UNIT_TESTS = ROOT / "tests/data/prometheus/econed.rules.test.yml"
GUIDE = (ROOT / "docs/guide/monitoring.md").read_text("utf-8")


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerts by their names."""
    (group,) = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    assert group["rules"]
    return {rule["alert"]: rule for rule in group["rules"]}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    command = [require_tool("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def table_of(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading of the page, without its head."""
    section = re.split(rf"^#+ {heading}$", GUIDE, flags=re.M)[1]
    rows = re.search(r"(?:^\|.*\n)+", section, re.M)
    assert rows is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


# The rules


def test_prometheus_takes_the_rules() -> None:
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


def test_every_alert_is_raised_when_it_should_be_and_no_other() -> None:
    """By Prometheus' own unit tests, on numbers of an ordinary day and of bad ones."""
    tested = promtool("test", "rules", UNIT_TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_no_alert_is_untested() -> None:
    assert [name for name in alerts() if f'"{name}"' not in UNIT_TESTS.read_text("utf-8")] == []


def test_alerts_are_about_numbers_that_there_are() -> None:
    """With labels that they have; `up` is Prometheus' own."""
    labels = {"job", "instance", "le"}
    known = {"up": labels} | {each.exposed_name: {*each.labels, *labels} for each in FAMILIES}
    for name, rule in alerts().items():
        used = re.findall(r"\b(up|(?:econed|process)_\w+)(?:\{(.*?)\})?", rule["expr"])
        assert used, name
        for metric, matchers in used:
            assert set(re.findall(r"(\w+)!?=", matchers)) <= known[metric.removesuffix("_bucket")], name


def test_every_alert_says_how_bad_it_is_and_what_has_happened_where() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert "$labels.instance" in rule["annotations"]["summary"], name
        assert rule["annotations"]["description"], name


def test_the_codes_that_raise_an_alert_are_codes_that_econed_gives() -> None:
    answers = (ROOT / "econed/answers.py").read_text("utf-8")
    (codes,) = re.findall(r'code=~"([^"]*)"', alerts()["EconedServerErrors"]["expr"])
    assert [code for code in codes.split("|") if f'"{code}"' not in answers] == []


@pytest.mark.parametrize("code", ["InsufficientInstanceCapacity", "InsufficientAddressCapacity"])
def test_a_lack_of_capacity_is_no_fault_of_the_server_though_it_is_answered_with_5xx(code: str) -> None:
    """Neither for the alert nor for the share of failed requests that the page shows how to ask for."""
    for text in (alerts()["EconedServerErrors"]["expr"], GUIDE):
        counted = re.findall(r'econed_requests_total\{code=~"([^"]*)"', text)
        assert counted
        assert [codes for codes in counted if re.fullmatch(codes, code)] == []


# The page


def test_the_page_names_every_number_with_its_kind_and_labels() -> None:
    """No more and no fewer."""
    rows = table_of("What is counted")
    shown = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows]
    assert shown == [(f"`{each.exposed_name}`", each.kind, each.labels) for each in FAMILIES]


def test_the_page_names_every_alert() -> None:
    assert [row[0].strip("`") for row in table_of("Alerts")] == list(alerts())


def test_the_page_gives_the_seconds_that_the_code_has() -> None:
    text = " ".join(GUIDE.split())
    assert f"Each answers within {TIMEOUT:g} seconds." in text
    assert f"for {FAILURE_GRACE:g} seconds" in text
    assert f"for {PROBE_AFTER:g} seconds, each process asks" in text
    assert f"every {CHECK_INTERVAL:g} seconds while there is no answer" in text


def test_prometheus_takes_the_configuration_of_the_page(tmp_path: Path) -> None:
    """With the rules that are installed."""
    section = GUIDE.partition("\n## Prometheus\n")[2].partition("\nThe rules expect")[0]
    text = section.replace("/etc/prometheus/econed.rules.yml", str(RULES))
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(re.sub(r"^ {4}", "", text, flags=re.M), "utf-8")
    checked = promtool("check", "config", configuration)
    assert checked.returncode == 0, checked.stderr
    assert yaml.safe_load(configuration.read_text("utf-8"))["scrape_configs"][0]["job_name"] == "econed"


@pytest.mark.parametrize("query", re.findall(r"^    (?!#)((?:sum|hist|topk|rate).*)$", GUIDE, flags=re.M))
def test_prometheus_understands_the_questions_of_the_page(query: str, tmp_path: Path) -> None:
    """Each as the expression of a rule."""
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [{"record": "r", "expr": query}]}]}), "utf-8")
    checked = promtool("check", "rules", rules)
    assert checked.returncode == 0, checked.stderr
