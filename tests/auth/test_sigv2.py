"""Signature Version 2: known signatures, requests of libcloud and botocore, and what it cannot cover."""

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
from tests.auth.support import ALICE, authenticated, refusal, sign_v2

KNOWN_TIME = 1403253623.0  # 2014-06-20T08:40:23Z
ROOT = Endpoint(b"", b"/")
DESCRIBE = {"Action": "DescribeInstances", "Version": "2013-10-15"}


def test_parameters_have_the_known_signature() -> None:
    """The signature of a single parameter with the secret bar."""
    claim = sigv2.SigV2Claim("POST", "foo", (("Foo", "✓"),), "sha256", b"", Validity.around(KNOWN_TIME))
    assert claim.sign(b"bar", claim.string_to_sign(ROOT)) == b"VCtWuwaOL0yMffAT8W4y0AFW3W4KUykBqah9S40rB+Q="


def test_a_form_has_the_known_signature() -> None:
    """The signature of a whole form with the same secret."""
    form = (
        b"Foo=%E2%9C%93&AWSAccessKeyId=foo&SignatureMethod=HmacSHA256&SignatureVersion=2"
        b"&Timestamp=2014-06-20T08%3A40%3A23Z&Signature=Tiecw%2Bt51tok4dTT8B4bg47zxHEM%2FKcD55f2%2Fx6K22o%3D"
    )
    request = SignedRequest("POST", b"/", b"", (), form)
    claim = sigv2.read(request)
    assert claim.sign(b"bar", claim.string_to_sign(ROOT)) == b"Tiecw+t51tok4dTT8B4bg47zxHEM/KcD55f2/x6K22o="


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"Tag.1.Key": "name", "Tag.1.Value": "a b+c/d=e&f%20;g~h*i"},
        {"Filter.1.Name": "tag:größe", "Filter.1.Value.1": "日本語 🦆"},
        {"UserData": base64.b64encode(bytes(range(256))).decode()},
        {"B": "1", "a": "2", "A": "3", "A.10": "4", "A.2": "5", "A-1": "6", "A_1": "7"},
    ],
)
def test_requests_signed_by_botocore_are_accepted(method: str, parameters: dict[str, str]) -> None:
    """Query strings and forms with all kinds of characters."""
    signed = sign_v2(method, {**DESCRIBE, **parameters})
    assert authenticated(signed.request, signed.at) == ALICE


def signed_manually(digest: str, host: bytes, path: bytes = b"/") -> SignedRequest:
    """Return a GET as the Perl and Ruby clients send it: signed for `host` and `path`, sent to port 4567."""
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
def test_both_hashes_are_accepted_with_and_without_the_port(digest: str, host: bytes) -> None:
    """The host is signed in lower case; boto 2 and the Perl clients omit the port that they send."""
    assert authenticated(signed_manually(digest, host), KNOWN_TIME) == ALICE


def test_a_plus_sign_in_the_query_string_is_a_space() -> None:
    """Libcloud sends it and signs %20."""
    signed = sign_v2("GET", {**DESCRIBE, "Tag.1.Value": "two words"})
    request = replace(signed.request, query=signed.request.query.replace(b"two%20words", b"two+words"))
    assert b"two+words" in request.query
    assert authenticated(request, signed.at) == ALICE


def test_parameters_in_both_query_string_and_form_are_refused() -> None:
    """The signature covers only the query string or the form."""
    in_form, in_query = sign_v2("POST", DESCRIBE), sign_v2("GET", DESCRIBE)
    assert refusal(replace(in_form.request, query=b"DryRun=true"), in_form.at).code == "IncompleteSignature"
    assert refusal(replace(in_query.request, body=b"DryRun=true"), in_query.at).code == "IncompleteSignature"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_duplicate_parameters_are_refused(method: str) -> None:
    """They are sorted for the signature, so swapping them would not change it."""
    signed = sign_v2(method, DESCRIBE)
    with_duplicate = replace(
        signed.request,
        query=signed.request.query and signed.request.query + b"&Action=TerminateInstances",
        body=signed.request.body and signed.request.body + b"&Action=TerminateInstances",
    )
    assert refusal(with_duplicate, signed.at).code == "InvalidParameterValue"
