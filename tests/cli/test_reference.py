"""The reference of the actions agrees with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from econed.actions.action import Action
from econed.catalogue import all_actions
from econed.cli.reference import filters_of, reference

ROOT = Path(__file__).parent.parent.parent
ACTIONS = {action.name: action for action in all_actions()}


def test_the_command_writes_the_reference_that_is_in_the_checkout() -> None:
    """If they differ: python -m econed.cli.reference > docs/actions.md."""
    completed = subprocess.run(
        [sys.executable, "-m", "econed.cli.reference"], cwd=ROOT, capture_output=True, check=True
    )
    assert (ROOT / "docs/actions.md").read_text("utf-8") == completed.stdout.decode()


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_the_filters_of_an_action_are_found_if_it_accepts_any(action: Action) -> None:
    """They are found by the names to which its function refers; DescribeNatGateways has Filter."""
    assert bool({"Filters", "Filter"} & action.accepts.of.keys()) == (filters_of(action) is not None)


def test_every_section_marks_the_required_parameters() -> None:
    """A parameter without a default in the function's signature is required."""
    sections = {text.partition("\n")[0]: text for text in re.split("\n###? ", reference())[1:]}
    others = {"EC2", "STS", "IAM", "Actions that are refused with a reason"}
    assert sections.keys() - others == ACTIONS.keys()
    for name, action in ACTIONS.items():
        for parameter in action.accepts.of:
            assert (f"**`{parameter}`**" in sections[name]) == (parameter in action.required)
            assert f"`{parameter}`" in sections[name]


def test_the_actions_of_each_service_are_under_its_name() -> None:
    parts = {text.partition("\n")[0]: text for text in reference().split("\n## ")[1:]}
    for action in ACTIONS.values():
        assert [name for name, text in parts.items() if f"\n### {action.name}\n" in text] == [
            action.service.name.upper()
        ]


def test_members_of_structures_and_values_accepted_as_is_are_listed() -> None:
    """They are written as clients write them."""
    run_instances = reference().partition("\n### RunInstances\n")[2].partition("\n### ")[0]
    assert "`Placement` (`AvailabilityZone`, `GroupName`, `GroupId`)" in run_instances
    assert "`TagSpecifications` (`ResourceType`, `Tags` (`Key`, `Value`))" in run_instances
    assert "`DisableApiStop` = `false`" in run_instances
    assert "`Placement.Tenancy` = `default`" in run_instances
