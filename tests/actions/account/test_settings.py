"""Settings that have one value here are read, and may be set to it; another value is refused with a way out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cloud import Cloud


@pytest.fixture(scope="module", name="cloud")
def one_cloud() -> Cloud:
    """A cloud for all tests, which change nothing."""
    return Cloud()


@pytest.mark.parametrize(
    ("action", "result"),
    [
        ("GetEbsEncryptionByDefault", {"EbsEncryptionByDefault": False}),
        ("DisableEbsEncryptionByDefault", {"EbsEncryptionByDefault": False}),
        ("GetSerialConsoleAccessStatus", {"SerialConsoleAccessEnabled": False}),
        ("DisableSerialConsoleAccess", {"SerialConsoleAccessEnabled": False}),
    ],
)
def test_what_opennebula_does_not_have_is_off_and_stays_off(cloud: Cloud, action: str, result: dict[str, Any]) -> None:
    assert cloud.run("alice", action, dry_run=False) == result
    assert cloud.refusal("alice", action, dry_run=True).code == "DryRunOperation"


@pytest.mark.parametrize("action", ["EnableEbsEncryptionByDefault", "EnableSerialConsoleAccess", "ModifyIdFormat"])
def test_it_cannot_be_switched_on(cloud: Cloud, action: str) -> None:
    assert cloud.refusal("alice", action).code == "UnsupportedOperation"


class TestIdFormats:
    """DescribeIdFormat and DescribeAggregateIdFormat."""

    def test_only_ids_of_interfaces_are_long(self, cloud: Cloud) -> None:
        statuses = cloud.run("alice", "DescribeIdFormat")["Statuses"]
        assert {status["Resource"] for status in statuses} >= {
            "instance",
            "volume",
            "snapshot",
            "image",
            "subnet",
            "vpc",
        }
        long_ids = {status["Resource"] for status in statuses if status["UseLongIds"]}
        assert long_ids == {"network-interface", "network-interface-attachment"}

    def test_one_type_can_be_asked_for(self, cloud: Cloud) -> None:
        answer = cloud.run("alice", "DescribeIdFormat", Resource="instance")
        assert answer == {"Statuses": [{"Resource": "instance", "UseLongIds": False}]}

    def test_a_type_that_does_not_exist_is_refused(self, cloud: Cloud) -> None:
        assert cloud.refusal("alice", "DescribeIdFormat", Resource="car").code == "InvalidParameterValue"

    def test_not_all_types_have_long_ids(self, cloud: Cloud) -> None:
        answer = cloud.run("alice", "DescribeAggregateIdFormat")
        assert answer["UseLongIdsAggregated"] is False
        assert answer["Statuses"] == cloud.run("alice", "DescribeIdFormat")["Statuses"]
