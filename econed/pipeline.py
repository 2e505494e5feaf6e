"""The pipeline from the parameters of an authenticated request to the result of its action; it needs no HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from econed.actions.call import dry_run_succeeded
from econed.errors import EC2Error
from econed.services import service_of
from econed.wire.parameters import decode
from econed.wire.query import Pairs, single_value

if TYPE_CHECKING:
    from econed.actions.action import Parts, Result
    from econed.actions.call import Call
    from econed.dispatch import Dispatcher, Route
    from econed.wire.encoder import Encoder, ResponseBody

_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True)
class Invocation:
    """An action and the call to run it with. `version` is the API version that the client speaks."""

    route: Route
    version: str
    call: Call

    @classmethod
    def of(cls, dispatcher: Dispatcher, call: Call, pairs: Pairs) -> Invocation:
        """Return the invocation that the parameters of a request ask for.

        `call` has everything but the action's parameters. Raises `EC2Error` for an action that does not exist, or
        parameters or a file that it does not take.
        """
        action, version = _action_and_version(pairs)
        route = dispatcher.find(service_of(pairs), action)
        if call.upload is not None and not route.action.takes_file:
            raise unsupported_body()
        parameters = decode(route.operation, pairs, required=route.required)
        dry_run = parameters.pop("DryRun", False)
        accepted = route.accepted(parameters)
        if dry_run:
            call = call.as_dry_run(parameters=accepted)
        elif route.action.only_reads and not call.dry_run:
            call = call.as_read_only(parameters=accepted)
        else:
            call = replace(call, parameters=accepted)
        return cls(route, version, call)

    async def run(self) -> Result | Parts[Any]:
        """Run the action and return its result; raises what the action raises, and at the end of a dry run `EC2Error`.

        A result in parts has not been started, and is closed by the caller (`contextlib.aclosing`).
        """
        action, call = self.route.action, self.call
        result: Result | Parts[Any] = await action.run(call, **action.keywords(call.parameters))
        if call.dry_run:
            if isinstance(result, AsyncGenerator):
                async with aclosing(result):
                    await anext(result)
            raise dry_run_succeeded()
        return result

    def body(self, encoder: Encoder) -> ResponseBody:
        """Return the body of the response, to be written part by part."""
        return encoder.body(self.route.operation, version=self.version, request_id=self.call.request_id)


def unsupported_body() -> EC2Error:
    """Return the error for a body, or a file in it, that the action does not take."""
    return EC2Error("UnsupportedMediaType", "A body has to be application/x-www-form-urlencoded.", 415)


def _action_and_version(pairs: Pairs) -> tuple[str, str]:
    action, version = single_value(pairs, "Action"), single_value(pairs, "Version")
    if not action:
        raise EC2Error("MissingAction", "The request must contain the parameter Action")
    if not version:
        raise EC2Error("MissingParameter", "The request must contain the parameter Version")
    if not _VERSION.fullmatch(version):
        raise EC2Error("NoSuchVersion", "The requested version of service AmazonEC2 does not exist")
    return action, version
