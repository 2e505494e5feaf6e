"""The commands of OpenNebula's CLI, by version, and whether a command line is one of them.

The lists in `tests/data/opennebula-cli` state what the CLI's sources declare. The CLI refuses every other command and
option, and every other number of arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

LISTS = Path(__file__).parents[1] / "data" / "opennebula-cli"
VERSIONS = ("5.12", "7.4")


class InvalidCommand(Exception):
    """A command line that its program would refuse."""


@dataclass(frozen=True)
class Syntax:
    """What may follow a command: the least and greatest number of arguments, and whether each option has a value."""

    least: int
    greatest: int
    options: Mapping[str, bool]


@cache
def commands(version: str) -> Mapping[str, Mapping[str, Syntax]]:
    """Return the commands of each program of a version."""
    rows = [line.split() for line in (LISTS / f"{version}.txt").read_text("ascii").splitlines() if line[0] != "#"]
    common = {row[0]: row[2:] for row in rows if row[1] == "*"}
    found: dict[str, dict[str, Syntax]] = {}
    for program, command, *rest in rows:
        if command != "*":
            least, _, greatest = rest[0].partition("-")
            options = _options((*rest[1:], *common[program]))
            found.setdefault(program, {})[command] = Syntax(int(least), int(greatest), options)
    return MappingProxyType(found)


def check(version: str, words: Sequence[str], *, is_complete: bool = True) -> None:
    """Raise `InvalidCommand` for a command line that the CLI of this version refuses.

    If it is not complete, it only names a command in a sentence: arguments and values of options may be missing.
    """
    program, command, *rest = words
    syntax = commands(version).get(program, {}).get(command)
    if syntax is None:
        raise InvalidCommand(f"{program} {command} is not a command of {version}")
    arguments = 0
    words_left = iter(rest)
    for word in words_left:
        if not word.startswith("-"):
            arguments += 1
            continue
        name, has_value, _ = word.partition("=")
        if name not in syntax.options:
            raise InvalidCommand(f"{program} {command} of {version} has no option {name}")
        if syntax.options[name] and not has_value and next(words_left, None) is None and is_complete:
            raise InvalidCommand(f"{program} {command} {name} needs a value")
    least = syntax.least if is_complete or arguments else 0
    if not least <= arguments <= syntax.greatest:
        raise InvalidCommand(
            f"{program} {command} of {version} takes {syntax.least} to {syntax.greatest} arguments, not {arguments}"
        )


def _options(words: Sequence[str]) -> Mapping[str, bool]:
    return {name: word[-1] == "=" for word in words for name in word.rstrip("=?").split("|")}
