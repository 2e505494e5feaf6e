"""Connecting to oned, as the daemon does, for the commands for administrators."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.config.loading import ConfigError, ConfigProblem
from econed.configtest import LoadedConfiguration
from econed.errors import OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.xmlrpc_backend import XMLRPCBackend

_T = TypeVar("_T")

INTERACTIVE_TIMEOUT: Final = 5.0
"""Seconds that oned may take to reply to a command that a person has typed."""


def client(reactor: Any, loaded: LoadedConfiguration) -> XMLRPCBackend:
    """Return a client of oned with a timeout of at most `INTERACTIVE_TIMEOUT`; raises `ConfigError`."""
    settings = replace(loaded.settings, one_timeout=min(loaded.settings.one_timeout, INTERACTIVE_TIMEOUT))
    try:
        return XMLRPCBackend.configured(reactor, settings, loaded.server, Logger(namespace="econed"))
    except ValueError as error:
        raise ConfigError((ConfigProblem("one_xmlrpc", str(error)),)) from None


def run_in_reactor(function: Callable[[Any], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine function in the reactor; return its result or raise its error.

    A process can run the reactor only once.
    """
    results: list[_T | Failure] = []

    def run(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(function(reactor)).addBoth(results.append)

    with suppress(SystemExit):  # react always raises it
        react(run)
    if not results:
        raise KeyboardInterrupt
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def is_wrong_credentials(error: OpenNebulaError) -> bool:
    """Whether oned replied and rejected serveradmin's credentials."""
    return isinstance(error, OpenNebulaRefusal) and error.code == OpenNebulaCode.AUTHENTICATION
