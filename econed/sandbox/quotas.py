"""The quotas of users and groups: limits and usage (oned: `Quotas`).

A limit of -1 is the default limit, -2 is unlimited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from econed.sandbox.refusals import wrong_state
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


def capacity_amounts(cpu: float, memory: float, disk_size: float, *, is_running: bool) -> dict[str, float]:
    """Return the amounts that a machine counts in the section VM, in the order in which oned checks them.

    `memory` and `disk_size`, that of the disks in the system datastore, are in MB.
    """
    running = float(is_running)
    return {
        "VMS": 1.0,
        "RUNNING_VMS": running,
        "CPU": cpu,
        "RUNNING_CPU": running * cpu,
        "MEMORY": memory,
        "RUNNING_MEMORY": running * memory,
        "SYSTEM_DISK_SIZE": disk_size,
    }


def _amount_text(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.2f}"


@dataclass
class _Entry:
    limits: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)


class Quotas:
    """The quotas of a user or a group, or with `are_defaults` the limits of those that have none of their own."""

    def __init__(self, *, are_defaults: bool = False) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._implicit_limit = UNLIMITED if are_defaults else DEFAULT

    def set_limits(self, template: Template) -> None:
        """Set the limits that a template has in `VM=[...]`, `DATASTORE=[ID=...]`, `NETWORK=[...]`, `IMAGE=[...]`.

        A limit that a vector lacks, or that is no number, is set to the default limit; of default quotas, to unlimited.
        Refuses (2048) other negative limits, and a vector without the id of its object.
        """
        for section, measures in _MEASURES.items():
            for vector in template.vectors(section):
                object_id = "" if section == "VM" else vector.get("ID", "")
                limits = {measure: self._limit(vector.get(measure, "")) for measure in measures}
                if (section != "VM" and not object_id.isdigit()) or None in limits.values():
                    members = ",".join(f"{name}={value}" for name, value in sorted(vector.items()))
                    raise wrong_state(f"Negative limits or bad format in quota {section} = [ {members} ]")
                entry = self._entries.setdefault((section, object_id), _Entry())
                entry.limits = {measure: limit for measure, limit in limits.items() if limit is not None}
                self._remove_if_unused(section, object_id)

    def _limit(self, text: str) -> float | None:
        """Return the limit of a text, or None if it is a negative number that has no meaning here."""
        try:
            limit = float(text)
        except ValueError:
            return self._implicit_limit
        return limit if limit >= 0 or limit in (UNLIMITED, self._implicit_limit) else None

    def _remove_if_unused(self, section: str, object_id: str) -> None:
        entry = self._entries[section, object_id]
        has_limits = any(limit != self._implicit_limit for limit in entry.limits.values())
        if not has_limits and not any(entry.used.values()):
            del self._entries[section, object_id]

    def exceeded_limit(self, charge: Charge, defaults: Quotas) -> tuple[str, float] | None:
        """Return the measure whose limit `charge` would exceed, and the limit, or None.

        As in oned an amount of 0 is checked, too: it exceeds a limit that is lower than the usage.
        """
        entry = self._entries.get((charge.section, charge.object_id), _Entry())
        for measure, amount in charge.amounts.items():
            limit = entry.limits.get(measure, DEFAULT)
            if limit == DEFAULT:
                default_entry = defaults._entries.get((charge.section, charge.object_id), _Entry())
                limit = default_entry.limits.get(measure, UNLIMITED)
            if limit != UNLIMITED and entry.used.get(measure, 0) + amount > limit:
                return measure, limit
        return None

    def add(self, charge: Charge, sign: int = 1) -> None:
        """Add `charge` to the usage, or subtract it with sign -1."""
        entry = self._entries.setdefault((charge.section, charge.object_id), _Entry())
        for measure, amount in charge.amounts.items():
            entry.used[measure] = round(entry.used.get(measure, 0) + sign * amount, 6)
        self._remove_if_unused(charge.section, charge.object_id)

    def xml(self, *, is_v7: bool) -> str:
        """Return the four quota elements."""
        return "".join(self._section_xml(name, is_v7=is_v7) for name in ("DATASTORE", "NETWORK", "VM", "IMAGE"))

    def _section_xml(self, name: str, *, is_v7: bool) -> str:
        measures = _VM_MEASURES_5_12 if name == "VM" and not is_v7 else _MEASURES[name]
        parts = []
        for (section, object_id), entry in self._entries.items():
            if section == name:
                values = "".join(
                    cdata(measure, _amount_text(entry.limits.get(measure, self._implicit_limit)))
                    + cdata(f"{measure}_USED", _amount_text(entry.used.get(measure, 0)))
                    for measure in measures
                )
                id_element = "" if name == "VM" else cdata("ID", object_id)
                parts.append(f"<{name}>{id_element}{values}</{name}>")
        return f"<{name}_QUOTA>{''.join(parts)}</{name}_QUOTA>"


def refusal_text(owner: str, owner_id: int, charge: Charge, measure: str, limit: float) -> str:
    """Return oned's text for an exceeded limit of an owner ("user" or "group")."""
    section = "VM" if charge.section == "VM" else f"{charge.section} with ID: {charge.object_id}"
    return f"{owner} [{owner_id}] limit of {limit:g} reached for {measure} quota in {section}"
