"""The quotas of users and groups: limits and usage (oned: `Quotas`).

A limit of -1 is the default limit, -2 is unlimited. The default limits are unlimited, as in a new cloud.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from econed.sandbox.refusals import internal
from econed.sandbox.template import Template, cdata

DEFAULT, UNLIMITED = -1, -2
Amounts = Mapping[str, float]

_VM_MEASURES_5_12 = ("CPU", "MEMORY", "RUNNING_CPU", "RUNNING_MEMORY", "RUNNING_VMS", "SYSTEM_DISK_SIZE", "VMS")
_VM_MEASURES_7 = (*_VM_MEASURES_5_12, "PCI_DEV", "PCI_NIC", "RUNNING_PCI_DEV", "RUNNING_PCI_NIC")
_MEASURES = {"VM": _VM_MEASURES_7, "DATASTORE": ("IMAGES", "SIZE"), "NETWORK": ("LEASES",), "IMAGE": ("RVMS",)}


@dataclass(frozen=True)
class Charge:
    """Usage that counts in a quota: its section (VM, DATASTORE, NETWORK, IMAGE), the id of its object, the amounts.

    The section VM has no id, as machines count together.
    """

    section: str
    object_id: str
    amounts: Amounts


def _amount_text(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


@dataclass
class _Entry:
    limits: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)

    def is_unused(self) -> bool:
        return not any(self.used.values()) and all(limit == DEFAULT for limit in self.limits.values())


class Quotas:
    """The quotas of a user or a group."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}

    def set_limits(self, template: Template) -> None:
        """Set the limits that a template has in `VM=[...]`, `DATASTORE=[ID=...]`, `NETWORK=[...]`, `IMAGE=[...]`."""
        for section, measures in _MEASURES.items():
            for vector in template.vectors(section):
                entry = self._entries.setdefault((section, vector.get("ID", "")), _Entry())
                for measure in measures:
                    if measure in vector:
                        entry.limits[measure] = _limit(vector[measure])

    def exceeded_limit(self, charge: Charge) -> tuple[str, float] | None:
        """Return the measure whose limit `charge` would exceed, and the limit, or None."""
        entry = self._entries.get((charge.section, charge.object_id))
        if entry is None:
            return None
        for measure, amount in charge.amounts.items():
            limit = entry.limits.get(measure, DEFAULT)
            if limit >= 0 and amount > 0 and entry.used.get(measure, 0) + amount > limit:
                return measure, limit
        return None

    def add(self, charge: Charge, sign: int = 1) -> None:
        """Add `charge` to the usage, or subtract it with sign -1."""
        entry = self._entries.setdefault((charge.section, charge.object_id), _Entry())
        for measure, amount in charge.amounts.items():
            entry.used[measure] = entry.used.get(measure, 0) + sign * amount
        if entry.is_unused():
            del self._entries[charge.section, charge.object_id]

    def xml(self, *, is_v7: bool) -> str:
        """Return the four quota elements."""
        return "".join(self._section_xml(name, is_v7=is_v7) for name in ("DATASTORE", "NETWORK", "VM", "IMAGE"))

    def _section_xml(self, name: str, *, is_v7: bool) -> str:
        measures = _VM_MEASURES_5_12 if name == "VM" and not is_v7 else _MEASURES[name]
        parts = []
        for (section, object_id), entry in self._entries.items():
            if section == name:
                values = "".join(
                    cdata(measure, _amount_text(entry.limits.get(measure, DEFAULT)))
                    + cdata(f"{measure}_USED", _amount_text(entry.used.get(measure, 0)))
                    for measure in measures
                )
                id_element = "" if name == "VM" else cdata("ID", object_id)
                parts.append(f"<{name}>{id_element}{values}</{name}>")
        return f"<{name}_QUOTA>{''.join(parts)}</{name}_QUOTA>"


def _limit(text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        limit = UNLIMITED - 1
    if limit < UNLIMITED:
        raise internal("Error in quota: a limit is a number, -1 (default) or -2 (unlimited)")
    return limit


def refusal_text(owner: str, owner_id: int, charge: Charge, measure: str, limit: float) -> str:
    """Return oned's text for an exceeded limit of an owner ("user" or "group"); its code is that of a missing right."""
    section = "VM" if charge.section == "VM" else f"{charge.section} with ID: {charge.object_id}"
    return f"{owner} [{owner_id}] limit of {_amount_text(limit)} reached for {measure} quota in {section}."
