"""The errors that clients get for exceptions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import pytest_twisted
from twisted.logger import formatEvent

import econed
from econed.answers import failure
from econed.auth.failures import expired_token
from econed.config.settings import Settings
from econed.errors import (
    EC2Error,
    InvalidReply,
    OpenNebulaCode,
    OpenNebulaRefusal,
    OpenNebulaUnavailable,
    ServerAccountRefused,
    XmlRpcFault,
)
from econed.services import EC2, IAM, STS, AmazonService
from tests.support.cloud import Cloud
from tests.support.serving import Server, get, send_request, signed

ECONED = Path(econed.__file__).parent
SECRET = "/var/lib/one/secret of alice"


def test_an_ec2_error_is_returned_unchanged() -> None:
    error = EC2Error("InvalidAMIID.NotFound", "The image id 'ami-1' does not exist")
    assert failure(error, EC2).error is error
    assert not failure(error, EC2).is_unforeseen


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (OpenNebulaUnavailable("one.vm.info", SECRET), "ServiceUnavailable", 503),
        (InvalidReply("one.vm.info", SECRET), "InternalError", 500),
        (ValueError(SECRET), "InternalError", 500),
        (OpenNebulaRefusal("one.vm.info", OpenNebulaCode.REPLICATION, SECRET), "ServiceUnavailable", 503),
        (OpenNebulaRefusal("one.vm.info", OpenNebulaCode.AUTHORIZATION, SECRET), "UnauthorizedOperation", 403),
        (OpenNebulaRefusal("one.vm.info", -500, SECRET), "UnauthorizedOperation", 403),
        (OpenNebulaRefusal("one.vm.info", -506, SECRET), "UnsupportedOperation", 400),
        (OpenNebulaRefusal("one.vm.info", 12345, SECRET), "InternalError", 500),
        (ServerAccountRefused("one.user.info", OpenNebulaCode.AUTHENTICATION, SECRET), "InternalError", 500),
    ],
)
def test_no_internal_details_reach_the_client(error: Exception, code: str, status: int) -> None:
    returned = failure(error, EC2).error
    assert (returned.code, returned.status) == (code, status)
    assert SECRET not in returned.message


ERROR_FOR_CODE: dict[int, tuple[str, int]] = {
    OpenNebulaCode.AUTHENTICATION: ("AuthFailure", 401),
    OpenNebulaCode.AUTHORIZATION: ("UnauthorizedOperation", 403),
    OpenNebulaCode.NO_EXISTS: ("InvalidParameterValue", 400),
    OpenNebulaCode.ACTION: ("IncorrectState", 400),
    OpenNebulaCode.XML_RPC_API: ("InvalidParameterValue", 400),
    OpenNebulaCode.INTERNAL: ("InvalidRequest", 400),
    OpenNebulaCode.ALLOCATE: ("InvalidRequest", 400),
    OpenNebulaCode.LOCKED: ("IncorrectState", 400),
    OpenNebulaCode.REPLICATION: ("ServiceUnavailable", 503),
    XmlRpcFault.NOT_COMPLETED: ("UnauthorizedOperation", 403),
    XmlRpcFault.WRONG_PARAMETERS: ("InternalError", 500),
    XmlRpcFault.NOT_A_CALL: ("InternalError", 500),
    XmlRpcFault.UNKNOWN_METHOD: ("UnsupportedOperation", 400),
}
"""The error for each code of oned: 5xx only if oned cannot reply, or the call itself was wrong."""


@pytest.mark.parametrize("code", [*OpenNebulaCode, *XmlRpcFault])
def test_each_code_of_oned_has_its_ec2_error(code: int) -> None:
    error = failure(OpenNebulaRefusal("one.vm.action", code, SECRET), EC2).error
    assert (error.code, error.status) == ERROR_FOR_CODE[code]
    assert SECRET not in error.message


@pytest.mark.parametrize("action", ["DescribeInstances", "DescribeKeyPairs", "DescribeVolumes"])
def test_a_user_deleted_after_authentication_is_refused_like_an_unknown_user(action: str) -> None:
    cloud = Cloud()
    alice = cloud.user("alice")
    cloud.oneadmin("one.user.delete", alice.id)
    cloud.cached_users["alice"] = alice
    error = cloud.refusal("alice", action)
    assert (error.code, error.status) == ("AuthFailure", 401)


@pytest_twisted.ensureDeferred
async def test_a_deleted_user_gets_the_same_error_while_they_are_cached() -> None:
    server = Server(Settings())
    try:
        first = await send_request(server, get(server, signed(server, Action="DescribeInstances")))
        assert first.status == 200
        server.cloud.oneadmin("one.user.delete", server.cloud.user("alice").id)
        responses = []
        for _ in range(5):
            client = await send_request(server, get(server, signed(server, Action="DescribeInstances")))
            responses.append((client.status, client.code))
            server.cloud.clock.advance(1)
        assert responses == [(401, "AuthFailure")] * 5
    finally:
        server.close()


def test_an_exceeded_quota_is_distinguished_from_a_missing_right() -> None:
    reason = "User [3] : user [3] limit of 0 reached for IMAGES quota in DATASTORE with ID: 1."
    refusal = OpenNebulaRefusal("one.image.allocate", OpenNebulaCode.AUTHORIZATION, reason)
    assert failure(refusal, EC2).error.code == "ResourceLimitExceeded"


@pytest.mark.parametrize(
    ("quota", "parameters", "code"),
    [
        (
            'VM=[VMS="0",CPU="-2",MEMORY="-2"]',
            {"Action": "RunInstances", "ImageId": "ami-00000000", "MinCount": "1", "MaxCount": "1"},
            "InstanceLimitExceeded",
        ),
        (
            'DATASTORE=[ID="1",IMAGES="0",SIZE="1"]',
            {"Action": "CreateVolume", "Size": "1", "AvailabilityZone": "default"},
            "VolumeLimitExceeded",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_log_quotes_oned_for_an_exceeded_quota(quota: str, parameters: dict[str, str], code: str) -> None:
    """It says which quota; the client gets EC2's error."""
    server = Server(Settings())
    try:
        server.cloud.oneadmin("one.user.quota", server.cloud.user("alice").id, quota)
        client = await send_request(server, get(server, signed(server, **parameters)))
        warnings = [str(formatEvent(event)) for event in server.events if event["log_level"].name == "warn"]
        assert client.code == code
        assert [" limit of " in warning and " quota in " in warning for warning in warnings] == [True]
        assert b" quota in " not in client.received
    finally:
        server.close()


def test_the_log_quotes_oned_for_a_lack_of_capacity() -> None:
    """It says which network has no free address. The error of a client's own mistake says all."""
    refusal = OpenNebulaRefusal("one.template.instantiate", OpenNebulaCode.ALLOCATE, "Cannot get IP/MAC lease.")
    for status, cause in ((500, refusal), (400, None)):
        error = EC2Error("InsufficientInstanceCapacity", "There are not enough free addresses.", status)
        error.__cause__ = refusal
        assert failure(error, EC2).cause is cause


def test_only_unforeseen_exceptions_need_a_traceback() -> None:
    assert failure(ValueError("x"), EC2).is_unforeseen
    assert not failure(OpenNebulaUnavailable("one.vm.info", "x"), EC2).is_unforeseen


@pytest.mark.parametrize("service", [STS, IAM])
@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (EC2Error("AuthFailure", "AWS was not able to validate the credentials", 401), "InvalidClientTokenId", 403),
        (EC2Error("InvalidClientTokenId", "The access key does not exist.", 403), "InvalidClientTokenId", 403),
        (EC2Error("MissingAuthenticationToken", "x", 403), "MissingAuthenticationToken", 403),
        (EC2Error("IncompleteSignature", "x"), "IncompleteSignature", 400),
        (EC2Error("SignatureDoesNotMatch", "x", 403), "SignatureDoesNotMatch", 403),
        (EC2Error("RequestExpired", "x"), "RequestExpired", 400),
        (EC2Error("ExpiredToken", "x", 403), "ExpiredToken", 403),
        (EC2Error("RequestLimitExceeded", "x", 503), "Throttling", 400),
        (EC2Error("UnknownParameter", "x"), "InvalidQueryParameter", 400),
        (EC2Error("UnsupportedOperation", "x"), "InvalidParameterValue", 400),
        (OpenNebulaRefusal("one.vm.action", OpenNebulaCode.AUTHORIZATION, SECRET), "AccessDenied", 403),
        (OpenNebulaUnavailable("one.vm.info", SECRET), "ServiceUnavailable", 503),
        (ValueError(SECRET), "InternalFailure", 500),
    ],
)
def test_sts_and_iam_have_codes_of_their_own(service: AmazonService, error: Exception, code: str, status: int) -> None:
    """IAM API Reference, "Common Errors"; the actions of these services raise their errors themselves."""
    told = failure(error, service).error
    assert (told.code, told.status) == (code, status)
    assert SECRET not in told.message


def test_a_wrong_secret_and_an_unknown_access_key_have_the_same_error() -> None:
    """Nobody learns from an error of STS or IAM which keys there are."""
    errors = (EC2Error("AuthFailure", "x", 401), EC2Error("InvalidClientTokenId", "y", 403))
    assert {str(failure(error, STS).error) for error in errors} == {
        "InvalidClientTokenId: The security token included in the request is invalid."
    }


def test_an_expired_token_is_an_expired_request_for_ec2() -> None:
    assert str(failure(expired_token(), EC2).error) == "RequestExpired: Request has expired."


COMMON = frozenset(
    {
        *("AccessDenied", "ExpiredToken", "IncompleteSignature", "InternalFailure", "InvalidAction"),
        *("InvalidClientTokenId", "InvalidParameterCombination", "InvalidParameterValue", "InvalidQueryParameter"),
        *("LimitExceeded", "MalformedQueryString", "MissingAction", "MissingAuthenticationToken", "MissingParameter"),
        *("RequestExpired", "ServiceUnavailable", "SignatureDoesNotMatch", "Throttling", "ValidationError"),
    }
)
"""The codes of IAM's and STS's common errors."""

OF_ANY_SERVER = frozenset(
    {
        *("InvalidRequest", "MethodNotAllowed", "RequestEntityTooLarge", "RequestHeaderSectionTooLarge"),
        *("RequestTimeout", "UnsupportedMediaType"),
    }
)
"""The codes for requests that are not those of a client of Amazon's; they name a status of HTTP."""

OF_EC2_ALONE = frozenset({"IncorrectState", "InsufficientVolumeCapacity", "NoSuchVersion"})
"""The codes of causes that requests to STS and IAM do not have: states of resources, uploads, other versions."""


def test_every_error_that_services_share_has_a_code_of_sts_and_iam() -> None:
    """Those that are raised outside of the actions, which raise the errors of their own services."""
    paths = [ECONED / f"{name}.py" for name in ("answers", "dispatch", "pipeline", "resource")]
    for folder in ("auth", "http", "wire"):
        paths += (ECONED / folder).rglob("*.py")
    codes = {code for path in paths for code in re.findall(r'EC2Error\(\s*"(\w+)"', path.read_text("utf-8"))}
    assert codes >= {"AuthFailure", "UnknownParameter", "RequestLimitExceeded"}
    shared = {failure(EC2Error(code, "x"), IAM).error.code for code in codes}
    assert shared - COMMON == OF_ANY_SERVER | OF_EC2_ALONE
