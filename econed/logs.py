"""What is said, and how much of it: `debug_level` of econe.conf on Twisted's log."""

from __future__ import annotations

from twisted.logger import FilteringLogObserver, ILogObserver, Logger, LogLevel, LogLevelFilterPredicate

_LEVELS = (LogLevel.error, LogLevel.warn, LogLevel.info, LogLevel.debug)


def logger(namespace: str, debug_level: int, observer: ILogObserver) -> Logger:
    """Return a logger that passes on to `observer` what `debug_level` lets through.

    0 is errors alone, 1 warnings too, 2 what happens, 3 everything (OpenNebula 5.12, econe.conf).
    """
    enough = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[debug_level])
    return Logger(namespace=namespace, observer=FilteringLogObserver(observer, [enough]))
