"""What an EC2 action is here: an `async def` that says by its own signature which parameters it carries out.

It returns its result, or what makes it in parts, where it may be long: each when the client has taken those before.

The decorator only describes; nothing is registered at import. `actions_in` finds the actions of a package, and
`econed.dispatch` holds every one against Amazon's model when the daemon starts.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType, SimpleNamespace, UnionType
from typing import Any, TypeAlias, TypeVar

_R = TypeVar("_R", bound=Mapping[str, Any])

Result: TypeAlias = Mapping[str, Any] | None
"""What an action returns: members of Amazon's model, or nothing where the model has no output."""

Parts: TypeAlias = AsyncGenerator[_R, None]
"""A result in parts: each has members of the model, and a list of the result is continued by the next part that has it.

While the iterator waits for its reader it holds no documents of oned's and nothing of the part that it has yielded.
Whoever leaves it before its end closes it (`contextlib.aclosing`).
"""

Run = Callable[..., Coroutine[Any, Any, Result | Parts[Any]]]
_F = TypeVar("_F", bound=Callable[..., Coroutine[Any, Any, Any]])

_ATTRIBUTE = "__ec2_action__"


@dataclass(frozen=True)
class Members:
    """The members of a structure that an action carries out, by their names in Amazon's model, each with its own.

    `is_open` says that whatever the model has there is carried out: the type of the parameter names no members.
    """

    of: Mapping[str, Members]
    is_open: bool = False

    def find(self, name: str) -> Members | None:
        """Return what is carried out of a member; None if it is not taken."""
        return self if self.is_open else self.of.get(name)


_ANYTHING = Members(MappingProxyType({}), is_open=True)
NOTHING = Members(MappingProxyType({}))


@dataclass(frozen=True)
class Action:
    """One EC2 action.

    `accepts` are the parameters it carries out, by member name. `ignores` are dotted paths of members that are
    knowingly not acted on; `as_is` are members of which one value is taken, because it asks for what OpenNebula does
    anyway. Everything else that Amazon's model knows is refused. `missing` has the code and message of the error for
    a required parameter that is not given, where it is not EC2's MissingParameter. `takes_file` says that the request
    may carry a file, as `multipart/form-data`. `returns` are the members of its result; None where its type names none,
    or is Amazon's own (types_boto3_ec2), which the type checker has checked.
    """

    name: str
    run: Run
    accepts: Members
    required: frozenset[str]
    ignores: frozenset[str]
    as_is: Mapping[str, object]
    missing: Mapping[str, tuple[str, str]]
    takes_file: bool
    returns: frozenset[str] | None

    @property
    def only_reads(self) -> bool:
        """Whether it changes nothing, so that it may be broken off."""
        return self.name.startswith(("Describe", "Get"))

    @property
    def where(self) -> str:
        """The file and line where the action is defined, for errors about its definition."""
        code = inspect.unwrap(self.run).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def keywords(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return decoded parameters as the keyword arguments of the function."""
        return {_snake(name): value for name, value in parameters.items()}


def action(
    *,
    ignores: Sequence[str] = (),
    as_is: Mapping[str, object] = MappingProxyType({}),
    missing: Mapping[str, tuple[str, str]] = MappingProxyType({}),
    takes_file: bool = False,
) -> Callable[[_F], _F]:
    """Mark an `async def` as the EC2 action of the same name (`run_instances` is RunInstances).

    Its keyword-only parameters are the members it carries out, those without a default are required; a TypedDict as a
    parameter's type names the members of that structure. The other arguments are as in `Action`.
    """

    def describe(run: _F) -> _F:
        described = (frozenset(ignores), MappingProxyType(dict(as_is)), MappingProxyType(dict(missing)), takes_file)
        setattr(run, _ATTRIBUTE, described)
        return run

    return describe


def actions_in(package: ModuleType) -> tuple[Action, ...]:
    """Return the actions defined in all modules of a package and of its packages, each module imported.

    Raises what the import of a module raises: one that cannot be imported would be a missing action.
    """
    names = (module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."))
    modules = [importlib.import_module(name) for name in names]
    return tuple(
        found
        for module in modules
        for found in (*actions_of(module), *(actions_in(module) if hasattr(module, "__path__") else ()))
    )


def actions_of(*modules: object) -> tuple[Action, ...]:
    """Return the actions defined in `modules`, described from their signatures."""
    return tuple(
        _describe(run)
        for module in modules
        for run in vars(module).values()
        if hasattr(run, _ATTRIBUTE) and run.__module__ == getattr(module, "__name__", None)
    )


def _describe(run: Any) -> Action:
    ignores, as_is, missing, takes_file = getattr(run, _ATTRIBUTE)
    parameters = [p for p in inspect.signature(run).parameters.values() if p.kind is p.KEYWORD_ONLY]
    # The result's type is imported for the type checker only, so the parameters' types are looked up without it.
    unresolved = SimpleNamespace(__annotations__={p.name: p.annotation for p in parameters})
    hints = typing.get_type_hints(unresolved, globalns=run.__globals__)
    return Action(
        name=_camel(run.__name__),
        run=run,
        accepts=Members({_camel(name): _members(hint) for name, hint in hints.items()}),
        required=frozenset(_camel(p.name) for p in parameters if p.default is p.empty),
        ignores=ignores,
        as_is=as_is,
        missing=missing,
        takes_file=takes_file,
        returns=_returned(run),
    )


def _returned(run: Any) -> frozenset[str] | None:
    """Return the members that the type of an action's result names (`Action.returns`)."""
    text = str(run.__annotations__.get("return", "None"))
    if text.endswith("TypeDef"):  # imported for the type checker only
        return None
    hint = typing.get_type_hints(SimpleNamespace(__annotations__={"return": text}), globalns=run.__globals__)["return"]
    result = next(iter(typing.get_args(hint)), hint)  # that of Parts
    if result is type(None):
        return frozenset()
    return result.__required_keys__ | result.__optional_keys__ if typing.is_typeddict(result) else None


def _members(hint: Any) -> Members:
    """Return the members that a parameter's type names: those of a TypedDict, or of the items of a list of them."""
    if typing.is_typeddict(hint):
        return Members({name: _members(inner) for name, inner in typing.get_type_hints(hint).items()})
    origin = typing.get_origin(hint)
    if origin in (typing.Union, UnionType) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        inner = [_members(argument) for argument in typing.get_args(hint) if argument is not type(None)]
        return next((members for members in inner if members.of), _ANYTHING)
    return _ANYTHING


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))
