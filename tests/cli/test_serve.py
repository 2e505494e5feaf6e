"""`make serve`: a server for trying out the AWS CLI."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from econed.cli.sandbox_server import FORMS
from tests.support.processes import until
from tests.support.running import LONG, command, running
from tests.support.tools import require_tool

pytestmark = pytest.mark.slow


def environment(lines: list[str]) -> dict[str, str]:
    """Return the variables that the export lines set."""
    return dict(pair for line in lines for pair in re.findall(r"^export (\w+)=(\S+)$", line))


def clean_environment(tmp_path: Path) -> dict[str, str]:
    """Return this environment without variables of AWS, and with a new home directory."""
    without_aws = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**without_aws, "HOME": str(tmp_path), "AWS_PAGER": "", "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize("form", FORMS)
def test_the_aws_cli_needs_nothing_but_the_export_lines(form: str, tmp_path: Path) -> None:
    """The export lines and the examples work exactly as printed; after ctrl-C the exit code is 0."""
    require_tool("aws")
    with running(command("serve", "--form", form, "--port", "0"), tmp_path) as server:
        lines = server.lines_until("Press Ctrl-C to stop.")
        exported = environment(lines)
        examples = [line for line in lines if line.startswith("aws ec2 ")]
        assert exported.keys() == {
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL",
        }
        assert len(examples) == 3
        outputs = [
            subprocess.run(
                ["sh", "-c", example.replace("aws", require_tool("aws"), 1)],
                env=clean_environment(tmp_path) | exported,
                capture_output=True,
                text=True,
                timeout=LONG,
                check=True,
            ).stdout
            for example in examples
        ]
        assert server.interrupted(signal.SIGINT) == 0
    assert outputs[0].split() == ["ami-00000000", "ubuntu-24.04"]
    assert sorted(re.findall(r'"InstanceId": "(i-\d+)"', outputs[1])) == ["i-00000000", "i-00000001"]
    assert sorted(re.findall(r"^(i-\d+)\s", outputs[2], re.MULTILINE)) == ["i-00000000", "i-00000001"]


def test_the_region_printed_is_the_name_that_describe_regions_returns(tmp_path: Path) -> None:
    with running(command("serve", "--port", "0"), tmp_path) as server:
        exported = environment(server.lines_until("Press Ctrl-C to stop."))
        listing = subprocess.run(
            [require_tool("aws"), "ec2", "describe-regions", "--query", "Regions[].RegionName", "--output", "text"],
            env=clean_environment(tmp_path) | exported,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=True,
        )
        server.interrupted(signal.SIGINT)
    assert listing.stdout.split() == [exported["AWS_DEFAULT_REGION"]]


def test_the_region_is_also_accepted_as_us_east_1(tmp_path: Path) -> None:
    """Existing scripts that set this region work unchanged."""
    with running(command("serve", "--port", "0"), tmp_path) as server:
        exported = environment(server.lines_until("Press Ctrl-C to stop."))
        arguments = ["describe-availability-zones", "--filters", "Name=region-name,Values=us-east-1"]
        zone_names = [
            subprocess.run(
                [
                    require_tool("aws"),
                    "ec2",
                    *arguments,
                    "--query",
                    "AvailabilityZones[].[ZoneName]",
                    "--output",
                    "text",
                ],
                env=clean_environment(tmp_path) | exported | region,
                capture_output=True,
                text=True,
                timeout=LONG,
                check=True,
            ).stdout.split()
            for region in ({}, {"AWS_DEFAULT_REGION": "us-east-1"})
        ]
        server.interrupted(signal.SIGINT)
    assert zone_names == [["default"], ["default"]]


def _send_unsigned_request(exported: dict[str, str]) -> None:
    """Send a request that the server rejects because it is not signed."""
    with pytest.raises(HTTPError):
        urlopen(exported["AWS_ENDPOINT_URL"] + "/?Action=DescribeImages")


def test_the_instructions_are_not_mixed_with_the_log(tmp_path: Path) -> None:
    """The log is in a temporary file, whose path is printed."""
    with running(command("serve", "--port", "0"), tmp_path) as server:
        lines = server.lines_until("Press Ctrl-C to stop.")
        log_line = next(line for line in lines if line.startswith("Log: "))
        log = Path(re.findall(r"^Log: (\S+) \(removed on exit\)$", log_line)[0])
        _send_unsigned_request(environment(lines))
        until(lambda: "DescribeImages" in log.read_text("utf-8"), "the log line of the request", LONG)
        assert server.interrupted(signal.SIGINT) == 0
        assert server.process.stdout is not None
        remaining_output = server.process.stdout.read()
    assert "EC2Site starting" not in "\n".join(lines)
    assert remaining_output.strip() == ""
    assert not log.exists()


def test_the_log_is_appended_to_the_file_given(tmp_path: Path) -> None:
    log = tmp_path / "mine.log"
    log.write_text("before\n", "utf-8")
    with running(command("serve", "--port", "0", "--log", str(log)), tmp_path) as server:
        assert f"Log: {log}" in server.lines_until("Press Ctrl-C to stop.")
        assert server.interrupted(signal.SIGINT) == 0
    assert re.match(r"before\n(.*\n)*.*EC2Site starting", log.read_text("utf-8"))


def test_the_log_is_printed_with_verbose(tmp_path: Path) -> None:
    with running(command("serve", "--port", "0", "--verbose"), tmp_path) as server:
        lines = server.lines_until("Press Ctrl-C to stop.")
        _send_unsigned_request(environment(lines))
        server.lines_until("DescribeImages")
        assert server.interrupted(signal.SIGINT) == 0
    assert any("EC2Site starting" in line for line in lines)


def test_an_unexpected_exit_of_the_server_is_a_failure_and_prints_the_end_of_its_log(tmp_path: Path) -> None:
    with running(command("serve", "--port", "0"), tmp_path) as server:
        server.lines_until("Press Ctrl-C to stop.")
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text("ascii").split()
        os.kill(int(children[0]), signal.SIGKILL)
        server.lines_until("FAILED: the server exited")
        assert server.process.wait(LONG) == 1
        assert server.process.stdout is not None
        assert "EC2Site starting" in server.process.stdout.read()


def test_a_port_in_use_is_a_failure(tmp_path: Path) -> None:
    """The system's error message is printed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with running(command("serve", "--port", str(taken.getsockname()[1])), tmp_path) as server:
            lines = server.lines_until("FAILED: the server did not start")
            assert server.process.wait(LONG) == 1
            assert server.process.stdout is not None
            lines += server.process.stdout.read().splitlines()
    assert any("Address already in use" in line for line in lines)
    assert not any("export" in line for line in lines)
