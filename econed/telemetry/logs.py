"""The log of a process: its level, its format, and its target.

Events of Twisted and twistd are treated like those of econed. Every process writes its own lines, all of them to the
same target: `log_file`, otherwise the target of twistd's options, otherwise standard output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from twisted.application.service import MultiService
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogBeginner,
    LogEvent,
    Logger,
    LogLevel,
    PredicateResult,
    globalLogBeginner,
)
from twisted.python.components import Componentized
from twisted.python.reflect import fullyQualifiedName, namedAny
from zope.interface import implementer

from econed.config.settings import Settings
from econed.telemetry import log_lines
from econed.telemetry.log_targets import STDOUT, AppendedFile, FallbackTarget, Stream, is_journal

_Kind: TypeAlias = Literal["stdout", "file", "syslog", "logger", "unknown"]

_LEVELS = (LogLevel.error, LogLevel.warn, LogLevel.info, LogLevel.debug)

_PRIORITIES = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 3}
"""The priorities of syslog(3); Twisted logs failures at the critical level."""


def level_filter(observer: ILogObserver, debug_level: int) -> ILogObserver:
    """Return an observer that passes on to `observer` the events that `debug_level` admits.

    0 admits errors, 1 warnings as well, 2 information as well, 3 everything (OpenNebula 5.12, econe.conf).
    """
    minimum = _LEVELS[debug_level]

    def predicate(event: LogEvent) -> Any:
        return PredicateResult.maybe if log_lines.level(event) >= minimum else PredicateResult.no

    return FilteringLogObserver(observer, [predicate])  # type: ignore[list-item]


def logger(namespace: str, debug_level: int, observer: ILogObserver) -> Logger:
    """Return a logger whose events go to `observer` if `debug_level` admits them.

    `ProcessLog` filters by level too; this one is for processes whose log is left to twistd, which does not filter.
    """
    return Logger(namespace=namespace, observer=level_filter(observer, debug_level))


@dataclass(frozen=True)
class TwistdLogTarget:
    """The target of twistd's log, in a form that can be passed to other processes.

    `name` is the path of the file, the prefix for syslog, or the name of the factory of a log observer (--logger).
    The kind is unknown if econed was not started by twistd.
    """

    kind: _Kind
    name: str = ""

    @classmethod
    def of(cls, twistd: Mapping[str, Any] | None) -> TwistdLogTarget:
        """Return the target that twistd's options select (`options.parent` of its subcommand's options)."""
        if twistd is None:
            return cls("unknown")
        logfile = twistd.get("logfile") or ""
        if twistd.get("logger"):
            return cls("logger", fullyQualifiedName(twistd["logger"]))
        if twistd.get("syslog"):
            return cls("syslog", twistd.get("prefix") or "")
        if not twistd.get("nodaemon"):
            # A daemon cannot log to standard output: twistd reports that error itself.
            return cls("unknown") if logfile == "-" else cls("file", os.path.abspath(logfile or "twistd.log"))
        return cls("stdout") if logfile in ("", "-") else cls("file", os.path.abspath(logfile))

    def is_left_to_twistd(self, settings: Settings) -> bool:
        """Whether twistd's process keeps twistd's log: options select syslog or a logger, or no target is known."""
        return self.kind in ("syslog", "logger") or (self.kind == "unknown" and settings.log_file is None)


@implementer(ILogObserver)
class ProcessLog:
    """The log of one process, for all events: econed's, Twisted's, and output captured from `print`.

    It never raises; lines that cannot be written to their target go to standard error.
    """

    def __init__(
        self,
        settings: Settings,
        twistd_target: TwistdLogTarget = TwistdLogTarget("stdout"),
        worker: int | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Write to `log_file`, or to `twistd_target`, which is a file or standard output.

        `worker` is the number of the worker that this process is, if any. `environ` shows whether standard output is
        the journal.
        """
        self._twistd_target = twistd_target
        self._worker = worker
        self._environ = environ
        self._configure(settings)

    def __call__(self, event: LogEvent) -> None:
        """Write an event, if its level is admitted (`ILogObserver`)."""
        self._filtered(event)

    def apply_settings(self, settings: Settings) -> None:
        """Apply new settings: level, format and file."""
        previous = self._target
        self._configure(settings)
        previous.close()

    def reopen(self) -> None:
        """Open a new file, after the current one has been renamed (logrotate)."""
        self._target.reopen()

    def _configure(self, settings: Settings) -> None:
        path = settings.log_file or (self._twistd_target.name if self._twistd_target.kind == "file" else None)
        self._has_priorities = path is None and is_journal(STDOUT, self._environ)
        if settings.log_format == "json":
            self._format = log_lines.json_formatter(os.getpid, self._worker)
        else:  # the journal has the time of each line
            self._format = log_lines.text_formatter(self._worker, has_time=not self._has_priorities)
        self._filtered = level_filter(self._write, settings.debug_level)  # type: ignore[arg-type]
        self._target = FallbackTarget(Stream() if path is None else AppendedFile(path), self._own_line)
        self._target.reopen()

    def _write(self, event: LogEvent) -> None:
        lines = self._encoded(event)
        if lines is not None:
            self._target.write(lines)

    def _encoded(self, event: LogEvent) -> bytes | None:
        lines = self._format(event)
        if lines is None:
            return None
        if self._has_priorities:
            prefix = f"<{_PRIORITIES.get(log_lines.level(event), 6)}>"
            lines = "\n".join(prefix + line for line in lines.split("\n"))
        return f"{lines}\n".encode("utf-8", "backslashreplace")

    def _own_line(self, message: str) -> bytes:
        """Return the line for an error of the log itself."""
        event = {"log_format": "{said}", "said": message, "log_level": LogLevel.error}
        return self._encoded({**event, "log_namespace": "econed.logs", "log_time": time.time()}) or b""


class LoggedService(MultiService):
    """A service that sets the log observer of its application, which twistd uses."""

    def __init__(self, process_log: ProcessLog | None) -> None:
        """Log to `process_log`; None: leave the log to twistd."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._process_log = process_log

    def setServiceParent(self, parent: Any) -> None:
        """Join an application or another service (`IService`); set the observer of an application."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if self._process_log is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._process_log)

    def reopen_log(self) -> None:
        """Reopen the log file, if this process has one."""
        if self._process_log is not None:
            self._process_log.reopen()


def log_for_twistd(twistd: Mapping[str, Any] | None, settings: Settings) -> ProcessLog | None:
    """Return the log for a process that twistd runs with these options; None if the log is left to twistd."""
    twistd_target = TwistdLogTarget.of(twistd)
    return None if twistd_target.is_left_to_twistd(settings) else ProcessLog(settings, twistd_target)


def begin(
    settings: Settings,
    twistd_target: TwistdLogTarget,
    worker: int | None = None,
    beginner: LogBeginner = globalLogBeginner,
) -> Callable[[], None]:
    """Start logging in a process that twistd does not run, to the target of twistd's log.

    Returns the function that reopens the log.
    """
    observer = _twistd_observer(twistd_target)
    if observer is not None:
        beginner.beginLoggingTo([level_filter(observer, settings.debug_level)])
        return lambda: None
    log = ProcessLog(settings, twistd_target, worker)
    beginner.beginLoggingTo([log])
    return log.reopen


def _twistd_observer(twistd_target: TwistdLogTarget) -> ILogObserver | None:
    """Return twistd's log observer for --syslog or --logger; None for other targets."""
    observer: Any
    match twistd_target.kind:
        case "syslog":
            from twisted.python.syslog import SyslogObserver

            observer = SyslogObserver(twistd_target.name).emit
        case "logger":
            observer = namedAny(twistd_target.name)()
        case _:
            return None
    is_legacy = not ILogObserver.providedBy(observer)
    return cast(ILogObserver, LegacyLogObserverWrapper(observer) if is_legacy else observer)
