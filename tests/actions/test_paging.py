"""MaxResults and NextToken."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.actions.paging import Listing, Paging
from econed.errors import EC2Error

NUMBERS = Listing("numbers", (int,))
PAIRS = Listing("pairs", (str, int))


def position(value: int) -> tuple[int]:
    """Return the position of a number."""
    return (value,)


@given(st.sets(st.integers(0, 1000)), st.integers(5, 50))
def test_the_pages_add_up_to_the_list(items: set[int], limit: int) -> None:
    listed: list[int] = []
    token: str | None = None
    while True:
        page, next_token = Paging.of(NUMBERS, limit, token).page(items, position)
        assert len(page) <= limit
        listed += page
        token = next_token.get("NextToken")
        if token is None:
            break
    assert listed == sorted(items)


@given(st.sets(st.integers(0, 200), min_size=10), st.sets(st.integers(0, 200)), st.sets(st.integers(0, 200)))
def test_items_that_stay_are_on_exactly_one_page_while_others_come_and_go(
    items: set[int], removed: set[int], added: set[int]
) -> None:
    paging = Paging.of(NUMBERS, 5, None)
    first, next_token = paging.page(items, position)
    changed = items - removed | added
    second, _ = Paging.of(NUMBERS, None, next_token.get("NextToken")).page(changed, position)
    unchanged = items - removed
    assert unchanged <= {*first, *second}
    assert len({*first} & {*second} & unchanged) == 0


def test_without_max_results_the_whole_list_is_one_page() -> None:
    assert Paging.of(NUMBERS, None, None).page(range(3000), position) == (list(range(3000)), {})


def test_the_last_page_has_no_token_even_if_it_is_full() -> None:
    assert Paging.of(NUMBERS, 5, None).page(range(5), position)[1] == {}


def test_max_results_above_the_maximum_is_the_maximum() -> None:
    assert Paging.of(NUMBERS, 5000, None).limit == 1000


@pytest.mark.parametrize("max_results", [4, 0, -1])
def test_max_results_below_the_minimum_is_refused(max_results: int) -> None:
    with pytest.raises(EC2Error) as caught:
        Paging.of(NUMBERS, max_results, None)
    assert caught.value.code == "InvalidParameterValue"


def test_max_results_together_with_ids_is_refused() -> None:
    with pytest.raises(EC2Error) as caught:
        Paging.of(NUMBERS, 5, None, ids=["i-00000001"])
    assert caught.value.code == "InvalidParameterCombination"


def forged(*content: object) -> str:
    """Return a token with this content."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "é",
        "AAAA",
        forged("numbers"),
        forged("pairs", 5),
        forged("numbers", "5"),
        forged("numbers", True),
        forged("numbers", 5.0),
        forged("numbers", 5, 6),
        forged("numbers", None),
        forged(["numbers"], 5),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'{"numbers": 5}').decode(),
        base64.urlsafe_b64encode(b"5").decode(),
        base64.urlsafe_b64encode(b"\xff").decode(),
    ],
)
def test_a_forged_token_is_refused(token: str) -> None:
    with pytest.raises(EC2Error) as caught:
        Paging.of(NUMBERS, 5, token)
    assert caught.value.code == "InvalidNextToken"


def test_the_token_of_one_list_is_invalid_for_another() -> None:
    token = Paging.of(NUMBERS, 5, None).token((7,))
    assert Paging.of(NUMBERS, 5, token).after == (7,)
    with pytest.raises(EC2Error):
        Paging.of(PAIRS, 5, token)


@given(st.text())
def test_any_text_as_a_token_is_a_position_or_an_ec2_error(text: str) -> None:
    try:
        Paging.of(PAIRS, 5, text)
    except EC2Error as error:
        assert error.code == "InvalidNextToken"
