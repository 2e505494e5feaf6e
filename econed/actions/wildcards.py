r"""The wildcards of filter values: `*` is any text, `?` any single character; `\*`, `\?`, `\\` are literal.

All patterns of a filter are matched in one pass over a text, one step per character, in the bits of an integer
(Shift-And): no pattern can make matching slow, and two hundred cost little more than one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MAX_STATES: Final = 1024
"""Maximum number of states of one automaton: a step is an operation on an integer of that many bits."""

_SPECIAL = re.compile(r"[*?\\]")
_TOKEN = re.compile(r"\\[*?\\]|\*+|.", re.DOTALL)


def has_wildcards(text: str) -> bool:
    """Whether a filter value is a pattern; other values match only an equal text."""
    return _SPECIAL.search(text) is not None


@dataclass(frozen=True)
class Automaton:
    """Patterns stored one after another in the bits of integers: each bit is a position before a token or at the end.

    The state of a match is the set of positions reached. A character advances each position whose token it matches; a
    position at a star stays.
    """

    start: int
    ends: int
    stars: int
    any_character: int
    characters: dict[str, int]

    @classmethod
    def of(cls, patterns: Sequence[str]) -> Automaton:
        """Return the automaton that matches any of the patterns."""
        start = ends = stars = any_character = position = 0
        literals: dict[str, int] = {}
        for pattern in patterns:
            start |= 1 << position
            for token in _tokens(pattern):
                if token == "*":
                    stars |= 1 << position
                    continue
                if token == "?":
                    any_character |= 1 << position
                else:
                    literals[token[-1]] = literals.get(token[-1], 0) | 1 << position
                position += 1
            ends |= 1 << position
            position += 1
        characters = {character: positions | any_character for character, positions in literals.items()}
        return cls(start, ends, stars, any_character, characters)

    def after(self, positions: int, text: str) -> int:
        """Return the positions that are reached from these by reading a text."""
        characters, any_character, stars = self.characters, self.any_character, self.stars
        for character in text:
            positions = (positions & characters.get(character, any_character)) << 1 | positions & stars
            if not positions:
                break
        return positions

    def is_match(self, text: str) -> bool:
        """Whether one of the patterns matches a whole text."""
        return self.after(self.start, text) & self.ends != 0


def automata(patterns: Iterable[str]) -> tuple[Automaton, ...]:
    """Return as few automata for patterns as `MAX_STATES` allows."""
    return tuple(Automaton.of(group) for group in _groups(patterns))


def _tokens(pattern: str) -> Iterator[str]:
    """Yield `*`, `?`, a character, or an escaped character with its backslash; consecutive stars count as one."""
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
