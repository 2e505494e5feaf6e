"""The instructions in CONTRIBUTING.md work literally."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.packages import copy_checkout
from tests.support.running import command, finished, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
STEPS = re.compile(
    r"^\d\. (?:(?!^\d\. ).)*?\*\*([\w/.]+)\*\*(?:(?!^\d\. ).)*?\n\n   ```\w+\n(.*?)\n   ```$", re.M | re.S
)
ACTION, TEST = "econed/actions/instances/topology.py", "tests/actions/instances/test_topology.py"
README = "README.md"
TABLES = {"tests/e2e/every_action.py": "EXAMPLES", "tests/calls_to_oned/requests.py": "_OF_INSTANCES"}
"""By path, the tables in which the action needs a row."""

CALLS = "tests/calls_to_oned/test_calls.py"
CALL_TESTS = (
    "test_the_calls_of_an_action_are_those_of_the_table",
    "test_no_read_waits_for_a_reply_that_it_does_not_need",
)
MYPY_CACHE = ROOT / ".mypy_cache"
"""Only the new files have to be checked if the checkout has been."""

SECTION = PAGE.partition("## Adding an action in 20 lines\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def example() -> Mapping[str, str]:
    """The texts of the page's example, by path: the new files, and the rows of the README and of `TABLES`."""
    return {path: re.sub(r"^   ", "", text, flags=re.MULTILINE) + "\n" for path, text in STEPS.findall(SECTION)}


def _with_row_of_readme(readme: str, row: str) -> str:
    """Return the README with a row of its table of actions replaced; the new row only adds the new action."""
    heading = row.split("|")[1]
    (old,) = re.findall(rf"^\|{heading}\|.*\n", readme, re.MULTILINE)
    assert row.replace(" DescribeInstanceTopology,", "") == old
    return readme.replace(old, row)


def _with_row_of_table(path: str, module: str, row: str) -> str:
    """Return a module with the row inserted in its table, before the row that the page names."""
    (following,) = re.findall(rf"\*\*{re.escape(path)}\*\*, before the row of `(\w+)`", SECTION)
    before, assignment, table = module.partition(f"\n{TABLES[path]}: ")
    first, key, others = table.partition(f'    "{following}": ')
    assert assignment
    assert key
    assert "\n}" not in first
    return f"{before}{assignment}{first}{row}{key}{others}"


@pytest.fixture(scope="module")
def checkout(example: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which the steps of the example are carried out."""
    copy = tmp_path_factory.mktemp("contributing") / "econed"
    copy_checkout(copy)
    assert tuple(example) == (ACTION, TEST, README, *TABLES)
    for path in (ACTION, TEST):
        assert not (copy / path).exists()
        (copy / path).write_text(example[path], "utf-8")
    readme = (copy / README).read_text("utf-8")
    (copy / README).write_text(_with_row_of_readme(readme, example[README]), "utf-8")
    for path in TABLES:
        module = (copy / path).read_text("utf-8")
        (copy / path).write_text(_with_row_of_table(path, module, example[path]), "utf-8")
    generated = re.findall(r"`python -m ([\w.]+) >([\w/.-]+)`", SECTION)
    assert len(generated) == 2
    for module, page in generated:
        output = finished([sys.executable, "-m", module], copy, environment(copy))
        assert output.returncode == 0, output.stderr
        (copy / page).write_text(output.stdout, "utf-8")
    return copy


def environment(checkout: Path) -> dict[str, str]:
    """Return this process's environment, with the packages of a checkout before the installed ones."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def test_the_action_takes_about_20_lines(example: Mapping[str, str]) -> None:
    """The imports and the docstrings of module and result are not counted."""
    lines = [
        line for line in example[ACTION].splitlines() if line and not re.match(r"\s*(from|if TYPE_CH|\"\"\")", line)
    ]
    assert len(lines) <= 20


def test_the_changed_files_pass_ruff_and_the_new_files_mypy(checkout: Path) -> None:
    for arguments in (("ruff", "check"), ("ruff", "format", "--check")):
        linted = finished([sys.executable, "-m", *arguments, ACTION, TEST, *TABLES], checkout)
        assert linted.returncode == 0, linted.stdout
    checked = finished([sys.executable, "-m", "mypy", "--cache-dir", str(MYPY_CACHE), ACTION, TEST], checkout)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_tests_pass(checkout: Path) -> None:
    """These are the test of the example and the tests that check the tables, pages and imports of all actions."""
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    pages = ("tests/cli/test_reference.py", "tests/project/test_docs.py", "tests/project/test_architecture.py")
    tables = ("tests/test_dispatch.py", "tests/test_catalogue.py")
    rows = "tests/e2e/test_in_whose_name.py::test_every_action_is_in_the_table_of_examples"
    calls = (f"{CALLS}::{name}[DescribeInstanceTopology]" for name in CALL_TESTS)
    command = [sys.executable, "-m", "pytest", *options, TEST, *tables, *pages, rows, *calls]
    tested = finished(command, checkout, environment(checkout))
    assert tested.returncode == 0, tested.stdout
    assert int(re.findall(r"(\d+) passed", tested.stdout)[0]) > 30


def test_boto3_can_call_the_new_action(checkout: Path) -> None:
    """The server runs from the copy."""
    with running(command("serve", "--port", "0"), checkout, environment(checkout)) as server:
        exported = dict(
            pair for line in server.lines_until("Ctrl-C") for pair in re.findall(r"export (\w+)=(\S+)", line)
        )
        ec2: Any = boto3.client(
            "ec2",
            region_name=exported["AWS_DEFAULT_REGION"],
            endpoint_url=exported["AWS_ENDPOINT_URL"],
            aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
        )
        launched = ec2.run_instances(ImageId="ami-00000000", InstanceType="m1.small", MinCount=1, MaxCount=1)
        instance_id = launched["Instances"][0]["InstanceId"]
        response = ec2.describe_instance_topology(InstanceIds=[instance_id])
    zone = launched["Instances"][0]["Placement"]["AvailabilityZone"]
    assert response["Instances"] == [{"InstanceId": instance_id, "AvailabilityZone": zone}]
