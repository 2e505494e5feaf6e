"""From the name of an action to its function; actions held against Amazon's model, parameters against the actions.

A member that the model has and the action does not take is dropped where the action declares so, and refused otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from botocore.model import ListShape, Shape, StructureShape

from econed.actions.action import NOTHING, Action, Members
from econed.errors import EC2Error
from econed.wire.model import EC2Operation, Model


class ActionError(TypeError):
    """An action does not fit Amazon's model. Said when the daemon starts, with the line to mend."""


@dataclass(frozen=True)
class Route:
    """An operation of Amazon's model and the action that carries it out."""

    operation: EC2Operation
    action: Action

    def admitted(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the decoded parameters that the action carries out.

        Raises `EC2Error` UnsupportedOperation for one that is neither carried out nor knowingly ignored, and the error
        that the action defines for a required one that is missing.
        """
        admitted: Mapping[str, Any] = self._admitted(parameters, self.action.accepts, "")
        for name in sorted(self.action.required & self.action.missing.keys() - admitted.keys()):
            raise EC2Error(*self.action.missing[name])
        return admitted

    @property
    def required(self) -> tuple[str, ...]:
        """The members without which a request is refused with MissingParameter, in the model's order.

        The action decides, not the model: old clients omit some members that the model requires by now. Members for
        which the action defines an error are not among them (see `admitted`).
        """
        shape = self.operation.input_shape
        required = self.action.required - self.action.missing.keys()
        return () if shape is None else tuple(key for key in shape.members if key in required)

    def _admitted(self, value: Any, members: Members, path: str) -> Any:
        if isinstance(value, list):
            return [self._admitted(item, members, path) for item in value]
        if not isinstance(value, dict):
            return value
        admitted = {}
        for name, inner in value.items():
            where = f"{path}.{name}" if path else name
            taken = members.find(name)
            if taken is not None:
                admitted[name] = self._admitted(inner, taken, where)
            elif not self._is_declared(where, inner):
                self._check_declared_below(where, inner)
        return admitted

    def _is_declared(self, where: str, value: Any) -> bool:
        action = self.action
        return where in action.ignores or (where in action.as_is and value == action.as_is[where])

    def _check_declared_below(self, where: str, value: Any) -> None:
        """Refuse a parameter that is not carried out, unless all that it holds is ignored or as is.

        Raises `EC2Error` UnsupportedOperation naming the member that is neither.
        """
        declared = (*self.action.ignores, *self.action.as_is)
        if not value or not isinstance(value, dict | list) or not any(d.startswith(f"{where}.") for d in declared):
            raise EC2Error("UnsupportedOperation", f"The parameter {where} is not supported here.")
        self._admitted(value, NOTHING, where)


class Dispatcher:
    """All actions by name.

    Raises `ActionError` for an action that Amazon's model has not, or not with these members, and for two of one name.
    """

    def __init__(self, model: Model, actions: Iterable[Action]) -> None:
        self.routes: Mapping[str, Route] = MappingProxyType(
            {name: _route(model, action) for name, action in _by_name(actions).items()}
        )

    def find(self, name: str) -> Route:
        """Return the route of an action; raises `EC2Error` InvalidAction, as Amazon words it (never a 5xx)."""
        try:
            return self.routes[name]
        except KeyError:
            shown = name if len(name) <= 64 else name[:64] + "…"
            raise EC2Error("InvalidAction", f"The action {shown} is not valid for this web service.") from None


def _by_name(actions: Iterable[Action]) -> dict[str, Action]:
    by_name: dict[str, Action] = {}
    for action in actions:
        if action.name in by_name:
            raise ActionError(f"{action.where}: {action.name} is defined at {by_name[action.name].where} already")
        by_name[action.name] = action
    return by_name


def _route(model: Model, action: Action) -> Route:
    operation = model.operation(action.name)
    if operation is None:
        raise ActionError(f"{action.where}: Amazon's model has no operation {action.name}")
    _check(action, operation.input_shape, action.accepts, "")
    for path in (*action.ignores, *action.as_is, *action.missing):
        _resolve(action, operation.input_shape, path)
    for name in action.returns or ():
        _resolve(action, operation.output_shape, name)
    return Route(operation, action)


def _check(action: Action, shape: Shape | None, members: Members, path: str) -> None:
    for name, inner in members.of.items():
        where = f"{path}.{name}" if path else name
        _check(action, _resolve(action, shape, name, within=path), inner, where)


def _resolve(action: Action, shape: Shape | None, path: str, within: str = "") -> Shape | None:
    for name in path.split("."):
        while isinstance(shape, ListShape):
            shape = shape.member
        known: Mapping[str, Shape] = shape.members if isinstance(shape, StructureShape) else {}
        if name not in known:
            where = f"{within}.{path}" if within else path
            raise ActionError(f"{action.where}: {action.name} has no member {where} in Amazon's model")
        shape = known[name]
    return shape
