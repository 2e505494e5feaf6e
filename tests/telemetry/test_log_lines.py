"""Lines of the log: clients cannot forge them, and failures do not reveal client data."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, formatEvent, formatTime
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
    """Return the test id for a text: its first characters."""
    return ascii(text[:3])


def event(log_format: str = "value is {value}", **fields: Any) -> LogEvent:
    """Return an event of econed."""
    return {"log_format": log_format, "log_level": LogLevel.info, "log_namespace": "econed", "log_time": NOW, **fields}


def text(logged: LogEvent) -> str:
    """Return the line of text for an event."""
    line = log_lines.text_formatter()(logged)
    assert line is not None
    return line


def as_json(logged: LogEvent, worker: int | None = None) -> dict[str, Any]:
    """Return the parsed line of JSON for an event."""
    line = log_lines.json_formatter(lambda: 4711, worker)(logged)
    assert line is not None
    assert "\n" not in line
    return json.loads(line)  # type: ignore[no-any-return]


def raised(error: BaseException) -> Failure:
    """Return the failure of a function that raises `error` and has a variable and an argument."""

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


def test_text_has_the_format_of_twisted() -> None:
    line = text(event(value="so"))
    assert line.endswith(" [econed#info] value is so")
    assert line.startswith("2023-11-1")


class Sized:
    """A value with everything that a format can name."""

    size = 7
    parts = ("first", "second")

    def __call__(self) -> str:
        return "called"

    def __str__(self) -> str:
        return "sized"


@pytest.mark.parametrize(
    "log_format",
    [
        *(
            "plain",
            "{value}",
            "{value!r}",
            "{value.size:>5}",
            "{value.parts[1]!s:.3}",
            "{{{value}}}",
            "{width:{width}}",
        ),
        *("{value()}", "{value.parts}", ""),
    ],
)
def test_a_format_has_the_meaning_that_it_has_for_twisted(log_format: str) -> None:
    logged = event(log_format, value=Sized(), width=4)
    assert log_lines.text_formatter()(logged) in (None, f"{formatTime(NOW)} [econed#info] {formatEvent(logged)}")
    assert (log_lines.text_formatter()(logged) is None) == (log_format == "")


def test_lines_of_a_worker_contain_its_number() -> None:
    assert log_lines.text_formatter(3)(event(value="so")).endswith(" [econed#info,worker 3] value is so")  # type: ignore[union-attr]
    assert as_json(event(value="so"), worker=3)["worker"] == 3


def test_json_has_the_common_fields_and_those_of_the_event() -> None:
    assert as_json(event(value="so", count=2, part=0.5, is_it=True, none=None)) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "info",
        "logger": "econed",
        "message": "value is so",
        "pid": 4711,
        "value": "so",
        "count": 2,
        "part": 0.5,
        "is_it": True,
        "none": None,
    }


def test_a_field_cannot_replace_a_common_field() -> None:
    fields = as_json(event(value="so", level="critical", logger="root", time="never", pid=1, message="no"))
    assert (fields["level"], fields["logger"], fields["pid"], fields["message"]) == (
        "info",
        "econed",
        4711,
        "value is so",
    )


def test_objects_and_fields_of_other_packages_are_not_in_json() -> None:
    """The `repr` of a Twisted object may contain secrets, such as the signature in a URL."""
    assert "value" not in as_json(event(value=object()))
    assert "secret" not in as_json(event("x", log_namespace="twisted.web.http", secret="hidden"))
    assert "secret" not in as_json(event("x", log_namespace="econedless", secret="hidden"))


def test_an_event_without_a_message_has_no_line() -> None:
    assert log_lines.text_formatter()({"log_time": NOW}) is None
    assert log_lines.json_formatter(lambda: 1)({"log_time": NOW}) is None


def test_the_line_of_an_event_that_cannot_be_formatted_has_only_the_names_of_its_fields() -> None:
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
    line = text(event(value=hostile))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert line.encode("utf-8")
    assert as_json(event(value=hostile))["value"] == hostile


def test_the_name_of_a_logger_or_a_traceback_cannot_forge_a_line() -> None:
    assert len(text(event(value="so", log_namespace=FORGED)).splitlines()) == 1
    failed = event(value="so", log_failure=raised(OpenNebulaUnavailable("one.vm.info", FORGED)))
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
def test_a_word_from_a_client_is_logged_as_one_word(word: str, quoted: str) -> None:
    assert log_lines.quoted(word) == quoted


# Failures


def test_a_failure_is_logged_with_its_traceback() -> None:
    line = text(event("it failed", log_failure=raised(ZeroDivisionError("division by zero"))))
    first, *rest = line.split("\n")
    assert first.endswith("it failed")
    assert all(traceback_line.startswith("\t") for traceback_line in rest)
    assert rest[0] == "\tTraceback (most recent call last):"
    assert any(traceback_line.endswith(", in fails") and __file__ in traceback_line for traceback_line in rest)
    assert "\t    raise error" in rest
    assert rest[-1] == "\tZeroDivisionError: division by zero"


def test_json_has_the_traceback_in_a_separate_field() -> None:
    fields = as_json(event("it failed", log_failure=raised(ZeroDivisionError("division by zero"))))
    assert fields["message"] == "it failed"
    assert fields["traceback"].startswith("Traceback")
    assert fields["traceback"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, AssertionError, Exception])
def test_the_message_of_an_exception_that_may_contain_client_data_is_not_logged(error: type[Exception]) -> None:
    line = text(event("it failed", log_failure=raised(error("#!/bin/sh echo hunter2"))))
    assert "hunter2" not in line
    assert f"\t{error.__name__}: (its message is not shown" in line


@pytest.mark.parametrize(
    ("error", "message"),
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
def test_messages_about_code_or_the_system_are_logged(error: Any, message: str) -> None:
    if callable(error):
        with pytest.raises(UnicodeDecodeError) as caught:
            error()
        error = caught.value
    assert log_lines.safe_message(error) == message


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
    "exception",
    [
        ValueError,
        AttributeError,
        TypeError,
        lambda message: OSError(5, message),
        lambda message: EC2Error("Invalid", message),
        lambda message: OpenNebulaRefusal("one.vm.allocate", 4096, message),
    ],
)
def test_no_traceback_contains_anything_that_looks_like_a_secret(secret: str, exception: Any) -> None:
    line = text(event("it failed", log_failure=raised(exception(f"cannot read {secret}, sorry"))))
    assert not any(part in line for part in secret.split("\n"))


def test_a_sealed_text_is_redacted_wherever_it_is_cut() -> None:
    """Session tokens are URL-safe base64, so of letters, digits, `-` and `_`."""
    sealed = "UbeLGhG4X08Oa0Ll9wpQQOmTj8T7TlVBdUsUs_Hb-UuNuvAq6wUu6dZEd9iPSQAJPHUMmD-lEtmtlwEr2L7Fn0QF-67B3Fr5phGVQ"
    for length in (len(sealed), 64, 50):
        assert log_lines.redacted(f"the action {sealed[:length]} is not valid") == "the action [redacted] is not valid"
    for start in range(len(sealed) - 50):
        assert log_lines.redacted(sealed[start:]) == "[redacted]"


def test_passwords_are_recognized_by_their_names() -> None:
    assert log_lines.redacted("no password=hunter2 here") == "no [redacted] here"
    assert log_lines.redacted('{"sessionToken": "abc"}') == '{"session[redacted]'
    assert log_lines.redacted("X-Amz-Security-Token: abc/1") == "X-Amz-Security-[redacted]"
    assert log_lines.redacted("Token: abc123") == "[redacted]"
    assert log_lines.redacted("password: hunter") == "[redacted]"
    assert "AKID" not in log_lines.redacted("Authorization: AWS4-HMAC-SHA256;AKID")
    assert "dXNlcjpwYXNz" not in log_lines.redacted("Authorization: Basic dXNlcjpwYXNz")


@pytest.mark.parametrize(
    "message",
    [
        "MissingAuthenticationToken: The request must be signed.",
        "InvalidNextToken: The specified pagination token is not valid.",
        "SignatureDoesNotMatch: The request signature does not match.",
        "the token: expired, the signature: wrong",
    ],
)
def test_plain_words_are_not_redacted(message: str) -> None:
    """The words after the name of an error are the beginning of a sentence."""
    assert log_lines.redacted(message) == message
    code, _, sentence = message.partition(": ")
    assert log_lines.safe_message(EC2Error(code, sentence)) == message


def test_an_error_code_is_never_redacted() -> None:
    """This holds for any message; secrets in the message itself are redacted."""
    assert (
        log_lines.safe_message(EC2Error("InvalidClientTokenId", "'X' is none")) == "InvalidClientTokenId: 'X' is none"
    )
    assert SECRET_KEY not in log_lines.safe_message(EC2Error("InvalidClientTokenId", SECRET_KEY))


def test_the_shortest_text_that_looks_like_a_secret_has_32_characters() -> None:
    assert log_lines.redacted("0123456789abcdef" * 2) == "[redacted]"
    assert log_lines.redacted(("0123456789abcdef" * 2)[1:]) == ("0123456789abcdef" * 2)[1:]


def test_paths_ids_and_addresses_are_not_redacted() -> None:
    message = (
        "[VirtualMachineAction] wrong state of /var/lib/one/datastores/100/7/checkpoint/templates/disks "
        "0b9ae2a4-3c34-4f8c-8a4e-9b4a6b5b8f0e 2001:db8::1 i-00000007"
    )
    assert log_lines.redacted(message) == message


# The length of lines


LONG = ["x" * 100_000, "\x00" * 100_000, "\U0001f600" * 50_000, "\ud800" * 50_000, '"\\' * 50_000, "a b " * 50_000]


@pytest.mark.parametrize("long", LONG, ids=ascii_name)
def test_no_line_of_text_is_longer_than_a_few_kilobytes(long: str) -> None:
    """There is room for the newline and for systemd's priority."""
    failed = raised(OpenNebulaRefusal("one.vm.action", 2048, long))
    line = text(event("{value} and {more}", value=long, more="the end", log_namespace=long, log_failure=failed))
    assert all(len(part.encode()) <= log_lines.MAX_LINE - len("<6>\n") for part in line.split("\n"))
    assert line.split("\n")[0].endswith(" and the end")


@pytest.mark.parametrize("long", LONG, ids=ascii_name)
def test_no_object_of_json_is_longer_than_a_few_kilobytes(long: str) -> None:
    """Some or all values may be long; short values are kept."""
    failed = raised(OpenNebulaRefusal("one.vm.action", 2048, long))
    logged = event(
        "{value}", value=long, another=long, third=long, short="so", log_namespace="econed", log_failure=failed
    )
    line = log_lines.json_formatter(lambda: 1)(logged)
    assert line is not None
    assert len(line.encode()) <= log_lines.MAX_OBJECT
    fields = json.loads(line)
    assert fields["short"] == "so"
    assert fields["traceback"].startswith("Traceback")


def test_an_integer_too_large_for_str_is_logged_in_hexadecimal() -> None:
    fields = as_json(event("it is so", number=10**5000))
    assert fields["message"] == "it is so"
    assert fields["number"].startswith("0x")


@pytest.mark.parametrize("long", LONG, ids=ascii_name)
def test_the_message_of_an_exception_is_shortened(long: str) -> None:
    assert len(log_lines.safe_message(EC2Error("Invalid", long)).encode("utf-8", "backslashreplace")) <= 1024


@pytest.mark.parametrize("position", [*range(16_300, 16_400, 7), 16_384, 5, 500])
def test_a_secret_at_the_end_of_a_truncated_message_is_not_logged_in_part(position: int) -> None:
    message = " ".join(["abcdefghi"] * 2000)[:position] + f" {SECRET_KEY} " + "y" * 20_000
    redacted = log_lines.redacted(message)
    assert not any(SECRET_KEY[start : start + 8] in redacted for start in range(len(SECRET_KEY) - 8))


@pytest.mark.parametrize("word", LONG, ids=ascii_name)
def test_a_long_word_of_any_characters_is_truncated(word: str) -> None:
    assert len(log_lines.quoted(word, 200)) <= 402


def test_causes_are_logged_without_any_variables() -> None:
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


def test_a_cycle_of_causes_is_logged_once() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    lines = log_lines.traceback_lines(Failure(first))
    assert [line for line in lines if line.startswith(("ValueError", "KeyError"))] == ["ValueError: ", "KeyError: "]


def test_a_cleaned_failure_is_logged_with_its_frames() -> None:
    failure = raised(ZeroDivisionError("division by zero"))
    failure.cleanFailure()
    lines = log_lines.traceback_lines(failure)
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert any("in fails" in line for line in lines)


def test_events_of_the_legacy_log_have_the_same_format() -> None:
    """`twisted.python.log.err` puts the whole traceback into its text, with the message of the exception."""
    events: list[LogEvent] = []
    publisher = LogPublisher(events.append)  # type: ignore[arg-type]
    legacy_publisher = legacy.LogPublisher(publishPublisher=publisher)
    failure = raised(ValueError("hunter2"))
    legacy_publisher.msg(failure=failure, isError=1, why="it went wrong", system="-")
    assert len(events) == 1
    line = text(events[0])
    assert "it went wrong\n\tTraceback" in line
    assert "hunter2" not in line
    assert "ValueError: (its message is not shown" in line


def test_events_of_twisted_have_the_same_format() -> None:
    events: list[LogEvent] = []
    observer: ILogObserver = events.append  # type: ignore[assignment]
    Logger(namespace="twisted.internet", observer=observer).failure("unhandled", raised(ValueError("hunter2")))
    line = text(events[0])
    assert "[twisted.internet#critical] unhandled" in line
    assert "hunter2" not in line
