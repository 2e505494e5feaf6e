"""AWS Signature Version 4, verified: in the Authorization header, or in the query string ("presigned").

AWS documentation: "AWS Signature Version 4 for API requests". Pure functions over the raw request. The region and the
service are those that the claim's own scope names: an OpenNebula cloud has no names of its own for them, and boto 2
makes them up out of the host.

Covered are the method, the host, the path, the whole query string, the whole body (by its hash) and the other headers
that the client signed. A session token (X-Amz-Security-Token) is covered where the client signed it, and means nothing
here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property

from econed.auth.claim import MAX_LIFE, MAX_SKEW, Validity, as_text, epoch, percent_encode, user_name
from econed.auth.endpoints import Endpoint
from econed.auth.failures import incomplete_signature, signature_does_not_match
from econed.errors import EC2Error
from econed.wire.query import Pairs, each_once
from econed.wire.signed_request import SignedRequest

ALGORITHM = b"AWS4-HMAC-SHA256"
TERMINATOR = b"aws4_request"
UNSIGNED_PAYLOAD = b"UNSIGNED-PAYLOAD"

_STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
MAX_SIGNED_HEADERS = 500
"""As many as a request may have: a stranger must not choose how often the headers are looked through."""

_STAMP = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_HASH = re.compile(rb"[0-9a-f]{64}")
_SECONDS = re.compile(rb"[0-9]{1,6}")
_REGION = re.compile(rb"[0-9A-Za-z](?:[0-9A-Za-z._-]{0,126}[0-9A-Za-z])?")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_PARTS = ("Credential", "SignedHeaders", "Signature")
_NEXT_PART = re.compile(rb",[ \t]*(?=(?:Credential|SignedHeaders|Signature)=)")
_QUERY_PARTS = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")
_QUERY_MARKS = frozenset({"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"})


@dataclass(frozen=True)
class Scope:
    """What a signing key is good for: `date` (YYYYMMDD), `region` and `service`, as the client named them."""

    date: bytes
    region: bytes
    service: bytes

    def __bytes__(self) -> bytes:
        return b"/".join((self.date, self.region, self.service, TERMINATOR))


@dataclass(frozen=True)
class SigV4Claim:
    """A Version 4 signature as it stands in `request`.

    `stamp` is its time in the form that is signed (20150830T123600Z), `query` the query string's parameters without
    the signature itself, `payload_hash` what is signed in the place of the body.
    """

    request: SignedRequest
    access_key: str
    scope: Scope
    signed_headers: tuple[str, ...]
    signature: bytes
    stamp: bytes
    validity: Validity
    query: Pairs
    payload_hash: bytes

    @cached_property
    def canonical_query(self) -> bytes:
        """The query string as it is signed: encoded anew, in the order of the encoded names."""
        return b"&".join(
            b"%s=%s" % pair
            for pair in sorted((percent_encode(name), percent_encode(value)) for name, value in self.query)
        )

    def expected(self, secret: str, endpoint: Endpoint) -> bytes:
        """Return the signature of the owner of `secret` for this request at `endpoint`."""
        return sign(secret, self.scope, string_to_sign(self, canonical_request(self, endpoint)))


def in_header(request: SignedRequest) -> bool:
    """Return whether an Authorization header claims to be Amazon's. Others (Basic, Bearer) are none of our business."""
    return any(value.lstrip().startswith(b"AWS") for value in request.header("authorization"))


def in_query(request: SignedRequest) -> bool:
    """Return whether the query string claims to hold a Version 4 signature."""
    return any(name in _QUERY_MARKS for name, _ in request.query_pairs)


def read_header(request: SignedRequest) -> SigV4Claim:
    """Return the claim in the Authorization header; raises `EC2Error` if it cannot be one.

    Whether its query string names a parameter twice is for the caller to look at (`each_once`).
    """
    parts = _authorization(request)
    stamp, signed_at = _header_date(request, _signed_headers(parts["SignedHeaders"]))
    return _claim(request, parts, stamp, Validity.dated(signed_at), request.query_pairs)


def read_query(request: SignedRequest) -> SigV4Claim:
    """Return the claim in the query string; raises `EC2Error` if it cannot be one."""
    query = each_once(request.query_pairs)
    given = {name: value.encode() for name, value in query}
    _require(given, _QUERY_PARTS, "AWS query-string parameters must include")
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise _unsupported_algorithm()
    stamp = given["X-Amz-Date"]
    validity = _presigned(_parsed(stamp), given.get("X-Amz-Expires"))
    covered = tuple(pair for pair in query if pair[0] != "X-Amz-Signature")
    return _claim(request, {part: given[f"X-Amz-{part}"] for part in _PARTS}, stamp, validity, covered)


def signed_region(request: SignedRequest) -> str | None:
    """Return the region in the scope of a signature; None where there is none, or one that no region can be called.

    Only a scope of the service ec2 counts: boto 2 makes both up out of a host that it does not know. Nothing is proven
    by it, since a request that is let in by a certificate may name any.
    """
    try:
        credential = _authorization(request)["Credential"] if in_header(request) else _query_credential(request)
    except EC2Error:
        return None
    fields = credential.rsplit(b"/", 4)
    named = _REGION.fullmatch(fields[2]) if len(fields) == 5 and fields[3] == b"ec2" else None
    return named[0].decode("ascii") if named is not None else None


def canonical_request(claim: SigV4Claim, endpoint: Endpoint) -> bytes:
    """Return the canonical request (task 1 of signing) as it reads at `endpoint`."""
    request = claim.request
    headers = (b"%s:%s\n" % (name.encode(), _header_value(request, name, endpoint)) for name in claim.signed_headers)
    return b"\n".join(
        (
            request.method.encode(),
            percent_encode(normalized(endpoint.path), safe="/"),
            claim.canonical_query,
            b"".join(headers),
            ";".join(claim.signed_headers).encode(),
            claim.payload_hash,
        )
    )


def string_to_sign(claim: SigV4Claim, canonical: bytes) -> bytes:
    """Return the string to sign (task 2) for a canonical request."""
    return b"\n".join((ALGORITHM, claim.stamp, bytes(claim.scope), hashlib.sha256(canonical).hexdigest().encode()))


def sign(secret: str, scope: Scope, text: bytes) -> bytes:
    """Return the signature in hex (tasks 3 and 4): `text` under the key that `secret` gives for `scope`."""
    key = b"AWS4" + secret.encode()
    for step in (scope.date, scope.region, scope.service, TERMINATOR):
        key = hmac.digest(key, step, "sha256")
    return hmac.digest(key, text, "sha256").hex().encode()


def normalized(path: bytes) -> bytes:
    """Return the path without `.`, `..` and empty segments (RFC 3986, 5.2.4), as all services but S3 sign it."""
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept) + (b"/" if kept and path.endswith(b"/") else b"")


def _claim(
    request: SignedRequest, parts: Mapping[str, bytes], stamp: bytes, validity: Validity, query: Pairs
) -> SigV4Claim:
    caller, scope = _credential(parts["Credential"], stamp)
    signed_headers = _signed_headers(parts["SignedHeaders"])
    if "host" not in signed_headers:
        raise signature_does_not_match("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return SigV4Claim(
        request=request,
        access_key=user_name(as_text(caller)),
        scope=scope,
        signed_headers=signed_headers,
        signature=parts["Signature"],
        stamp=stamp,
        validity=validity,
        query=query,
        payload_hash=_payload_hash(request),
    )


def _authorization(request: SignedRequest) -> dict[str, bytes]:
    """Return the three parts of the Authorization header."""
    values = request.header("authorization")
    if len(values) != 1:
        raise incomplete_signature("The request must contain one Authorization header.")
    algorithm, _, rest = values[0].strip().partition(b" ")
    if algorithm != ALGORITHM:
        raise _unsupported_algorithm()
    parts: dict[str, bytes] = {}
    # A user's name may hold a comma or an equals sign: parts begin where their names do, not at any comma.
    for part in _NEXT_PART.split(rest.strip()):
        name, _, value = part.partition(b"=")
        key = name.decode("ascii", "replace")
        if key not in _PARTS or key in parts:
            raise incomplete_signature("The Authorization header has a part that is unknown or given twice.")
        parts[key] = value
    _require(parts, _PARTS, "Authorization header requires")
    return parts


def _query_credential(request: SignedRequest) -> bytes:
    return next((value.encode() for name, value in request.query_pairs if name == "X-Amz-Credential"), b"")


def _require(given: Mapping[str, bytes], names: tuple[str, ...], message: str) -> None:
    missing = [f"'{name}'" for name in names if not given.get(name)]
    if missing:
        raise incomplete_signature(f"{message} {', '.join(missing)}.")


def _unsupported_algorithm() -> EC2Error:
    return incomplete_signature(f"Unsupported AWS algorithm: it must be {ALGORITHM.decode()}.")


def _credential(text: bytes, stamp: bytes) -> tuple[bytes, Scope]:
    """Return the access key and the scope. From the right: a user's name may hold slashes."""
    fields = text.rsplit(b"/", 4)
    if len(fields) != 5:
        raise incomplete_signature("Credential must have five elements, delimited by slashes.")
    caller, date, region, service, terminator = fields
    if terminator != TERMINATOR:
        raise signature_does_not_match(f"Credential should be scoped with a valid terminator: '{TERMINATOR.decode()}'.")
    if not region or not service:
        raise signature_does_not_match("Credential should be scoped to a region and a service.")
    if date != stamp[:8]:
        raise signature_does_not_match(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
        )
    return caller, Scope(date, region, service)


def _signed_headers(text: bytes) -> tuple[str, ...]:
    """Return the names in order. Nothing but names: a line break among them would give one signature two readings."""
    if text.count(b";") >= MAX_SIGNED_HEADERS:
        raise incomplete_signature(f"SignedHeaders must be {MAX_SIGNED_HEADERS} names at most.")
    names = sorted(name.strip().lower() for name in text.split(b";"))
    if len(set(names)) != len(names) or not all(_HEADER_NAME.fullmatch(name) for name in names):
        raise incomplete_signature("SignedHeaders must be different names of headers, delimited by semicolons.")
    return tuple(name.decode("ascii") for name in names)


def _header_date(request: SignedRequest, signed_headers: tuple[str, ...]) -> tuple[bytes, float]:
    """Return the date as it was signed, and in seconds: that of X-Amz-Date, or else of a signed Date."""
    amz, plain = request.header("x-amz-date"), request.header("date")
    if len(amz) == 1:
        stamp = amz[0].strip()
        return stamp, _parsed(stamp)
    if amz or len(plain) != 1 or "date" not in signed_headers:
        raise incomplete_signature("Authorization header requires either an 'X-Amz-Date' or a signed 'Date' header.")
    stamp = plain[0].strip()
    if _STAMP.fullmatch(stamp):
        return stamp, _parsed(stamp)
    try:
        signed_at = epoch(parsedate_to_datetime(stamp.decode("ascii")))
        return datetime.fromtimestamp(signed_at, UTC).strftime(_STAMP_FORMAT).encode(), signed_at
    except (ValueError, OverflowError):
        raise _bad_date() from None


def _parsed(stamp: bytes) -> float:
    """Return the time of a stamp in ISO 8601's basic format."""
    if not _STAMP.fullmatch(stamp):
        raise _bad_date()
    try:
        return epoch(datetime.strptime(stamp.decode(), _STAMP_FORMAT))
    except ValueError:
        raise _bad_date() from None


def _bad_date() -> EC2Error:
    return incomplete_signature("Date must be in ISO-8601 'basic format', as 20150830T123600Z.")


def _presigned(signed_at: float, expires: bytes | None) -> Validity:
    """Return when a presigned request counts: until its own expiry, or if it names none, like any other."""
    if expires is None:
        return Validity.dated(signed_at)
    if not _SECONDS.fullmatch(expires) or not 1 <= int(expires) <= MAX_LIFE:
        raise incomplete_signature(f"X-Amz-Expires must be a number of seconds from 1 to {MAX_LIFE}.")
    return Validity(signed_at - MAX_SKEW, signed_at + int(expires))


def _payload_hash(request: SignedRequest) -> bytes:
    """Return the hash of the body that arrived, whatever the client says of it.

    A client may name the hash itself; then it must be the right one. UNSIGNED-PAYLOAD is what libcloud says of no
    body at all, and taken for that only: EC2 has no unsigned bodies.
    """
    if request.fields is not None:
        return _announced_hash(request)
    actual = hashlib.sha256(request.body).hexdigest().encode()
    named = request.header("x-amz-content-sha256")
    if not named or named == (actual,):
        return actual
    if named == (UNSIGNED_PAYLOAD,) and not request.body:
        return UNSIGNED_PAYLOAD
    raise signature_does_not_match("The provided 'x-amz-content-sha256' header does not match what was computed.")


def _announced_hash(request: SignedRequest) -> bytes:
    """Return what the client says of a body that is still to come, which is then signed.

    UNSIGNED-PAYLOAD leaves the body uncovered, as Version 2 leaves the file. Whoever takes the body in holds it against
    a hash.
    """
    named = request.header("x-amz-content-sha256")
    if len(named) != 1 or not (named[0] == UNSIGNED_PAYLOAD or _HASH.fullmatch(named[0])):
        raise incomplete_signature(
            "A form with a file requires one 'x-amz-content-sha256' header: the hash of the body, or UNSIGNED-PAYLOAD."
        )
    return named[0]


def _header_value(request: SignedRequest, name: str, endpoint: Endpoint) -> bytes:
    """Return the canonical value: each trimmed, its white space single, all of them joined by commas."""
    values = (endpoint.host,) if name == "host" else request.header(name)
    return b",".join(b" ".join(value.split()) for value in values)
