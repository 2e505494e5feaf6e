"""Structures of results that are encoded once, although several results contain them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MAX_LENGTH: Final = 6144
"""Characters of XML that are kept of a structure at most."""


class Reusable:
    """A structure that results contain as an item of a list, and its XML once it has been encoded.

    From then on the structure itself is no longer held. XML that is longer than `MAX_LENGTH` is not kept either.
    """

    __slots__ = ("structure", "xml")

    def __init__(self, structure: Mapping[str, Any]) -> None:
        self.structure: Mapping[str, Any] | None = structure
        self.xml = ""

    @property
    def is_spent(self) -> bool:
        """Whether it cannot be used again, because its XML was too long to be kept."""
        return self.structure is None and not self.xml

    def keep(self, xml: str) -> None:
        """Keep the XML instead of the structure."""
        self.structure = None
        if len(xml) <= MAX_LENGTH:
            self.xml = xml

    def spend(self) -> Mapping[str, Any]:
        """Return the structure, which is not held any longer, to be encoded in steps; its XML is not kept."""
        structure, self.structure = self.structure, None
        if structure is None:
            raise ValueError("neither structure nor XML")
        return structure
