"""What is known of oned's methods by their names."""

from __future__ import annotations

_READING = frozenset({"info", "infoset", "infoextended", "accounting", "showback", "monitoring", "version", "config"})


def is_reading(method: str) -> bool:
    """Whether a method (`one.vm.info`) only asks. Every other one may change something."""
    return method.rpartition(".")[2] in _READING
