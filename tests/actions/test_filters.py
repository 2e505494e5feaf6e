"""Filters of Describe actions."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from econed.actions.filters import Filters, field, filter_text, tag_filters
from econed.actions.inputs import Filter
from econed.actions.instances.filters import may_match_terminated
from econed.actions.pacing import ITEM_COST, SLICE, Pacer, WorkBudget
from econed.errors import EC2Error
from tests.support.turn_clock import TurnClock

FILTERS = Filters(
    MappingProxyType({"colour": field("Colour"), "disk": field("Disks", "Ebs", "Name"), **tag_filters()}),
)
RED: dict[str, Any] = {
    "Colour": "red",
    "Disks": [{"Ebs": {"Name": "a"}}, {"Ebs": {"Name": "b"}}],
    "Tags": [{"Key": "env", "Value": "prod"}],
}


def matching(filters: list[Filter] | None, items: list[Any]) -> list[Any]:
    """Return the items that match the filters, advancing a clock until they are found."""
    clock = Clock()
    selection = FILTERS.selection(filters, WorkBudget(Pacer(clock, now=clock.seconds)))
    results: list[list[Any]] = []
    Deferred.fromCoroutine(selection.matching(items)).addCallback(results.append)
    while not results:
        assert clock.getDelayedCalls()
        clock.advance(0)
    return results[0]


def matches(*filters: tuple[str, list[str]]) -> bool:
    """Whether RED matches these filters."""
    return matching([{"Name": name, "Values": values} for name, values in filters], [RED]) == [RED]


def test_everything_matches_without_filters() -> None:
    assert matching([], [RED]) == [RED]
    assert matching(None, [RED]) == [RED]


def test_an_item_that_is_not_shown_never_matches() -> None:
    assert matching([], [RED, None]) == [RED]


def test_one_value_of_a_filter_must_match() -> None:
    assert matches(("colour", ["blue", "red"]))
    assert not matches(("colour", ["blue", "green"]))


def test_all_filters_must_match() -> None:
    assert matches(("colour", ["red"]), ("disk", ["b"]))
    assert not matches(("colour", ["red"]), ("disk", ["c"]))


def test_a_field_in_a_list_matches_if_any_item_of_the_list_does() -> None:
    assert matches(("disk", ["b"]))


def test_values_are_case_sensitive() -> None:
    assert not matches(("colour", ["Red"]))


@pytest.mark.parametrize("value", ["r*", "*d", "r?d", "*", "***", "?ed", "r*e*d"])
def test_a_star_matches_any_text_and_a_question_mark_any_character(value: str) -> None:
    assert matches(("colour", [value]))


@pytest.mark.parametrize("value", ["r?", "*x*", "?", "re", "r\\*"])
def test_a_pattern_must_match_the_whole_value(value: str) -> None:
    assert not matches(("colour", [value]))


def test_a_tag_filter_matches_the_value_of_its_key() -> None:
    assert matches(("tag:env", ["p*"]))
    assert not matches(("tag:env", ["test"]))
    assert not matches(("tag:other", ["*"]))
    assert matches(("tag-key", ["env"]))


@pytest.mark.parametrize("name", ["shape", "", "tag", "Colour"])
def test_an_unknown_filter_is_refused_and_never_ignored(name: str) -> None:
    with pytest.raises(EC2Error) as caught:
        matches((name, ["x"]))
    assert caught.value.code == "InvalidParameterValue"


def test_a_filter_without_values_is_refused() -> None:
    with pytest.raises(EC2Error) as caught:
        matching([{"Name": "colour"}], [RED])
    assert caught.value.code == "InvalidParameterValue"


@pytest.mark.parametrize("filters", [1, 3, 201])
def test_more_than_200_values_in_all_filters_together_are_refused(filters: int) -> None:
    values = [str(number) for number in range(201)]
    with pytest.raises(EC2Error) as caught:
        matches(*(("colour", values[start::filters]) for start in range(filters)))
    assert caught.value.code == "FilterLimitExceeded"
    assert caught.value.message == "The maximum number of filter values specified on a single call is 200"


def test_200_values_in_all_filters_together_are_accepted() -> None:
    values = [str(number) for number in range(99)]
    assert matches(("colour", [*values, "red"]), ("disk", [*values, "a"]))


@pytest.mark.parametrize("text", ["x" * 257, "*" * 257, "é" * 257])
def test_a_value_longer_than_any_tags_is_refused(text: str) -> None:
    with pytest.raises(EC2Error) as caught:
        matches(("colour", [text]))
    assert caught.value.code == "InvalidParameterValue"
    matching([{"Name": "colour", "Values": [text[:256]]}], [RED])


@pytest.mark.parametrize("name", ["tag:" + "k" * 100_000, "x" * 100_000])
def test_a_name_that_is_too_long_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(EC2Error) as caught:
        matches((name, ["x"]))
    assert caught.value.code == "InvalidParameterValue"
    assert len(caught.value.message) < 400


def tagged(tags: int, text: str) -> dict[str, Any]:
    """Return an item with so many tags, all with the same value."""
    return {"Tags": [{"Key": f"key{number}", "Value": text} for number in range(tags)]}


def count_turns(filters: list[Filter], items: list[Any]) -> int:
    """Return how many turns of the reactor pass until all items are matched."""
    clock = TurnClock()
    pacer = Pacer(clock, is_over=lambda: lambda: True, now=clock.seconds)
    ended: list[Any] = []
    Deferred.fromCoroutine(FILTERS.selection(filters, WorkBudget(pacer)).matching(items)).addCallback(ended.append)
    turns = 0
    while not ended:
        clock.turn()
        turns += 1
    return turns


def test_filters_yield_to_the_reactor_by_the_work_done_not_by_the_number_of_items() -> None:
    patterns: list[Filter] = [{"Name": f"tag:key{number}", "Values": ["*a*a*b"]} for number in range(200)]
    few, many = tagged(200, "x"), tagged(200, "a" * 1000)
    assert count_turns([], [few] * (SLICE // ITEM_COST - 1)) == 0
    assert count_turns(patterns[:1], [many] * 2) == 0
    all_keys: list[Filter] = [{"Name": "tag-key", "Values": [f"*{n}?x*" for n in range(200)]}]
    assert count_turns(all_keys, [few] * 10) > 10 * 200 * len("key") * 2 // SLICE


def test_a_long_text_is_matched_in_slices() -> None:
    long = {"Colour": "a" * (10 * SLICE)}
    filters: list[Filter] = [{"Name": "colour", "Values": ["*a?b*"]}]
    assert count_turns(filters, [long]) >= 10
    assert count_turns([{"Name": "colour", "Values": ["*a"]}], [long]) >= 10


def test_booleans_numbers_and_times_have_ec2s_form() -> None:
    assert filter_text(True) == "true"
    assert filter_text(False) == "false"
    assert filter_text(16) == "16"
    assert filter_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000Z"


def test_plain_values_of_a_filter_are_known_for_reading_no_more_than_needed() -> None:
    values = FILTERS.values_of("colour", [{"Name": "colour", "Values": ["red", "blue"]}])
    assert values == frozenset({"red", "blue"})
    assert FILTERS.values_of("colour", [{"Name": "colour", "Values": ["r*"]}]) is None
    assert FILTERS.values_of("colour", []) is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], True),
        ([("instance-state-name", ["running"])], False),
        ([("instance-state-name", ["running", "terminated"])], True),
        ([("instance-state-name", ["t*"])], True),
        ([("instance-state-code", ["16"])], False),
        ([("instance-state-code", ["48"])], True),
        ([("instance-state-name", ["terminated"]), ("instance-state-code", ["16"])], False),
    ],
)
def test_ended_machines_are_read_only_if_they_can_match(filters: list[tuple[str, list[str]]], expected: bool) -> None:
    assert may_match_terminated([{"Name": name, "Values": values} for name, values in filters]) is expected
