"""Recording oned: what is recorded is what oned replied, and it can be replayed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.sandbox.replay import IdMapping, Replay, read_file
from tests.sandbox.test_contract import IGNORED, check
from tests.support.running import finished, running

ROOT = Path(__file__).parents[2]

SCRIPT: list[dict[str, Any]] = [
    {"scene": "users", "as": "oneadmin", "method": "one.user.allocate", "args": ["alice", "alicepw", "core", []]},
    {"scene": "users", "as": "oneadmin", "method": "one.user.allocate", "args": ["alice", "alicepw", "core", []]},
    {"scene": "users", "as": "serveradmin~alice", "method": "one.user.info", "args": [-1, False]},
    {"scene": "tokens", "as": "alice", "method": "one.user.login", "args": ["alice", "", 3600, -1]},
    {"scene": "tokens", "as": "alice/token", "method": "one.user.info", "args": [-1, False]},
    {
        "scene": "images",
        "as": "alice",
        "method": "one.image.allocate",
        "args": ['NAME="disk" TYPE="DATABLOCK" SIZE="10" PERSISTENT="YES"', 1],
    },
    {
        "scene": "images",
        "as": "alice",
        "method": "one.image.info",
        "args": [0, False],
        "until": {"path": "STATE", "in": ["1"]},
    },
    {"scene": "images", "as": "alice", "method": "one.nonsense.info", "args": [0]},
]


def record(form: str, directory: Path) -> Path:
    """Record the script at a sandbox in another process; return the recording."""
    script, users, recording = directory / "script", directory / "users", directory / "recording"
    script.write_text("".join(json.dumps(call) + "\n" for call in SCRIPT), "utf-8")
    users.write_text("oneadmin:opennebula\nserveradmin:serverpassword\nalice:alicepw\n", "utf-8")
    sandbox = [sys.executable, "-m", "twisted", "econe-sandbox", "--port", "0", "--form", form, "--empty"]
    with running(sandbox, ROOT) as server:
        port = re.findall(r"starting on (\d+)", server.lines_until("starting on ")[-1])[0]
        command = [sys.executable, "-m", "tests.sandbox.record", str(script), "--users", str(users)]
        done = finished([*command, "--oned", f"http://127.0.0.1:{port}/RPC2"], ROOT)
    assert done.returncode == 0, done.stderr
    recording.write_text(done.stdout, "utf-8")
    return recording


@pytest.mark.slow
@pytest.mark.parametrize("form", ["5.12", "7.4"])
@pytest_twisted.ensureDeferred
async def test_a_recording_of_a_sandbox_is_replayed_without_a_difference(form: str, tmp_path: Path) -> None:
    """Also what is refused, what is waited for and what a token is used for."""
    calls = read_file(record(form, tmp_path))
    assert [call.reply[0] if isinstance(call.reply, list) else "fault" for call in calls] == [
        *(True, False, True, True, True, True, True, "fault")
    ]
    check(await Replay(form, IdMapping(), ignored=list(IGNORED)).run(calls), at_least=60)
