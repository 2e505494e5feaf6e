"""oned, as the commands for administrators reach it: by the daemon's own configuration and credentials."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.failure import Failure

from econed.actions.instance_types import FileTypes, configured_file_types
from econed.config import credentials
from econed.config.loading import ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.errors import OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal
from econed.xmlrpc_backend import XMLRPCBackend

_T = TypeVar("_T")

PATIENCE: Final = 5.0
"""Seconds that oned has to answer a person who waits."""


@dataclass(frozen=True)
class Prepared:
    """All that the daemon reads before it starts, read and found good but for the `findings`, which are warnings."""

    settings: Settings
    server: credentials.Credentials | credentials.Certificate
    file_types: FileTypes | None
    findings: tuple[ConfigProblem, ...]


def prepared(conf: Path, environ: Mapping[str, str]) -> Prepared:
    """Read configuration, credentials and the files of the instance types; raises `ConfigError`."""
    settings, server, findings = credentials.load_with_settings(conf, environ)
    return Prepared(settings, server, configured_file_types(conf, settings), findings)


def client(reactor: Any, ready: Prepared) -> XMLRPCBackend:
    """Return a client of oned that waits no longer than a person does; raises `ConfigError`."""
    settings = replace(ready.settings, one_timeout=min(ready.settings.one_timeout, PATIENCE))
    try:
        return XMLRPCBackend.configured(reactor, settings, ready.server)
    except ValueError as error:
        raise ConfigError((ConfigProblem("one_xmlrpc", str(error)),)) from None


def in_reactor(work: Callable[[Any], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine function in the reactor, which a process can run once, and return or raise what comes of it."""
    ended: list[_T | Failure] = []

    def run(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(work(reactor)).addBoth(ended.append)

    with suppress(SystemExit):  # what react ends with
        react(run)
    if not ended:
        raise KeyboardInterrupt
    if isinstance(ended[0], Failure):
        ended[0].raiseException()
    return ended[0]


def is_wrong_credentials(error: OpenNebulaError) -> bool:
    """Whether oned answered, and does not believe that this is serveradmin."""
    return isinstance(error, OpenNebulaRefusal) and error.code == OpenNebulaCode.AUTHENTICATION
