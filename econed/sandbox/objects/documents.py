"""Documents: templates of a type that only their users understand."""

from __future__ import annotations

from dataclasses import dataclass

from econed.sandbox.objects.base import Kind, PoolObject


@dataclass(eq=False)
class Document(PoolObject):
    """A document of a type, which is any integer."""

    type: int = 0

    kind = Kind.DOCUMENT

    def xml(self) -> str:
        """Return the DOCUMENT element."""
        return f"<DOCUMENT>{self.head()}<TYPE>{self.type}</TYPE>{self.lock_xml()}{self.template.xml()}</DOCUMENT>"
