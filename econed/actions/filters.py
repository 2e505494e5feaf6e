"""Filters of Describe actions: every documented filter that has a meaning here, and an error for all other names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from econed.actions.inputs import Filter
from econed.actions.pacing import ITEM_COST, SLICE, WorkBudget
from econed.actions.wildcards import Automaton, automata, has_wildcards
from econed.errors import EC2Error

Item = Mapping[str, Any]
Values = Callable[[Any], Iterable[object]]
Texts = Mapping[str, Sequence[str]]
"""The values of an item for filters, in the form that filters use, by the names of the filters."""

_T = TypeVar("_T")

MAX_VALUES: Final = 200
"""Maximum number of values of all filters of one call (EC2, FilterLimitExceeded)."""

MAX_LENGTH: Final = 256
"""Maximum number of characters of a value: as many as a tag's value may have. (EC2 allows 255.)"""

_VALUE_COST = 10
"""Units of work (`econed.actions.pacing`) that one value of an item costs in addition to its characters."""

_TAG, _TAG_KEY = "tag:", "tag-key"


@dataclass(frozen=True)
class Filters:
    """The filters of one kind of resource: for each name a function that returns the values of an item.

    An item is the structure that the client receives, so a filter always agrees with the member that it tests. `tagged`
    returns the values function of the filter `tag:KEY` for a KEY; by default, for items that have `tag-key`, it reads
    their tags.
    """

    known: Mapping[str, Values]
    tagged: Callable[[str], Values] | None = None

    def selection(self, filters: Sequence[Filter] | None, budget: WorkBudget) -> Selection:
        """Return the selection that satisfies all `filters`; the work of matching items is spent from `budget`.

        Raises `EC2Error` InvalidParameterValue for an unknown name (EC2 API Reference, Filter: an unknown filter is an
        error, never ignored), for a filter without values and for a value that is too long; FilterLimitExceeded for
        more than `MAX_VALUES` values in all.
        """
        filters = filters or ()
        if sum(len(filter_.get("Values", ())) for filter_ in filters) > MAX_VALUES:
            raise EC2Error(
                "FilterLimitExceeded",
                f"The maximum number of filter values specified on a single call is {MAX_VALUES}",
            )
        return Selection(tuple(self._condition(filter_) for filter_ in filters), budget)

    def with_values(self, name: str, values: Values) -> Filters:
        """Return these filters with another values function for the filter `name`."""
        return replace(self, known={**self.known, name: values})

    def values_of(self, name: str, filters: Sequence[Filter] | None) -> frozenset[str] | None:
        """Return the plain values to which a filter limits a list, so that no more is read from OpenNebula.

        None if there is no filter of that name, or if one has a wildcard. `filters` have passed `selection`.
        """
        of_name = [filter_ for filter_ in filters or () if filter_.get("Name") == name and filter_.get("Values")]
        value_sets = [frozenset(filter_["Values"]) for filter_ in of_name]
        if not value_sets or any(has_wildcards(value) for values in value_sets for value in values):
            return None
        return frozenset.intersection(*value_sets)

    def _condition(self, filter_: Filter) -> _Condition:
        name = filter_.get("Name", "")
        texts = filter_.get("Values", ())
        values = self._lookup(name)
        if not texts:
            raise EC2Error("InvalidParameterValue", f"The filter '{name}' needs at least one value.")
        if any(len(text) > MAX_LENGTH for text in texts):
            raise EC2Error("InvalidParameterValue", f"A value of the filter '{name}' is longer than {MAX_LENGTH}.")
        return _Condition(
            name,
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
    """One filter: the function for the values of an item, and the texts and patterns one of which must match."""

    name: str
    values: Values
    plain: frozenset[str]
    patterns: tuple[Automaton, ...]


@dataclass(frozen=True)
class Selection:
    """The items of a list that match the filters of a request.

    Every Describe action selects its items by `matches` or `matching`, or by their texts where it remembers these. All
    yield to the reactor according to the number of characters compared, not the number of items.
    """

    conditions: tuple[_Condition, ...]
    budget: WorkBudget

    async def matches(self, item: Any | None) -> bool:
        """Whether an item matches all filters; None, for an item that is not listed, never does.

        The work of building the item counts too.
        """
        await self.budget.spend(ITEM_COST)
        if item is None:
            return False
        tags = len(item.get("Tags", ()))
        for condition in self.conditions:
            await self.budget.spend(tags)
            if not await self._satisfies(condition, map(filter_text, condition.values(item))):
                return False
        return True

    @property
    def names(self) -> frozenset[str]:
        """The names of the filters."""
        return frozenset(condition.name for condition in self.conditions)

    async def texts(self, item: Any) -> Texts:
        """Return the values of an item for the filters, by their names; `matches_texts` takes them."""
        await self.budget.spend(ITEM_COST)
        tags = len(item.get("Tags", ()))
        texts: dict[str, tuple[str, ...]] = {}
        for condition in self.conditions:
            if condition.name not in texts:
                await self.budget.spend(tags + _VALUE_COST)
                texts[condition.name] = tuple(map(filter_text, condition.values(item)))
        return texts

    async def matches_texts(self, texts: Texts) -> bool:
        """Whether an item with these values matches all filters."""
        await self.budget.spend(_VALUE_COST)
        for condition in self.conditions:
            if not await self._satisfies(condition, texts[condition.name]):
                return False
        return True

    async def matching(self, items: Iterable[_T]) -> list[_T]:
        """Return the items that match all filters; if `items` is a generator, other requests are served in between."""
        return [item for item in items if await self.matches(item)]

    async def _satisfies(self, condition: _Condition, texts: Iterable[str]) -> bool:
        for text in texts:
            await self.budget.spend(_VALUE_COST)
            if text in condition.plain:
                return True
            for automaton in condition.patterns:
                if await self._matches(automaton, text):
                    return True
        return False

    async def _matches(self, automaton: Automaton, text: str) -> bool:
        positions = automaton.start
        for begin in range(0, len(text), SLICE):
            part = text[begin : begin + SLICE]
            await self.budget.spend(len(part))
            positions = automaton.after(positions, part)
        return positions & automaton.ends != 0


def tag_filters() -> Mapping[str, Values]:
    """Return the filters on tags, for everything that can be tagged: `tag-key`, which also enables `tag:KEY`.

    And `tag-value`, which Amazon no longer documents and clients still send: any tag with that value.
    """
    return {
        _TAG_KEY: lambda item: [tag["Key"] for tag in item.get("Tags", ())],
        "tag-value": lambda item: [tag["Value"] for tag in item.get("Tags", ())],
    }


def field(*path: str) -> Values:
    """Return a function for the values under a path of member names, where members may be lists."""

    def values(item: Any) -> Iterable[object]:
        members = [item]
        for name in path:
            members = [member for parent in members for member in _as_sequence(parent.get(name))]
        return members

    return values


def no_values(_: Any) -> Iterable[object]:
    """Return the values of a field that no item has: none."""
    return ()


def filter_text(value: object) -> str:
    """Return a value in the form that filters use: `true`, `16`, `running`, `2026-01-02T03:04:05.000Z`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")  # type: ignore[no-any-return, attr-defined]
    return str(value)


def _tag_value(key: str) -> Values:
    return lambda item: [tag["Value"] for tag in item.get("Tags", ()) if tag["Key"] == key]


def _as_sequence(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, (list, tuple)) else (value,)
