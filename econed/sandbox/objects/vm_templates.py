"""VM templates."""

from __future__ import annotations

from dataclasses import dataclass

from econed.sandbox.objects.base import Kind, PoolObject


@dataclass(eq=False)
class VmTemplate(PoolObject):
    """A VM template; `registered` in epoch seconds."""

    registered: int = 0

    kind = Kind.TEMPLATE

    def xml(self) -> str:
        """Return the VMTEMPLATE element."""
        return (
            f"<VMTEMPLATE>{self.head()}{self.lock_xml()}<REGTIME>{self.registered}</REGTIME>"
            f"{self.template.xml()}</VMTEMPLATE>"
        )
