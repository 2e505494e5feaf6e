"""Levels, formats and targets of the log; and the clock."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application, IServiceCollection
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogBeginner, LogEvent, Logger, LogLevel, LogPublisher, textFileLogObserver
from twisted.python.syslog import SyslogObserver
from zope.interface.verify import verifyObject

from econed.clock import WallClock
from econed.config.settings import Settings
from econed.process.twistd import twistd_options
from econed.telemetry import logs
from econed.telemetry.logs import LoggedService, ProcessLog, TwistdLogTarget, logger

EVERYTHING = Settings(debug_level=3)
LEVELS = (LogLevel.critical, LogLevel.error, LogLevel.warn, LogLevel.info, LogLevel.debug)


@pytest.mark.parametrize(
    ("debug_level", "logged"),
    [
        (0, ["critical", "error"]),
        (1, ["critical", "error", "warn"]),
        (2, ["critical", "error", "warn", "info"]),
        (3, ["critical", "error", "warn", "info", "debug"]),
    ],
)
def test_the_debug_level_limits_what_is_logged(debug_level: int, logged: list[str]) -> None:
    events: list[LogEvent] = []
    log = logger("econed", debug_level, events.append)  # type: ignore[arg-type]
    for level in LEVELS:
        log.emit(level, "x")
    assert [event["log_level"].name for event in events] == logged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a log."""
    return tmp_path / "econe.log"


def log_value(log: ProcessLog, value: str = "so", level: Any = LogLevel.info, namespace: str = "econed") -> None:
    """Log an event."""
    Logger(namespace=namespace, observer=log).emit(level, "value is {value}", value=value)


def lines(path: Path) -> list[str]:
    """Return the lines of a log."""
    return path.read_text("utf-8").splitlines()


@pytest.mark.parametrize(("debug_level", "count"), [(0, 2), (1, 3), (2, 4), (3, 5)])
@pytest.mark.parametrize("namespace", ["econed", "twisted.web.http", "log_legacy", "stdout"])
def test_the_debug_level_applies_to_all_events_of_the_process(
    path: Path, debug_level: int, count: int, namespace: str
) -> None:
    """Twisted's critical level, for failures, counts as an error."""
    log = ProcessLog(Settings(debug_level=debug_level, log_file=str(path)))
    verifyObject(ILogObserver, log)
    for level in LEVELS:
        log_value(log, level=level, namespace=namespace)
    assert [re.findall(r"#(\w+)\]", line)[0] for line in lines(path)] == [level.name for level in LEVELS[:count]]


def test_the_format_is_configurable(path: Path) -> None:
    log = ProcessLog(Settings(log_file=str(path), log_format="json"), worker=2)
    log_value(log)
    assert {"message": "value is so", "worker": 2, "pid": os.getpid(), "value": "so"}.items() <= json.loads(
        path.read_text("utf-8")
    ).items()


def test_the_configured_file_takes_precedence_over_that_of_twistd(path: Path, tmp_path: Path) -> None:
    twistd = TwistdLogTarget("file", str(tmp_path / "twistd.log"))
    log_value(ProcessLog(Settings(log_file=str(path)), twistd))
    assert len(lines(path)) == 1
    assert not Path(twistd.name).exists()
    log_value(ProcessLog(Settings(), twistd))
    assert len(lines(Path(twistd.name))) == 1


def test_the_default_target_is_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    log_value(ProcessLog(Settings()), "é")
    assert capfd.readouterr().out.endswith("[econed#info] value is é\n")


@pytest.mark.parametrize(
    ("level", "prefix"),
    [
        (LogLevel.debug, "<7>"),
        (LogLevel.info, "<6>"),
        (LogLevel.warn, "<4>"),
        (LogLevel.error, "<3>"),
        (LogLevel.critical, "<3>"),
    ],
)
def test_lines_for_the_journal_begin_with_their_priority(
    capfd: pytest.CaptureFixture[str], level: Any, prefix: str
) -> None:
    stdout = os.fstat(1)
    log = ProcessLog(EVERYTHING, environ={"JOURNAL_STREAM": f"{stdout.st_dev}:{stdout.st_ino}"})
    log_value(log, level=level)
    assert re.fullmatch(re.escape(prefix) + r"\[.*\] value is so\n", capfd.readouterr().out)


def test_every_line_of_a_traceback_begins_with_the_priority(capfd: pytest.CaptureFixture[str]) -> None:
    """The journal makes every line an entry."""
    stdout = os.fstat(1)
    log = ProcessLog(EVERYTHING, environ={"JOURNAL_STREAM": f"{stdout.st_dev}:{stdout.st_ino}"})
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        Logger(namespace="econed", observer=log).failure("it failed")
    printed = capfd.readouterr().out.splitlines()
    assert len(printed) > 2
    assert all(line.startswith("<3>") for line in printed)


def test_lines_in_a_file_have_no_priority(path: Path) -> None:
    stdout = os.fstat(1)
    environ = {"JOURNAL_STREAM": f"{stdout.st_dev}:{stdout.st_ino}"}
    log_value(ProcessLog(Settings(log_file=str(path)), environ=environ))
    assert not lines(path)[0].startswith("<")


def test_reopen_starts_a_new_file_after_the_old_one_was_renamed(path: Path) -> None:
    log = ProcessLog(Settings(log_file=str(path)))
    log_value(log, "one")
    renamed = path.rename(path.with_suffix(".1"))
    log_value(log, "two")
    log.reopen()
    log_value(log, "three")
    assert [line.rpartition(" ")[2] for line in lines(renamed)] == ["one", "two"]
    assert [line.rpartition(" ")[2] for line in lines(path)] == ["three"]


def test_new_settings_are_applied(path: Path, tmp_path: Path) -> None:
    log = ProcessLog(Settings(log_file=str(path)))
    log_value(log)
    another = tmp_path / "another.log"
    log.apply_settings(replace(EVERYTHING, log_file=str(another), log_format="json"))
    log_value(log, level=LogLevel.debug)
    assert len(lines(path)) == 1
    assert json.loads(another.read_text("utf-8"))["level"] == "debug"
    assert str(path) not in [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


def test_a_file_that_cannot_be_opened_is_reported_at_once_without_an_exception(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ProcessLog(Settings(log_file=str(tmp_path / "nowhere" / "econe.log")))
    assert "[econed.logs#error] the log cannot be opened: [Errno 2] No such file" in capfd.readouterr().err
    log_value(log)
    assert "value is so" in capfd.readouterr().err


# The target of twistd's log


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({"nodaemon": True, "logfile": None}, TwistdLogTarget("stdout")),
        ({"nodaemon": True, "logfile": "-"}, TwistdLogTarget("stdout")),
        ({"nodaemon": True, "logfile": "x.log"}, TwistdLogTarget("file", os.path.abspath("x.log"))),
        ({"nodaemon": False, "logfile": "/var/log/x.log"}, TwistdLogTarget("file", "/var/log/x.log")),
        ({"nodaemon": False, "logfile": None}, TwistdLogTarget("file", os.path.abspath("twistd.log"))),
        ({"nodaemon": False, "logfile": "-"}, TwistdLogTarget("unknown")),
        ({"nodaemon": False, "syslog": True, "prefix": "econe"}, TwistdLogTarget("syslog", "econe")),
        ({"logger": textFileLogObserver}, TwistdLogTarget("logger", "twisted.logger._file.textFileLogObserver")),
        (None, TwistdLogTarget("unknown")),
    ],
)
def test_the_target_follows_from_the_options_of_twistd(options: dict[str, Any] | None, target: TwistdLogTarget) -> None:
    """The options are --nodaemon, --logfile, --syslog, --prefix and --logger."""
    assert TwistdLogTarget.of(options) == target
    assert TwistdLogTarget(**json.loads(json.dumps(asdict(target)))) == target


@pytest.mark.parametrize(
    ("target", "log_file", "is_left"),
    [
        (TwistdLogTarget("stdout"), None, False),
        (TwistdLogTarget("file", "/x.log"), None, False),
        (TwistdLogTarget("syslog"), "/x.log", True),
        (TwistdLogTarget("logger", "x"), "/x.log", True),
        (TwistdLogTarget("unknown"), "/x.log", False),
        (TwistdLogTarget("unknown"), None, True),
    ],
)
def test_syslog_and_logger_are_left_to_twistd(target: TwistdLogTarget, log_file: str | None, is_left: bool) -> None:
    assert target.is_left_to_twistd(Settings(log_file=log_file)) is is_left


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("/usr/bin/twistd -ny econe.tac", TwistdLogTarget("stdout")),
        ("/usr/bin/twistd -r select --debug -l /var/log/x.log -y econe.tac", TwistdLogTarget("file", "/var/log/x.log")),
        ("twistd --syslog --prefix=econe --python=econe.tac", TwistdLogTarget("syslog", "econe")),
        ("twistd --no-such-option", TwistdLogTarget("unknown")),
        ("/usr/bin/python econe.py", TwistdLogTarget("unknown")),
        ("", TwistdLogTarget("unknown")),
    ],
)
def test_the_target_for_a_tac_file_follows_from_the_command_line_of_twistd(line: str, target: TwistdLogTarget) -> None:
    """The options of twistd are only passed to its subcommands."""
    assert TwistdLogTarget.of(twistd_options(line.split())) == target


def test_the_service_sets_the_log_of_the_application(path: Path) -> None:
    log = logs.log_for_twistd({"nodaemon": True}, Settings(log_file=str(path)))
    assert log is not None
    application = Application("econe")
    service = LoggedService(log)
    service.setServiceParent(application)
    assert application.getComponent(ILogObserver) is log
    assert list(IServiceCollection(application)) == [service]


def test_the_service_leaves_the_log_of_twistd_alone_with_syslog() -> None:
    assert logs.log_for_twistd({"nodaemon": True, "syslog": True}, Settings()) is None
    application = Application("econe")
    LoggedService(None).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None


def test_a_service_in_another_service_does_not_change_the_log(path: Path) -> None:
    parent = LoggedService(None)
    child = LoggedService(ProcessLog(Settings(log_file=str(path))))
    child.setServiceParent(parent)
    assert list(parent) == [child]


# Processes that twistd does not run


class FakeSys:
    """A stand-in for `sys` and `warnings`, whose output Twisted redirects to the log."""

    def __init__(self) -> None:
        self.stdout = self.stderr = None
        self.showwarning = None


class UnstartedLog:
    """The log of a process before logging has started."""

    def __init__(self) -> None:
        self.publisher = LogPublisher()
        self.sys = FakeSys()
        with open(os.devnull, "w") as null:
            self.beginner = LogBeginner(self.publisher, null, self.sys, self.sys)
        self.log = Logger(namespace="econed", observer=self.publisher)


def test_a_worker_logs_to_the_target_of_the_supervisor(path: Path) -> None:
    unstarted = UnstartedLog()
    unstarted.log.info("before")
    reopen = logs.begin(Settings(), TwistdLogTarget("file", str(path)), 1, unstarted.beginner)
    unstarted.log.info("after")
    assert [line.rpartition(" ")[2] for line in lines(path)] == ["before", "after"]
    assert "[econed#info,worker 1]" in lines(path)[0]
    print("printed", file=unstarted.sys.stdout)
    assert lines(path)[-1].endswith("[stdout#info,worker 1] printed")
    path.unlink()
    reopen()
    unstarted.log.info("in a new file")
    assert len(lines(path)) == 1


SEEN: list[LogEvent] = []


@pytest.fixture
def seen() -> Iterator[list[LogEvent]]:
    """The events that the observer from `factory` has received."""
    SEEN.clear()
    yield SEEN
    SEEN.clear()


def factory() -> Any:
    """Return a log observer, like a factory for `twistd --logger`."""
    from twisted.logger import FilteringLogObserver

    return FilteringLogObserver(SEEN.append, [])  # type: ignore[arg-type]


def test_a_worker_uses_the_observer_given_to_twistd(seen: list[LogEvent], path: Path) -> None:
    target = TwistdLogTarget.of({"logger": factory})
    assert target == TwistdLogTarget("logger", f"{__name__}.factory")
    unstarted = UnstartedLog()
    reopen = logs.begin(Settings(debug_level=1, log_file=str(path)), target, 1, unstarted.beginner)
    unstarted.log.info("too little")
    unstarted.log.warn("enough")
    reopen()
    assert [event["log_format"] for event in seen] == ["enough"]


def test_a_worker_logs_to_syslog_if_twistd_does(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    for name in ("openlog", "syslog"):
        monkeypatch.setattr(SyslogObserver, name, staticmethod(lambda *args: calls.append(args)))
    unstarted = UnstartedLog()
    logs.begin(Settings(), TwistdLogTarget("syslog", "econe-x"), 1, unstarted.beginner)
    unstarted.log.info("value is so")
    assert calls[0][0] == "econe-x"
    assert "value is so" in calls[-1][-1]


# The clock


def test_the_time_does_not_depend_on_the_reactor() -> None:
    """The clock of the asyncio reactor starts at 0, which would make every signature too old."""
    clock = WallClock(Clock())
    verifyObject(IReactorTime, clock)
    before = time.time()
    assert before <= clock.seconds() <= time.time()


def test_delayed_calls_are_left_to_the_reactor() -> None:
    reactor = Clock()
    calls: list[str] = []
    clock = WallClock(reactor)
    clock.callLater(5, calls.append, "now")
    assert len(clock.getDelayedCalls()) == 1
    reactor.advance(5)
    assert calls == ["now"]
