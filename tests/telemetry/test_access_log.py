"""Each request gets one line that says who wanted what, and what came of it; nobody outside can forge it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from twisted.logger import LogEvent, Logger, LogLevel

from econed.http.request import RawRequest
from econed.telemetry import log_lines
from econed.telemetry.access_log import AccessRecord, call_logger

ONE = AccessRecord(
    action="RunInstances",
    user="alice",
    source="10.0.0.7",
    status=200,
    code="",
    length=1234,
    seconds=0.2506,
    oned_calls=4,
    oned_seconds=0.3999,
    request_id="0b9ae2a4-3c34-4f8c-8a4e-9b4a6b5b8f0e",
)


def event(access: AccessRecord) -> LogEvent:
    """Return the event of a request."""
    events: list[LogEvent] = []
    access.write(Logger(namespace="econed", observer=events.append))  # type: ignore[arg-type]
    (only,) = events
    return only


def text(access: AccessRecord) -> str:
    """Return its line of text, without the time."""
    line = log_lines.text_formatter()(event(access))
    assert line is not None
    return line.partition(" ")[2]


def as_json(access: AccessRecord) -> dict[str, Any]:
    """Return its line of JSON, read."""
    line = log_lines.json_formatter(lambda: 1)(event(access))
    assert line is not None
    return json.loads(line)  # type: ignore[no-any-return]


def test_the_line_says_who_wanted_what_and_what_came_of_it() -> None:
    assert text(ONE) == (
        "[econed#info] RunInstances by alice from 10.0.0.7: 200 ok, 1234 bytes in 251 ms, "
        "4 oned calls in 400 ms, id 0b9ae2a4-3c34-4f8c-8a4e-9b4a6b5b8f0e"
    )


def test_json_has_the_same_in_fields() -> None:
    fields = as_json(ONE)
    assert {key: fields[key] for key in fields if key not in ("time", "level", "logger", "message", "pid")} == {
        "action": "RunInstances",
        "user": "alice",
        "source": "10.0.0.7",
        "status": 200,
        "code": "ok",
        "bytes": 1234,
        "milliseconds": 251,
        "oned_calls": 4,
        "oned_milliseconds": 400,
        "request_id": "0b9ae2a4-3c34-4f8c-8a4e-9b4a6b5b8f0e",
    }
    assert text(ONE).endswith(fields["message"])


def test_what_never_became_known_is_a_dash() -> None:
    refused = replace(ONE, action="", user="", source="", status=400, code="MissingAction")
    assert "] - by - from -: 400 MissingAction, " in text(refused)
    assert (as_json(refused)["action"], as_json(refused)["user"]) == ("", "")


@pytest.mark.parametrize("field", ["action", "user", "source"])
@pytest.mark.parametrize(
    "hostile",
    [
        "x by root from 10.0.0.1: 200 ok, 1 bytes in 1 ms, 0 oned calls in 0 ms, id 0",
        "x\n2026-01-01T00:00:00+0000 [econed#info] x by root from 10.0.0.1: 200 ok",
        '" by root from "10.0.0.1',
        "\x1b[2Jx\u2028\x85",
    ],
)
def test_nobody_can_forge_it(field: str, hostile: str) -> None:
    """Taken apart from the left, with what is in quotation marks as one word, it says what it should."""
    line = text(replace(ONE, **{field: hostile}))  # type: ignore[arg-type]
    assert line.isprintable()
    word = r'("(?:[^"\\]|\\.)*"|\S+)'
    found = re.fullmatch(
        rf"\[econed#info\] {word} by {word} from {word}: 200 ok, 1234 bytes in 251 ms, "
        r"4 oned calls in 400 ms, id [0-9a-f-]{36}",
        line,
    )
    assert found is not None
    words = dict(zip(("action", "user", "source"), found.groups(), strict=True))
    assert words.pop(field).startswith('"')
    assert words == {each: getattr(ONE, each) for each in words}
    assert as_json(replace(ONE, **{field: hostile}))[field] == hostile  # type: ignore[arg-type]


def test_a_word_from_outside_is_cut_off_where_it_is_very_long() -> None:
    long = replace(ONE, action="x" * 100_000)
    assert len(text(long)) < 500
    assert len(as_json(long)["action"]) == 200


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    assert "bytes in 0 ms" in text(replace(ONE, seconds=-3.0))


def test_calls_to_oned_are_told_for_debugging_with_whom_they_were_for() -> None:
    events: list[LogEvent] = []
    log = Logger(namespace="econed", observer=events.append)  # type: ignore[arg-type]
    call_logger(log, "0b9ae2a4")("one.vm.info", 0.0123, "ok")
    call_logger(log)("one.userpool.info", 30.0, "unavailable")
    assert [event["log_level"] for event in events] == [LogLevel.debug] * 2
    assert [str(log_lines.text_formatter()(event)).partition("] ")[2] for event in events] == [
        "oned: one.vm.info ok in 12 ms, for 0b9ae2a4",
        "oned: one.userpool.info unavailable in 30000 ms, for no request",
    ]


def test_a_request_of_twisteds_does_not_show_its_query() -> None:
    """Whoever logs it logs its signature, in a URL that is signed."""
    request = RawRequest.__new__(RawRequest)
    request.method, request.uri, request.clientproto = b"GET", b"/?Signature=x", b"HTTP/1.1"
    assert "Signature" not in f"{request} {request!r}"
