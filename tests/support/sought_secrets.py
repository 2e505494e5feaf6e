"""Secrets that must not be found in logs and other outputs, in any encoding, wholly or in part."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

LONGEST_SHOWN = 12
"""No more characters of a secret than these may appear in a row."""


@dataclass
class Secrets:
    """The secrets that clients have sent, by description."""

    by_description: dict[str, str] = field(default_factory=dict)

    def add(self, description: str, *values: str) -> None:
        """Add a secret in all its encodings."""
        for value in values:
            for form in {value, quote(value), unquote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}:
                self.by_description[f"{description} ({len(self.by_description)})"] = form

    def seen_in(self, text: str) -> list[str]:
        """Return the descriptions of the secrets that a text contains, wholly or in part."""
        return [description for description, secret in self.by_description.items() if _is_in(secret, text)]


def _parts(secret: str) -> Iterable[str]:
    """Yield the parts of a secret that are too long to appear by chance."""
    for start in range(0, len(secret) - LONGEST_SHOWN + 1, LONGEST_SHOWN):
        yield secret[start : start + LONGEST_SHOWN]


def _is_in(secret: str, text: str) -> bool:
    return any(part in text for part in _parts(secret))
