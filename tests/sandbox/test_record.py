"""Recording oned, as CONTRIBUTING.md describes it: the recording has oned's replies, and it can be replayed."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import pytest_twisted

from tests.sandbox.record import RecordingError, recorded
from tests.sandbox.replay import Call, IdMapping, Replay, read_file
from tests.sandbox.shifted_ids import ShiftedIds
from tests.sandbox.test_contract import IGNORED, IGNORED_WHEN_SHIFTED, check
from tests.support.running import finished, running

ROOT = Path(__file__).parents[2]

SECTION = (
    (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## Recordings of a real oned\n")[2].partition("\n## ")[0]
)
CALLS, USERS, COMMANDS = map(dedent, re.findall(r"(?:^    \S.*\n)+", SECTION, re.MULTILINE))
"""The indented blocks of the page: the two files, and the commands."""

OTHER_CALLS: Sequence[dict[str, Any]] = [
    {"scene": "users", "as": "oneadmin", "method": "one.user.allocate", "args": ["alice", "alicepw", "core", []]},
    {"scene": "users", "as": "serveradmin~alice", "method": "one.user.info", "args": [-1, False]},
    {"scene": "tokens", "as": "alice", "method": "one.user.login", "args": ["alice", "", 3600, -1]},
    {"scene": "tokens", "as": "alice/token", "method": "one.user.info", "args": [-1, False]},
    {"scene": "tokens", "as": "alice", "method": "one.user.login", "args": ["alice", "second", 1, -1]},
    {"scene": "tokens", "as": "alice/token#2", "method": "one.user.info", "args": [-1, False], "waited": 1.1},
    {"scene": "tokens", "as": "alice/token#1", "method": "one.user.login", "args": ["alice", "{token#2}", 0, -1]},
    {"scene": "tokens", "as": "alice", "method": "one.user.info", "args": [-1, False]},
    {"scene": "images", "as": "alice", "method": "one.nonsense.info", "args": [0]},
]
"""Calls after those of the page: the first and the last are refused, and the use of a token that has ended."""

PASSWORDS = {"oneadmin": "opennebula"}
UNTIL = {"path": "STATE", "in": ["1"]}


@contextmanager
def empty_sandbox(form: str) -> Iterator[str]:
    """Run a sandbox without users in another process; yield its URL."""
    sandbox = [sys.executable, "-m", "twisted", "econe-sandbox", "--port", "0", "--form", form, "--empty"]
    with running(sandbox, ROOT) as server:
        port = re.findall(r"starting on (\d+)", server.lines_until("starting on ")[-1])[0]
        yield f"http://127.0.0.1:{port}/RPC2"


def record(form: str, directory: Path) -> list[Call]:
    """Record the calls of the page and the others with the page's command; return the recording."""
    (directory / "CALLS").write_text(CALLS + "".join(json.dumps(call) + "\n" for call in OTHER_CALLS), "utf-8")
    (directory / "USERS").write_text(USERS, "utf-8")
    command, _, recording = COMMANDS.splitlines()[0].partition(" >")
    assert recording == "tests/data/recordings/VERSION-SUBJECT.jsonl"
    with empty_sandbox(form) as url:
        replaced = {"CALLS": str(directory / "CALLS"), "USERS": str(directory / "USERS"), "python": sys.executable}
        replaced["http://127.0.0.1:2633/RPC2"] = url
        arguments = shlex.split(command)
        assert replaced.keys() <= set(arguments)
        done = finished([replaced.get(argument, argument) for argument in arguments], ROOT)
    assert done.returncode == 0, done.stderr
    (directory / "recording").write_text(done.stdout, "utf-8")
    return read_file(directory / "recording")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["5.12", "7.4"])
@pytest_twisted.ensureDeferred
async def test_a_recording_of_a_sandbox_is_replayed_without_a_difference(form: str, tmp_path: Path) -> None:
    """It includes refused calls, a read until a state is reached, tokens and a wait; other ids do not matter."""
    calls = record(form, tmp_path)
    assert [call.reply[0] if isinstance(call.reply, list) else "fault" for call in calls] == [
        *(True, True, True),
        *(False, True, True, True, True, False, True, True, "fault"),
    ]
    check(await Replay(form, IdMapping(), ignored=list(IGNORED)).run(calls), at_least=60)
    check(await Replay(form, ShiftedIds(), ignored=[*IGNORED, *IGNORED_WHEN_SHIFTED]).run(calls), at_least=50)


def test_the_page_names_the_test_that_replays_the_recordings() -> None:
    program, module, pytest_module, path = shlex.split(COMMANDS.splitlines()[1])
    assert (program, module, pytest_module) == ("python", "-m", "pytest")
    assert (ROOT / path).is_file()
    assert len(COMMANDS.splitlines()) == 2


def _never(seconds: float) -> None:
    raise AssertionError(f"the read is repeated after {seconds} s")


@pytest.mark.slow
def test_a_refused_read_with_until_ends_the_recording_at_once() -> None:
    """The error has the call and the reply, whether oned refuses the call or returns a fault."""
    with empty_sandbox("7.4") as url:
        for method, reply in (("one.image.info", r"\[false, .*\[7\]"), ("one.nonsense.info", r'{"fault": \[')):
            call = {"scene": "images", "as": "oneadmin", "method": method, "args": [7, False], "until": UNTIL}
            with pytest.raises(RecordingError, match=rf'refused: .*"{method}", "args": \[7, false\].*{reply}'):
                list(recorded([call], url, PASSWORDS, sleep=_never))
        unreached = {"scene": "users", "as": "oneadmin", "method": "one.user.info", "args": [0, False], "until": UNTIL}
        times = iter([0.0, 0.0, 0.0, 500.0])
        with pytest.raises(RecordingError, match=r'not reached within 120 s: .*"one\.user\.info"'):
            list(recorded([unreached], url, PASSWORDS, now=lambda: next(times), sleep=lambda _: None))
        with pytest.raises(RecordingError, match=r"version of oned cannot be read: .*one\.system\.version"):
            list(recorded([], url, {"oneadmin": "wrong"}))


@pytest.mark.parametrize(
    ("users", "missing"),
    [("alice:alicepw\n", "oneadmin, serveradmin"), ("oneadmin:opennebula\nserveradmin:secret\n", "alice")],
)
def test_a_user_without_a_password_is_reported_before_the_first_call(users: str, missing: str, tmp_path: Path) -> None:
    calls = [
        {"scene": "users", "as": actor, "method": "one.user.info", "args": [-1, False]}
        for actor in ("alice/token", "serveradmin~bob")
    ]
    (tmp_path / "CALLS").write_text("".join(json.dumps(call) + "\n" for call in calls), "utf-8")
    (tmp_path / "USERS").write_text(users, "utf-8")
    command = [sys.executable, "-m", "tests.sandbox.record", str(tmp_path / "CALLS"), "--oned", "http://127.0.0.1:1/"]
    done = finished([*command, "--users", str(tmp_path / "USERS")], ROOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"the file of the users has no line NAME:PASSWORD for {missing}\n"
