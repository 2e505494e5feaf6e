"""Signature Version 2: known answers, what libcloud and botocore sign, and what it cannot cover."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from urllib.parse import quote

import pytest

from econed.auth import sigv2
from econed.auth.endpoints import Endpoint
from econed.auth.signature import Validity
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ALICE, answer, refusal, sign_v2

KNOWN_TIME = 1403253623.0  # 2014-06-20T08:40:23Z
NOWHERE = Endpoint(b"", b"/")
DESCRIBE = {"Action": "DescribeInstances", "Version": "2013-10-15"}


def test_parameters_alone_give_the_known_signature() -> None:
    """The known answer for one parameter, access key foo and secret bar."""
    claim = sigv2.SigV2Claim("POST", "foo", (("Foo", "✓"),), "sha256", b"", Validity.around(KNOWN_TIME))
    assert claim.expected("bar", NOWHERE) == b"VCtWuwaOL0yMffAT8W4y0AFW3W4KUykBqah9S40rB+Q="


def test_a_signed_form_gives_the_known_signature() -> None:
    """The known answer for a whole form, the same access key and secret."""
    form = (
        b"Foo=%E2%9C%93&AWSAccessKeyId=foo&SignatureMethod=HmacSHA256&SignatureVersion=2"
        b"&Timestamp=2014-06-20T08%3A40%3A23Z&Signature=Tiecw%2Bt51tok4dTT8B4bg47zxHEM%2FKcD55f2%2Fx6K22o%3D"
    )
    request = SignedRequest("POST", b"/", b"", (), form)
    assert sigv2.read(request).expected("bar", NOWHERE) == b"Tiecw+t51tok4dTT8B4bg47zxHEM/KcD55f2/x6K22o="


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Tag.1.Key": "name", "Tag.1.Value": "a b+c/d=e&f%20;g~h*i"},
        {"Filter.1.Name": "tag:größe", "Filter.1.Value.1": "日本語 🦆"},
        {"UserData": base64.b64encode(bytes(range(256))).decode()},
        {"B": "1", "a": "2", "A": "3", "A.10": "4", "A.2": "5", "A-1": "6", "A_1": "7"},
    ],
)
def test_what_botocore_signs_is_let_in(method: str, more: dict[str, str]) -> None:
    """Query strings and forms, with every kind of character, as botocore's Version 2 signer makes them."""
    signed = sign_v2(method, {**DESCRIBE, **more}, token="a session token")
    assert answer(signed.request, signed.at) == ALICE


def made_by_hand(digest: str, host: bytes, path: bytes = b"/") -> SignedRequest:
    """Return a GET as the Perl and Ruby clients make it, signed for `host` and `path`, sent to port 4567."""
    query = (
        b"AWSAccessKeyId=alice&Action=DescribeImages&SignatureMethod=" + digest.encode() + b"&SignatureVersion=2"
        b"&Timestamp=2014-06-20T08%3A40%3A23Z&Version=2013-10-15"
    )
    text = b"\n".join((b"GET", host, path, query))
    function = hashlib.sha1 if digest == "HmacSHA1" else hashlib.sha256
    signature = base64.b64encode(hmac.new(ALICE.secret.encode(), text, function).digest())
    query += b"&Signature=" + quote(signature, safe="").encode()
    return SignedRequest("GET", path, query, (("host", b"Cloud.Example.com:4567"),), b"")


@pytest.mark.parametrize("digest", ["HmacSHA1", "HmacSHA256"])
@pytest.mark.parametrize("host", [b"cloud.example.com:4567", b"cloud.example.com"])
def test_both_hashes_are_taken_with_and_without_the_port(digest: str, host: bytes) -> None:
    """The host is signed in lower case; boto 2 and the Perl clients leave out the port that they send."""
    assert answer(made_by_hand(digest, host), KNOWN_TIME) == ALICE


def test_a_plus_sign_in_the_query_string_is_a_space() -> None:
    """Libcloud sends spaces so, and signs %20."""
    signed = sign_v2("GET", {**DESCRIBE, "Tag.1.Value": "two words"})
    request = replace(signed.request, query=signed.request.query.replace(b"two%20words", b"two+words"))
    assert b"two+words" in request.query
    assert answer(request, signed.at) == ALICE


def test_the_other_place_for_parameters_must_be_empty() -> None:
    """A query string beside a signed form, and a form beside a signed query string, would not be covered."""
    posted, got = sign_v2("POST", DESCRIBE), sign_v2("GET", DESCRIBE)
    assert refusal(replace(posted.request, query=b"DryRun=true"), posted.at).code == "IncompleteSignature"
    assert refusal(replace(got.request, body=b"DryRun=true"), got.at).code == "IncompleteSignature"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_parameter_given_twice_is_refused(method: str) -> None:
    """Sorted for the signature, two of one name could be swapped unseen."""
    signed = sign_v2(method, DESCRIBE)
    twice = replace(
        signed.request,
        query=signed.request.query and signed.request.query + b"&Action=TerminateInstances",
        body=signed.request.body and signed.request.body + b"&Action=TerminateInstances",
    )
    assert refusal(twice, signed.at).code == "InvalidParameterValue"
