"""docs/old-server.md: every action and option of OpenNebula's own EC2 server has a row, and every row names a test."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from econed.catalogue import all_actions
from econed.config.settings import Settings

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"\| `([^`]+)` \| (\w*) \| (.*?) ?\| `(tests/[\w/]+\.py)::(test_\w+)` \|")

ACTIONS = frozenset({
    "AllocateAddress", "AssociateAddress", "AttachVolume", "CreateKeyPair", "CreateSnapshot", "CreateTags",
    "CreateVolume", "DeleteKeyPair", "DeleteSnapshot", "DeleteTags", "DeleteVolume", "DescribeAddresses",
    "DescribeAvailabilityZones", "DescribeImages", "DescribeInstances", "DescribeKeyPairs", "DescribeRegions",
    "DescribeSnapshots", "DescribeTags", "DescribeVolumes", "DetachVolume", "DisassociateAddress", "RebootInstances",
    "RegisterImage", "ReleaseAddress", "RunInstances", "StartInstances", "StopInstances", "TerminateInstances",
    "UploadImage",
})  # fmt: skip
"""Its actions (OpenNebula 5.12, `src/cloud/ec2/lib/econe_application.rb`)."""

OPTIONS = frozenset({
    "associate_script", "auth", "cluster_id", "core_auth", "datastore_id", "debug_level",
    "describe_with_terminated_instances", "disassociate_script", "ebs_fstype", "elasticips_vnet_id", "host",
    "instance_types", "one_xmlrpc", "port", "ssl_server", "terminated_instances_expiration_time", "tmpdir",
    "use_file_templates",
})  # fmt: skip
"""The keys of its econe.conf (OpenNebula 5.12, "EC2 Server Configuration")."""

COMMANDS = frozenset(f"econe-server {command}" for command in ("start", "stop", "restart"))


def rows() -> list[tuple[str, str, str, str, str]]:
    """Return the rows: subject, verdict, difference, and the file and name of the test."""
    tables, _, _ = (ROOT / "docs/old-server.md").read_text("utf-8").partition("## Differences in responses")
    lines = tables.splitlines()
    table = [line for line in lines if line.startswith("| `")]
    found = [ROW.fullmatch(line) for line in table]
    assert [line for line, match in zip(table, found, strict=True) if match is None] == [], "rows of another form"
    return [(match[1], match[2], match[3], match[4], match[5]) for match in found if match]


def test_every_action_option_and_command_of_the_old_server_has_one_row() -> None:
    assert Counter(row[0] for row in rows()) == Counter([*ACTIONS, *OPTIONS, *COMMANDS])


def test_every_action_and_option_of_the_old_server_exists() -> None:
    assert {action.name for action in all_actions()} >= ACTIONS
    assert set(Settings.__dataclass_fields__) >= OPTIONS


def test_a_row_has_a_verdict_and_a_difference_unless_the_verdict_is_same() -> None:
    assert {row[1] for row in rows()} <= {"same", "fixed", "more"}
    assert [row[0] for row in rows() if row[1] != "same" and not row[2]] == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_test_of_a_row_exists(row: tuple[str, str, str, str, str]) -> None:
    *_, path, name = row
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in defined
