"""The sandbox with altered documents, such as other versions of oned or a faulty proxy may return."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from econed.opennebula.methods import ROOTS
from econed.sandbox.oned import Oned


class OtherDocuments:
    """The sandbox's `oned`, which replies to the methods in `wrong` with `document`, as a faulty proxy may."""

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


class RewrittenDocuments:
    """The sandbox's `oned`, with texts replaced in the documents of `method`: each key of `changes` by its value."""

    def __init__(self, oned: Oned, method: str, changes: Mapping[str, str]) -> None:
        self._oned = oned
        self._method = method
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._oned, name)

    def execute(self, method: str, *params: object) -> list[object]:
        """Serve one call, as `Oned.execute` does."""
        reply = self._oned.execute(method, *params)
        if method != self._method or reply[0] is not True:
            return reply
        text = str(reply[1])
        for old, new in self._changes.items():
            assert old in text, f"{old} is not in the document"
            text = text.replace(old, new)
        return [True, text, 0]
