"""The public test suite of Signature Version 4: canonical requests, strings to sign and signatures are the suite's."""

from __future__ import annotations

from pathlib import Path

import pytest

from econed.auth import sigv4
from econed.auth.endpoints import Endpoint
from econed.errors import EC2Error
from econed.user import User
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ListedUsers, authenticated, refusal

SUITE = Path(__file__).parent.parent / "data" / "aws4_testsuite"
CASES = sorted(path.with_suffix("") for path in SUITE.rglob("*.req"))
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = 1440938160.0  # 2015-08-30T12:36:00Z
EXAMPLE = User(id=7, name="AKIDEXAMPLE", gid=1, groups=(1,), secret=SECRET, driver="public", enabled=True)
WITH_DUPLICATES = {"get-vanilla-query-order-key", "get-vanilla-query-order-value"}

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_the_suite_is_complete() -> None:
    """It has 34 requests."""
    assert len(CASES) == 34


@each_case
def test_canonical_request_string_to_sign_and_signature_match_the_suite(case: Path) -> None:
    """The results of the three steps are identical to the suite's files."""
    claim = sigv4.read_header(request_of(case))
    endpoint = Endpoint(b"example.amazonaws.com", claim.request.path)

    canonical = sigv4.canonical_request(claim, endpoint)
    text = sigv4.string_to_sign(claim, canonical)

    assert canonical == read(case, ".creq")
    assert text == read(case, ".sts")
    assert (
        sigv4.sign(sigv4.signing_key(SECRET, claim.scope), text)
        == claim.signature
        == read(case, ".authz").rpartition(b"=")[2]
    )


@each_case
def test_the_signatures_of_the_suite_are_accepted(case: Path) -> None:
    """Except for requests with duplicate parameters, which could be swapped without changing the signature.

    User names sign without session tokens.
    """
    users = ListedUsers((EXAMPLE,))
    if request_of(case).header("x-amz-security-token"):
        assert refusal(request_of(case), NOW, users).code == "AuthFailure"
    elif case.name in WITH_DUPLICATES:
        assert refusal(request_of(case), NOW, users).code == "InvalidParameterValue"
    else:
        assert authenticated(request_of(case), NOW, users) == EXAMPLE


@each_case
def test_the_signatures_of_the_suite_are_refused_for_another_secret(case: Path) -> None:
    """The secret in lower case."""
    users = ListedUsers((User(7, EXAMPLE.name, 1, (1,), SECRET.lower(), "public", True),))
    with pytest.raises(EC2Error):
        authenticated(request_of(case), NOW, users)


def read(case: Path, suffix: str) -> bytes:
    """Return the contents of a file of a case."""
    return case.with_name(case.name + suffix).read_bytes()


def request_of(case: Path) -> SignedRequest:
    """Return the request in .sreq with the Authorization in .authz (one .sreq has a different one)."""
    head, _, body = read(case, ".sreq").partition(b"\n\n")
    line, *lines = head.split(b"\n")
    method, _, target = line.removesuffix(b" HTTP/1.1").partition(b" ")
    path, _, query = target.partition(b"?")
    headers: list[tuple[str, bytes]] = []
    for header in lines:
        if header.startswith(b" "):  # a continuation line, as HTTP/1.0 permitted
            headers[-1] = (headers[-1][0], headers[-1][1] + b" " + header)
        else:
            name, _, value = header.partition(b":")
            headers.append((name.decode().lower(), value))
    unsigned = tuple(pair for pair in headers if pair[0] != "authorization")
    return SignedRequest(method.decode(), path, query, (*unsigned, ("authorization", read(case, ".authz"))), body)
