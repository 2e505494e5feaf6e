"""Client tokens: a repeated call returns the same resource, another call with the same token is an error (EC2).

The resource that a call creates has the token and a digest of the call's parameters as attributes. Each action decides
how it finds a token, and which operation of oned prevents two processes from creating two resources with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from econed.errors import EC2Error
from econed.opennebula.template import is_storable

if TYPE_CHECKING:
    from econed.actions.call import Call
    from econed.opennebula.attributes import Attributes

CLIENT_TOKEN = "EC2_CLIENT_TOKEN"
"""The client token of the call that created a machine or an image."""

REQUEST_DIGEST = "EC2_REQUEST_DIGEST"
"""The SHA-256 of the other parameters of that call."""

MAX_LENGTH = 64
"""Maximum number of characters of a token, unless Amazon's model has another limit (EC2, "Ensuring idempotency")."""


@dataclass(frozen=True)
class ClientToken:
    """The client token of a call, with the digest of the call's other parameters."""

    text: str
    digest: str

    @classmethod
    def of(cls, call: Call, text: str | None, max_length: int = MAX_LENGTH) -> ClientToken | None:
        """Return the token of a call; None if it has none, or an empty one.

        Raises `EC2Error` InvalidParameterValue if it is longer than `max_length`, or has characters that oned does not
        keep.
        """
        if not text:
            return None
        if len(text) > max_length or not text.isascii() or not is_storable(text):
            raise EC2Error(
                "InvalidParameterValue",
                f"Value for parameter clientToken is invalid. It must be at most {max_length} printable ASCII "
                "characters.",
            )
        return cls(text, request_digest(call.parameters))

    @property
    def facts(self) -> Mapping[str, str]:
        """The attributes of the resource that the call creates."""
        return {CLIENT_TOKEN: self.text, REQUEST_DIGEST: self.digest}

    def is_on(self, attributes: Attributes) -> bool:
        """Whether a resource with these attributes was created with this token, by this call or another."""
        return attributes.text(CLIENT_TOKEN) == self.text

    def check_same_call(self, digest: str) -> None:
        """Raise `EC2Error` IdempotentParameterMismatch if the token was used for a call with another digest.

        Resources that the Ruby server created have no digest, and match every call.
        """
        if digest not in (self.digest, ""):
            raise mismatch()

    def check_creator(self, attributes: Attributes) -> None:
        """Raise `EC2Error` IdempotentParameterMismatch if a different call created the object with these attributes."""
        self.check_same_call(creator_digest(attributes))


def creator_digest(attributes: Attributes) -> str:
    """Return the digest of the call that created the object with these attributes; empty if it is not known."""
    return attributes.text(REQUEST_DIGEST)


def mismatch() -> EC2Error:
    """Return the error for a token that was used for another call."""
    return EC2Error(
        "IdempotentParameterMismatch",
        "The request uses the same client token as a previous, but non-identical request.",
    )


def request_digest(parameters: Mapping[str, Any]) -> str:
    """Return a digest of the parameters of a call except its token, the same in every process."""
    others = {name: value for name, value in parameters.items() if name != "ClientToken"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
