"""Filters of Describe actions: every documented filter that has a meaning here, and an error for every other name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from econed.actions.inputs import Filter
from econed.actions.pacing import ITEM, SLICE, WorkBudget
from econed.actions.wildcards import Automaton, automata, has_wildcards
from econed.errors import EC2Error

Item = Mapping[str, Any]
Values = Callable[[Any], Iterable[object]]
_T = TypeVar("_T")

MAX_VALUES: Final = 200
"""Values of all filters of one call together (EC2, FilterLimitExceeded)."""

MAX_LENGTH: Final = 256
"""Characters of a value: of the longest that anything has here, the value of a tag. (EC2 allows 255.)"""

_VALUE = 10
"""Units of work (`econed.actions.pacing`) that one value of an item costs beside its characters."""

_TAG, _TAG_KEY = "tag:", "tag-key"


@dataclass(frozen=True)
class Filters:
    """The filters that one kind of resource knows: for each name the values that an item of the kind has under it.

    An item is what the client gets to see, so that a filter and the field it speaks of cannot disagree. `tagged` gives
    the values of the filter `tag:KEY` for a KEY, where that is not the tag of an item that knows `tag-key`.
    """

    known: Mapping[str, Values]
    tagged: Callable[[str], Values] | None = None

    def selection(self, filters: Sequence[Filter] | None, budget: WorkBudget) -> Selection:
        """Return the condition that all `filters` together set; the work of looking at items counts for `budget`.

        Raises `EC2Error` InvalidParameterValue for a name not known here (EC2 API Reference, Filter: an unknown filter
        is an error, never passed over), for a filter without values and for a value that is too long;
        FilterLimitExceeded for more than `MAX_VALUES` values in all.
        """
        given = filters or ()
        if sum(len(each.get("Values", ())) for each in given) > MAX_VALUES:
            raise EC2Error(
                "FilterLimitExceeded",
                f"The maximum number of filter values specified on a single call is {MAX_VALUES}",
            )
        return Selection(tuple(self._condition(each) for each in given), budget)

    def with_values(self, name: str, values: Values) -> Filters:
        """Return these filters with one of them reading other values off an item, such as all the names that it has."""
        return replace(self, known={**self.known, name: values})

    def values_of(self, name: str, filters: Sequence[Filter] | None) -> frozenset[str] | None:
        """Return the plain values that a filter limits a list to, for asking OpenNebula for no more than that.

        None where no filter of that name is given or one has a wildcard. `filters` have passed `selection`.
        """
        given = [frozenset(f["Values"]) for f in filters or () if f.get("Name") == name and f.get("Values")]
        if not given or any(has_wildcards(value) for values in given for value in values):
            return None
        return frozenset.intersection(*given)

    def _condition(self, given: Filter) -> _Condition:
        name = given.get("Name", "")
        texts = given.get("Values", ())
        values = self._lookup(name)
        if not texts:
            raise EC2Error("InvalidParameterValue", f"The filter '{name}' needs at least one value.")
        if any(len(text) > MAX_LENGTH for text in texts):
            raise EC2Error("InvalidParameterValue", f"A value of the filter '{name}' is longer than {MAX_LENGTH}.")
        return _Condition(
            values,
            frozenset(text for text in texts if not has_wildcards(text)),
            automata(text for text in texts if has_wildcards(text)),
        )

    def _lookup(self, name: str) -> Values:
        if name in self.known:
            return self.known[name]
        key = name.removeprefix(_TAG)
        tagged = self.tagged or (_tag_value if _TAG_KEY in self.known else None)
        if key == name or tagged is None:
            raise EC2Error("InvalidParameterValue", f"The filter '{name[:MAX_LENGTH]}' is invalid")
        if len(key) > MAX_LENGTH:
            raise EC2Error("InvalidParameterValue", f"The name of a filter is longer than {MAX_LENGTH}.")
        return tagged(key)


@dataclass(frozen=True)
class _Condition:
    """One filter: the values that an item has under its name, and what one of them has to be."""

    values: Values
    plain: frozenset[str]
    patterns: tuple[Automaton, ...]


@dataclass(frozen=True)
class Selection:
    """Which items of a list the filters of a request let through.

    Every Describe action picks what it lists by one of the two methods, which give way to the reactor by the work that
    is done: by characters compared, not by items.
    """

    conditions: tuple[_Condition, ...]
    budget: WorkBudget

    async def matches(self, item: Any | None) -> bool:
        """Whether one item, which was made just now, passes all filters; None, for what is not shown, does not."""
        await self.budget.spend(ITEM)
        if item is None:
            return False
        tags = len(item.get("Tags", ()))
        for condition in self.conditions:
            await self.budget.spend(tags)
            if not await self._holds(condition, item):
                return False
        return True

    async def matching(self, items: Iterable[_T]) -> list[_T]:
        """Return the items that pass all filters; where `items` makes them one by one, others are served in between."""
        return [item for item in items if await self.matches(item)]

    async def _holds(self, condition: _Condition, item: Any) -> bool:
        for value in condition.values(item):
            text = filter_text(value)
            await self.budget.spend(_VALUE)
            if text in condition.plain:
                return True
            for automaton in condition.patterns:
                if await self._matches(automaton, text):
                    return True
        return False

    async def _matches(self, automaton: Automaton, text: str) -> bool:
        places = automaton.start
        for begin in range(0, len(text), SLICE):
            part = text[begin : begin + SLICE]
            await self.budget.spend(len(part))
            places = automaton.after(places, part)
        return places & automaton.ends != 0


def tag_filters() -> Mapping[str, Values]:
    """Return the filters on tags (EC2: on everything that can be tagged): `tag-key`, which brings `tag:KEY` with it.

    And `tag-value`, which Amazon no longer documents and clients still send: any tag of that value, whatever its key.
    """
    return {
        _TAG_KEY: lambda item: [tag["Key"] for tag in item.get("Tags", ())],
        "tag-value": lambda item: [tag["Value"] for tag in item.get("Tags", ())],
    }


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


def _tag_value(key: str) -> Values:
    return lambda item: [tag["Value"] for tag in item.get("Tags", ()) if tag["Key"] == key]


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, (list, tuple)) else (value,)
