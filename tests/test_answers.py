"""What a client is told when something went wrong."""

from __future__ import annotations

import pytest

from econed.answers import failure
from econed.errors import (
    EC2Error,
    OpenNebulaCode,
    OpenNebulaNonsense,
    OpenNebulaRefusal,
    OpenNebulaUnavailable,
)

SECRET = "/var/lib/one/secret of alice"


def test_an_error_of_ec2s_is_told_as_it_is() -> None:
    error = EC2Error("InvalidAMIID.NotFound", "The image id 'ami-1' does not exist")
    assert failure(error).answer is error
    assert not failure(error).is_unforeseen


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (OpenNebulaUnavailable("one.vm.info", SECRET), "Unavailable", 503),
        (OpenNebulaNonsense("one.vm.info", SECRET), "InternalError", 500),
        (ValueError(SECRET), "InternalError", 500),
        (OpenNebulaRefusal("one.vm.info", OpenNebulaCode.REPLICATION, SECRET), "Unavailable", 503),
        (OpenNebulaRefusal("one.vm.info", OpenNebulaCode.AUTHORIZATION, SECRET), "UnauthorizedOperation", 403),
        (OpenNebulaRefusal("one.vm.info", -500, SECRET), "UnauthorizedOperation", 403),
        (OpenNebulaRefusal("one.vm.info", -506, SECRET), "InternalError", 500),
    ],
)
def test_nothing_of_the_inside_is_told(error: Exception, code: str, status: int) -> None:
    answer = failure(error).answer
    assert (answer.code, answer.status) == (code, status)
    assert SECRET not in answer.message


@pytest.mark.parametrize(
    "code",
    [
        OpenNebulaCode.NO_EXISTS,
        OpenNebulaCode.ACTION,
        OpenNebulaCode.INTERNAL,
        OpenNebulaCode.ALLOCATE,
        OpenNebulaCode.LOCKED,
    ],
)
def test_what_oned_refuses_is_a_4xx_that_sdks_do_not_repeat(code: int) -> None:
    assert 400 <= failure(OpenNebulaRefusal("one.vm.action", code, SECRET)).answer.status < 500


def test_a_quota_that_is_used_up_is_told_from_a_missing_right() -> None:
    reason = "User [3] : user [3] limit of 0 reached for IMAGES quota in DATASTORE with ID: 1."
    refusal = OpenNebulaRefusal("one.image.allocate", OpenNebulaCode.AUTHORIZATION, reason)
    assert failure(refusal).answer.code == "ResourceLimitExceeded"


def test_only_what_nobody_foresaw_asks_for_a_traceback_in_the_log() -> None:
    assert failure(ValueError("x")).is_unforeseen
    assert not failure(OpenNebulaUnavailable("one.vm.info", "x")).is_unforeseen
