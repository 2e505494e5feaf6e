"""Client tokens: the same call again gives the same thing, another call with the same token an error (EC2).

What a call makes carries the token and a digest of all that was asked for. How a token is found again, and which step
of oned's keeps two processes from making two things with it, is each action's own.
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
"""The token of the call that made a machine or an image, as the client gave it."""

REQUEST_DIGEST = "EC2_REQUEST_DIGEST"
"""What else that call asked for, as a SHA-256."""

MAX_LENGTH = 64
"""Characters of a token, where Amazon's model says nothing else (EC2, "Ensuring idempotency")."""


@dataclass(frozen=True)
class ClientToken:
    """The client token of a call, with the digest of the call's other parameters."""

    text: str
    digest: str

    @classmethod
    def of(cls, call: Call, text: str | None, longest: int = MAX_LENGTH) -> ClientToken | None:
        """Return the token of a call; None where there is none, or an empty one.

        Raises `EC2Error` InvalidParameterValue for one that is longer than `longest`, or is not one that oned keeps.
        """
        if not text:
            return None
        if len(text) > longest or not text.isascii() or not is_storable(text):
            raise EC2Error(
                "InvalidParameterValue",
                f"Value for parameter clientToken is invalid. It must be at most {longest} printable ASCII characters.",
            )
        return cls(text, request_digest(call.parameters))

    @property
    def facts(self) -> Mapping[str, str]:
        """The attributes of what the call makes."""
        return {CLIENT_TOKEN: self.text, REQUEST_DIGEST: self.digest}

    def is_on(self, attributes: Attributes) -> bool:
        """Whether what has these attributes was made with this token, whatever was asked for."""
        return attributes.text(CLIENT_TOKEN) == self.text

    def check_same_call(self, digest: str) -> None:
        """Raise `EC2Error` IdempotentParameterMismatch if the token was used for a call with another digest.

        None is known of what the Ruby server made, and so it fits every call.
        """
        if digest not in (self.digest, ""):
            raise mismatch()


def mismatch() -> EC2Error:
    """Return the error for a token that was used for another call."""
    return EC2Error(
        "IdempotentParameterMismatch",
        "The request uses the same client token as a previous, but non-identical request.",
    )


def request_digest(parameters: Mapping[str, Any]) -> str:
    """Return a digest of all that a call asks for, the same for the same call in every process."""
    asked_for = {name: value for name, value in parameters.items() if name != "ClientToken"}
    return hashlib.sha256(json.dumps(asked_for, sort_keys=True).encode()).hexdigest()
