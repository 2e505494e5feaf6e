"""The wildcards of filter values."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econed.actions.wildcards import MAX_STATES, Automaton, automata, has_wildcards

PATTERN = st.text(alphabet="ab*?\\", max_size=12)
TEXT = st.text(alphabet="ab*?\\", max_size=12)


def is_match(pattern: str, text: str) -> bool:
    """Whether a single pattern matches a text."""
    return Automaton.of([pattern]).is_match(text)


def matches_by_definition(pattern: str, text: str) -> bool:
    """Whether a pattern matches a text by EC2's definition, with backtracking."""

    @cache
    def matches_from(p: int, t: int) -> bool:
        if p == len(pattern):
            return t == len(text)
        if pattern[p] == "\\" and pattern[p + 1 : p + 2] in ("*", "?", "\\") and p + 1 < len(pattern):
            return t < len(text) and text[t] == pattern[p + 1] and matches_from(p + 2, t + 1)
        if pattern[p] == "*":
            return matches_from(p + 1, t) or (t < len(text) and matches_from(p, t + 1))
        return t < len(text) and pattern[p] in ("?", text[t]) and matches_from(p + 1, t + 1)

    return matches_from(0, 0)


@given(PATTERN, TEXT)
def test_a_pattern_matches_by_its_definition(pattern: str, text: str) -> None:
    assert is_match(pattern, text) == matches_by_definition(pattern, text)


@given(st.lists(PATTERN, max_size=8), TEXT)
def test_an_automaton_matches_what_any_of_its_patterns_matches_from(patterns: list[str], text: str) -> None:
    assert Automaton.of(patterns).is_match(text) == any(matches_by_definition(pattern, text) for pattern in patterns)


@given(PATTERN, TEXT, st.integers(0, 12))
def test_a_text_may_be_read_in_parts(pattern: str, text: str, cut: int) -> None:
    automaton = Automaton.of([pattern])
    positions = automaton.after(automaton.after(automaton.start, text[:cut]), text[cut:])
    assert (positions & automaton.ends != 0) == automaton.is_match(text)


@given(st.text(alphabet="ab.[(*?\\", max_size=20))
def test_an_escaped_text_matches_only_itself(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")
    assert is_match(escaped, text)
    assert not is_match(escaped, text + "x")


def test_an_escaped_wildcard_is_the_character_itself() -> None:
    assert is_match(r"100\*", "100*")
    assert not is_match(r"100\*", "1000")
    assert is_match(r"a\\b", "a\\b")


def test_line_ends_and_non_ascii_characters_match_as_characters() -> None:
    assert is_match("a?b*", "a\nb\nc")
    assert is_match("?é*", "😀é")
    assert not is_match("?", "😀é")


@pytest.mark.parametrize(("text", "expected"), [("plain", False), ("a*", True), ("?", True), ("\\", True), ("", False)])
def test_only_a_text_with_wildcards_is_a_pattern(text: str, expected: bool) -> None:
    assert has_wildcards(text) is expected


def test_each_character_of_a_text_is_one_step_with_any_pattern() -> None:
    """With backtracking this would take longer than any process lives."""
    characters_read: list[str] = []

    class CountedText(str):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for character in str(self):
                characters_read.append(character)
                yield character

    assert not is_match("a*" * 128 + "b", CountedText("a" * 1000))
    assert len(characters_read) == 1000


def test_the_size_of_the_integers_is_limited() -> None:
    automata_of_patterns = automata(["a" * 256] * 200)
    assert sum(automaton.ends.bit_count() for automaton in automata_of_patterns) == 200
    assert max(automaton.ends.bit_length() for automaton in automata_of_patterns) <= MAX_STATES + 1


def test_one_pattern_may_exceed_the_states_of_an_automaton() -> None:
    (only,) = automata(["a" * (2 * MAX_STATES)])
    assert only.is_match("a" * (2 * MAX_STATES))


def test_many_short_patterns_are_matched_in_one_pass() -> None:
    (only,) = automata([f"*{number}*" for number in range(150)])
    assert only.is_match("x149y")
    assert not only.is_match("xy")
