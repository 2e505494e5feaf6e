"""Limits on what users and groups have, and what they have (oned: `Quotas`).

-1 is the default limit, -2 none; the defaults here are none, as in a fresh cloud.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from econed.sandbox.refusals import internal
from econed.sandbox.template import Template, cdata

DEFAULT, UNLIMITED = -1, -2
Amounts = Mapping[str, float]

_VM_OLD = ("CPU", "MEMORY", "RUNNING_CPU", "RUNNING_MEMORY", "RUNNING_VMS", "SYSTEM_DISK_SIZE", "VMS")
_VM_NEW = (*_VM_OLD, "PCI_DEV", "PCI_NIC", "RUNNING_PCI_DEV", "RUNNING_PCI_NIC")
_MEASURES = {"VM": _VM_NEW, "DATASTORE": ("IMAGES", "SIZE"), "NETWORK": ("LEASES",), "IMAGE": ("RVMS",)}


@dataclass(frozen=True)
class Charge:
    """What something takes of a quota: of which kind (VM, DATASTORE, NETWORK, IMAGE), of which object, how much."""

    section: str
    number: str
    amounts: Amounts


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


@dataclass
class _Entry:
    limits: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)

    def idle(self) -> bool:
        return not any(self.used.values()) and all(limit == DEFAULT for limit in self.limits.values())


class Quotas:
    """The quotas of one user or group."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}

    def set_limits(self, template: Template) -> None:
        """Take over limits from `VM=[...]`, `DATASTORE=[ID=...]`, `NETWORK=[...]`, `IMAGE=[...]`."""
        for section, measures in _MEASURES.items():
            for vector in template.vectors(section):
                entry = self._entries.setdefault((section, vector.get("ID", "")), _Entry())
                for measure in measures:
                    if measure in vector:
                        entry.limits[measure] = _limit(vector[measure])

    def exceeded(self, charge: Charge) -> tuple[str, float] | None:
        """Return the measure that `charge` would take beyond its limit, with that limit, or None."""
        entry = self._entries.get((charge.section, charge.number))
        if entry is None:
            return None
        for measure, amount in charge.amounts.items():
            limit = entry.limits.get(measure, DEFAULT)
            if limit >= 0 and amount > 0 and entry.used.get(measure, 0) + amount > limit:
                return measure, limit
        return None

    def add(self, charge: Charge, sign: int = 1) -> None:
        """Count `charge` in, or out with sign -1."""
        entry = self._entries.setdefault((charge.section, charge.number), _Entry())
        for measure, amount in charge.amounts.items():
            entry.used[measure] = entry.used.get(measure, 0) + sign * amount
        if entry.idle():
            del self._entries[charge.section, charge.number]

    def xml(self, *, modern: bool) -> str:
        """Return the four quota elements as oned shows them."""
        sections = (("DATASTORE", True), ("NETWORK", True), ("VM", False), ("IMAGE", True))
        return "".join(self._section_xml(name, numbered, modern=modern) for name, numbered in sections)

    def _section_xml(self, name: str, numbered: bool, *, modern: bool) -> str:
        measures = _VM_OLD if name == "VM" and not modern else _MEASURES[name]
        parts = []
        for (section, number), entry in self._entries.items():
            if section == name:
                values = "".join(
                    cdata(measure, _number(entry.limits.get(measure, DEFAULT)))
                    + cdata(f"{measure}_USED", _number(entry.used.get(measure, 0)))
                    for measure in measures
                )
                parts.append(f"<{name}>{cdata('ID', number) if numbered else ''}{values}</{name}>")
        return f"<{name}_QUOTA>{''.join(parts)}</{name}_QUOTA>"


def _limit(text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        limit = UNLIMITED - 1
    if limit < UNLIMITED:
        raise internal("Error in quota: a limit is a number, -1 (default) or -2 (unlimited)")
    return limit


def refusal_text(who: str, number: int, charge: Charge, measure: str, limit: float) -> str:
    """Return oned's words for a quota that is exhausted; the code is that of a missing right."""
    where = "VM" if charge.section == "VM" else f"{charge.section} with ID: {charge.number}"
    return f"{who} [{number}] limit of {_number(limit)} reached for {measure} quota in {where}."
