"""Views of VM groups (oned's VM_GROUP documents)."""

from __future__ import annotations

from functools import cached_property

from econed.opennebula.attributes import Attributes
from econed.opennebula.values import ids_in
from econed.opennebula.views import OwnedView, View


class VmGroupRole(View):
    """A role of a VM group, which machines are put into (ROLES/ROLE)."""

    @property
    def name(self) -> str:
        """The name, by which a machine names its role."""
        return self._text("NAME")

    @property
    def policy(self) -> str:
        """AFFINED (all on one host), ANTI_AFFINED (each on another host), or anything else, which means nothing."""
        return self._text("POLICY").upper()

    @property
    def vm_ids(self) -> tuple[int, ...]:
        """The ids of its machines that have not ended."""
        return ids_in(self._text("VMS"))


class VmGroup(OwnedView):
    """A VM group. Its name is unique among those of its owner."""

    @property
    def roles(self) -> tuple[VmGroupRole, ...]:
        """Its roles, in oned's order."""
        return self._views(VmGroupRole, "ROLES/ROLE")

    @cached_property
    def template(self) -> Attributes:
        """Its free attributes."""
        return self._attributes("TEMPLATE")
