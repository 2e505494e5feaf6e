"""Lists of what OpenNebula does not have are empty; what they are not asked correctly they refuse as other lists."""

from __future__ import annotations

import pytest
from botocore.loaders import Loader

from econed.actions.empty_lists.row import EmptyList
from econed.actions.empty_lists.tables import EMPTY_LISTS
from tests.support.cloud import Cloud

ROWS = pytest.mark.parametrize("row", EMPTY_LISTS, ids=[row.action for row in EMPTY_LISTS])
AMAZONS = Loader().load_service_model("ec2", "service-2")


OF_ITEMS = [row for row in EMPTY_LISTS if row.kind and not row.ids_are_of_others]


@pytest.fixture(scope="module", name="cloud")
def one_cloud() -> Cloud:
    """A cloud for all tests, which change nothing."""
    return Cloud()


def members(action: str, kind: str) -> list[str]:
    """Return the members of the input or output of an action in Amazon's model."""
    return list(AMAZONS["shapes"][AMAZONS["operations"][action][kind]["shape"]]["members"])


@ROWS
def test_there_is_nothing(row: EmptyList, cloud: Cloud) -> None:
    filters = [{"Name": name, "Values": ["*"]} for name in (*row.filters, *(["tag:Name"] if row.have_tags else []))]
    parameters = {row.filters_in: filters} if row.filters_in and filters else {}
    assert cloud.run("alice", row.action, dry_run=False, **parameters) == {row.member: []}
    assert cloud.refusal("alice", row.action, dry_run=True).code == "DryRunOperation"


@ROWS
def test_a_row_has_all_parameters_of_amazons_model(row: EmptyList) -> None:
    pages = {"MaxResults", "NextToken"} if row.max_results else set()
    # Some have no DryRun at Amazon; econed takes it everywhere.
    taken = {row.filters_in, row.ids, *row.narrowed_by, *pages, "DryRun"} - {""}
    assert {*members(row.action, "input"), "DryRun"} == taken
    assert {row.member, *pages & {"NextToken"}} <= set(members(row.action, "output"))


@pytest.mark.parametrize("row", OF_ITEMS, ids=lambda row: row.action)
def test_an_id_is_not_found(row: EmptyList, cloud: Cloud) -> None:
    assert row.kind is not None
    for text, code in ((f"{row.kind.prefix}-0a1b2c3d", row.kind.not_found_code), ("x-1", row.kind.malformed_code)):
        error = cloud.refusal("alice", row.action, dry_run=False, **{row.ids: [text]})
        assert (error.code, error.status) == (code, 400)
        assert text in error.message


@pytest.mark.parametrize(
    ("action", "parameter", "text", "code"),
    [
        ("DescribeIamInstanceProfileAssociations", "AssociationIds", "iip-assoc-0a1b2c3d", "NotFound"),
        ("DescribeFleets", "FleetIds", "fleet-12345678-90ab-cdef-0123-456789abcdef", "NotFound"),
        ("DescribeImportImageTasks", "ImportTaskIds", "import-ami-0a1b2c3d4e5f60718", "InvalidConversionTaskId"),
        ("DescribeReservedInstances", "ReservedInstancesIds", "e5a2ff3b-7d14-494f-90af-0b5d0EXAMPLE", "InstancesId"),
    ],
)
def test_an_id_of_another_form_of_amazons_is_not_found(
    action: str, parameter: str, text: str, code: str, cloud: Cloud
) -> None:
    assert cloud.refusal("alice", action, dry_run=False, **{parameter: [text]}).code.endswith(code)


@pytest.mark.parametrize(
    ("action", "parameter", "text", "code"),
    [
        ("DescribeLockedSnapshots", "SnapshotIds", "snap-00000004", "InvalidSnapshotID.Malformed"),
        ("DescribeStoreImageTasks", "ImageIds", "ami-00000004", "InvalidAMIID.Malformed"),
    ],
)
def test_objects_without_such_an_item_are_no_error_but_malformed_ids_are(
    action: str, parameter: str, text: str, code: str, cloud: Cloud
) -> None:
    (row,) = (row for row in EMPTY_LISTS if row.action == action)
    assert cloud.run("alice", action, dry_run=False, **{parameter: [text]}) == {row.member: []}
    assert cloud.refusal("alice", action, dry_run=False, **{parameter: ["x-1"]}).code == code


@pytest.mark.parametrize("row", [row for row in EMPTY_LISTS if row.filters_in], ids=lambda row: row.action)
def test_other_filters_are_refused(row: EmptyList, cloud: Cloud) -> None:
    unknown = {row.filters_in: [{"Name": "no-such-filter", "Values": ["x"]}]}
    assert cloud.refusal("alice", row.action, dry_run=False, **unknown).code == "InvalidParameterValue"


@pytest.mark.parametrize("row", [row for row in EMPTY_LISTS if row.max_results], ids=lambda row: row.action)
def test_other_pages_and_tokens_are_refused(row: EmptyList, cloud: Cloud) -> None:
    assert cloud.refusal("alice", row.action, NextToken="x").code == "InvalidNextToken"
    assert cloud.refusal("alice", row.action, MaxResults=0).code == "InvalidParameterValue"
    assert row.max_results is not None
    assert cloud.run("alice", row.action, MaxResults=row.max_results[0]) == {row.member: []}
