"""Finds the function of an action by its service and name, and checks it against Amazon's model of the service.

A parameter that the model has and the action does not take is dropped if the action declares so, else refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from econed.actions.action import NO_MEMBERS, Action, Members
from econed.actions.unsupported import UNSUPPORTED
from econed.errors import EC2Error
from econed.services import EC2, SERVICES, AmazonService
from econed.wire.model import Model, ServiceOperation
from econed.wire.shapes import ListShape, Shape, StructureShape


class ActionError(TypeError):
    """An action does not fit Amazon's model; raised when the daemon starts, with the file and line of the action."""


@dataclass(frozen=True)
class Route:
    """An operation of Amazon's model and the action that carries it out."""

    operation: ServiceOperation
    action: Action

    def accepted(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the decoded parameters that the action carries out.

        Raises `EC2Error` UnsupportedOperation for a parameter that is neither carried out nor declared as ignored, and
        the error that the action defines for a required parameter that is missing.
        """
        accepted: Mapping[str, Any] = self._accepted(parameters, self.action.accepts, "")
        for name in sorted(self.action.required & self.action.missing.keys() - accepted.keys()):
            raise EC2Error(*self.action.missing[name])
        return accepted

    @property
    def required(self) -> tuple[str, ...]:
        """The members without which a request is refused with MissingParameter, in the model's order.

        The action decides, not the model: old clients omit some members that the model requires by now. Members for
        which the action defines an error are not among them (see `accepted`).
        """
        shape = self.operation.input_shape
        required = self.action.required - self.action.missing.keys()
        return () if shape is None else tuple(key for key in shape.members if key in required)

    def _accepted(self, value: Any, members: Members, path: str) -> Any:
        if isinstance(value, list):
            return [self._accepted(item, members, path) for item in value]
        if not isinstance(value, dict):
            return value
        accepted = {}
        for name, inner in value.items():
            inner_path = f"{path}.{name}" if path else name
            inner_members = members.find(name)
            if inner_members is not None:
                accepted[name] = self._accepted(inner, inner_members, inner_path)
            elif not self._is_declared(inner_path, inner):
                self._check_declared_below(inner_path, inner)
        return accepted

    def _is_declared(self, path: str, value: Any) -> bool:
        action = self.action
        return path in action.ignores or (path in action.as_is and value == action.as_is[path])

    def _check_declared_below(self, path: str, value: Any) -> None:
        """Refuse a parameter that is not carried out, unless all its members are in `ignores` or `as_is`.

        Raises `EC2Error` UnsupportedOperation naming the first member that is not, with its only value if it has one.
        """
        action = self.action
        if path in action.as_is:
            only = str(action.as_is[path]).lower()
            raise EC2Error("UnsupportedOperation", f"The parameter {path} can only be '{only}' here.")
        declared = (*action.ignores, *action.as_is)
        if not value or not isinstance(value, dict | list) or not any(d.startswith(f"{path}.") for d in declared):
            raise EC2Error("UnsupportedOperation", f"The parameter {path} is not supported here.")
        self._accepted(value, NO_MEMBERS, path)


class Dispatcher:
    """All actions by service and name.

    Raises `ActionError` for an action or a member that is not in Amazon's model, for a result whose type does not name
    its members or is not the model's, and for two actions of a service with one name.
    """

    def __init__(self, models: Iterable[Model], actions: Iterable[Action]) -> None:
        by_service = {model.service: model for model in models}
        self.routes: Mapping[tuple[AmazonService, str], Route] = MappingProxyType(
            {key: _route(by_service[action.service], action) for key, action in _by_name(actions).items()}
        )
        self._names_in_ec2 = by_service[EC2].all_names if EC2 in by_service else frozenset[str]()

    @classmethod
    def load(cls, actions: Iterable[Action]) -> Dispatcher:
        """Return actions with Amazon's models of their services, of which only their operations are kept.

        Raises `ModelError` as well.
        """
        actions = tuple(actions)
        names = {service: [action.name for action in actions if action.service is service] for service in SERVICES}
        return cls([Model.load(service, own) for service, own in names.items() if own], actions)

    def find(self, service: AmazonService, name: str) -> Route:
        """Return the route of an action.

        Raises `EC2Error` InvalidAction, in Amazon's words (never a 5xx), or UnsupportedOperation for an action that
        Amazon's EC2 has and econed has not, with what can be done instead if it is in `UNSUPPORTED`.
        """
        try:
            return self.routes[service, name]
        except KeyError:
            if service is EC2 and name in self._names_in_ec2:
                raise _unsupported(name) from None
            raise _invalid_action(service, name if len(name) <= 64 else name[:64] + "…") from None


def _unsupported(name: str) -> EC2Error:
    return EC2Error(
        "UnsupportedOperation", f"{name} is not supported by this cloud. {UNSUPPORTED.get(name, '')}".rstrip()
    )


def _invalid_action(service: AmazonService, name: str) -> EC2Error:
    if service is EC2:
        return EC2Error("InvalidAction", f"The action {name} is not valid for this web service.")
    return EC2Error("InvalidAction", f"Could not find operation {name} for version {service.version}")


def _by_name(actions: Iterable[Action]) -> dict[tuple[AmazonService, str], Action]:
    by_name: dict[tuple[AmazonService, str], Action] = {}
    for action in actions:
        key = (action.service, action.name)
        if key in by_name:
            raise ActionError(
                f"{action.source_location}: {action.name} is defined at {by_name[key].source_location} already"
            )
        by_name[key] = action
    return by_name


def _route(model: Model, action: Action) -> Route:
    operation = model.operation(action.name)
    if operation is None:
        raise ActionError(
            f"{action.source_location}: Amazon's model of {action.service.name.upper()} has no operation {action.name}"
        )
    _check(action, operation.input_shape, action.accepts, "")
    for path in (*action.ignores, *action.as_is, *action.missing):
        _resolve(action, operation.input_shape, path)
    _check_result(action, operation.output_shape)
    return Route(operation, action)


def _check(action: Action, shape: Shape | None, members: Members, path: str) -> None:
    for name, inner in members.of.items():
        where = f"{path}.{name}" if path else name
        _check(action, _resolve(action, shape, name, within=path), inner, where)


def _check_result(action: Action, shape: Shape | None) -> None:
    """Check the type of an action's result: the names of its members or, if it is one of Amazon's, its own name."""
    result = action.returns
    if result is None:
        raise ActionError(
            f"{action.source_location}: the type of the result of {action.name} is neither a TypedDict, nor Parts of "
            "one, nor one of Amazon's structures, nor None"
        )
    if result.structure is not None and (shape is None or shape.name != result.structure):
        expected = "nothing" if shape is None else shape.name
        raise ActionError(
            f"{action.source_location}: {action.name} returns {expected} in Amazon's model, not {result.structure}"
        )
    for name in sorted(result.members):
        _resolve(action, shape, name)


def _resolve(action: Action, shape: Shape | None, path: str, within: str = "") -> Shape | None:
    for name in path.split("."):
        while isinstance(shape, ListShape):
            shape = shape.member
        known: Mapping[str, Shape] = shape.members if isinstance(shape, StructureShape) else {}
        if name not in known:
            where = f"{within}.{path}" if within else path
            raise ActionError(f"{action.source_location}: {action.name} has no member {where} in Amazon's model")
        shape = known[name]
    return shape
