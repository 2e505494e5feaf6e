"""`python -m econed.cli.reference > docs/actions.md`: what econed carries out, read off the actions themselves."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final, TextIO

from econed.actions.action import Action, Members
from econed.actions.filters import Filters
from econed.catalogue import all_actions

_INTRODUCTION: Final = """\
# The actions of econed

Written by `python -m econed.cli.reference > docs/actions.md`; a test keeps it up to date.

Names are those of the members in Amazon's model of EC2, as boto3 takes them. For every action:

- *Carried out*: the parameters that it acts on. **Bold** ones have to be given.
- *Ignored*: parameters that are accepted and change nothing, because what they ask for has no meaning here.
- *As is*: parameters of which the one value is accepted that asks for what happens anyway.
- Every other parameter that Amazon's model has is refused: `UnsupportedOperation`. One that it has not is refused too:
  `UnknownParameter`.
- `DryRun` is taken by every action ([what it can tell](compatibility.md#dryrun)).
- A filter that is not named here is refused: `InvalidParameterValue`. Values may have the wildcards `*` and `?`. The
  filter `tag:KEY` stands for the value of the tag KEY. Filters on what nothing here ever has match nothing.
"""

_REMARKS: Final = MappingProxyType(
    {
        "RunInstances": "An instance for which OpenNebula finds no host (SCHED_MESSAGE) stays `pending`, with the"
        " StateReason `Server.InsufficientInstanceCapacity`; waiters go on waiting, and it starts when there is room"
        " ([capacity](compatibility.md#capacity)).",
    }
)
"""What clients have to know of an action beyond its parameters."""

_KEYS_OF_TAGS: Final = ("tag-key", "key")
"""The filters that bring `tag:KEY` with them: of what has tags, and of the tags themselves."""


def reference() -> str:
    """Return the reference of all actions, as Markdown."""
    actions = sorted(all_actions(), key=lambda action: action.name)
    return _INTRODUCTION + "".join(f"\n## {action.name}\n{_section(action)}" for action in actions)


def filters_of(action: Action) -> Filters | None:
    """Return the filters of an action: those that its function matches by; None if it has none."""
    used = inspect.getclosurevars(inspect.unwrap(action.run)).globals.values()
    return next((each for each in used if isinstance(each, Filters)), None)


def _section(action: Action) -> str:
    filters = filters_of(action)
    as_is = (f"`{path}` = {_value(value)}" for path, value in action.as_is.items())
    return "".join(
        (
            f"{_first_line(action)}\n\n",
            f"{remark}\n\n" if (remark := _REMARKS.get(action.name)) else "",
            _listed("Carried out", sorted(_accepted(action))),
            _listed("Ignored", map(_code, sorted(action.ignores))),
            _listed("As is", sorted(as_is)),
            _listed("Filters", map(_code, sorted(_filter_names(filters)))),
        )
    )


def _first_line(action: Action) -> str:
    return (inspect.getdoc(action.run) or "").splitlines()[0]


def _accepted(action: Action) -> Iterator[str]:
    """Yield the parameters, each with the members of its structure that are carried out."""
    for name, members in action.accepts.of.items():
        code = _code(name)
        yield (f"**{code}**" if name in action.required else code) + _within(members)


def _within(members: Members) -> str:
    inner = ", ".join(_code(name) + _within(each) for name, each in members.of.items())
    return f" ({inner})" if inner else ""


def _filter_names(filters: Filters | None) -> Iterator[str]:
    for name in filters.known if filters else ():
        yield name
        if name in _KEYS_OF_TAGS:
            yield "tag:KEY"


def _value(value: object) -> str:
    """Return a value as a client writes it."""
    if isinstance(value, bool):
        return _code(str(value).lower())
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return _code(str(value))


def _code(text: str) -> str:
    return f"`{text}`"


def _listed(title: str, texts: Iterable[str]) -> str:
    joined = ", ".join(texts)
    return f"- *{title}*: {joined}\n" if joined else ""


def main(out: TextIO) -> int:
    """Write the reference; return the exit code."""
    out.write(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdout))
