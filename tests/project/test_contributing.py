"""The instructions in CONTRIBUTING.md work literally."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import boto3
import pytest

from tests.support.packages import copy_checkout
from tests.support.running import command, finished, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FILES = re.compile(r"^\d\. [^\n]*?\*\*([\w/]+\.py)\*\*[^\n]*\n\n   ```python\n(.*?)\n   ```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def example() -> Mapping[str, str]:
    """The files of the page's example, by path."""
    section = PAGE.partition("## Adding an action in 20 lines\n")[2].partition("\n## ")[0]
    return {path: dedent(text) + "\n" for path, text in FILES.findall(section)}


@pytest.fixture(scope="module")
def checkout(example: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with the files of the example and a newly generated docs/actions.md."""
    copy = tmp_path_factory.mktemp("contributing") / "econed"
    copy_checkout(copy)
    for path, text in example.items():
        assert not (copy / path).exists()
        (copy / path).write_text(text, "utf-8")
    reference = finished(command("reference"), copy, environment(copy))
    assert reference.returncode == 0, reference.stderr
    (copy / "docs" / "actions.md").write_text(reference.stdout, "utf-8")
    return copy


def environment(checkout: Path) -> dict[str, str]:
    """Return this process's environment, with the packages of a checkout before the installed ones."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def test_the_action_takes_about_20_lines(example: Mapping[str, str]) -> None:
    """The imports and the docstrings of module and result are not counted."""
    action, test = example
    assert (action, test) == ("econed/actions/instances/topology.py", "tests/actions/instances/test_topology.py")
    lines = [
        line for line in example[action].splitlines() if line and not re.match(r"\s*(from|if TYPE_CH|\"\"\")", line)
    ]
    assert len(lines) <= 20


@pytest.mark.slow
def test_the_files_pass_the_linter_and_the_tests(checkout: Path, example: Mapping[str, str]) -> None:
    """The tests are that of the example, those of all actions against Amazon's model, and that of docs/actions.md."""
    for arguments in (("check",), ("format", "--check")):
        linted = finished([sys.executable, "-m", "ruff", *arguments, *example], checkout)
        assert linted.returncode == 0, linted.stdout
    example_test = "tests/actions/instances/test_topology.py"
    others = ("tests/test_dispatch.py", "tests/test_catalogue.py", "tests/cli/test_reference.py")
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    tested = finished(
        [sys.executable, "-m", "pytest", *options, example_test, *others], checkout, environment(checkout)
    )
    assert tested.returncode == 0, tested.stdout
    assert int(re.findall(r"(\d+) passed", tested.stdout)[0]) > 10


@pytest.mark.slow
def test_boto3_can_call_the_new_action(checkout: Path) -> None:
    """The server runs from the copy."""
    with running(command("serve", "--port", "0"), checkout, environment(checkout)) as server:
        exported = dict(
            pair for line in server.lines_until("Ctrl-C") for pair in re.findall(r"export (\w+)=(\S+)", line)
        )
        ec2: Any = boto3.client(
            "ec2",
            region_name=exported["AWS_DEFAULT_REGION"],
            endpoint_url=exported["AWS_ENDPOINT_URL_EC2"],
            aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
        )
        launched = ec2.run_instances(ImageId="ami-00000000", InstanceType="m1.small", MinCount=1, MaxCount=1)
        instance_id = launched["Instances"][0]["InstanceId"]
        response = ec2.describe_instance_topology(InstanceIds=[instance_id])
    zone = launched["Instances"][0]["Placement"]["AvailabilityZone"]
    assert response["Instances"] == [{"InstanceId": instance_id, "AvailabilityZone": zone}]
