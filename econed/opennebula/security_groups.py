"""Views of security groups (oned's SECURITY_GROUP documents)."""

from __future__ import annotations

from functools import cached_property

from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.views import OwnedView

DEFAULT_SECURITY_GROUP = 0
"""The id of the group that every network has when it is created. It allows all traffic, and cannot be deleted."""


class SecurityGroup(OwnedView):
    """A security group. Its name is unique among those of its owner."""

    @property
    def rules(self) -> tuple[Vector, ...]:
        """Its rules (RULE), in oned's order."""
        return self.template.vectors("RULE")

    @property
    def vm_ids(self) -> tuple[int, ...]:
        """The ids of the machines that use it, whether or not their rules are up to date."""
        lists = ("UPDATED_VMS/ID", "OUTDATED_VMS/ID", "UPDATING_VMS/ID", "ERROR_VMS/ID")
        return tuple(sorted({vm_id for path in lists for vm_id in self._numbers(path)}))

    @cached_property
    def template(self) -> Attributes:
        """Its attributes: rules and free ones."""
        return self._attributes("TEMPLATE")
