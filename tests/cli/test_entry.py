"""Commands whose output is not read to its end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from econed.cli.entry import OUTPUT_CLOSED
from tests.cli.host import Host


def _run_with_closed_output(command: list[str], environ: dict[str, str], *, stderr: bool) -> tuple[int, str]:
    """Run a command into a pipe whose reader has ended; return its exit code and the rest of its output."""
    read, write = os.pipe()
    os.close(read)
    try:
        process = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write if stderr else subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    return process.returncode, process.stderr or ""


@pytest.mark.parametrize("arguments", [("stop",), ("configtest",)])
def test_a_command_ends_silently_if_nobody_reads_its_output(host: Host, arguments: tuple[str, ...]) -> None:
    """As with `econe-server check | head -1`."""
    assert _run_with_closed_output(host.command(*arguments), host.environ, stderr=False) == (OUTPUT_CLOSED, "")


@pytest.mark.usefixtures("oned")
@pytest.mark.slow
def test_the_check_of_a_cloud_ends_silently_if_nobody_reads_its_output(host: Host) -> None:
    """It prints its table while the reactor runs."""
    assert _run_with_closed_output(host.command("check"), host.environ, stderr=False) == (OUTPUT_CLOSED, "")


def test_a_command_that_fails_may_have_no_reader_of_its_errors(host: Host) -> None:
    assert _run_with_closed_output(host.command("status"), host.environ, stderr=True)[0] == OUTPUT_CLOSED


def test_the_reference_ends_silently_if_nobody_reads_it(host: Host) -> None:
    command = [sys.executable, "-m", "econed.cli.reference"]
    assert _run_with_closed_output(command, host.environ, stderr=False) == (OUTPUT_CLOSED, "")
