"""An oned that answers with well-formed documents of something else, as a misconfigured proxy may."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from econed.opennebula.methods import ROOTS
from econed.sandbox.oned import Oned


class OtherDocuments:
    """The sandbox's `oned`, which answers the methods in `wrong` with `document` in place of theirs."""

    def __init__(self, oned: Oned, wrong: Container[str] = ROOTS, document: str = "<FOO/>") -> None:
        self._oned = oned
        self.wrong = wrong
        self.document = document

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oned, name)

    def execute(self, method: str, *params: object) -> list[object]:
        """Serve one call, as `Oned.execute` does."""
        reply = self._oned.execute(method, *params)
        return [True, self.document, 0] if method in self.wrong and reply[0] is True else reply
