"""How much is said, in which form, and where it goes; and what time it is."""

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
from econed.telemetry import logs
from econed.telemetry.logs import LoggedService, LogPlace, ProcessLog, logger

EVERYTHING = Settings(debug_level=3)
LEVELS = (LogLevel.critical, LogLevel.error, LogLevel.warn, LogLevel.info, LogLevel.debug)


@pytest.mark.parametrize(
    ("debug_level", "said"),
    [
        (0, ["critical", "error"]),
        (1, ["critical", "error", "warn"]),
        (2, ["critical", "error", "warn", "info"]),
        (3, ["critical", "error", "warn", "info", "debug"]),
    ],
)
def test_the_debug_level_says_how_much_is_logged(debug_level: int, said: list[str]) -> None:
    events: list[LogEvent] = []
    log = logger("econed", debug_level, events.append)  # type: ignore[arg-type]
    for level in (LogLevel.critical, LogLevel.error, LogLevel.warn, LogLevel.info, LogLevel.debug):
        log.emit(level, "x")
    assert [event["log_level"].name for event in events] == said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a log may be."""
    return tmp_path / "econe.log"


def said(log: ProcessLog, what: str = "so", level: Any = LogLevel.info, namespace: str = "econed") -> None:
    """Have something said."""
    Logger(namespace=namespace, observer=log).emit(level, "it is {what}", what=what)


def lines(path: Path) -> list[str]:
    """Return what was said in a file."""
    return path.read_text("utf-8").splitlines()


@pytest.mark.parametrize(("debug_level", "count"), [(0, 2), (1, 3), (2, 4), (3, 5)])
@pytest.mark.parametrize("namespace", ["econed", "twisted.web.http", "log_legacy", "stdout"])
def test_the_debug_level_is_for_all_that_the_process_says(
    path: Path, debug_level: int, count: int, namespace: str
) -> None:
    """A failure is critical to Twisted, and an error for econe.conf."""
    log = ProcessLog(Settings(debug_level=debug_level, log_file=str(path)))
    verifyObject(ILogObserver, log)
    for level in LEVELS:
        said(log, level=level, namespace=namespace)
    assert [re.findall(r"#(\w+)\]", line)[0] for line in lines(path)] == [level.name for level in LEVELS[:count]]


def test_the_form_is_the_configured_one(path: Path) -> None:
    log = ProcessLog(Settings(log_file=str(path), log_format="json"), worker=2)
    said(log)
    assert {"message": "it is so", "worker": 2, "pid": os.getpid(), "what": "so"}.items() <= json.loads(
        path.read_text("utf-8")
    ).items()


def test_the_configured_file_comes_before_that_of_twistd(path: Path, tmp_path: Path) -> None:
    twistd = LogPlace("file", str(tmp_path / "twistd.log"))
    said(ProcessLog(Settings(log_file=str(path)), twistd))
    assert len(lines(path)) == 1
    assert not Path(twistd.name).exists()
    said(ProcessLog(Settings(), twistd))
    assert len(lines(Path(twistd.name))) == 1


def test_without_a_file_it_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    said(ProcessLog(Settings()), "é")
    assert capfd.readouterr().out.endswith("[econed#info] it is é\n")


@pytest.mark.parametrize(
    ("level", "mark"),
    [
        (LogLevel.debug, "<7>"),
        (LogLevel.info, "<6>"),
        (LogLevel.warn, "<4>"),
        (LogLevel.error, "<3>"),
        (LogLevel.critical, "<3>"),
    ],
)
def test_the_journal_is_told_how_much_each_line_matters(
    capfd: pytest.CaptureFixture[str], level: Any, mark: str
) -> None:
    stdout = os.fstat(1)
    log = ProcessLog(EVERYTHING, environ={"JOURNAL_STREAM": f"{stdout.st_dev}:{stdout.st_ino}"})
    said(log, level=level)
    assert re.fullmatch(re.escape(mark) + r"[0-9T:+-]+ \[.*\] it is so\n", capfd.readouterr().out)


def test_of_a_traceback_it_is_told_for_every_line(capfd: pytest.CaptureFixture[str]) -> None:
    """The journal makes an entry of each."""
    stdout = os.fstat(1)
    log = ProcessLog(EVERYTHING, environ={"JOURNAL_STREAM": f"{stdout.st_dev}:{stdout.st_ino}"})
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        Logger(namespace="econed", observer=log).failure("it failed")
    told = capfd.readouterr().out.splitlines()
    assert len(told) > 2
    assert all(line.startswith("<3>") for line in told)


def test_a_file_has_no_such_marks(path: Path) -> None:
    stdout = os.fstat(1)
    environ = {"JOURNAL_STREAM": f"{stdout.st_dev}:{stdout.st_ino}"}
    said(ProcessLog(Settings(log_file=str(path)), environ=environ))
    assert not lines(path)[0].startswith("<")


def test_it_goes_on_in_a_new_file_when_the_old_one_was_renamed(path: Path) -> None:
    log = ProcessLog(Settings(log_file=str(path)))
    said(log, "one")
    old = path.rename(path.with_suffix(".1"))
    said(log, "two")
    log.reopen()
    said(log, "three")
    assert [line.rpartition(" ")[2] for line in lines(old)] == ["one", "two"]
    assert [line.rpartition(" ")[2] for line in lines(path)] == ["three"]


def test_it_follows_new_settings(path: Path, tmp_path: Path) -> None:
    log = ProcessLog(Settings(log_file=str(path)))
    said(log)
    another = tmp_path / "another.log"
    log.follow(replace(EVERYTHING, log_file=str(another), log_format="json"))
    said(log, level=LogLevel.debug)
    assert len(lines(path)) == 1
    assert json.loads(another.read_text("utf-8"))["level"] == "debug"
    assert str(path) not in [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]


def test_a_file_that_cannot_be_opened_is_said_at_once_and_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = ProcessLog(Settings(log_file=str(tmp_path / "nowhere" / "econe.log")))
    assert "[econed.logs#error] the log cannot be opened: [Errno 2] No such file" in capfd.readouterr().err
    said(log)
    assert "it is so" in capfd.readouterr().err


# Where twistd was told to write it


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"nodaemon": True, "logfile": None}, LogPlace("stdout")),
        ({"nodaemon": True, "logfile": "-"}, LogPlace("stdout")),
        ({"nodaemon": True, "logfile": "x.log"}, LogPlace("file", os.path.abspath("x.log"))),
        ({"nodaemon": False, "logfile": "/var/log/x.log"}, LogPlace("file", "/var/log/x.log")),
        ({"nodaemon": False, "logfile": None}, LogPlace("file", os.path.abspath("twistd.log"))),
        ({"nodaemon": False, "logfile": "-"}, LogPlace("unknown")),
        ({"nodaemon": False, "syslog": True, "prefix": "econe"}, LogPlace("syslog", "econe")),
        ({"logger": textFileLogObserver}, LogPlace("logger", "twisted.logger._file.textFileLogObserver")),
        (None, LogPlace("unknown")),
    ],
)
def test_the_place_is_where_twistd_would_write(options: dict[str, Any] | None, place: LogPlace) -> None:
    """`Options of twistd`: --nodaemon, --logfile, --syslog, --prefix, --logger."""
    assert LogPlace.of(options) == place
    assert LogPlace(**json.loads(json.dumps(asdict(place)))) == place


@pytest.mark.parametrize(
    ("place", "log_file", "is_left"),
    [
        (LogPlace("stdout"), None, False),
        (LogPlace("file", "/x.log"), None, False),
        (LogPlace("syslog"), "/x.log", True),
        (LogPlace("logger", "x"), "/x.log", True),
        (LogPlace("unknown"), "/x.log", False),
        (LogPlace("unknown"), None, True),
    ],
)
def test_what_twistd_was_told_explicitly_is_left_to_it(place: LogPlace, log_file: str | None, is_left: bool) -> None:
    assert place.is_left_to_twistd(Settings(log_file=log_file)) is is_left


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("/usr/bin/twistd -ny econe.tac", LogPlace("stdout")),
        ("/usr/bin/twistd -r select --debug -l /var/log/x.log -y econe.tac", LogPlace("file", "/var/log/x.log")),
        ("twistd --syslog --prefix=econe --python=econe.tac", LogPlace("syslog", "econe")),
        ("twistd --no-such-option", LogPlace("unknown")),
        ("/usr/bin/python econe.py", LogPlace("unknown")),
        ("", LogPlace("unknown")),
    ],
)
def test_a_tac_file_gets_it_from_the_command_line_of_twistd(line: str, place: LogPlace) -> None:
    """Which hands its options to its own commands only."""
    assert LogPlace.of(logs.twistd_options(line.split())) == place


def test_the_application_logs_as_the_service_says(path: Path) -> None:
    log = logs.log_for_twistd({"nodaemon": True}, Settings(log_file=str(path)))
    assert log is not None
    application = Application("econe")
    service = LoggedService(log)
    service.setServiceParent(application)
    assert application.getComponent(ILogObserver) is log
    assert list(IServiceCollection(application)) == [service]


def test_it_logs_as_twistd_does_where_that_was_told_how() -> None:
    assert logs.log_for_twistd({"nodaemon": True, "syslog": True}, Settings()) is None
    application = Application("econe")
    LoggedService(None).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None


def test_a_service_of_another_one_changes_no_log(path: Path) -> None:
    parent = LoggedService(None)
    child = LoggedService(ProcessLog(Settings(log_file=str(path))))
    child.setServiceParent(parent)
    assert list(parent) == [child]


# A process that twistd does not run


class Standard:
    """What stands for `sys` and `warnings`, which begin to be logged with the rest."""

    def __init__(self) -> None:
        self.stdout = self.stderr = None
        self.showwarning = None


class Beginning:
    """The log of a process before it has begun."""

    def __init__(self) -> None:
        self.publisher = LogPublisher()
        self.standard = Standard()
        with open(os.devnull, "w") as nowhere:
            self.beginner = LogBeginner(self.publisher, nowhere, self.standard, self.standard)
        self.log = Logger(namespace="econed", observer=self.publisher)


def test_a_worker_begins_to_log_where_the_supervisor_does(path: Path) -> None:
    beginning = Beginning()
    beginning.log.info("before")
    reopen = logs.begin(Settings(), LogPlace("file", str(path)), 1, beginning.beginner)
    beginning.log.info("after")
    assert [line.rpartition(" ")[2] for line in lines(path)] == ["before", "after"]
    assert "[econed#info,worker 1]" in lines(path)[0]
    print("printed", file=beginning.standard.stdout)
    assert lines(path)[-1].endswith("[stdout#info,worker 1] printed")
    path.unlink()
    reopen()
    beginning.log.info("in a new file")
    assert len(lines(path)) == 1


SEEN: list[LogEvent] = []


@pytest.fixture
def seen() -> Iterator[list[LogEvent]]:
    """Return what `factory` has observed."""
    SEEN.clear()
    yield SEEN
    SEEN.clear()


def factory() -> Any:
    """Return a log observer, as `twistd --logger` is given one."""
    from twisted.logger import FilteringLogObserver

    return FilteringLogObserver(SEEN.append, [])  # type: ignore[arg-type]


def test_a_worker_uses_the_logger_that_twistd_was_given(seen: list[LogEvent], path: Path) -> None:
    place = LogPlace.of({"logger": factory})
    assert place == LogPlace("logger", f"{__name__}.factory")
    beginning = Beginning()
    reopen = logs.begin(Settings(debug_level=1, log_file=str(path)), place, 1, beginning.beginner)
    beginning.log.info("too little")
    beginning.log.warn("enough")
    reopen()
    assert [event["log_format"] for event in seen] == ["enough"]


def test_a_worker_uses_syslog_as_twistd_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []
    for name in ("openlog", "syslog"):
        monkeypatch.setattr(SyslogObserver, name, staticmethod(lambda *what: told.append(what)))
    beginning = Beginning()
    logs.begin(Settings(), LogPlace("syslog", "econe-x"), 1, beginning.beginner)
    beginning.log.info("it is so")
    assert told[0][0] == "econe-x"
    assert "it is so" in told[-1][-1]


# The time of day


def test_the_time_of_day_does_not_depend_on_the_reactor() -> None:
    """The clock of asyncio's reactor counts from its start, and every signature would be too old."""
    clock = WallClock(Clock())
    verifyObject(IReactorTime, clock)
    before = time.time()
    assert before <= clock.seconds() <= time.time()


def test_what_is_to_come_later_is_left_to_the_reactor() -> None:
    reactor = Clock()
    came: list[str] = []
    clock = WallClock(reactor)
    clock.callLater(5, came.append, "now")
    assert len(clock.getDelayedCalls()) == 1
    reactor.advance(5)
    assert came == ["now"]
