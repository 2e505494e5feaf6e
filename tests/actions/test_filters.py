"""Filters of Describe actions."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.actions.filters import Filters, field, filter_text, tag_filters, wildcard
from econed.actions.instance_filters import wants_ended
from econed.errors import EC2Error

FILTERS = Filters(
    MappingProxyType({"colour": field("Colour"), "disk": field("Disks", "Ebs", "Name"), **tag_filters()}),
)
RED: dict[str, Any] = {
    "Colour": "red",
    "Disks": [{"Ebs": {"Name": "a"}}, {"Ebs": {"Name": "b"}}],
    "Tags": [{"Key": "env", "Value": "prod"}],
}


def matches(*filters: tuple[str, list[str]]) -> bool:
    """Whether RED passes these filters."""
    return FILTERS.matcher([{"Name": name, "Values": values} for name, values in filters])(RED)


def test_no_filter_lets_everything_pass() -> None:
    assert FILTERS.matcher(())(RED)
    assert FILTERS.matcher(None)(RED)


def test_one_of_the_values_of_a_filter_is_enough() -> None:
    assert matches(("colour", ["blue", "red"]))
    assert not matches(("colour", ["blue", "green"]))


def test_all_filters_have_to_match() -> None:
    assert matches(("colour", ["red"]), ("disk", ["b"]))
    assert not matches(("colour", ["red"]), ("disk", ["c"]))


def test_a_field_in_a_list_matches_if_any_item_of_the_list_does() -> None:
    assert matches(("disk", ["b"]))


def test_case_counts() -> None:
    assert not matches(("colour", ["Red"]))


@pytest.mark.parametrize("value", ["r*", "*d", "r?d", "*", "***", "?ed", "r*e*d"])
def test_a_star_is_any_text_and_a_question_mark_any_character(value: str) -> None:
    assert matches(("colour", [value]))


@pytest.mark.parametrize("value", ["r?", "*x*", "?", "re", "r\\*"])
def test_a_wildcard_has_to_match_the_whole_value(value: str) -> None:
    assert not matches(("colour", [value]))


def test_an_escaped_wildcard_is_the_character_itself() -> None:
    assert wildcard(r"100\*").fullmatch("100*")
    assert not wildcard(r"100\*").fullmatch("1000")
    assert wildcard(r"a\\b").fullmatch("a\\b")


@given(st.text(alphabet="ab.[(*?\\", max_size=20))
def test_a_wildcard_without_stars_and_marks_matches_nothing_but_itself(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")
    assert wildcard(escaped).fullmatch(text)
    assert not wildcard(escaped).fullmatch(text + "x")


def test_a_value_of_many_stars_gives_an_answer_on_a_long_text() -> None:
    """With plain backtracking this would not end in the life of a process."""
    assert not wildcard("a*" * 300 + "b").fullmatch("a" * 1000)


def test_a_tag_filter_looks_at_the_value_under_its_key() -> None:
    assert matches(("tag:env", ["p*"]))
    assert not matches(("tag:env", ["test"]))
    assert not matches(("tag:other", ["*"]))
    assert matches(("tag-key", ["env"]))


@pytest.mark.parametrize("name", ["shape", "", "tag", "Colour"])
def test_an_unknown_filter_is_refused_and_never_passed_over(name: str) -> None:
    with pytest.raises(EC2Error) as caught:
        matches((name, ["x"]))
    assert caught.value.code == "InvalidParameterValue"


def test_a_filter_without_values_is_refused() -> None:
    with pytest.raises(EC2Error) as caught:
        FILTERS.matcher([{"Name": "colour"}])
    assert caught.value.code == "InvalidParameterValue"


def test_a_filter_with_more_than_200_values_is_refused() -> None:
    with pytest.raises(EC2Error) as caught:
        matches(("colour", [str(number) for number in range(201)]))
    assert caught.value.code == "FilterLimitExceeded"


def test_booleans_numbers_and_times_are_spelled_as_ec2_does() -> None:
    assert filter_text(True) == "true"
    assert filter_text(False) == "false"
    assert filter_text(16) == "16"
    assert filter_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000Z"


def test_plain_values_are_known_so_that_oned_can_be_asked_for_no_more() -> None:
    values = FILTERS.values_of("colour", [{"Name": "colour", "Values": ["red", "blue"]}])
    assert values == frozenset({"red", "blue"})
    assert FILTERS.values_of("colour", [{"Name": "colour", "Values": ["r*"]}]) is None
    assert FILTERS.values_of("colour", []) is None


@pytest.mark.parametrize(
    ("filters", "wanted"),
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
def test_ended_machines_are_only_looked_for_if_they_can_match(
    filters: list[tuple[str, list[str]]], wanted: bool
) -> None:
    assert wants_ended([{"Name": name, "Values": values} for name, values in filters]) is wanted
