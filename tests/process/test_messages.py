"""The lines between supervisor and workers."""

from __future__ import annotations

import json

import pytest

from econed.process import messages
from econed.process.messages import (
    Ask,
    Beat,
    Begin,
    Command,
    Counted,
    Drain,
    Draining,
    Failed,
    Garbled,
    Handed,
    Lines,
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
    (Handed(5, True, "0.0.0.0:4568"), Handed(6, False, "[::1]:4567")),
    {"kind": "file", "name": "/var/log/one/econe.log"},
)


@pytest.mark.parametrize("command", [BEGIN, Drain(), ReopenLog(), Ask(7)])
def test_a_command_arrives_as_it_was_sent(command: Command) -> None:
    """On one line."""
    line = encode(command)
    assert line.count(b"\n") == 1
    assert messages.command(line) == command


@pytest.mark.parametrize(
    "report", [Ready(), Failed("no such file:\nx"), Draining(), Beat({"a": [[[], [1.5]]]}), Counted(7, {"a": []})]
)
def test_a_report_arrives_as_it_was_sent(report: Report) -> None:
    """On one line, whatever it says."""
    line = encode(report)
    assert line.count(b"\n") == 1
    assert messages.report(line) == report


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"is": "Exit"}',
        b'{"is": "Drain", "now": true}',
        b'{"is": "Ask"}',
        b'{"is": ["Drain"]}',
        b"\xff",
        encode(Ready()),
        json.dumps({"is": "Begin", "text": "", "path": "", "index": 0, "of": 1, "sockets": 3, "log": {}}).encode(),
    ],
)
def test_what_is_no_command_is_garbled(line: bytes) -> None:
    """A report is none either."""
    with pytest.raises(Garbled):
        messages.command(line)


def test_a_command_is_no_report() -> None:
    """Each side takes what it is meant to get."""
    with pytest.raises(Garbled):
        messages.report(encode(Drain()))


def test_lines_come_in_any_pieces() -> None:
    """As pipes cut them."""
    lines = Lines()
    data = encode(Drain()) + encode(Ask(1)) + encode(Ask(2))
    found = [line for number in range(len(data)) for line in lines.of(data[number : number + 1])]
    assert [messages.command(line) for line in found] == [Drain(), Ask(1), Ask(2)]
    assert len(lines.of(data)) == 3


def test_a_line_without_an_end_is_garbled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it takes all memory."""
    monkeypatch.setattr(messages, "LONGEST", 100)
    with pytest.raises(Garbled):
        Lines().of(b"x" * 101)
