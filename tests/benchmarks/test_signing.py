"""Requests that are signed beforehand are those that econed accepts."""

from __future__ import annotations

from typing import Protocol

import pytest

from benchmarks.signing import Keys, Message, signed_v2, signed_v4
from econed.errors import EC2Error
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ALICE, authenticated, refusal

NOW = 1_800_000_000.0
URL = "http://127.0.0.1:4567/"
PARAMETERS = {"Action": "DescribeInstances", "Filter.1.Name": "tag:Name", "Filter.1.Value.1": "a b+c/ü~"}


class Sign(Protocol):
    """A function that signs a request."""

    def __call__(self, keys: Keys, url: str, parameters: dict[str, str], at: float) -> Message: ...


every_version = pytest.mark.parametrize("sign", [signed_v2, signed_v4])


def received(data: bytes) -> SignedRequest:
    """Return a serialized request as econed receives it."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    path, _, query = target.partition(b"?")
    headers = tuple((name.decode().lower(), value) for name, _, value in (line.partition(b": ") for line in lines))
    return SignedRequest(method=method.decode(), path=path, query=query, headers=headers, body=body)


@every_version
def test_a_prepared_request_is_accepted(sign: Sign) -> None:
    message = sign(Keys(ALICE.name, ALICE.secret), URL, PARAMETERS, NOW)
    assert authenticated(received(message.serialized(URL)), NOW) == ALICE


@every_version
def test_a_prepared_request_is_accepted_as_long_as_any_other(sign: Sign) -> None:
    message = sign(Keys(ALICE.name, ALICE.secret), URL, PARAMETERS, NOW)
    request = received(message.serialized(URL))
    assert authenticated(request, NOW + 240) == ALICE
    assert isinstance(refusal(request, NOW + 3600), EC2Error)


@every_version
def test_a_prepared_request_with_another_secret_is_refused(sign: Sign) -> None:
    message = sign(Keys(ALICE.name, "another secret"), URL, PARAMETERS, NOW)
    assert isinstance(refusal(received(message.serialized(URL)), NOW), EC2Error)


@every_version
def test_requests_of_different_seconds_have_different_signatures(sign: Sign) -> None:
    keys = Keys(ALICE.name, ALICE.secret)
    assert len({sign(keys, URL, PARAMETERS, NOW - age).serialized(URL) for age in range(240)}) == 240


def test_the_length_of_a_form_is_announced() -> None:
    data = signed_v4(Keys(ALICE.name, ALICE.secret), URL, PARAMETERS, NOW).serialized(URL)
    head, _, body = data.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
