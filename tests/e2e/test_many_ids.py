"""Requests with very many ids, over real sockets and processes."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.clients import refusal
from tests.support.econed_process import Person
from tests.support.furnished_cloud import FurnishedCloud

ON_A_SANDBOX = pytest.mark.parametrize("cloud", ["5.12", "7.4"], indirect=True, scope="session")
"""Only a sandbox has a call log."""


@ON_A_SANDBOX
def test_a_thousand_unknown_images_take_few_calls_to_oned(cloud: FurnishedCloud, ec2: Any, alice: Person) -> None:
    ec2.describe_regions()
    before = cloud.call_count()
    with pytest.raises(ClientError) as raised:
        ec2.describe_images(ImageIds=[f"ami-{number:08d}" for number in range(100_000, 101_000)])
    assert refusal(raised.value) == ("InvalidAMIID.NotFound", 400)
    assert len([call for call in cloud.calls(before) if call.user == alice.name]) <= 3


@ON_A_SANDBOX
def test_more_than_a_thousand_ids_take_no_call_to_oned(cloud: FurnishedCloud, ec2: Any, alice: Person) -> None:
    ec2.describe_regions()
    before = cloud.call_count()
    with pytest.raises(ClientError) as raised:
        ec2.describe_images(ImageIds=[f"ami-{number:08d}" for number in range(100_000, 102_400)])
    assert refusal(raised.value) == ("InvalidParameterValue", 400)
    assert not [call for call in cloud.calls(before) if call.user == alice.name]
