"""Methods of the API as they are declared and called: a name, typed parameters, a handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from econed.sandbox.refusals import wrong_parameter

Handler = TypeVar("Handler", bound=Callable[..., object])

_CALLED: Mapping[type, str] = {int: "integer", bool: "boolean", str: "string"}
_MAX_INT = 2**31 - 1


@dataclass(frozen=True)
class Method:
    """One method of the API.

    `required` are the types of the parameters after the session, `optional` those of further ones; what a caller sends
    beyond them is not looked at, as in oned.
    """

    name: str
    required: Sequence[type]
    optional: Sequence[type]

    def arguments(self, params: Sequence[object]) -> list[object]:
        """Check `params` against the declaration; faults with -501 as xmlrpc-c does."""
        if len(params) < len(self.required):
            raise wrong_parameter("Not enough parameters")
        declared = [*self.required, *self.optional]
        return [_checked(value, kind) for value, kind in zip(params, declared, strict=False)]


def _checked(value: object, kind: type) -> object:
    if kind is object:
        return value
    right = isinstance(value, kind) and (kind is not int or not isinstance(value, bool))
    if not right or (kind is int and isinstance(value, int) and abs(value) > _MAX_INT):
        raise wrong_parameter(f"Parameter that is supposed to be {_CALLED.get(kind, 'array')} is not")
    return value


def serves(name: str, *required: type, optional: Sequence[type] = ()) -> Callable[[Handler], Handler]:
    """Declare that a function of a service handles the method `name`. Nothing is registered: `methods` finds it."""

    def declare(handler: Handler) -> Handler:
        declared: tuple[Method, ...] = getattr(handler, "_serves", ())
        handler._serves = (*declared, Method(name, required, optional))  # type: ignore[attr-defined]
        return handler

    return declare


def methods(services: Sequence[object]) -> dict[str, tuple[Method, Callable[..., object]]]:
    """Return the methods that `services` declare, by name."""
    found: dict[str, tuple[Method, Callable[..., object]]] = {}
    for service in services:
        for attribute in dir(type(service)):
            for method in getattr(getattr(type(service), attribute), "_serves", ()):
                if method.name in found:
                    raise ValueError(f"{method.name} is declared twice, again by {type(service).__name__}.{attribute}")
                found[method.name] = (method, getattr(service, attribute))
    return found
