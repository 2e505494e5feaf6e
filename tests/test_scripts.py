"""The administrator's scripts as real processes: their arguments, output, failures and timeouts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import LogEvent, Logger, capturedLogs
from zope.interface.verify import verifyObject

from econed.errors import ScriptFailed
from econed.interfaces import IScripts
from econed.scripts import MAX_OUTPUT, Scripts
from econed.telemetry import log_lines
from tests.support.cloud import NoScripts
from tests.support.scripts import FakeScripts

IP, PRIVATE, DOCUMENT = IPv4Address("203.0.113.10"), IPv4Address("10.0.0.5"), "PFZORVQ+PC9WTkVUPg=="
LONG = 30.0
"""A timeout in seconds that is not reached."""

Make = Callable[..., Scripts]


@pytest.fixture
def scripts(tmp_path: Path) -> Make:
    """Return a function that returns a `Scripts` for the text of a shell script; `$here` is `tmp_path`."""

    def make(text: str, timeout: float = LONG) -> Scripts:
        script = tmp_path / "script"
        script.write_text(f'#!/bin/sh\nhere="{tmp_path}"\n{text}\n', "utf-8")
        script.chmod(0o755)
        return Scripts(reactor, [str(script), "first"], [str(script)], timeout, Logger("econed.scripts"))

    return make


@pytest.fixture
def logged() -> Any:
    """The events that are logged."""
    with capturedLogs() as events:
        yield events


async def run(scripts: Scripts, ip: IPv4Address = IP, max_seconds: float = LONG) -> None:
    """Run the associate script."""
    await scripts.associate(ip, PRIVATE, DOCUMENT, max_seconds)


async def failure_of(scripts: Scripts, max_seconds: float = LONG) -> ScriptFailed:
    """Run the associate script, which must fail, and return the error."""
    try:
        await run(scripts, max_seconds=max_seconds)
    except ScriptFailed as error:
        return error
    raise AssertionError("the script did not fail")


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_scripts_and_their_stand_ins_provide_the_interface() -> None:
    assert verifyObject(IScripts, Scripts(reactor, None, None, 1.0, Logger("test")))
    assert verifyObject(IScripts, FakeScripts())
    assert verifyObject(IScripts, NoScripts())


@pytest_twisted.ensureDeferred
async def test_a_script_gets_three_arguments_after_the_configured_ones(scripts: Make, tmp_path: Path) -> None:
    runner = scripts('printf "%s\\n" "$#" "$@" > "$here/arguments"')
    arguments = tmp_path / "arguments"
    await runner.associate(IP, PRIVATE, "$(touch hacked); `x` 'y'", LONG)
    assert arguments.read_text("utf-8").splitlines() == [
        "4", "first", str(IP), str(PRIVATE), "$(touch hacked); `x` 'y'"
    ]  # fmt: skip
    await runner.disassociate(IP, PRIVATE, DOCUMENT, LONG)
    assert arguments.read_text("utf-8").splitlines() == ["3", str(IP), str(PRIVATE), DOCUMENT]
    await runner.disassociate(IP, None, DOCUMENT, LONG)
    assert arguments.read_text("utf-8").splitlines() == ["3", str(IP), "", DOCUMENT]


@pytest.mark.parametrize("text", ["10.0.0.99 } ; flush ruleset ; {", "--help $(id)", "10.0.0.5", ""])
@pytest_twisted.ensureDeferred
async def test_a_text_in_place_of_an_address_is_refused(scripts: Make, tmp_path: Path, text: Any) -> None:
    runner = scripts('touch "$here/ran"')
    for elastic, private in ((text, PRIVATE), (IP, text)):
        with pytest.raises(AttributeError):
            await runner.associate(elastic, private, DOCUMENT, LONG)
        with pytest.raises(AttributeError):
            await runner.disassociate(elastic, private, DOCUMENT, LONG)
    assert not (tmp_path / "ran").exists()


@pytest_twisted.ensureDeferred
async def test_a_script_has_a_minimal_environment_and_an_empty_standard_input(
    scripts: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE_AUTH_SECRET", "secret")
    await run(scripts('env > "$here/environment"; cat > "$here/input"; pwd > "$here/directory"'))
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text("utf-8").splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "LANG"}
    assert (tmp_path / "input").read_text("utf-8") == ""
    assert (tmp_path / "directory").read_text("utf-8") == "/\n"


@pytest_twisted.ensureDeferred
async def test_a_script_has_its_own_process_group_and_default_sigpipe(scripts: Make, tmp_path: Path) -> None:
    await run(scripts('echo $$ > "$here/pid"; cut -d " " -f 5 /proc/$$/stat > "$here/group"; yes | head -n 1'))
    group = (tmp_path / "group").read_text("utf-8").strip()
    assert group == (tmp_path / "pid").read_text("utf-8").strip()
    assert int(group) != os.getpgrp()


@pytest_twisted.ensureDeferred
async def test_the_output_of_a_failed_script_is_in_the_log_and_not_in_the_error(
    scripts: Make, logged: list[LogEvent]
) -> None:
    error = await failure_of(scripts("echo the reason; echo more >&2; exit 3"))
    assert not error.was_killed
    assert "reason" not in str(error)
    (event,) = logged
    assert "the reason" in event["output"]
    assert "more" in event["output"]
    assert "exit status 3" in event["how"]
    assert event["script"] == "associate_script"  # not its command, which may be sudo for both scripts


@pytest_twisted.ensureDeferred
async def test_a_script_that_cannot_be_started_fails(tmp_path: Path) -> None:
    error = await failure_of(Scripts(reactor, [str(tmp_path / "missing")], None, LONG, Logger("test")))
    assert not error.was_killed


@pytest_twisted.ensureDeferred
async def test_a_script_that_was_killed_by_another_process_may_have_done_part_of_its_work(scripts: Make) -> None:
    assert (await failure_of(scripts("kill -9 $$"))).was_killed


@pytest_twisted.ensureDeferred
async def test_without_a_configured_script_nothing_is_run() -> None:
    none = Scripts(reactor, None, None, LONG, Logger("test"))
    await none.associate(IP, PRIVATE, DOCUMENT, LONG)
    await none.disassociate(IP, PRIVATE, DOCUMENT, LONG)
    assert not none.has_any


@pytest_twisted.ensureDeferred
async def test_after_its_timeout_a_script_is_killed_with_its_children(scripts: Make, tmp_path: Path) -> None:
    runner = scripts('sleep 600 & echo $! > "$here/child"; echo $$ > "$here/pid"; wait', timeout=0.5)
    assert (await failure_of(runner)).was_killed
    for name in ("pid", "child"):
        assert not is_alive(int((tmp_path / name).read_text("utf-8")))


@pytest_twisted.ensureDeferred
async def test_a_script_that_ignores_sigterm_is_killed(scripts: Make, tmp_path: Path) -> None:
    runner = scripts("trap '' TERM; echo $$ > \"$here/pid\"; while :; do sleep 0.1; done")
    assert (await failure_of(runner, max_seconds=0.5)).was_killed
    assert not is_alive(int((tmp_path / "pid").read_text("utf-8")))


@pytest_twisted.ensureDeferred
async def test_only_the_beginning_and_the_end_of_a_long_output_are_kept(scripts: Make, logged: list[LogEvent]) -> None:
    await run(scripts("echo first; head -c 10000000 /dev/zero | tr '\\0' x; echo last"))
    (event,) = logged
    assert len(event["output"]) <= 2 * MAX_OUTPUT + len("' ... '")
    assert event["output"].startswith("'first")
    assert event["output"].endswith("last'")


@pytest_twisted.ensureDeferred
async def test_the_output_of_a_script_is_one_line_of_limited_length_in_the_log(
    scripts: Make, logged: list[LogEvent]
) -> None:
    """The limit holds even if each byte is escaped by four characters."""
    await run(scripts("head -c 100000 /dev/zero"))
    (event,) = logged
    line = log_lines.text_formatter()({**event, "log_time": 0.0})
    assert line is not None
    assert "\n" not in line
    assert len(line.encode()) <= log_lines.MAX_LINE


@pytest_twisted.ensureDeferred
async def test_a_child_process_that_outlives_its_script_is_not_waited_for(scripts: Make, tmp_path: Path) -> None:
    """A daemon that the script starts may keep its output open; it is not killed."""
    await run(scripts('sleep 600 & echo $! > "$here/child"'))
    child = int((tmp_path / "child").read_text("utf-8"))
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


@pytest_twisted.ensureDeferred
async def test_scripts_for_one_address_run_one_after_the_other(scripts: Make, tmp_path: Path) -> None:
    runner = scripts(
        'mkdir "$here/$2" || exit 9; touch "$here/seen-$2"\n'
        'if [ "$2" = 203.0.113.10 ]; then while [ ! -e "$here/seen-203.0.113.11" ]; do sleep 0.05; done; fi\n'
        'rmdir "$here/$2"'
    )
    ended = await DeferredList([Deferred.fromCoroutine(run(runner, ip)) for ip in (IP, IP, IP + 1)])
    assert [succeeded for succeeded, _ in ended] == [True] * 3
    assert runner._locks == {}
