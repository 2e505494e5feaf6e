"""Templates of virtual networks."""

from __future__ import annotations

from dataclasses import dataclass

from econed.sandbox.objects.base import Kind, PoolObject


@dataclass(eq=False)
class NetworkTemplate(PoolObject):
    """A template of virtual networks; `registered` in epoch seconds."""

    registered: int = 0

    kind = Kind.VNTEMPLATE

    def xml(self) -> str:
        """Return the VNTEMPLATE element."""
        return (
            f"<VNTEMPLATE>{self.head()}{self.lock_xml()}<REGTIME>{self.registered}</REGTIME>"
            f"{self.template.xml()}</VNTEMPLATE>"
        )
