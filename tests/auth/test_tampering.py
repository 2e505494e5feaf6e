"""Requests that were changed after they had been signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.errors import EC2Error
from econed.wire.signed_request import SignedRequest
from tests.auth.signed_requests import edited, every_method, posted, presigned, v2_get, v2_post
from tests.auth.support import ALICE, ListedUsers, Signed, authenticated, refusal, with_header

TAMPERED: list[Callable[[SignedRequest], SignedRequest]] = [
    lambda r: replace(r, method="PUT"),
    lambda r: replace(r, path=b"/elsewhere"),
    lambda r: with_header(r, "host", b"elsewhere.example.com:4567"),
    lambda r: edited(r, b"DescribeInstances", b"TerminateInstances"),
    lambda r: edited(r, b"i-00000001", b"i-00000002"),
    lambda r: edited(r, b"i-00000001", b"i-0000000%31%32"),
    lambda r: edited(r, b"InstanceId.1", b"InstanceId.2"),
    lambda r: edited(r, b"&Version", b"&DryRun=false&Version"),
    lambda r: edited(r, b"&InstanceId.1=i-00000001", b""),
    lambda r: edited(r, b"=alice", b"=bob"),
]


@every_method
@pytest.mark.parametrize("tamper", TAMPERED)
def test_any_change_to_a_signed_request_is_refused(
    method: Callable[[], Signed], tamper: Callable[[SignedRequest], SignedRequest]
) -> None:
    """Method, path, host, name and value of a parameter, an additional, a missing parameter, another signer."""
    signed = method()
    bob = replace(ALICE, id=3, name="bob", secret="another")
    assert refusal(tamper(signed.request), signed.at, ListedUsers((ALICE, bob))).code == "AuthFailure"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda r: with_header(r, "content-type", b"text/plain"),
        lambda r: edited(r, b"/us-east-1/", b"/us-east-2/"),
        lambda r: edited(r, b"/ec2/", b"/ec3/"),
        lambda r: edited(r, b"=content-type;host;", b"=host;"),
        lambda r: replace(r, query=b"DryRun=false"),
        lambda r: replace(r, body=r.body + b"&"),
    ],
)
def test_any_change_that_version_4_covers_is_refused(
    tamper: Callable[[SignedRequest], SignedRequest],
) -> None:
    """The signed headers, the scope, the query string of a form, and each byte of the body."""
    signed = posted()
    assert refusal(tamper(signed.request), signed.at).code == "AuthFailure"


@given(st.data())
def test_a_changed_byte_is_refused_unless_the_parameters_stay_the_same(data: st.DataObject) -> None:
    """For any byte of the parameters."""
    signed = data.draw(st.sampled_from([posted(), presigned(), v2_get(), v2_post()]))
    request = signed.request
    raw = bytearray(request.body or request.query)
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    changed = replace(request, body=bytes(raw)) if request.body else replace(request, query=bytes(raw))
    try:
        authenticated(changed, signed.at)
    except EC2Error:
        return
    assert sorted((*changed.query_pairs, *changed.form_pairs)) == sorted((*request.query_pairs, *request.form_pairs))
