"""Each request is logged in one line with user, action and result; a client cannot forge it."""

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

RECORD = AccessRecord(
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
    """Return the log event of a request."""
    events: list[LogEvent] = []
    access.write(Logger(namespace="econed", observer=events.append))  # type: ignore[arg-type]
    (logged,) = events
    return logged


def text(access: AccessRecord) -> str:
    """Return the line of text, without the time."""
    line = log_lines.text_formatter()(event(access))
    assert line is not None
    return line.partition(" ")[2]


def as_json(access: AccessRecord) -> dict[str, Any]:
    """Return the parsed line of JSON."""
    line = log_lines.json_formatter(lambda: 1)(event(access))
    assert line is not None
    return json.loads(line)  # type: ignore[no-any-return]


def test_the_line_has_action_user_source_and_result() -> None:
    assert text(RECORD) == (
        "[econed#info] RunInstances by alice from 10.0.0.7: 200 ok, 1234 bytes in 251 ms, "
        "4 oned calls in 400 ms, id 0b9ae2a4-3c34-4f8c-8a4e-9b4a6b5b8f0e"
    )


def test_json_has_the_same_facts_in_fields() -> None:
    fields = as_json(RECORD)
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
    assert text(RECORD).endswith(fields["message"])


def test_unknown_action_user_and_source_are_dashes() -> None:
    refused = replace(RECORD, action="", user="", source="", status=400, code="MissingAction")
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
def test_a_client_cannot_forge_the_line(field: str, hostile: str) -> None:
    """Parsed from the left, with quoted text as one word, the line has the right fields."""
    line = text(replace(RECORD, **{field: hostile}))  # type: ignore[arg-type]
    assert line.isprintable()
    word = r'("(?:[^"\\]|\\.)*"|\S+)'
    match = re.fullmatch(
        rf"\[econed#info\] {word} by {word} from {word}: 200 ok, 1234 bytes in 251 ms, "
        r"4 oned calls in 400 ms, id [0-9a-f-]{36}",
        line,
    )
    assert match is not None
    words = dict(zip(("action", "user", "source"), match.groups(), strict=True))
    assert words.pop(field).startswith('"')
    assert words == {name: getattr(RECORD, name) for name in words}
    shown = hostile[:64] if field == "action" else hostile
    assert as_json(replace(RECORD, **{field: hostile}))[field] == shown  # type: ignore[arg-type]


def test_a_very_long_word_from_a_client_is_truncated() -> None:
    long = replace(RECORD, action="x-" * 50_000)
    assert len(text(long)) < 500
    assert len(as_json(long)["action"]) == 64


REFUSED = replace(
    RECORD, user="", status=401, code="AuthFailure", refused_key="alice", refusal_reason="the user is disabled"
)


def test_a_failed_authentication_is_logged_with_the_claimed_key_and_the_reason() -> None:
    assert text(REFUSED).endswith(f"4 oned calls in 400 ms, id {RECORD.request_id}, key alice: the user is disabled")
    fields = as_json(REFUSED)
    assert (fields["refused_key"], fields["refusal_reason"]) == ("alice", "the user is disabled")
    without_key = replace(REFUSED, refused_key="", refusal_reason="the certificate cannot be parsed")
    assert text(without_key).endswith(f", id {RECORD.request_id}, key -: the certificate cannot be parsed")


@pytest.mark.parametrize("hostile", ['a: ok"\n[econed#info] x', "a\nb", "root: the user is disabled", "\u202e\x1b[2J"])
def test_the_claimed_key_cannot_forge_the_line(hostile: str) -> None:
    line = text(replace(REFUSED, refused_key=hostile))
    assert line.isprintable()
    assert re.search(r', id [0-9a-f-]{36}, key "(?:[^"\\]|\\.)*": the user is disabled$', line) is not None
    assert as_json(replace(REFUSED, refused_key=hostile))["refused_key"] == hostile


def test_a_secret_key_that_is_sent_as_the_access_key_is_not_logged() -> None:
    """Clients are configured with the two in each other's place."""
    secret = "0123456789abcdef" * 4
    for line in (text(replace(REFUSED, refused_key=secret)), str(as_json(replace(REFUSED, refused_key=secret)))):
        assert secret[:12] not in line
        assert "[redacted]" in line


@pytest.mark.parametrize("character", ["x", '"', "\u200b", "\\", "\x00"])
def test_the_line_of_a_failed_authentication_is_no_longer_than_before(character: str) -> None:
    """A line with an action of 200 characters was the longest that strangers could cause."""
    long = replace(REFUSED, action=character * 9999, refused_key=character * 9999, refusal_reason="x" * 65)
    longest = 2 * 200 + len(text(replace(RECORD, action="", user="", status=401, code="AuthFailure"))) + 8
    assert len(text(long)) <= longest


def test_a_duration_is_never_negative() -> None:
    assert "bytes in 0 ms" in text(replace(RECORD, seconds=-3.0))


def test_calls_to_oned_are_logged_at_debug_level_with_the_request_id() -> None:
    events: list[LogEvent] = []
    log = Logger(namespace="econed", observer=events.append)  # type: ignore[arg-type]
    call_logger(log, "0b9ae2a4")("one.vm.info", 0.0123, "ok")
    call_logger(log)("one.userpool.info", 30.0, "unavailable")
    assert [event["log_level"] for event in events] == [LogLevel.debug] * 2
    assert [str(log_lines.text_formatter()(event)).partition("] ")[2] for event in events] == [
        "oned: one.vm.info ok in 12 ms, for 0b9ae2a4",
        "oned: one.userpool.info unavailable in 30000 ms, for no request",
    ]


def test_the_string_of_a_raw_request_does_not_contain_the_query() -> None:
    """The query of a signed URL contains the signature, which must not be logged."""
    request = RawRequest.__new__(RawRequest)
    request.method, request.uri, request.clientproto = b"GET", b"/?Signature=x", b"HTTP/1.1"
    assert "Signature" not in f"{request} {request!r}"
