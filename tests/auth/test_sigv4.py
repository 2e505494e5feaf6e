"""Signature Version 4 of clients: in header and query string, with unusual scopes, names, dates and bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.auth import sigv4
from econed.auth.endpoints import Endpoint
from econed.errors import EC2Error
from econed.wire.signed_request import SignedRequest
from tests.auth.support import ALICE, ListedUsers, Signed, authenticated, presign_v4, refusal, sign_v4, with_header
from tests.support.cloud import VERSION

DESCRIBE = {"Action": "DescribeInstances", "Version": "2016-11-15"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TEXTS = st.dictionaries(TEXT.map("Name{}".format), TEXT).map(lambda parameters: {**parameters, **DESCRIBE})


@given(TEXTS)
def test_any_form_signed_by_botocore_is_accepted(form: dict[str, str]) -> None:
    """As boto3 and the AWS CLI send it."""
    signed = sign_v4("POST", form=form)
    assert authenticated(signed.request, signed.at) == ALICE


@given(TEXTS)
def test_any_query_string_signed_by_botocore_is_accepted(query: dict[str, str]) -> None:
    """With all kinds of characters."""
    signed = sign_v4("GET", query=query)
    assert authenticated(signed.request, signed.at) == ALICE


@given(TEXTS)
def test_any_query_string_presigned_by_botocore_is_accepted(query: dict[str, str]) -> None:
    """The signature is in the query string."""
    signed = presign_v4(query=query)
    assert authenticated(signed.request, signed.at) == ALICE


@pytest.mark.parametrize(
    "sign",
    [lambda scope: sign_v4("POST", form=DESCRIBE, scope=scope), lambda scope: presign_v4(query=DESCRIBE, scope=scope)],
)
@pytest.mark.parametrize(
    ("scope", "region"),
    [
        (("us-east-1", "ec2"), "us-east-1"),
        (("OpenNebula", "ec2"), "OpenNebula"),
        (("0", "127"), None),
        (("localhost", "localhost"), None),
        (("eu west", "ec2"), None),
        (("größe", "ec2"), None),
        (("x" * 200, "ec2"), None),
    ],
)
def test_the_region_of_the_scope_is_returned_if_it_can_be_one(
    sign: Callable[[tuple[str, str]], Signed], scope: tuple[str, str], region: str | None
) -> None:
    """For the service ec2 only: what boto 2 derives from a host is not a region."""
    assert sigv4.signed_region(sign(scope).request) == region


def test_a_request_without_a_version_4_signature_has_no_region() -> None:
    signed = sign_v4("POST", form=DESCRIBE)
    headers = (b"Basic YTpi", b"AWS4-HMAC-SHA256 Credential=", b"AWS4-HMAC-SHA256 Credential=a/b/c,SignedHeaders=host")
    for header in headers:
        assert sigv4.signed_region(with_header(signed.request, "authorization", header)) is None


@pytest.mark.parametrize("scope", [("0", "127"), ("localhost", "localhost"), ("ONE", "ec2"), ("eu west", "größe")])
def test_any_region_and_service_is_accepted(scope: tuple[str, str]) -> None:
    """Boto 2 derives them from the host, so that 127.0.0.1 is region 0 of the service 127."""
    signed = sign_v4("POST", form=DESCRIBE, scope=scope)
    assert authenticated(signed.request, signed.at) == ALICE


@pytest.mark.parametrize(
    ("version", "service"),
    [
        (VERSION, "sts"),
        (VERSION, "iam"),
        ("2011-06-15", "ec2"),
        ("2011-06-15", "iam"),
        ("2011-06-15", "127"),
        ("2010-05-08", "sts"),
        ("2010-05-08", "IAM"),
    ],
)
@pytest.mark.parametrize("presigned", [False, True], ids=["header", "query"])
def test_a_signature_for_another_service_than_that_of_the_version_is_refused(
    version: str, service: str, presigned: bool
) -> None:
    form, scope = {"Action": "GetUser", "Version": version}, ("us-east-1", service)
    signed = presign_v4(query=form, scope=scope) if presigned else sign_v4("POST", form=form, scope=scope)
    error = refusal(signed.request, signed.at)
    expected = {"2011-06-15": "sts", "2010-05-08": "iam"}.get(version, "ec2")
    assert (error.code, error.status) == ("SignatureDoesNotMatch", 403)
    assert error.message == f"Credential should be scoped to correct service: '{expected}'."


@pytest.mark.parametrize(("version", "service"), [("2011-06-15", "sts"), ("2010-05-08", "iam")])
def test_a_signature_for_the_service_of_the_version_is_accepted(version: str, service: str) -> None:
    form = {"Action": "GetUser", "Version": version}
    signed = sign_v4("POST", form=form, scope=("us-east-1", service))
    assert authenticated(signed.request, signed.at) == ALICE


@pytest.mark.parametrize(
    "name", ["a/b", "a,b=c", "Signature=x", "x,SignedHeaders", "with space", "größe", "日本", "user@example.com"]
)
@pytest.mark.parametrize("presigned", [False, True], ids=["header", "query"])
def test_user_names_may_contain_special_characters(name: str, presigned: bool) -> None:
    """Slashes, commas, equals signs, spaces and non-ASCII letters in an access key."""
    user = replace(ALICE, name=name)
    signed = presign_v4(query=DESCRIBE, user=user) if presigned else sign_v4("POST", form=DESCRIBE, user=user)
    assert authenticated(signed.request, signed.at, ListedUsers((user,))) == user


def test_user_names_may_be_sent_in_latin_1() -> None:
    """Python's http.client sends all header values in ISO-8859-1."""
    user = replace(ALICE, name="größe")
    signed = sign_v4("POST", form=DESCRIBE, user=user)
    header = signed.request.header("authorization")[0].decode().encode("iso-8859-1")
    assert authenticated(with_header(signed.request, "authorization", header), signed.at, ListedUsers((user,))) == user


def test_the_authorization_header_may_have_no_spaces() -> None:
    """Boto 2 joins its parts by commas alone."""
    signed = sign_v4("POST", form=DESCRIBE)
    header = signed.request.header("authorization")[0].replace(b", ", b",")
    assert authenticated(with_header(signed.request, "authorization", header), signed.at) == ALICE


def test_spaces_sent_as_plus_signs_are_signed_as_spaces() -> None:
    """Libcloud sends them."""
    signed = sign_v4("GET", query={**DESCRIBE, "Tag.1.Value": "two words"})
    request = replace(signed.request, query=signed.request.query.replace(b"%20", b"+"))
    assert b"two+words" in request.query
    assert authenticated(request, signed.at) == ALICE


def test_a_query_string_and_a_form_are_both_covered() -> None:
    """The query string is in the canonical request, and so is the hash of the form."""
    signed = sign_v4("POST", query={"Action": "DescribeInstances"}, form={"Version": "2016-11-15"})
    assert authenticated(signed.request, signed.at) == ALICE
    for changed in (replace(signed.request, query=b""), replace(signed.request, body=b"")):
        assert refusal(changed, signed.at).code == "AuthFailure"


def signed_with_date(date: bytes, timestamp: bytes, signed_headers: bytes = b"date;host") -> SignedRequest:
    """Return a GET of `/` with a Date and no X-Amz-Date, signed by the functions that the aws4 suite tests."""
    scope = sigv4.Scope(timestamp[:8], b"one", b"ec2")
    headers = b"".join(
        b"%s:%s\n" % pair for pair in ((b"date", date), (b"host", b"h")) if pair[0] in signed_headers.split(b";")
    )
    empty = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    canonical = b"\n".join((b"GET", b"/", b"", headers, signed_headers, empty))
    unsigned = sigv4.read_header(
        SignedRequest(
            "GET", b"/", b"", (("x-amz-date", timestamp), ("authorization", credential(scope, b"host", b"?"))), b""
        )
    )
    signature = sigv4.sign(sigv4.signing_key(ALICE.secret, scope), sigv4.string_to_sign(unsigned, canonical))
    authorization = credential(scope, signed_headers, signature)
    return SignedRequest("GET", b"/", b"", (("host", b"h"), ("date", date), ("authorization", authorization)), b"")


def credential(scope: sigv4.Scope, signed_headers: bytes, signature: bytes) -> bytes:
    """Return an Authorization header."""
    return b"%s Credential=alice/%s, SignedHeaders=%s, Signature=%s" % (
        sigv4.ALGORITHM, bytes(scope), signed_headers, signature
    )  # fmt: skip


MOMENT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)


@pytest.mark.parametrize("date", [format_datetime(MOMENT, usegmt=True).encode(), b"20150830T123600Z"])
def test_a_signed_date_header_replaces_x_amz_date(date: bytes) -> None:
    """In the format of HTTP or of ISO 8601; the string to sign has the latter."""
    assert authenticated(signed_with_date(date, b"20150830T123600Z"), MOMENT.timestamp()) == ALICE


def test_a_date_header_that_is_not_signed_is_ignored() -> None:
    """Anyone able to modify the request could change it."""
    request = signed_with_date(b"20150830T123600Z", b"20150830T123600Z", b"host")
    assert refusal(request, MOMENT.timestamp()).code == "IncompleteSignature"


def test_a_hash_of_the_body_in_a_header_must_be_correct() -> None:
    """x-amz-content-sha256, which libcloud and clients of S3 send."""
    digest = "91ab6b8d0c46c0d2c1a4bfe9d1f0b0e6bd8a5c8cdfa18b6ad9b5c8ea3a3fdd75"
    wrong = sign_v4("POST", form=DESCRIBE, headers={"X-Amz-Content-SHA256": digest})
    assert refusal(wrong.request, wrong.at).code == "SignatureDoesNotMatch"
    right_digest = sigv4.read_header(sign_v4("POST", form=DESCRIBE).request).payload_hash.decode()
    right = sign_v4("POST", form=DESCRIBE, headers={"X-Amz-Content-SHA256": right_digest})
    assert authenticated(right.request, right.at) == ALICE


def test_an_unsigned_payload_must_be_empty() -> None:
    """Libcloud sends it with a POST without a body; with a body it is refused, although the signature is correct."""
    headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    empty = sign_v4("POST", query=DESCRIBE, headers=headers)
    assert authenticated(empty.request, empty.at) == ALICE
    non_empty = sign_v4("POST", form=DESCRIBE, headers=headers)
    assert refusal(non_empty.request, non_empty.at).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        (b"/", b"/"),
        (b"//a///b//", b"/a/b/"),
        (b"/a/../../b", b"/b"),
        (b"/a/./b/.", b"/a/b"),
        (b"/a/..", b"/"),
        (b"", b"/"),
    ],
)
def test_paths_are_normalized(path: bytes, canonical: bytes) -> None:
    """Dots and double slashes are removed, a trailing slash is preserved."""
    assert sigv4.normalized(path) == canonical


def test_a_line_break_among_the_signed_headers_is_refused() -> None:
    """With it two different requests could have the same canonical request."""
    signed = presign_v4(query=DESCRIBE)
    request = replace(
        signed.request, query=signed.request.query.replace(b"SignedHeaders=host", b"SignedHeaders=host%0Ax")
    )
    with pytest.raises(EC2Error, match="SignedHeaders"):
        sigv4.read_query(request)


def test_a_signature_may_not_cover_more_headers_than_a_request_may_have() -> None:
    """Each is looked up for each endpoint before the sender is authenticated."""
    scope = sigv4.Scope(b"20150830", b"us-east-1", b"ec2")
    names = [b"host", *(b"h%d" % number for number in range(sigv4.MAX_SIGNED_HEADERS))]
    date = ("x-amz-date", b"20150830T123600Z")
    at_limit = ("authorization", credential(scope, b";".join(names[:-1]), b"0" * 64))
    assert len(sigv4.read_header(SignedRequest("GET", b"/", b"", (date, at_limit), b"")).signed_headers) == 500
    over_limit = ("authorization", credential(scope, b";".join(names), b"0" * 64))
    with pytest.raises(EC2Error, match="SignedHeaders must contain at most 500 names"):
        sigv4.read_header(SignedRequest("GET", b"/", b"", (date, over_limit), b""))


def test_headers_are_looked_up_by_name_without_comparing_all_of_them() -> None:
    compared: list[object] = []

    class Name(str):
        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str(self) == other

        __hash__ = str.__hash__

    headers = tuple((Name(f"h{number % 250}"), b"%d" % number) for number in range(500))
    request = SignedRequest("GET", b"/", b"", headers, b"")
    assert request.header("h7") == (b"7", b"257")
    compared.clear()
    for number in range(250):
        assert len(request.header(f"h{number}")) == 2
    assert len(compared) <= 250 * 4
    assert request.header("missing") == ()


def test_the_canonical_request_has_the_host_of_the_endpoint() -> None:
    """Behind a proxy the client signed another host than econed receives."""
    claim = sigv4.read_header(sign_v4("POST", form=DESCRIBE).request)
    canonical = sigv4.canonical_request(claim, Endpoint(b"proxy.example.com:8443", b"/ec2/"))
    assert b"\nhost:proxy.example.com:8443\n" in canonical
    assert canonical.startswith(b"POST\n/ec2/\n")
