"""Declaration of the API's methods: a name, typed parameters, a handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from econed.sandbox.refusals import wrong_parameter

Handler = TypeVar("Handler", bound=Callable[..., object])

_TYPE_NAMES: Mapping[type, str] = {int: "integer", bool: "boolean", str: "string"}
_MAX_INT = 2**31 - 1


@dataclass(frozen=True)
class Method:
    """A method of the API.

    `required` are the types of the parameters after the session, `optional` those of further parameters. As in oned,
    surplus parameters are ignored.
    """

    name: str
    required: Sequence[type]
    optional: Sequence[type]

    def arguments(self, params: Sequence[object]) -> list[object]:
        """Check `params` against the declaration; raises `Fault` -501 as xmlrpc-c does."""
        if len(params) < len(self.required):
            raise wrong_parameter("Not enough parameters")
        types = [*self.required, *self.optional]
        return [_checked(value, expected) for value, expected in zip(params, types, strict=False)]


def _checked(value: object, expected: type) -> object:
    if expected is object:
        return value
    has_type = isinstance(value, expected) and (expected is not int or not isinstance(value, bool))
    if not has_type or (expected is int and isinstance(value, int) and abs(value) > _MAX_INT):
        raise wrong_parameter(f"Parameter that is supposed to be {_TYPE_NAMES.get(expected, 'array')} is not")
    return value


def serves(name: str, *required: type, optional: Sequence[type] = ()) -> Callable[[Handler], Handler]:
    """Declare that a method of a class handles the API method `name`; `methods` collects the handlers."""

    def decorate(handler: Handler) -> Handler:
        declared: tuple[Method, ...] = getattr(handler, "_serves", ())
        handler._serves = (*declared, Method(name, required, optional))  # type: ignore[attr-defined]
        return handler

    return decorate


def methods(services: Sequence[object]) -> dict[str, tuple[Method, Callable[..., object]]]:
    """Return the methods that `services` declare, with their handlers, by name."""
    handlers: dict[str, tuple[Method, Callable[..., object]]] = {}
    for service in services:
        for attribute in dir(type(service)):
            for method in getattr(getattr(type(service), attribute), "_serves", ()):
                if method.name in handlers:
                    raise ValueError(f"{method.name} is declared twice, again by {type(service).__name__}.{attribute}")
                handlers[method.name] = (method, getattr(service, attribute))
    return handlers
