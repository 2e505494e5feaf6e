"""How long a signature is valid."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from econed.auth import sigv2
from econed.auth.endpoints import Endpoint
from econed.wire.signed_request import SignedRequest
from tests.auth.signed_requests import DESCRIBE, MINUTES, every_method, posted, v2_get, v2_post
from tests.auth.support import ALICE, Signed, authenticated, presign_v4, refusal


@pytest.mark.parametrize("method", [posted, v2_get, v2_post])
@pytest.mark.parametrize("delay", [-15 * MINUTES, 0, 15 * MINUTES])
def test_a_signature_is_valid_15_minutes_before_and_after_its_date(method: Callable[[], Signed], delay: float) -> None:
    """To the second, to allow for clocks that differ."""
    signed = method()
    assert authenticated(signed.request, signed.at + delay) == ALICE


@every_method
@pytest.mark.parametrize("delay", [-15 * MINUTES - 1, 60 * MINUTES + 1])
def test_a_signature_with_an_earlier_or_later_date_is_refused(method: Callable[[], Signed], delay: float) -> None:
    """Both get RequestExpired, 400."""
    signed = method()
    error = refusal(signed.request, signed.at + delay)
    assert (error.code, error.status, error.message) == ("RequestExpired", 400, "Request has expired.")


@pytest.mark.parametrize("method", [posted, v2_get, v2_post])
def test_a_signature_expires_after_15_minutes(method: Callable[[], Signed]) -> None:
    """Signatures without an expiry of their own, a second later."""
    signed = method()
    assert refusal(signed.request, signed.at + 15 * MINUTES + 1).code == "RequestExpired"


@pytest.mark.parametrize("expires", [1, 60, 604800])
def test_a_presigned_request_is_valid_until_its_expiry(expires: int) -> None:
    """X-Amz-Expires, from a second to a week, without an allowance of 15 minutes."""
    signed = presign_v4(query=DESCRIBE, expires=expires)
    assert authenticated(signed.request, signed.at + expires) == ALICE
    assert refusal(signed.request, signed.at + expires + 1).code == "RequestExpired"


def expiring(at: str) -> SignedRequest:
    """Return a correctly signed Version 2 GET that expires at `at`."""
    query = f"AWSAccessKeyId=alice&Expires={at}&SignatureMethod=HmacSHA256&SignatureVersion=2&Signature="
    claim = sigv2.read(SignedRequest("GET", b"/", query.encode() + b"x", (), b""))
    text = claim.string_to_sign(Endpoint(b"h", b"/"))
    signature = claim.sign(claim.signing_key(ALICE.secret), text).replace(b"+", b"%2B")
    return SignedRequest("GET", b"/", query.encode() + signature, (("host", b"h"),), b"")


@pytest.mark.parametrize(
    ("remaining", "code"), [(0, None), (24 * 60 * MINUTES, None), (-1, "RequestExpired"), (604801, "RequestExpired")]
)
@pytest.mark.parametrize("at", ["2014-06-20T08:40:23Z", "2014-06-20T08:40:23", "2014-06-20T10:40:23.000%2B02:00"])
def test_a_version_2_signature_may_expire_within_a_week(at: str, remaining: float, code: str | None) -> None:
    """Expires, in the formats of ISO 8601 that clients send."""
    now = 1403253623.0 - remaining
    if code is None:
        assert authenticated(expiring(at), now) == ALICE
    else:
        assert refusal(expiring(at), now).code == code
