"""Common parts of both signature versions: the claim in a request, its validity, and parsing helpers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import quote

from econed.auth.endpoints import Endpoint
from econed.auth.failures import incomplete_signature, invalid_client_token_id

MAX_SKEW = 15 * 60
"""Maximum difference between a signature's date and our clock, in seconds (EC2, RequestExpired)."""

MAX_LIFETIME = 7 * 24 * 60 * 60
"""Maximum validity of a signature that has an expiry, in seconds (Signature Version 4, X-Amz-Expires)."""

MAX_SESSION_TOKEN = 4096
"""Maximum characters of a session token; those of econed are shorter."""

_MAX_NAME_BYTES = 128
"""Maximum length of a user name in oned (PoolObjectSQL::name_is_valid)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Validity:
    """The time in which a signature is valid, both ends included; in seconds since the epoch."""

    begins: float
    ends: float

    @classmethod
    def around(cls, signed_at: float) -> Validity:
        """Return the validity of a signature that has a date and no expiry."""
        return cls(signed_at - MAX_SKEW, signed_at + MAX_SKEW)

    def violation(self, now: float) -> str | None:
        """Return by how many seconds a signature is expired or not valid yet at `now`; None if it is valid."""
        if now > self.ends:
            return f"expired {now - self.ends:.0f} s ago"
        return f"not valid for another {self.begins - now:.0f} s" if now < self.begins else None


class SignatureClaim(Protocol):
    """A signature in a request, parsed but not verified."""

    @property
    def access_key(self) -> str:
        """The access key of the claimed signer."""

    @property
    def session_token(self) -> str | None:
        """The session token of temporary credentials; None if there is none."""

    @property
    def signature(self) -> bytes:
        """The signature as sent."""

    @property
    def validity(self) -> Validity:
        """When it is valid."""

    def signing_key(self, secret: str) -> bytes:
        """Return the key with which the owner of `secret` signs for any endpoint."""

    def string_to_sign(self, endpoint: Endpoint) -> bytes:
        """Return what the signer would have signed to send this request to `endpoint`."""

    def sign(self, key: bytes, text: bytes) -> bytes:
        """Return the signature of a string to sign with a signing key."""


def user_name(access_key: str) -> str:
    """Return the OpenNebula user name of an access key; raises `EC2Error` InvalidClientTokenId if there is none.

    Only names that every version of oned refuses are refused here: empty, over 128 bytes, or with control characters.
    """
    if not 0 < len(access_key.encode()) <= _MAX_NAME_BYTES or _CONTROL.search(access_key):
        raise invalid_client_token_id()
    return access_key


def one_session_token(values: Iterable[str]) -> str | None:
    """Return the session token in a request, None if there is none; raises `EC2Error` IncompleteSignature for two."""
    tokens = set(filter(None, values))
    if len(tokens) > 1:
        raise incomplete_signature("The request must contain one session token.")
    token = next(iter(tokens), None)
    if token is not None and len(token) > MAX_SESSION_TOKEN:
        raise incomplete_signature(f"A session token must have at most {MAX_SESSION_TOKEN} characters.")
    return token


def decode_text(raw: bytes) -> str:
    """Decode UTF-8, or else ISO-8859-1, which Python's http.client (and so boto3) uses for header values."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("iso-8859-1")


def epoch_seconds(moment: datetime) -> float:
    """Return a date in seconds since the epoch; a date without a time zone is in UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def percent_encode(text: str | bytes, safe: str = "") -> bytes:
    """Percent-encode as Amazon's signatures require: all but RFC 3986's unreserved characters and `safe`."""
    return quote(text, safe=safe).encode("ascii")
