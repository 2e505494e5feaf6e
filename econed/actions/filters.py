"""Filters of Describe actions: every documented filter that has a meaning here, and an error for every other name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from econed.actions.inputs import Filter
from econed.errors import EC2Error

Item = Mapping[str, Any]
Values = Callable[[Any], Iterable[object]]

_MAX_VALUES = 200
_MAX_LENGTH = 1024


@dataclass(frozen=True)
class Filters:
    """The filters that one kind of resource knows: for each name the values that an item of the kind has under it.

    An item is what the client gets to see, so that a filter and the field it speaks of cannot disagree.
    """

    known: Mapping[str, Values]

    def matcher(self, filters: Sequence[Filter] | None) -> Callable[[Any], bool]:
        """Return the condition that all `filters` together set.

        Raises `EC2Error` InvalidParameterValue for a name not known here (EC2 API Reference, Filter: an unknown filter
        is an error, never passed over), and for a filter without values.
        """
        conditions = [self._condition(f) for f in filters or ()]
        return lambda item: all(condition(item) for condition in conditions)

    def values_of(self, name: str, filters: Sequence[Filter] | None) -> frozenset[str] | None:
        """Return the plain values that a filter limits a list to, for asking OpenNebula for no more than that.

        None where no filter of that name is given or one has a wildcard.
        """
        given = [frozenset(f["Values"]) for f in filters or () if f.get("Name") == name and f.get("Values")]
        if not given or any(_is_pattern(value) for values in given for value in values):
            return None
        return frozenset.intersection(*given)

    def _condition(self, given: Filter) -> Callable[[Any], bool]:
        name = given.get("Name", "")
        texts = given.get("Values", ())
        values = self._lookup(name)
        if not texts:
            raise EC2Error("InvalidParameterValue", f"The filter '{name}' needs at least one value.")
        if len(texts) > _MAX_VALUES:
            raise EC2Error("FilterLimitExceeded", f"The filter '{name}' has more than {_MAX_VALUES} values.")
        if any(len(text) > _MAX_LENGTH for text in texts):
            raise EC2Error("InvalidParameterValue", f"A value of the filter '{name}' is longer than {_MAX_LENGTH}.")
        plain = frozenset(text for text in texts if not _is_pattern(text))
        patterns = [wildcard(text) for text in texts if _is_pattern(text)]

        def holds(item: Any) -> bool:
            return any(v in plain or any(p.fullmatch(v) for p in patterns) for v in map(filter_text, values(item)))

        return holds

    def _lookup(self, name: str) -> Values:
        if name in self.known:
            return self.known[name]
        if name.startswith("tag:") and "tag-key" in self.known:
            key = name.removeprefix("tag:")
            return lambda item: [tag["Value"] for tag in item.get("Tags", ()) if tag["Key"] == key]
        raise EC2Error("InvalidParameterValue", f"The filter '{name}' is invalid")


def tag_filters() -> Mapping[str, Values]:
    """Return the filter `tag-key`, which also brings `tag:KEY` with it (EC2: on everything that can be tagged)."""
    return {"tag-key": lambda item: [tag["Key"] for tag in item.get("Tags", ())]}


def field(*path: str) -> Values:
    """Return the values under a path of member names, through lists where there are lists."""

    def values(item: Any) -> Iterable[object]:
        found = [item]
        for name in path:
            found = [inner for one in found for inner in _listed(one.get(name))]
        return found

    return values


def filter_text(value: object) -> str:
    """Return a value as a filter spells it: `true`, `16`, `running`, `2026-01-02T03:04:05.000Z`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")  # type: ignore[no-any-return, attr-defined]
    return str(value)


def wildcard(text: str) -> re.Pattern[str]:
    r"""Return the pattern of a filter value.

    `*` is any text, `?` any one character; `\*`, `\?` and `\\` are those characters themselves.
    """
    runs: list[list[str]] = [[]]
    for token in re.findall(r"\\[*?\\]|\*+|.", text, re.DOTALL):
        if token.startswith("*"):
            runs.append([])
        else:
            runs[-1].append("." if token == "?" else re.escape(token[-1]))
    first, *rest = ("".join(run) for run in runs)
    if not rest:
        return re.compile(first, re.DOTALL)
    # What stands between two stars is matched where it comes first and never again: no value can make matching slow.
    *between, last = rest
    return re.compile(first + "".join(f"(?>.*?{run})" for run in between) + ".*" + last, re.DOTALL)


def literally(text: str) -> str:
    """Return the filter value that is matched by `text` alone, whatever it holds."""
    return re.sub(r"[*?\\]", r"\\\g<0>", text)


def _is_pattern(text: str) -> bool:
    return any(c in text for c in "*?\\")


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, (list, tuple)) else (value,)
