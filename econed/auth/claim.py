"""What a signed request claims, whichever way it is signed: who calls, from when to when it counts, and the proof."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import quote

from econed.auth.endpoints import Endpoint
from econed.auth.failures import invalid_client_token_id, request_expired

MAX_SKEW = 15 * 60
"""Seconds by which a signature's date may differ from ours (EC2, RequestExpired)."""

MAX_LIFE = 7 * 24 * 60 * 60
"""Seconds that a signature with an expiry of its own may be valid (Signature Version 4, X-Amz-Expires)."""

_MAX_NAME = 128
"""Bytes of the longest user name that oned takes (PoolObjectSQL::name_is_valid)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Validity:
    """The time in which a signature counts, both ends included; in seconds since the epoch."""

    begins: float
    ends: float

    @classmethod
    def dated(cls, signed_at: float) -> Validity:
        """Return the time of a signature that tells when it was made."""
        return cls(signed_at - MAX_SKEW, signed_at + MAX_SKEW)

    def check(self, now: float) -> None:
        """Raise `EC2Error` RequestExpired if the signature does not count at `now`."""
        if not self.begins <= now <= self.ends:
            raise request_expired()


class Claim(Protocol):
    """A signature as it stands in a request, read but not believed."""

    @property
    def access_key(self) -> str:
        """Who is said to have signed."""

    @property
    def signature(self) -> bytes:
        """The signature as sent."""

    @property
    def validity(self) -> Validity:
        """When it counts."""

    def expected(self, secret: str, endpoint: Endpoint) -> bytes:
        """Return the signature that the owner of `secret` would have sent to `endpoint`."""


def user_name(access_key: str) -> str:
    """Return the OpenNebula user of an access key; raises `EC2Error` InvalidClientTokenId if no user can be called so.

    Only what oned refuses in every version is refused here: nothing, more than 128 bytes, control characters.
    """
    if not 0 < len(access_key.encode()) <= _MAX_NAME or _CONTROL.search(access_key):
        raise invalid_client_token_id()
    return access_key


def as_text(raw: bytes) -> str:
    """Return text sent in UTF-8, or in ISO-8859-1, as Python's http.client (and so boto3) sends header values."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("iso-8859-1")


def epoch(moment: datetime) -> float:
    """Return a date in seconds since the epoch; one without a zone is in UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def percent_encode(text: str | bytes, safe: str = "") -> bytes:
    """Percent-encode as Amazon's signatures want it: all but RFC 3986's unreserved characters and `safe`."""
    return quote(text, safe=safe).encode("ascii")
