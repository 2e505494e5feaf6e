"""Reads of a few machines by their ids (one.vmpool.infoset), which can be one call."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from lxml import etree

if TYPE_CHECKING:
    from lxml.etree import _Element

METHOD: Final = "one.vmpool.infoset"

MAX_SMALL_SET: Final = 50
"""Maximum machines in a set that is read together with others."""


def is_small_set(method: str, args: Sequence[object]) -> bool:
    """Whether a call reads a few machines by their ids."""
    if method != METHOD:
        return False
    ids = str(args[0]).split(",", MAX_SMALL_SET)
    return len(ids) <= MAX_SMALL_SET and all(map(str.isdecimal, ids))


def ids_in(args: Sequence[object]) -> frozenset[str]:
    """Return the ids in the arguments of a call for a set, as texts."""
    return frozenset(str(args[0]).split(","))


def arguments_for(ids: Iterable[str], args: Sequence[object]) -> tuple[object, ...]:
    """Return the arguments of a call for the machines with these ids, otherwise like `args`."""
    return (",".join(sorted(ids, key=int)), *args[1:])


def divide(root: _Element, sets: Collection[frozenset[str]]) -> Mapping[frozenset[str], _Element]:
    """Return a document for each of several sets of ids, from one with the machines of all, which is emptied.

    The sets have no id in common. Each document has the form of oned's reply to a call for this set alone.
    """
    machines = {machine.findtext("ID", ""): machine for machine in root.iterchildren("VM")}
    documents: dict[frozenset[str], _Element] = {}
    for ids in sets:
        document = documents[ids] = etree.Element(root.tag)
        document.extend([machines[id_] for id_ in sorted(ids & machines.keys(), key=int)])
    return documents
