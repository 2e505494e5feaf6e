"""The error for each invalid signature: every row of the table in `econed.auth.failures`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from econed.wire.signed_request import SignedRequest
from tests.auth.signed_requests import MINUTES, edited, every_method, posted, presigned, v2_get, v2_post
from tests.auth.support import ListedUsers, Signed, refusal, with_header

ROWS: list[tuple[str, int, Callable[[], Signed], Callable[[SignedRequest], SignedRequest]]] = [
    ("MissingAuthenticationToken", 403, posted, lambda r: with_header(r, "authorization")),
    ("MissingAuthenticationToken", 403, posted, lambda r: with_header(r, "authorization", b"Basic YTpi")),
    ("MissingAuthenticationToken", 403, presigned, lambda r: replace(r, query=b"Action=DescribeInstances")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"Credential=", b"Credentials=")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b" Credential=", b" Realm=x, Credential=")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b", Signature=", b", Signature=0, Signature=")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"AWS4-HMAC-SHA256", b"AWS4-ECDSA-P256-SHA256")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"/aws4_request", b"")),
    ("IncompleteSignature", 400, posted, lambda r: edited(r, b"=content-type;", b"=host;")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "x-amz-date")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "x-amz-date", b"yesterday")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "x-amz-date", b"20151332T123600Z")),
    (
        "IncompleteSignature",
        400,
        posted,
        lambda r: with_header(r, "x-amz-date", b"20150830T123600Z", b"20150830T123600Z"),
    ),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "host", b"a", b"b")),
    ("IncompleteSignature", 400, posted, lambda r: with_header(r, "authorization", *r.header("authorization") * 2)),
    ("IncompleteSignature", 400, posted, lambda r: replace(r, query=v2_get().request.query)),
    ("IncompleteSignature", 400, posted, lambda r: replace(r, query=presigned().request.query)),
    ("IncompleteSignature", 400, posted, lambda r: replace(r, body=v2_post().request.body)),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Credential", b"X-Amz-Credentials")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Date", b"X-Amz-Dates")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Expires=3600", b"X-Amz-Expires=604801")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Expires=3600", b"X-Amz-Expires=0")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Expires=3600", b"X-Amz-Expires=1h")),
    ("IncompleteSignature", 400, presigned, lambda r: edited(r, b"X-Amz-Algorithm=AWS4", b"X-Amz-Algorithm=AWS5")),
    ("MissingParameter", 400, v2_get, lambda r: edited(r, b"&Signature=", b"&Signatur=")),
    ("MissingParameter", 400, v2_get, lambda r: edited(r, b"AWSAccessKeyId=", b"Key=")),
    ("MissingParameter", 400, v2_get, lambda r: edited(r, b"SignatureVersion=", b"V=")),
    ("MissingParameter", 400, v2_post, lambda r: edited(r, b"SignatureMethod=", b"M=")),
    ("MissingParameter", 400, v2_post, lambda r: edited(r, b"Timestamp=", b"Time=")),
    ("InvalidParameterValue", 400, v2_get, lambda r: edited(r, b"SignatureVersion=2", b"SignatureVersion=1")),
    ("InvalidParameterValue", 400, v2_get, lambda r: edited(r, b"=HmacSHA256", b"=HmacMD5")),
    ("InvalidParameterValue", 400, v2_get, lambda r: edited(r, b"Timestamp=2", b"Timestamp=x")),
    ("InvalidParameterValue", 400, presigned, lambda r: replace(r, query=r.query + b"&X-Amz-Signature=0")),
    ("InvalidParameterValue", 400, posted, lambda r: replace(r, query=b"A=1&A=2")),
    (
        "InvalidParameterCombination",
        400,
        v2_get,
        lambda r: edited(r, b"&Signature=", b"&Expires=2014-06-20T08:40:23Z&Signature="),
    ),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b"aws4_request", b"aws5_request")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b"/us-east-1/", b"//")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b"=alice/20", b"=alice/19")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: edited(r, b";host;", b";")),
    ("SignatureDoesNotMatch", 403, posted, lambda r: with_header(r, "x-amz-content-sha256", b"0" * 64)),
    ("InvalidClientTokenId", 403, posted, lambda r: edited(r, b"Credential=alice", b"Credential=")),
    ("InvalidClientTokenId", 403, posted, lambda r: edited(r, b"Credential=alice", b"Credential=" + b"a" * 129)),
    ("InvalidClientTokenId", 403, v2_get, lambda r: edited(r, b"AWSAccessKeyId=alice", b"AWSAccessKeyId=a%00")),
    ("AuthFailure", 401, posted, lambda r: edited(r, b"Credential=alice", b"Credential=mallory")),
    ("AuthFailure", 401, posted, lambda r: edited(r, b", Signature=", b", Signature=0")),
    ("AuthFailure", 401, presigned, lambda r: edited(r, b"X-Amz-Signature=", b"X-Amz-Signature=%E2%9C%93")),
    ("AuthFailure", 401, v2_get, lambda r: edited(r, b"=HmacSHA256", b"=HmacSHA1")),
]


@pytest.mark.parametrize(("code", "status", "method", "modify"), ROWS)
def test_each_invalid_signature_gets_amazons_error(
    code: str, status: int, method: Callable[[], Signed], modify: Callable[[SignedRequest], SignedRequest]
) -> None:
    """The rows of the table that do not depend on time."""
    signed = method()
    error = refusal(modify(signed.request), signed.at)
    assert (error.code, error.status) == (code, status)


@every_method
def test_no_user_is_looked_up_for_an_expired_signature(method: Callable[[], Signed]) -> None:
    """The time is checked first."""
    signed, users = method(), ListedUsers()
    refusal(signed.request, signed.at + 8 * 24 * 60 * MINUTES, users)
    assert users.calls == []
