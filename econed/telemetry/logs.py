"""The log of a process: how much is said, how it looks, and where it goes.

What Twisted and twistd say goes the same way as what econed says. Every process writes for itself, all to one place:
`log_file`, else where twistd was told to, else standard output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
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
    LogLevelFilterPredicate,
    globalLogBeginner,
)
from twisted.python.components import Componentized
from twisted.python.reflect import fullyQualifiedName, namedAny
from twisted.python.usage import UsageError
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined]
from zope.interface import implementer

from econed.config.settings import Settings
from econed.telemetry import log_lines
from econed.telemetry.log_targets import STDOUT, AppendedFile, Stream, Unfailing, is_journal

_Kind: TypeAlias = Literal["stdout", "file", "syslog", "logger", "unknown"]

_LEVELS = (LogLevel.error, LogLevel.warn, LogLevel.info, LogLevel.debug)

_PRIORITIES = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 3}
"""As syslog(3) numbers them; to Twisted whatever failed is critical."""


def logger(namespace: str, debug_level: int, observer: ILogObserver) -> Logger:
    """Return a logger that passes on to `observer` what `debug_level` lets through.

    0 is errors alone, 1 warnings too, 2 what happens, 3 everything (OpenNebula 5.12, econe.conf).
    """
    enough = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[debug_level])
    return Logger(namespace=namespace, observer=FilteringLogObserver(observer, [enough]))


@dataclass(frozen=True)
class LogPlace:
    """Where twistd would write the log, in a form that can be handed to other processes.

    `name` is the path of the file, the prefix for syslog, or the name of the factory of a log observer (--logger);
    the place is unknown where it is not twistd that runs econed.
    """

    kind: _Kind
    name: str = ""

    @classmethod
    def of(cls, twistd: Mapping[str, Any] | None) -> LogPlace:
        """Return the place that these options of twistd's name (`options.parent` of its command's)."""
        if twistd is None:
            return cls("unknown")
        logfile = twistd.get("logfile") or ""
        if twistd.get("logger"):
            return cls("logger", fullyQualifiedName(twistd["logger"]))
        if twistd.get("syslog"):
            return cls("syslog", twistd.get("prefix") or "")
        if not twistd.get("nodaemon"):
            # To write to standard output then is an error: twistd says so if it is left to it.
            return cls("unknown") if logfile == "-" else cls("file", os.path.abspath(logfile or "twistd.log"))
        return cls("stdout") if logfile in ("", "-") else cls("file", os.path.abspath(logfile))

    def is_left_to_twistd(self, settings: Settings) -> bool:
        """Whether the process that twistd runs logs as twistd does: it was told how, or nobody else knows where to."""
        return self.kind in ("syslog", "logger") or (self.kind == "unknown" and settings.log_file is None)


@implementer(ILogObserver)
class ProcessLog:
    """The log of one process, which every event goes through: econed's, Twisted's, and what is printed.

    It never raises and never ends the process; what cannot be written goes to standard error.
    """

    def __init__(
        self,
        settings: Settings,
        place: LogPlace = LogPlace("stdout"),
        worker: int | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Write to `log_file`, or to `place`, which is a file or standard output; `worker` is the number of this one.

        `environ` tells whether that is the journal.
        """
        self._place = place
        self._worker = worker
        self._environ = environ
        self._follow(settings)

    def __call__(self, event: LogEvent) -> None:
        """Write an event down, if it matters enough (`ILogObserver`)."""
        if log_lines.level(event) >= self._least:
            line = self._written(event)
            if line is not None:
                self._target.write(line)

    def follow(self, settings: Settings) -> None:
        """Go on as these settings say: level, form, file."""
        before = self._target
        self._follow(settings)
        before.close()

    def reopen(self) -> None:
        """Go on in a new file, after the one that is open has been renamed (logrotate)."""
        self._target.reopen()

    def _follow(self, settings: Settings) -> None:
        is_json = settings.log_format == "json"
        self._format = log_lines.as_json(os.getpid, self._worker) if is_json else log_lines.text(self._worker)
        self._least = _LEVELS[settings.debug_level]
        path = settings.log_file or (self._place.name if self._place.kind == "file" else None)
        self._has_priorities = path is None and is_journal(STDOUT, self._environ)
        self._target = Unfailing(Stream() if path is None else AppendedFile(path), self._complaint)
        self._target.reopen()

    def _written(self, event: LogEvent) -> bytes | None:
        line = self._format(event)
        if line is None:
            return None
        if self._has_priorities:
            mark = f"<{_PRIORITIES.get(log_lines.level(event), 6)}>"
            line = "\n".join(mark + each for each in line.split("\n"))
        return f"{line}\n".encode("utf-8", "backslashreplace")

    def _complaint(self, said: str) -> bytes:
        event = {"log_format": "{said}", "said": said, "log_level": LogLevel.error, "log_namespace": "econed.logs"}
        return self._written({**event, "log_time": time.time()}) or b""


class LoggedService(MultiService):
    """A service that brings the log with it: the application that it becomes part of logs so (`twistd`)."""

    def __init__(self, log: ProcessLog | None) -> None:
        """Log to `log`; None: as twistd does."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._log = log

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application, or of another service (`IService`)."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if self._log is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log)


class _Again(ServerOptions):
    """twistd's options, read a second time: whatever they do besides being read has been done."""

    def opt_reactor(self, name: str) -> None:
        """Do nothing."""

    def opt_spew(self) -> None:
        """Do nothing."""

    def opt_debug(self) -> None:
        """Do nothing."""

    opt_r = opt_reactor
    opt_b = opt_debug


def twistd_options(arguments: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the options of twistd, by its command line: a .tac file is not told them. None if it is no twistd's."""
    if not arguments or os.path.basename(arguments[0]) != "twistd":
        return None
    options = _Again()  # type: ignore[no-untyped-call]
    try:
        options.parseOptions(list(arguments[1:]))  # type: ignore[no-untyped-call]
    except UsageError:
        return None
    return cast(Mapping[str, Any], options)


def log_for_twistd(twistd: Mapping[str, Any] | None, settings: Settings) -> ProcessLog | None:
    """Return the log of the process that twistd runs with these options; None if that is left to twistd."""
    place = LogPlace.of(twistd)
    return None if place.is_left_to_twistd(settings) else ProcessLog(settings, place)


def begin(
    settings: Settings, place: LogPlace, worker: int | None = None, beginner: LogBeginner = globalLogBeginner
) -> Callable[[], None]:
    """Have a process that twistd does not run log to where twistd's does; return what reopens the log."""
    elsewhere = _told_to_twistd(place)
    if elsewhere is not None:
        enough = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[settings.debug_level])
        beginner.beginLoggingTo([FilteringLogObserver(elsewhere, [enough])])
        return lambda: None
    log = ProcessLog(settings, place, worker)
    beginner.beginLoggingTo([log])
    return log.reopen


def _told_to_twistd(place: LogPlace) -> ILogObserver | None:
    """Return what twistd would log to, where it was told what."""
    observer: Any
    match place.kind:
        case "syslog":
            from twisted.python.syslog import SyslogObserver

            observer = SyslogObserver(place.name).emit
        case "logger":
            observer = namedAny(place.name)()
        case _:
            return None
    is_new = ILogObserver.providedBy(observer)
    return cast(ILogObserver, observer if is_new else LegacyLogObserverWrapper(observer))
