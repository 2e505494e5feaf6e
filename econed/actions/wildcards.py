r"""The wildcards of filter values: `*` is any text, `?` any one character; `\*`, `\?`, `\\` are those characters.

All patterns of a filter are tried in one pass over a text, each character one step, by the bits of an integer
(Shift-And): no pattern can make matching slow, and two hundred cost little more than one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MAX_STATES: Final = 1024
"""States in one automaton: a step costs as much as an integer of so many bits."""

_SPECIAL = re.compile(r"[*?\\]")
_TOKEN = re.compile(r"\\[*?\\]|\*+|.", re.DOTALL)


def has_wildcards(text: str) -> bool:
    """Whether a filter value is a pattern; any other matches what equals it."""
    return _SPECIAL.search(text) is not None


@dataclass(frozen=True)
class Automaton:
    """Patterns side by side in the bits of integers: bit n stands for a place before a token, or at a pattern's end.

    What has been read is a set of such places. A character takes each of them that it fits one place further; a place
    with a star is kept.
    """

    start: int
    ends: int
    stars: int
    any_character: int
    characters: dict[str, int]

    @classmethod
    def of(cls, patterns: Sequence[str]) -> Automaton:
        """Return the automaton for patterns; any of them may match."""
        start = ends = stars = any_character = place = 0
        literals: dict[str, int] = {}
        for pattern in patterns:
            start |= 1 << place
            for token in _tokens(pattern):
                if token == "*":
                    stars |= 1 << place
                    continue
                if token == "?":
                    any_character |= 1 << place
                else:
                    literals[token[-1]] = literals.get(token[-1], 0) | 1 << place
                place += 1
            ends |= 1 << place
            place += 1
        characters = {character: places | any_character for character, places in literals.items()}
        return cls(start, ends, stars, any_character, characters)

    def after(self, places: int, text: str) -> int:
        """Return the places that are reached from some by reading a text."""
        characters, any_character, stars = self.characters, self.any_character, self.stars
        for character in text:
            places = (places & characters.get(character, any_character)) << 1 | places & stars
            if not places:
                break
        return places

    def is_match(self, text: str) -> bool:
        """Whether one of the patterns matches a whole text."""
        return self.after(self.start, text) & self.ends != 0


def automata(patterns: Iterable[str]) -> tuple[Automaton, ...]:
    """Return automata for patterns, as few as `MAX_STATES` allows."""
    return tuple(Automaton.of(group) for group in _groups(patterns))


def _tokens(pattern: str) -> Iterator[str]:
    """Yield `*`, `?`, a character, or an escaped one with its backslash; stars in a row are one."""
    for token in _TOKEN.findall(pattern):
        yield "*" if token[0] == "*" else token


def _groups(patterns: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    states = 0
    for pattern in patterns:
        if group and states + len(pattern) >= MAX_STATES:
            yield group
            group, states = [], 0
        group.append(pattern)
        states += len(pattern) + 1
    if group:
        yield group
