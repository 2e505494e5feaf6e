"""Actions of EC2, STS and IAM: an action is an `async def` whose signature declares the parameters that it supports.

An action returns its result or, if the result may be long, an iterator over parts of it. Each part is produced after
the client has read the previous ones.

The decorator only adds a description; nothing is registered at import. `actions_in` finds the actions of a package, and
`econed.dispatch` checks each of them against Amazon's model when the daemon starts.
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

from econed.services import EC2, AmazonService

_R = TypeVar("_R", bound=Mapping[str, Any])

Result: TypeAlias = Mapping[str, Any] | None
"""The result of an action: members of Amazon's model, or None if the model has no output."""

Parts: TypeAlias = AsyncGenerator[_R, None]
"""A result in parts: each part has members of the model; a list in a part continues that list of the previous parts.

While the iterator is suspended it holds no oned documents and nothing of the part that it has yielded. A reader
that stops before the end closes it (`contextlib.aclosing`).
"""

Run = Callable[..., Coroutine[Any, Any, Result | Parts[Any]]]
_F = TypeVar("_F", bound=Callable[..., Coroutine[Any, Any, Any]])

_ATTRIBUTE = "__amazon_action__"
_READING = ("Describe", "Get", "List")
_AMAZONS_TYPE = "TypeDef"


@dataclass(frozen=True)
class Members:
    """The members of a structure that an action supports, by their names in Amazon's model, each with its own members.

    If it `is_open`, all members of the model are supported: the type of the parameter names none.
    """

    of: Mapping[str, Members]
    is_open: bool = False

    def find(self, name: str) -> Members | None:
        """Return the supported members of a member; None if it is not supported."""
        return self if self.is_open else self.of.get(name)


_ALL_MEMBERS = Members(MappingProxyType({}), is_open=True)
NO_MEMBERS = Members(MappingProxyType({}))


@dataclass(frozen=True)
class ResultType:
    """The type of an action's result: the names of its members, or the name of one of Amazon's structures.

    Types of Amazon's structures (`VolumeTypeDef` of types_boto3_ec2 is that of Volume) are imported for the type
    checker only, so their members are not known here. The type None has no members.
    """

    members: frozenset[str] = frozenset()
    structure: str | None = None


@dataclass(frozen=True)
class Action:
    """One action of a service; if it `only_reads`, it changes nothing, so that it may be cancelled.

    `accepts` are the supported parameters, by member name. `ignores` are dotted paths of members that are deliberately
    ignored; `as_is` maps members to the only value that is accepted, which requests what OpenNebula does anyway. All
    other members of Amazon's model are refused. `missing` maps required parameters to the code and message of the error
    for a request without them, where that is not EC2's MissingParameter. If it `takes_file`, the request may carry a
    file, as `multipart/form-data`. `returns` is the type of its result; None if that names no members.
    """

    service: AmazonService
    name: str
    run: Run
    only_reads: bool
    accepts: Members
    required: frozenset[str]
    ignores: frozenset[str]
    as_is: Mapping[str, object]
    missing: Mapping[str, tuple[str, str]]
    takes_file: bool
    returns: ResultType | None

    @property
    def source_location(self) -> str:
        """The file and line where the action is defined, for errors about its definition."""
        code = inspect.unwrap(self.run).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def keywords(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return decoded parameters as the keyword arguments of the function."""
        return {keyword_of(name): value for name, value in parameters.items()}


def action(
    *,
    service: AmazonService = EC2,
    only_reads: bool | None = None,
    ignores: Sequence[str] = (),
    as_is: Mapping[str, object] = MappingProxyType({}),
    missing: Mapping[str, tuple[str, str]] = MappingProxyType({}),
    takes_file: bool = False,
) -> Callable[[_F], _F]:
    """Mark an `async def` as the action of the same name (`run_instances` is RunInstances).

    If `only_reads` is not given, actions whose names begin with Describe, Get or List only read.

    Its keyword-only parameters are the members it supports, those without a default are required; a TypedDict as the
    type of a parameter names the supported members of that structure. The arguments are as in `Action`.
    """

    def describe(run: _F) -> _F:
        name = _camel(run.__name__)
        declared = {
            "service": service,
            "name": name,
            "only_reads": name.startswith(_READING) if only_reads is None else only_reads,
            "ignores": frozenset(ignores),
            "as_is": MappingProxyType(dict(as_is)),
            "missing": MappingProxyType(dict(missing)),
            "takes_file": takes_file,
        }
        setattr(run, _ATTRIBUTE, declared)
        return run

    return describe


def actions_in(package: ModuleType) -> tuple[Action, ...]:
    """Import all modules of a package and of its subpackages, and return the actions that they define.

    Raises what the import of a module raises: its actions would be missing.
    """
    names = (module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."))
    modules = [importlib.import_module(name) for name in names]
    return tuple(
        found_action
        for module in modules
        for found_action in (*actions_of(module), *(actions_in(module) if hasattr(module, "__path__") else ()))
    )


def actions_of(*modules: object) -> tuple[Action, ...]:
    """Return the actions defined in `modules`: functions, described from their signatures, and the tuple `ACTIONS`.

    A module that makes its actions from a table has such a tuple.
    """
    functions = tuple(
        _describe(run)
        for module in modules
        for run in vars(module).values()
        if hasattr(run, _ATTRIBUTE) and run.__module__ == getattr(module, "__name__", None)
    )
    return (*functions, *(made for module in modules for made in getattr(module, "ACTIONS", ())))


def _describe(run: Any) -> Action:
    signature = inspect.signature(run)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.kind is parameter.KEYWORD_ONLY]
    # Types of results are imported for the type checker only, so they are left out here.
    unresolved = SimpleNamespace(__annotations__={parameter.name: parameter.annotation for parameter in parameters})
    hints = typing.get_type_hints(unresolved, globalns=run.__globals__)
    return Action(
        run=run,
        accepts=Members({_camel(name): supported_members(hint) for name, hint in hints.items()}),
        required=frozenset(_camel(parameter.name) for parameter in parameters if parameter.default is parameter.empty),
        returns=_returned(run),
        **getattr(run, _ATTRIBUTE),
    )


def _returned(run: Any) -> ResultType | None:
    """Return the type of an action's result (`Action.returns`)."""
    text = str(run.__annotations__.get("return", "object"))
    if text.endswith(_AMAZONS_TYPE):
        return ResultType(structure=text.rpartition(".")[2].removesuffix(_AMAZONS_TYPE))
    try:
        hint = typing.get_type_hints(SimpleNamespace(__annotations__={"return": text}), globalns=run.__globals__)[
            "return"
        ]
    except NameError:  # imported for the type checker only
        return None
    result = typing.get_args(hint)[0] if typing.get_origin(hint) is AsyncGenerator else hint  # the argument of Parts
    if result is type(None):
        return ResultType()
    return ResultType(result.__required_keys__ | result.__optional_keys__) if typing.is_typeddict(result) else None


def supported_members(hint: Any) -> Members:
    """Return the members named by the type of a parameter: a TypedDict, or a list of TypedDicts."""
    if typing.is_typeddict(hint):
        return Members({name: supported_members(inner) for name, inner in typing.get_type_hints(hint).items()})
    origin = typing.get_origin(hint)
    if origin in (typing.Union, UnionType) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        inner = [supported_members(argument) for argument in typing.get_args(hint) if argument is not type(None)]
        return next((members for members in inner if members.of), _ALL_MEMBERS)
    return _ALL_MEMBERS


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def keyword_of(name: str) -> str:
    """Return the keyword argument for a member (`instance_ids` for InstanceIds)."""
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))
