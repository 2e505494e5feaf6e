"""AWS Signature Version 2: HmacSHA256 or HmacSHA1, in a GET or in a POST of a form.

AWS General Reference, "Signature Version 2 signing process". Libcloud, boto 2, the Perl clients and the tools of the
Ruby econe-server use it. It covers the method, the host, the path and the parameters, sorted by name: either those of
the query string or those of the form. What it does not cover is refused: the other of the two, and duplicate
parameters, whose order it leaves open.

The Ruby tools upload an image in a form that ends with a file (`multipart/form-data`). They sign its fields as those of
any other form, and not the file.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from econed.auth.endpoints import Endpoint
from econed.auth.failures import (
    incomplete_signature,
    invalid_parameter,
    missing_parameter,
    timestamp_and_expires,
)
from econed.auth.signature import (
    MAX_LIFETIME,
    Validity,
    decode_text,
    epoch_seconds,
    one_session_token,
    percent_encode,
    user_name,
)
from econed.wire.query import Pairs
from econed.wire.signed_request import SignedRequest

_DIGESTS = {"HmacSHA256": "sha256", "HmacSHA1": "sha1"}
_SESSION_TOKENS = frozenset({"SecurityToken", "X-Amz-Security-Token"})
_DISTINCTIVE_PARAMETERS = frozenset({"AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion"})


@dataclass(frozen=True)
class SigV2Claim:
    """A Version 2 signature over the parameters `covered`; `digest` is hashlib's name of its hash."""

    method: str
    access_key: str
    covered: Pairs
    digest: str
    signature: bytes
    validity: Validity
    session_token: str | None = field(default=None, repr=False)

    @cached_property
    def canonical_query(self) -> bytes:
        """The covered parameters, percent-encoded and sorted by the bytes of their names."""
        return b"&".join(
            b"%s=%s" % (percent_encode(name), percent_encode(value)) for name, value in sorted(self.covered)
        )

    def signing_key(self, secret: str) -> bytes:
        """Return the key of a secret: its bytes."""
        return secret.encode()

    def string_to_sign(self, endpoint: Endpoint) -> bytes:
        """Return the string to sign of this request to `endpoint`: method, host in lower case, path, parameters."""
        return b"\n".join((self.method.encode(), endpoint.host.lower(), endpoint.path, self.canonical_query))

    def sign(self, key: bytes, text: bytes) -> bytes:
        """Return the signature of `text`, in base64."""
        return base64.b64encode(hmac.digest(key, text, self.digest))


def is_present(request: SignedRequest) -> bool:
    """Whether the query string or the form appears to contain a Version 2 signature."""
    return any(name in _DISTINCTIVE_PARAMETERS for name, _ in (*request.query_pairs, *request.form_pairs))


def read(request: SignedRequest) -> SigV2Claim:
    """Return the claim in the query string or the form; raises `EC2Error` if it is malformed.

    The caller must refuse duplicate parameters (`econed.auth.authenticator.read_claim`).
    """
    if request.query and (request.body or request.fields):
        raise incomplete_signature("Signature Version 2 covers the query string or the form, not both.")
    pairs = request.query_pairs or request.form_pairs
    values = dict(pairs)
    signature, access_key = _required(values, "Signature"), _required(values, "AWSAccessKeyId")
    if _required(values, "SignatureVersion") != "2":
        raise invalid_parameter("SignatureVersion", "2")
    digest = _DIGESTS.get(_required(values, "SignatureMethod"))
    if digest is None:
        raise invalid_parameter("SignatureMethod", "HmacSHA256 or HmacSHA1")
    return SigV2Claim(
        method=request.method,
        access_key=user_name(access_key),
        covered=tuple(pair for pair in pairs if pair[0] != "Signature"),
        digest=digest,
        signature=signature.encode(),
        validity=_validity(values),
        session_token=one_session_token((*map(decode_text, request.header("x-amz-security-token")), *_tokens(pairs))),
    )


def _tokens(pairs: Pairs) -> Iterator[str]:
    return (value for name, value in pairs if name in _SESSION_TOKENS)


def _required(values: Mapping[str, str], name: str) -> str:
    value = values.get(name)
    if not value:
        raise missing_parameter(name)
    return value


def _validity(values: Mapping[str, str]) -> Validity:
    """Return the validity: 15 minutes before and after Timestamp, or until Expires."""
    timestamp, expires = values.get("Timestamp"), values.get("Expires")
    if timestamp and expires:
        raise timestamp_and_expires()
    if expires:
        expiry = _parse_date("Expires", expires)
        return Validity(expiry - MAX_LIFETIME, expiry)
    return Validity.around(_parse_date("Timestamp", timestamp or _required(values, "Timestamp")))


def _parse_date(name: str, text: str) -> float:
    """Return an ISO 8601 date in seconds since the epoch; without a time zone it is in UTC, as at Amazon."""
    try:
        return epoch_seconds(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise invalid_parameter(name, "a date in ISO 8601 format, as 2014-06-20T08:40:23Z") from None
