"""Everything that would keep the daemon from starting, as far as it can be found without oned.

The daemon itself, at its start and at a reload, and the commands of `econe-server` use the same functions: `load` and
`dispatcher` here, and `refused_ports` of `econed.process.ports`. So no command stops or reloads a daemon that would not
serve then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from twisted.logger import Logger

from econed.actions.instances.file_types import configured_file_types
from econed.config import credentials, sealing_keys
from econed.config.loading import ConfigError, ConfigProblem, Source
from econed.config.sealing_keys import SealingKeys
from econed.config.settings import Settings
from econed.opennebula.file_templates import FileTypes
from econed.process.certificates import Certificates, TLSFiles
from econed.process.tls import make_context
from econed.telemetry.log_targets import why_unopenable
from econed.xmlrpc.endpoint import trust_root

if TYPE_CHECKING:
    from econed.dispatch import Dispatcher

_T = TypeVar("_T")


@dataclass(frozen=True)
class LoadedConfiguration:
    """Everything that the daemon reads before it starts. `warnings` do not keep it from starting.

    `certificates` are those of this server, None without TLS.
    """

    settings: Settings
    server: credentials.Credentials | credentials.Certificate
    sealing_keys: SealingKeys
    file_types: FileTypes | None
    warnings: tuple[ConfigProblem, ...]
    certificates: Certificates | None = None

    def all_warnings(self, now: float) -> tuple[ConfigProblem, ...]:
        """Return `warnings`, and those of the certificates at `now` (seconds since the epoch), which workers log."""
        return self.warnings + (() if self.certificates is None else self.certificates.warnings(now))


def load(
    where: Path | Source, environ: Mapping[str, str], log_file: Path | None = None, *, log: Logger | None = None
) -> LoadedConfiguration:
    """Read and check the whole configuration; raises one `ConfigError` with all problems.

    `log_file` is the daemon's log if econe.conf names none; None: a stream, which needs no check. `log` is for the
    contexts of the certificates.
    """
    settings, server, warnings = credentials.load_with_settings(where, environ)
    path = where if isinstance(where, Path) else where.path
    problems: list[ConfigProblem] = []

    def checked(check: Callable[[], _T]) -> _T | None:
        """Return the result of a check, or collect its problems."""
        try:
            return check()
        except ConfigError as error:
            problems.extend(error.problems)
            return None

    file_types = checked(lambda: configured_file_types(path, settings))
    keys = checked(lambda: sealing_keys.load(settings, server))
    certificates = checked(lambda: _certificates(settings, log or Logger(namespace="econed.tls")))
    checked(lambda: _check_authorities(settings))
    checked(lambda: _check_logs(settings, log_file))
    if problems or keys is None:
        raise ConfigError(tuple(problems))
    return LoadedConfiguration(settings, server, keys[0], file_types, warnings + keys[1], certificates)


def dispatcher() -> Dispatcher:
    """Return all actions with Amazon's models of the installed botocore.

    Raises `ConfigError` with the version of botocore if a model lacks something that econed uses.
    """
    # A supervisor, which imports this module, needs neither the actions nor the models.
    import botocore

    from econed.catalogue import all_actions
    from econed.dispatch import ActionError, Dispatcher
    from econed.wire.model import ModelError

    try:
        return Dispatcher.load(all_actions())
    except (ActionError, ModelError) as error:
        raise ConfigError((ConfigProblem(f"botocore {botocore.__version__}", str(error)),)) from None


def _certificates(settings: Settings, log: Logger) -> Certificates | None:
    files = TLSFiles.of(settings)
    if files is None:
        return None
    certificates = files.read()
    make_context(certificates, log)  # OpenSSL refuses more than `read`, such as certificates signed with SHA-1
    return certificates


def _check_authorities(settings: Settings) -> None:
    if settings.one_ca_file is None or not any(url.startswith("https:") for url in settings.one_xmlrpc):
        return
    try:
        trust_root(Path(settings.one_ca_file))
    except (ValueError, OSError) as error:
        raise ConfigError((ConfigProblem(settings.one_ca_file, str(error), key="one_ca_file"),)) from None


def _check_logs(settings: Settings, log_file: Path | None) -> None:
    logs = (
        (settings.log_file or (None if log_file is None else str(log_file)), "log_file" if settings.log_file else None),
        (settings.audit_log, "audit_log"),
    )
    problems = [
        ConfigProblem(path, f"the log cannot be opened: {reason}", key=key)
        for path, key in logs
        if path is not None and (reason := why_unopenable(path)) is not None
    ]
    if problems:
        raise ConfigError(tuple(problems))
