"""What a line of the log says: nothing in it can be forged, and nothing that failed shows what a client sent."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from econed.errors import EC2Error, OpenNebulaRefusal, OpenNebulaUnavailable
from econed.telemetry import log_lines

NOW = 1_700_000_000.5
FORGED = "x\n2026-01-01T00:00:00+0000 [econed#info] RunInstances by root from 10.0.0.1: 200 ok"
SECRET_KEY = "5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8"
SIGNATURE = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
TOKEN = "GqDbPUwMJvzv3vGzKXnXRTNJnZtBVgzKQzZbFfVbBLoVXyJpQ0GFAo2xiGnLKZCw"


def ascii_name(text: str) -> str:
    """Return the name of a case by how its text begins."""
    return ascii(text[:3])


def event(form: str = "it is {what}", **fields: Any) -> LogEvent:
    """Return an event of econed's own."""
    return {"log_format": form, "log_level": LogLevel.info, "log_namespace": "econed", "log_time": NOW, **fields}


def text(given: LogEvent) -> str:
    """Return its line of text."""
    line = log_lines.text_formatter()(given)
    assert line is not None
    return line


def as_json(given: LogEvent, worker: int | None = None) -> dict[str, Any]:
    """Return its line of JSON, read."""
    line = log_lines.json_formatter(lambda: 4711, worker)(given)
    assert line is not None
    assert "\n" not in line
    return json.loads(line)  # type: ignore[no-any-return]


def raised(error: BaseException) -> Failure:
    """Return the failure of a function that has this in its variables and arguments."""

    def fails(argument: str) -> None:
        variable = argument
        assert variable
        raise error

    failure = None
    try:
        fails("a value of a variable")
    except type(error):
        failure = Failure()
    assert failure is not None
    return failure


def test_text_is_as_twisted_writes_it() -> None:
    line = text(event(what="so"))
    assert line.endswith(" [econed#info] it is so")
    assert line.startswith("2023-11-1")


def test_a_worker_says_which_it_is() -> None:
    assert log_lines.text_formatter(3)(event(what="so")).endswith(" [econed#info,worker 3] it is so")  # type: ignore[union-attr]
    assert as_json(event(what="so"), worker=3)["worker"] == 3


def test_json_has_what_every_event_has_and_its_own_fields() -> None:
    assert as_json(event(what="so", count=2, part=0.5, is_it=True, none=None)) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "info",
        "logger": "econed",
        "message": "it is so",
        "pid": 4711,
        "what": "so",
        "count": 2,
        "part": 0.5,
        "is_it": True,
        "none": None,
    }


def test_a_field_cannot_take_the_place_of_what_every_event_has() -> None:
    said = as_json(event(what="so", level="critical", logger="root", time="never", pid=1, message="no"))
    assert (said["level"], said["logger"], said["pid"], said["message"]) == ("info", "econed", 4711, "it is so")


def test_objects_and_fields_of_others_are_not_in_json() -> None:
    """Nobody knows what the `repr` of a request of Twisted's shows; that of its URL would have a signature."""
    assert "what" not in as_json(event(what=object()))
    assert "secret" not in as_json(event("x", log_namespace="twisted.web.http", secret="hidden"))
    assert "secret" not in as_json(event("x", log_namespace="econedless", secret="hidden"))


def test_an_event_that_says_nothing_has_no_line() -> None:
    assert log_lines.text_formatter()({"log_time": NOW}) is None
    assert log_lines.json_formatter(lambda: 1)({"log_time": NOW}) is None


def test_an_event_that_cannot_be_shown_names_its_fields_and_shows_none() -> None:
    line = text(event("{there_is_none}", password="hidden"))
    assert "an event that cannot be formatted, with the fields" in line
    assert "password" in line
    assert "hidden" not in line


@pytest.mark.parametrize(
    "hostile",
    [
        FORGED,
        "\r\n",
        "\x1b[2J\x1b[31m",
        "\x00\x07\x08\x7f",
        "\x85\u2028\u2029",
        "\u202e\u2066",
        "\ud800",
    ],
)
def test_nothing_from_outside_can_forge_a_line(hostile: str) -> None:
    line = text(event(what=hostile))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert line.encode("utf-8")
    assert as_json(event(what=hostile))["what"] == hostile


def test_neither_can_it_with_the_name_of_a_logger_or_a_traceback() -> None:
    assert len(text(event(what="so", log_namespace=FORGED)).splitlines()) == 1
    failed = event(what="so", log_failure=raised(OpenNebulaUnavailable("one.vm.info", FORGED)))
    assert not any(line.startswith("2026") for line in text(failed).splitlines())


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("RunInstances", "RunInstances"),
        ("10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", '"fe80::1%eth0"'),
        ("bob by root", '"bob by root"'),
        ('say "so"', r'"say \"so\""'),
        ("é", '"é"'),
        ("a\nb", r'"a\nb"'),
        ("", '""'),
        ("x" * 300, '"' + "x" * 200 + '…"'),
    ],
)
def test_a_word_from_outside_stays_one_word(word: str, quoted: str) -> None:
    assert log_lines.quoted(word) == quoted


# What failed


def test_a_failure_is_told_by_where_and_what() -> None:
    line = text(event("it failed", log_failure=raised(ZeroDivisionError("division by zero"))))
    first, *rest = line.split("\n")
    assert first.endswith("it failed")
    assert all(each.startswith("\t") for each in rest)
    assert rest[0] == "\tTraceback (most recent call last):"
    assert any(each.endswith(", in fails") and __file__ in each for each in rest)
    assert "\t    raise error" in rest
    assert rest[-1] == "\tZeroDivisionError: division by zero"


def test_json_has_the_traceback_in_a_field_of_its_own() -> None:
    said = as_json(event("it failed", log_failure=raised(ZeroDivisionError("division by zero"))))
    assert said["message"] == "it failed"
    assert said["traceback"].startswith("Traceback")
    assert said["traceback"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, AssertionError, Exception])
def test_the_message_of_an_exception_that_may_hold_anything_is_not_shown(error: type[Exception]) -> None:
    line = text(event("it failed", log_failure=raised(error("#!/bin/sh echo hunter2"))))
    assert "hunter2" not in line
    assert f"\t{error.__name__}: (its message is not shown" in line


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (AttributeError("'NoneType' object has no attribute 'text'"), "'NoneType' object has no attribute 'text'"),
        (TypeError("int() argument must be a string, not 'list'"), "int() argument must be a string, not 'list'"),
        (OSError(errno.ENOSPC, "No space left on device", "/var/tmp/x"), "[Errno 28] No space left on device"),
        (b"\xff".decode, "utf-8, position 0: invalid start byte"),
        (ConnectionLost(), "Connection to the other side was lost in a non-clean fashion."),
        (EC2Error("InvalidState", "It is not."), "InvalidState: It is not."),
        (OpenNebulaRefusal("one.vm.action", 2048, "wrong state"), "one.vm.action: wrong state (2048)"),
    ],
)
def test_what_an_exception_says_of_code_or_the_system_is_shown(error: Any, shown: str) -> None:
    if callable(error):
        with pytest.raises(UnicodeDecodeError) as failed:
            error()
        error = failed.value
    assert log_lines.safe_message(error) == shown


@pytest.mark.parametrize(
    "secret",
    [
        SECRET_KEY,
        SIGNATURE,
        TOKEN,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEow",
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        ValueError,
        AttributeError,
        TypeError,
        lambda said: OSError(5, said),
        lambda said: EC2Error("Invalid", said),
        lambda said: OpenNebulaRefusal("one.vm.allocate", 4096, said),
    ],
)
def test_what_looks_like_a_secret_is_in_no_traceback(secret: str, kind: Any) -> None:
    line = text(event("it failed", log_failure=raised(kind(f"cannot read {secret}, sorry"))))
    assert not any(part in line for part in secret.split("\n"))


def test_passwords_are_known_by_their_names() -> None:
    assert log_lines.redacted("no password=hunter2 here") == "no [redacted] here"
    assert log_lines.redacted('{"sessionToken": "abc"}') == '{"session[redacted]'
    assert log_lines.redacted("X-Amz-Security-Token: abc/1") == "X-Amz-Security-[redacted]"
    assert log_lines.redacted("Token: abc123") == "[redacted]"
    assert log_lines.redacted("password: hunter") == "[redacted]"
    assert "AKID" not in log_lines.redacted("Authorization: AWS4-HMAC-SHA256;AKID")
    assert "dXNlcjpwYXNz" not in log_lines.redacted("Authorization: Basic dXNlcjpwYXNz")


@pytest.mark.parametrize(
    "said",
    [
        "MissingAuthenticationToken: The request must be signed.",
        "InvalidNextToken: The specified pagination token is not valid.",
        "SignatureDoesNotMatch: The request signature does not match.",
        "the token: expired, the signature: wrong",
    ],
)
def test_plain_words_are_not_taken_for_secrets(said: str) -> None:
    """What stands behind the name of an error is the beginning of a sentence."""
    assert log_lines.redacted(said) == said
    code, _, message = said.partition(": ")
    assert log_lines.safe_message(EC2Error(code, message)) == said


def test_an_error_code_is_never_taken_for_the_name_of_a_secret() -> None:
    """Whatever its message begins with; what is secret in the message itself goes."""
    assert (
        log_lines.safe_message(EC2Error("InvalidClientTokenId", "'X' is none")) == "InvalidClientTokenId: 'X' is none"
    )
    assert SECRET_KEY not in log_lines.safe_message(EC2Error("InvalidClientTokenId", SECRET_KEY))


def test_what_helps_an_administrator_is_not_taken_for_a_secret() -> None:
    said = (
        "[VirtualMachineAction] wrong state of /var/lib/one/datastores/100/7/checkpoint/templates/disks "
        "0b9ae2a4-3c34-4f8c-8a4e-9b4a6b5b8f0e 2001:db8::1 i-00000007"
    )
    assert log_lines.redacted(said) == said


# How much a line may hold


LONG = ["x" * 100_000, "\x00" * 100_000, "\U0001f600" * 50_000, "\ud800" * 50_000, '"\\' * 50_000, "a b " * 50_000]


@pytest.mark.parametrize("long", LONG, ids=ascii_name)
def test_no_line_of_text_is_longer_than_a_few_kilobytes(long: str) -> None:
    """The newline at its end and the priority of systemd's at its beginning have room too."""
    failed = raised(OpenNebulaRefusal("one.vm.action", 2048, long))
    line = text(event("{what} and {more}", what=long, more="the end", log_namespace=long, log_failure=failed))
    assert all(len(each.encode()) <= log_lines.MAX_LINE - len("<6>\n") for each in line.split("\n"))
    assert line.split("\n")[0].endswith(" and the end")


@pytest.mark.parametrize("long", LONG, ids=ascii_name)
def test_no_object_of_json_is_longer_than_a_few_kilobytes(long: str) -> None:
    """Whichever of its values is long, or all of them; the short ones stay."""
    failed = raised(OpenNebulaRefusal("one.vm.action", 2048, long))
    given = event("{what}", what=long, another=long, third=long, short="so", log_namespace="econed", log_failure=failed)
    line = log_lines.json_formatter(lambda: 1)(given)
    assert line is not None
    assert len(line.encode()) <= log_lines.MAX_OBJECT
    said = json.loads(line)
    assert said["short"] == "so"
    assert said["traceback"].startswith("Traceback")


def test_a_number_that_python_does_not_write_does_not_keep_a_line_from_being_written() -> None:
    said = as_json(event("it is so", number=10**5000))
    assert said["message"] == "it is so"
    assert said["number"].startswith("0x")


@pytest.mark.parametrize("long", LONG, ids=ascii_name)
def test_what_an_exception_says_is_cut_too(long: str) -> None:
    assert len(log_lines.safe_message(EC2Error("Invalid", long)).encode("utf-8", "backslashreplace")) <= 1024


@pytest.mark.parametrize("before", [*range(16_300, 16_400, 7), 16_384, 5, 500])
def test_half_of_a_secret_that_is_cut_off_is_not_shown_either(before: int) -> None:
    said = " ".join(["abcdefghi"] * 2000)[:before] + f" {SECRET_KEY} " + "y" * 20_000
    shown = log_lines.redacted(said)
    assert not any(SECRET_KEY[start : start + 8] in shown for start in range(len(SECRET_KEY) - 8))


@pytest.mark.parametrize("word", LONG, ids=ascii_name)
def test_a_word_from_outside_is_cut_however_it_is_written(word: str) -> None:
    assert len(log_lines.quoted(word, 200)) <= 402


def test_causes_are_told_too_and_no_variable_of_any() -> None:
    hidden = "in a variable"
    try:
        try:
            raise KeyError(hidden)
        except KeyError as cause:
            raise RuntimeError(hidden) from cause
    except RuntimeError:
        lines = log_lines.traceback_lines(Failure())
    assert [line.partition(":")[0] for line in lines if line.startswith(("KeyError", "RuntimeError"))] == [
        "RuntimeError",
        "KeyError",
    ]
    assert not any("in a variable" in line and "hidden =" not in line for line in lines)


def test_exceptions_that_are_each_others_cause_come_to_an_end() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert (
        len([line for line in log_lines.traceback_lines(Failure(first)) if line.startswith(("ValueError", "KeyError"))])
        == 2
    )


def test_a_failure_without_its_traceback_is_told_all_the_same() -> None:
    failure = raised(ZeroDivisionError("division by zero"))
    failure.cleanFailure()
    lines = log_lines.traceback_lines(failure)
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert any("in fails" in line for line in lines)


def test_what_is_logged_the_old_way_is_told_the_same_way() -> None:
    """`twisted.python.log.err` writes the traceback, message and all, into its text."""
    events: list[LogEvent] = []
    publisher = LogPublisher(events.append)  # type: ignore[arg-type]
    old = legacy.LogPublisher(publishPublisher=publisher)
    failure = raised(ValueError("hunter2"))
    old.msg(failure=failure, isError=1, why="it went wrong", system="-")
    assert len(events) == 1
    line = text(events[0])
    assert "it went wrong\n\tTraceback" in line
    assert "hunter2" not in line
    assert "ValueError: (its message is not shown" in line


def test_what_twisted_says_of_itself_looks_the_same() -> None:
    events: list[LogEvent] = []
    observer: ILogObserver = events.append  # type: ignore[assignment]
    Logger(namespace="twisted.internet", observer=observer).failure("unhandled", raised(ValueError("hunter2")))
    line = text(events[0])
    assert "[twisted.internet#critical] unhandled" in line
    assert "hunter2" not in line
