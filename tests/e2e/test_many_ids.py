"""Requests with very many ids, over real sockets and processes."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.e2e.waiting import known
from tests.support.clients import boto, refusal
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

ON_A_SANDBOX = pytest.mark.parametrize("cloud", ["5.12", "7.4"], indirect=True, scope="session")
"""Only a sandbox has a call log."""


@pytest.fixture
def ivy(cloud: FurnishedCloud) -> Person:
    """A user who has no objects, so that no reconciler makes calls for them."""
    return cloud.person("ivy")


@ON_A_SANDBOX
def test_a_thousand_unknown_images_take_few_calls_to_oned(cloud: FurnishedCloud, econed: Econed, ivy: Person) -> None:
    ec2 = known(boto(ivy, econed.url))
    before = cloud.call_count()
    with pytest.raises(ClientError) as raised:
        ec2.describe_images(ImageIds=[f"ami-{number:08d}" for number in range(100_000, 101_000)])
    assert refusal(raised.value) == ("InvalidAMIID.NotFound", 400)
    assert 1 <= len([call for call in cloud.calls(before) if call.user == ivy.name]) <= 3


@ON_A_SANDBOX
def test_more_than_a_thousand_ids_take_no_call_to_oned(cloud: FurnishedCloud, econed: Econed, ivy: Person) -> None:
    ec2 = known(boto(ivy, econed.url))
    before = cloud.call_count()
    with pytest.raises(ClientError) as raised:
        ec2.describe_images(ImageIds=[f"ami-{number:08d}" for number in range(100_000, 102_400)])
    assert refusal(raised.value) == ("InvalidParameterValue", 400)
    assert not [call for call in cloud.calls(before) if call.user == ivy.name]
