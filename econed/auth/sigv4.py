"""AWS Signature Version 4: in the Authorization header, or in the query string ("presigned").

AWS documentation: "AWS Signature Version 4 for API requests". Pure functions over the raw request. Any region is
accepted in the scope of a signature: an OpenNebula cloud has no names for them, and boto 2 derives region and service
from the host. For requests to EC2 any service that is none of the others is accepted for the same reason; requests to
STS and IAM have to be signed for these.

The signature covers the method, the host, the path, the whole query string, the whole body (by its hash) and the other
headers that the client signed. A session token (X-Amz-Security-Token) need not be among them: it is sealed, and names
the access key that it belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property

from econed.auth.endpoints import Endpoint
from econed.auth.failures import incomplete_signature, signature_does_not_match
from econed.auth.signature import (
    MAX_LIFETIME,
    MAX_SKEW,
    Validity,
    decode_text,
    epoch_seconds,
    one_session_token,
    percent_encode,
    user_name,
)
from econed.errors import EC2Error
from econed.services import EC2, AmazonService, service_of_scope
from econed.wire.query import Pairs
from econed.wire.signed_request import SignedRequest

ALGORITHM = b"AWS4-HMAC-SHA256"
TERMINATOR = b"aws4_request"
UNSIGNED_PAYLOAD = b"UNSIGNED-PAYLOAD"

MAX_SIGNED_HEADERS = 500
"""As many as a request may have: limits the header lookups for a request whose sender is not authenticated yet."""

_TIMESTAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_TIMESTAMP = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_HASH = re.compile(rb"[0-9a-f]{64}")
_SECONDS = re.compile(rb"[0-9]{1,6}")
_REGION = re.compile(rb"[0-9A-Za-z](?:[0-9A-Za-z._-]{0,126}[0-9A-Za-z])?")
_SCOPE = re.compile(rb"/([^/]*)/aws4_request")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_PARTS = ("Credential", "SignedHeaders", "Signature")
_PART_SEPARATOR = re.compile(rb",[ \t]*(?=(?:Credential|SignedHeaders|Signature)=)")
_QUERY_PARAMETERS = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")
_DISTINCTIVE_PARAMETERS = frozenset({"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"})


@dataclass(frozen=True)
class Scope:
    """The scope of a signing key: `date` (YYYYMMDD), `region` and `service`, as the client sent them."""

    date: bytes
    region: bytes
    service: bytes

    def __bytes__(self) -> bytes:
        return b"/".join((self.date, self.region, self.service, TERMINATOR))


@dataclass(frozen=True)
class SigV4Claim:
    """A Version 4 signature in `request`.

    `timestamp` is its date as signed (20150830T123600Z), `query` are the parameters of the query string without the
    signature itself, and `payload_hash` is signed in place of the body.
    """

    request: SignedRequest
    access_key: str
    scope: Scope
    signed_headers: tuple[str, ...]
    signature: bytes
    timestamp: bytes
    validity: Validity
    query: Pairs
    payload_hash: bytes
    session_token: str | None = field(default=None, repr=False)

    @cached_property
    def canonical_query(self) -> bytes:
        """The query string as signed: percent-encoded again and sorted by encoded name and value."""
        return b"&".join(
            b"%s=%s" % pair
            for pair in sorted((percent_encode(name), percent_encode(value)) for name, value in self.query)
        )

    def signing_key(self, secret: str) -> bytes:
        """Return the key of a secret for the scope of this signature."""
        return signing_key(secret, self.scope)

    def string_to_sign(self, endpoint: Endpoint) -> bytes:
        """Return the string to sign (task 2) of this request to `endpoint`."""
        return string_to_sign(self, canonical_request(self, endpoint))

    def sign(self, key: bytes, text: bytes) -> bytes:
        """Return the signature of `text` in hex (task 4)."""
        return sign(key, text)


def is_in_header(request: SignedRequest) -> bool:
    """Whether an Authorization header is of a scheme of Amazon's. Other schemes (Basic, Bearer) are ignored."""
    return any(value.lstrip().startswith(b"AWS") for value in request.header("authorization"))


def is_in_query(request: SignedRequest) -> bool:
    """Whether the query string appears to contain a Version 4 signature."""
    return any(name in _DISTINCTIVE_PARAMETERS for name, _ in request.query_pairs)


def service_in_header(authorization: bytes) -> AmazonService:
    """Return the service in the scope of an Authorization header, EC2 if there is none; nothing is verified."""
    scope = _SCOPE.search(authorization)
    return EC2 if scope is None else service_of_scope(scope[1])


def read_header(request: SignedRequest) -> SigV4Claim:
    """Return the claim in the Authorization header; raises `EC2Error` if it is malformed.

    The caller must refuse duplicate parameters (`econed.auth.authenticator.read_claim`).
    """
    parts = _authorization(request)
    timestamp, signed_at = _header_date(request, _signed_headers(parts["SignedHeaders"]))
    return _claim(request, parts, timestamp, Validity.around(signed_at), request.query_pairs)


def read_query(request: SignedRequest) -> SigV4Claim:
    """Return the claim in the query string; raises `EC2Error` if it is malformed.

    The caller must refuse duplicate parameters (`econed.auth.authenticator.read_claim`).
    """
    parameters = {name: value.encode() for name, value in request.query_pairs}
    _require(parameters, _QUERY_PARAMETERS, "AWS query-string parameters must include")
    if parameters["X-Amz-Algorithm"] != ALGORITHM:
        raise _unsupported_algorithm()
    timestamp = parameters["X-Amz-Date"]
    validity = _presigned_validity(_parse_timestamp(timestamp), parameters.get("X-Amz-Expires"))
    covered = tuple(pair for pair in request.query_pairs if pair[0] != "X-Amz-Signature")
    return _claim(request, {part: parameters[f"X-Amz-{part}"] for part in _PARTS}, timestamp, validity, covered)


def signed_region(request: SignedRequest) -> str | None:
    """Return the region in the scope of a signature; None if there is none, or if it cannot be a region's name.

    Only scopes of the service ec2 count: boto 2 derives both from a host that it does not know. The region is not
    verified: a request that is authenticated by a certificate may contain any.
    """
    try:
        credential = _authorization(request)["Credential"] if is_in_header(request) else _query_credential(request)
    except EC2Error:
        return None
    fields = credential.rsplit(b"/", 4)
    region = _REGION.fullmatch(fields[2]) if len(fields) == 5 and fields[3] == b"ec2" else None
    return region[0].decode("ascii") if region is not None else None


def canonical_request(claim: SigV4Claim, endpoint: Endpoint) -> bytes:
    """Return the canonical request (task 1 of signing) for `endpoint`."""
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
    return b"\n".join((ALGORITHM, claim.timestamp, bytes(claim.scope), hashlib.sha256(canonical).hexdigest().encode()))


def signing_key(secret: str, scope: Scope) -> bytes:
    """Return the key that is derived from `secret` for `scope` (task 3)."""
    key = b"AWS4" + secret.encode()
    for step in (scope.date, scope.region, scope.service, TERMINATOR):
        key = hmac.digest(key, step, "sha256")
    return key


def sign(key: bytes, text: bytes) -> bytes:
    """Return the signature of `text` in hex (task 4)."""
    return hmac.digest(key, text, "sha256").hex().encode()


def normalized(path: bytes) -> bytes:
    """Return the path without `.`, `..` and empty segments (RFC 3986, 5.2.4), as signed for all services but S3."""
    segments: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in (b"", b"."):
            segments.append(segment)
    return b"/" + b"/".join(segments) + (b"/" if segments and path.endswith(b"/") else b"")


def _claim(
    request: SignedRequest, parts: Mapping[str, bytes], timestamp: bytes, validity: Validity, query: Pairs
) -> SigV4Claim:
    access_key, scope = _credential(parts["Credential"], timestamp)
    _check_service(scope, request.service)
    signed_headers = _signed_headers(parts["SignedHeaders"])
    if "host" not in signed_headers:
        raise signature_does_not_match("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return SigV4Claim(
        request=request,
        access_key=user_name(decode_text(access_key)),
        scope=scope,
        signed_headers=signed_headers,
        signature=parts["Signature"],
        timestamp=timestamp,
        validity=validity,
        query=query,
        payload_hash=_payload_hash(request),
        session_token=one_session_token(_session_tokens(request)),
    )


def _session_tokens(request: SignedRequest) -> Iterator[str]:
    yield from map(decode_text, request.header("x-amz-security-token"))
    yield from (value for name, value in request.query_pairs if name == "X-Amz-Security-Token")


def _authorization(request: SignedRequest) -> dict[str, bytes]:
    """Return the three parts of the Authorization header."""
    values = request.header("authorization")
    if len(values) != 1:
        raise incomplete_signature("The request must contain one Authorization header.")
    algorithm, _, parts_text = values[0].strip().partition(b" ")
    if algorithm != ALGORITHM:
        raise _unsupported_algorithm()
    parts: dict[str, bytes] = {}
    # A user name may contain commas and equals signs, so only a comma before the name of a part separates parts.
    for part in _PART_SEPARATOR.split(parts_text.strip()):
        name, _, value = part.partition(b"=")
        key = name.decode("ascii", "replace")
        if key not in _PARTS or key in parts:
            raise incomplete_signature("The Authorization header has a part that is unknown or given twice.")
        parts[key] = value
    _require(parts, _PARTS, "Authorization header requires")
    return parts


def _query_credential(request: SignedRequest) -> bytes:
    return next((value.encode() for name, value in request.query_pairs if name == "X-Amz-Credential"), b"")


def _require(values: Mapping[str, bytes], names: tuple[str, ...], message: str) -> None:
    missing = [f"'{name}'" for name in names if not values.get(name)]
    if missing:
        raise incomplete_signature(f"{message} {', '.join(missing)}.")


def _unsupported_algorithm() -> EC2Error:
    return incomplete_signature(f"Unsupported AWS algorithm: it must be {ALGORITHM.decode()}.")


def _credential(text: bytes, timestamp: bytes) -> tuple[bytes, Scope]:
    """Return the access key and the scope. Splits from the right, since a user name may contain slashes."""
    fields = text.rsplit(b"/", 4)
    if len(fields) != 5:
        raise incomplete_signature("Credential must have five elements, delimited by slashes.")
    access_key, date, region, service, terminator = fields
    if terminator != TERMINATOR:
        raise signature_does_not_match(f"Credential should be scoped with a valid terminator: '{TERMINATOR.decode()}'.")
    if not region or not service:
        raise signature_does_not_match("Credential should be scoped to a region and a service.")
    if date != timestamp[:8]:
        raise signature_does_not_match(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
        )
    return access_key, Scope(date, region, service)


def _check_service(scope: Scope, service: AmazonService) -> None:
    """Refuse a signature for another service than the request asks for."""
    if service_of_scope(scope.service) is not service:
        raise signature_does_not_match(f"Credential should be scoped to correct service: '{service.name}'.")


def _signed_headers(text: bytes) -> tuple[str, ...]:
    """Return the names, sorted. Other characters are refused: a line break would make a signature ambiguous."""
    if text.count(b";") >= MAX_SIGNED_HEADERS:
        raise incomplete_signature(f"SignedHeaders must contain at most {MAX_SIGNED_HEADERS} names.")
    names = sorted(name.strip().lower() for name in text.split(b";"))
    if len(set(names)) != len(names) or not all(_HEADER_NAME.fullmatch(name) for name in names):
        raise incomplete_signature("SignedHeaders must be different names of headers, delimited by semicolons.")
    return tuple(name.decode("ascii") for name in names)


def _header_date(request: SignedRequest, signed_headers: tuple[str, ...]) -> tuple[bytes, float]:
    """Return the date as signed and in seconds since the epoch: X-Amz-Date, or else a signed Date."""
    amz_dates, dates = request.header("x-amz-date"), request.header("date")
    if len(amz_dates) == 1:
        timestamp = amz_dates[0].strip()
        return timestamp, _parse_timestamp(timestamp)
    if amz_dates or len(dates) != 1 or "date" not in signed_headers:
        raise incomplete_signature("Authorization header requires either an 'X-Amz-Date' or a signed 'Date' header.")
    date = dates[0].strip()
    if _TIMESTAMP.fullmatch(date):
        return date, _parse_timestamp(date)
    try:
        signed_at = epoch_seconds(parsedate_to_datetime(date.decode("ascii")))
        return datetime.fromtimestamp(signed_at, UTC).strftime(_TIMESTAMP_FORMAT).encode(), signed_at
    except (ValueError, OverflowError):
        raise _invalid_date() from None


def _parse_timestamp(timestamp: bytes) -> float:
    """Return a date in ISO 8601's basic format in seconds since the epoch."""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise _invalid_date()
    try:
        return epoch_seconds(datetime.fromisoformat(timestamp.decode()))
    except ValueError:
        raise _invalid_date() from None


def _invalid_date() -> EC2Error:
    return incomplete_signature("Date must be in ISO-8601 'basic format', as 20150830T123600Z.")


def _presigned_validity(signed_at: float, expires: bytes | None) -> Validity:
    """Return the validity of a presigned request: until X-Amz-Expires, or as for other requests without it."""
    if expires is None:
        return Validity.around(signed_at)
    if not _SECONDS.fullmatch(expires) or not 1 <= int(expires) <= MAX_LIFETIME:
        raise incomplete_signature(f"X-Amz-Expires must be a number of seconds from 1 to {MAX_LIFETIME}.")
    return Validity(signed_at - MAX_SKEW, signed_at + int(expires))


def _payload_hash(request: SignedRequest) -> bytes:
    """Return the hash of the received body.

    A hash that the client sends must be correct. libcloud sends UNSIGNED-PAYLOAD for an empty body, and it is accepted
    only for that: EC2 has no unsigned bodies.
    """
    if request.fields is not None:
        return _announced_hash(request)
    actual = hashlib.sha256(request.body).hexdigest().encode()
    announced = request.header("x-amz-content-sha256")
    if not announced or announced == (actual,):
        return actual
    if announced == (UNSIGNED_PAYLOAD,) and not request.body:
        return UNSIGNED_PAYLOAD
    raise signature_does_not_match("The provided 'x-amz-content-sha256' header does not match what was computed.")


def _announced_hash(request: SignedRequest) -> bytes:
    """Return the hash that the client sent for a body that has not been received yet; it is signed.

    The receiver of the body checks the hash. With UNSIGNED-PAYLOAD the body is not covered, like the file in Version 2.
    """
    announced = request.header("x-amz-content-sha256")
    if len(announced) != 1 or not (announced[0] == UNSIGNED_PAYLOAD or _HASH.fullmatch(announced[0])):
        raise incomplete_signature(
            "A form with a file requires one 'x-amz-content-sha256' header: the hash of the body, or UNSIGNED-PAYLOAD."
        )
    return announced[0]


def _header_value(request: SignedRequest, name: str, endpoint: Endpoint) -> bytes:
    """Return the canonical value of a header: values joined by commas, each trimmed and with single spaces."""
    values = (endpoint.host,) if name == "host" else request.header(name)
    return b",".join(b" ".join(value.split()) for value in values)
