"""The messages between the supervisor and its workers."""

from __future__ import annotations

import json

import pytest

from econed.process import messages
from econed.process.messages import (
    Begin,
    Command,
    CountsReply,
    Drain,
    Draining,
    Failed,
    GetCounts,
    Heartbeat,
    InvalidMessage,
    LineBuffer,
    PassedSocket,
    Ready,
    ReopenLog,
    Report,
    encode,
)

BEGIN = Begin(
    ":port: 1\n# ü\n",
    "/etc/one/econe.conf",
    1,
    2,
    (PassedSocket(5, True, "0.0.0.0:4568"), PassedSocket(6, False, "[::1]:4567")),
    {"kind": "file", "name": "/var/log/one/econe.log"},
)


@pytest.mark.parametrize("command", [BEGIN, Drain(), ReopenLog(), GetCounts(7)])
def test_a_command_is_decoded_as_it_was_encoded(command: Command) -> None:
    """From one line."""
    line = encode(command)
    assert line.count(b"\n") == 1
    assert messages.parse_command(line) == command


@pytest.mark.parametrize(
    "report",
    [Ready(), Failed("no such file:\nx"), Draining(), Heartbeat({"a": [[[], [1.5]]]}), CountsReply(7, {"a": []})],
)
def test_a_report_is_decoded_as_it_was_encoded(report: Report) -> None:
    """From one line, also with line ends in its text."""
    line = encode(report)
    assert line.count(b"\n") == 1
    assert messages.parse_report(line) == report


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"type": "Exit"}',
        b'{"type": "Drain", "now": true}',
        b'{"type": "GetCounts"}',
        b'{"type": ["Drain"]}',
        b"\xff",
        encode(Ready()),
        json.dumps({"type": "Begin", "text": "", "path": "", "index": 0, "of": 1, "sockets": 3, "log": {}}).encode(),
    ],
)
def test_a_line_that_is_not_a_command_is_invalid(line: bytes) -> None:
    """Also a report."""
    with pytest.raises(InvalidMessage):
        messages.parse_command(line)


def test_a_command_is_not_a_valid_report() -> None:
    """The supervisor accepts reports only."""
    with pytest.raises(InvalidMessage):
        messages.parse_report(encode(Drain()))


def test_lines_may_arrive_in_any_pieces() -> None:
    """Pipes do not preserve the boundaries of writes."""
    lines = LineBuffer()
    data = encode(Drain()) + encode(GetCounts(1)) + encode(GetCounts(2))
    complete = [line for start in range(len(data)) for line in lines.feed(data[start : start + 1])]
    assert [messages.parse_command(line) for line in complete] == [Drain(), GetCounts(1), GetCounts(2)]
    assert len(lines.feed(data)) == 3


def test_a_line_that_is_too_long_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its end arrives: it would use up the memory."""
    monkeypatch.setattr(messages, "MAX_LINE", 100)
    with pytest.raises(InvalidMessage):
        LineBuffer().feed(b"x" * 101)
