"""Client tokens: the same call again gives the same thing, another call with the same token an error (EC2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from econed.errors import EC2Error


def request_digest(parameters: Mapping[str, Any]) -> str:
    """Return a digest of all that a call asks for, the same for the same call in every process."""
    asked_for = {name: value for name, value in parameters.items() if name != "ClientToken"}
    return hashlib.sha256(json.dumps(asked_for, sort_keys=True).encode()).hexdigest()


def mismatch() -> EC2Error:
    """Return the error for a token that was used for another call."""
    return EC2Error(
        "IdempotentParameterMismatch",
        "The request uses the same client token as a previous, but non-identical request.",
    )
