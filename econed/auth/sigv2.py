"""AWS Signature Version 2, verified: HmacSHA256 or HmacSHA1, by GET or by POST of a form.

AWS General Reference, "Signature Version 2 signing process". Libcloud, boto 2, the Perl clients and the tools of the
Ruby econe-server sign so. Covered are the method, the host, the path and the parameters, sorted by name: either those
of the query string or those of the form. What the signature would leave uncovered (the other of the two, or the order
of parameters of the same name) is refused.

The Ruby tools upload an image by a form with a file at its end (`multipart/form-data`), of which they sign the fields
as those of any other form, and not the file.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from econed.auth.claim import MAX_LIFE, Validity, epoch, percent_encode, user_name
from econed.auth.endpoints import Endpoint
from econed.auth.failures import (
    incomplete_signature,
    invalid_parameter,
    missing_parameter,
    timestamp_and_expires,
)
from econed.wire.query import Pairs, each_once
from econed.wire.signed_request import SignedRequest

_METHODS = {"HmacSHA256": "sha256", "HmacSHA1": "sha1"}
_MARKS = frozenset({"AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion"})


@dataclass(frozen=True)
class SigV2Claim:
    """A Version 2 signature over the parameters `covered`; `digest` is hashlib's name of its hash."""

    method: str
    access_key: str
    covered: Pairs
    digest: str
    signature: bytes
    validity: Validity

    @cached_property
    def canonical_query(self) -> bytes:
        """The parameters as they are signed: encoded, in the byte order of their names."""
        return b"&".join(
            b"%s=%s" % (percent_encode(name), percent_encode(value)) for name, value in sorted(self.covered)
        )

    def expected(self, secret: str, endpoint: Endpoint) -> bytes:
        """Return the signature of the owner of `secret` for this request at `endpoint`."""
        return sign(secret, self.digest, string_to_sign(self, endpoint))


def present(request: SignedRequest) -> bool:
    """Return whether the query string or the form claims to hold a Version 2 signature."""
    return any(name in _MARKS for name, _ in (*request.query_pairs, *request.form_pairs))


def read(request: SignedRequest) -> SigV2Claim:
    """Return the claim in the query string or the form; raises `EC2Error` if it cannot be one."""
    if request.query and (request.body or request.fields):
        raise incomplete_signature("Signature Version 2 covers the query string or the form, not both.")
    given = each_once(request.query_pairs or request.form_pairs)
    values = dict(given)
    signature, caller = _required(values, "Signature"), _required(values, "AWSAccessKeyId")
    if _required(values, "SignatureVersion") != "2":
        raise invalid_parameter("SignatureVersion", "2")
    digest = _METHODS.get(_required(values, "SignatureMethod"))
    if digest is None:
        raise invalid_parameter("SignatureMethod", "HmacSHA256 or HmacSHA1")
    return SigV2Claim(
        method=request.method,
        access_key=user_name(caller),
        covered=tuple(pair for pair in given if pair[0] != "Signature"),
        digest=digest,
        signature=signature.encode(),
        validity=_validity(values),
    )


def string_to_sign(claim: SigV2Claim, endpoint: Endpoint) -> bytes:
    """Return the string to sign: method, host in lower case, path, parameters."""
    return b"\n".join((claim.method.encode(), endpoint.host.lower(), endpoint.path, claim.canonical_query))


def sign(secret: str, digest: str, text: bytes) -> bytes:
    """Return the signature of `text` in base64; `digest` is hashlib's name of the hash."""
    return base64.b64encode(hmac.digest(secret.encode(), text, digest))


def _required(values: Mapping[str, str], name: str) -> str:
    value = values.get(name)
    if not value:
        raise missing_parameter(name)
    return value


def _validity(values: Mapping[str, str]) -> Validity:
    """Return the time in which the signature counts: 15 minutes about its Timestamp, or until it Expires."""
    made, ends = values.get("Timestamp"), values.get("Expires")
    if made and ends:
        raise timestamp_and_expires()
    if ends:
        expiry = _epoch("Expires", ends)
        return Validity(expiry - MAX_LIFE, expiry)
    return Validity.dated(_epoch("Timestamp", made or _required(values, "Timestamp")))


def _epoch(name: str, text: str) -> float:
    """Return the time of an ISO 8601 date; without a zone it is in UTC, as Amazon reads it."""
    try:
        return epoch(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise invalid_parameter(name, "a date in ISO 8601 format, as 2014-06-20T08:40:23Z") from None
