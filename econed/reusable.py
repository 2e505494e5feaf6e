"""Structures of results that are encoded once, although several results contain them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MAX_SIZE: Final = 6144
"""Bytes of XML that are kept of a structure at most."""


class KeptXml:
    """The XML of a structure that was encoded, which results contain in place of the structure.

    It is empty until the structure has been encoded, and remains so if the XML is longer than `MAX_SIZE`.
    """

    __slots__ = ("_xml",)

    def __init__(self) -> None:
        self._xml = b""

    def __bool__(self) -> bool:
        """Whether there is XML, which then remains."""
        return self._xml != b""

    @property
    def text(self) -> str:
        """The XML. It is kept in UTF-8: in a `str` one letter that is not Latin doubles the memory of all."""
        return self._xml.decode()

    def keep(self, text: str) -> None:
        """Keep the XML of the structure."""
        xml = text.encode()
        if len(xml) <= MAX_SIZE:
            self._xml = xml


class Reusable:
    """A structure that a result contains as an item of a list, whose XML `kept` keeps once it has been encoded.

    The structure belongs to that result only: it may be long, and the result may be dropped before it is encoded.
    """

    __slots__ = ("kept", "structure")

    def __init__(self, structure: Mapping[str, Any]) -> None:
        self.structure = structure
        self.kept = KeptXml()
