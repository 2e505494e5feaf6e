"""Loading the configuration and connecting to oned, as the daemon does, for the commands for administrators."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.actions.instances.file_types import configured_file_types
from econed.config import credentials
from econed.config.loading import ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.errors import OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.opennebula.file_templates import FileTypes
from econed.xmlrpc_backend import XMLRPCBackend

_T = TypeVar("_T")

INTERACTIVE_TIMEOUT: Final = 5.0
"""Seconds that oned may take to reply to a command that a person has typed."""


@dataclass(frozen=True)
class LoadedConfiguration:
    """Everything that the daemon reads before it starts. `warnings` do not keep it from starting."""

    settings: Settings
    server: credentials.Credentials | credentials.Certificate
    file_types: FileTypes | None
    warnings: tuple[ConfigProblem, ...]


def load_configuration(conf: Path, environ: Mapping[str, str]) -> LoadedConfiguration:
    """Read configuration, credentials and the files of the instance types; raises `ConfigError`."""
    settings, server, warnings = credentials.load_with_settings(conf, environ)
    return LoadedConfiguration(settings, server, configured_file_types(conf, settings), warnings)


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
