"""Lists of what OpenNebula does not have are empty; what they are not asked correctly they refuse as other lists."""

from __future__ import annotations

import pytest
from botocore.loaders import Loader

from econed.actions.empty_lists import EMPTY_LISTS, EmptyList
from tests.support.cloud import Cloud

ROWS = pytest.mark.parametrize("row", EMPTY_LISTS, ids=[row.action for row in EMPTY_LISTS])
AMAZONS = Loader().load_service_model("ec2", "service-2")


def members(action: str, kind: str) -> list[str]:
    """Return the members of the input or output of an action in Amazon's model."""
    return list(AMAZONS["shapes"][AMAZONS["operations"][action][kind]["shape"]]["members"])


@ROWS
def test_there_is_nothing(row: EmptyList) -> None:
    filters = [{"Name": name, "Values": ["*"]} for name in (*row.filters, *(["tag:Name"] if row.have_tags else []))]
    cloud = Cloud()
    parameters = {row.filters_in: filters} if filters else {}
    assert cloud.run("alice", row.action, dry_run=False, **parameters) == {row.member: []}
    assert cloud.refusal("alice", row.action, dry_run=True).code == "DryRunOperation"


@ROWS
def test_a_row_has_all_parameters_of_amazons_model(row: EmptyList) -> None:
    taken = {row.filters_in, row.ids, "MaxResults", "NextToken", "DryRun"}
    assert set(members(row.action, "input")) == taken - {""}
    assert set(members(row.action, "output")) == {row.member, "NextToken"}


@ROWS
def test_an_id_is_not_found(row: EmptyList) -> None:
    assert row.kind is not None
    for text, code in ((f"{row.kind.prefix}-0a1b2c3d", row.kind.not_found_code), ("x-1", row.kind.malformed_code)):
        error = Cloud().refusal("alice", row.action, dry_run=False, **{row.ids: [text]})
        assert (error.code, error.status) == (code, 400)
        assert text in error.message


@ROWS
def test_other_filters_pages_and_tokens_are_refused(row: EmptyList) -> None:
    cloud = Cloud()
    unknown = {row.filters_in: [{"Name": "no-such-filter", "Values": ["x"]}]}
    assert cloud.refusal("alice", row.action, dry_run=False, **unknown).code == "InvalidParameterValue"
    assert cloud.refusal("alice", row.action, NextToken="x").code == "InvalidNextToken"
    assert cloud.refusal("alice", row.action, MaxResults=0).code == "InvalidParameterValue"
    minimum, _ = row.max_results
    assert cloud.run("alice", row.action, MaxResults=minimum) == {row.member: []}
