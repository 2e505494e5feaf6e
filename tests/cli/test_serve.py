"""`make serve`: a server to try the aws cli on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from econed.cli.sandbox_server import FORMS
from tests.support.running import LONG, command, running
from tests.support.tools import require_tool


def environment(lines: list[str]) -> dict[str, str]:
    """Return what the export lines set."""
    return dict(pair for line in lines for pair in re.findall(r"^export (\w+)=(\S+)$", line))


def clean(tmp_path: Path) -> dict[str, str]:
    """Return this environment without anything of AWS, and with a home directory of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "HOME": str(tmp_path), "AWS_PAGER": "", "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize("form", FORMS)
def test_the_aws_cli_needs_nothing_but_the_export_lines(form: str, tmp_path: Path) -> None:
    """They and the examples are taken as they are printed; ctrl-C then ends the server, and that is no error."""
    require_tool("aws")
    with running(command("serve", "--form", form, "--port", "0"), tmp_path) as server:
        lines = server.lines_until("Ctrl-C ends it.")
        exported = environment(lines)
        examples = [line for line in lines if line.startswith("aws ec2 ")]
        assert exported.keys() == {
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL_EC2",
        }
        assert len(examples) == 3
        told = [
            subprocess.run(
                ["sh", "-c", example.replace("aws", require_tool("aws"), 1)],
                env=clean(tmp_path) | exported,
                capture_output=True,
                text=True,
                timeout=LONG,
                check=True,
            ).stdout
            for example in examples
        ]
        assert server.interrupted(signal.SIGINT) == 0
    assert told[0].split() == ["ami-00000000", "ubuntu-24.04"]
    assert sorted(re.findall(r'"InstanceId": "(i-\d+)"', told[1])) == ["i-00000000", "i-00000001"]
    assert sorted(re.findall(r"^(i-\d+)\s", told[2], re.MULTILINE)) == ["i-00000000", "i-00000001"]


def test_a_port_that_is_taken_is_said_and_is_a_failure(tmp_path: Path) -> None:
    """With the system's own words for it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with running(command("serve", "--port", str(taken.getsockname()[1])), tmp_path) as server:
            lines = server.lines_until("FAILED: the server did not start")
            assert server.process.wait(LONG) == 1
    assert any("Address already in use" in line for line in lines)
    assert not any("export" in line for line in lines)
