"""`make serve`: a server to try the aws cli on."""

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


def test_the_region_has_the_name_that_the_server_gives_it(tmp_path: Path) -> None:
    """As DescribeRegions and the names of the errors have it: letter for letter."""
    with running(command("serve", "--port", "0"), tmp_path) as server:
        exported = environment(server.lines_until("Ctrl-C ends it."))
        listing = subprocess.run(
            [require_tool("aws"), "ec2", "describe-regions", "--query", "Regions[].RegionName", "--output", "text"],
            env=clean(tmp_path) | exported,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=True,
        )
        server.interrupted(signal.SIGINT)
    assert listing.stdout.split() == [exported["AWS_DEFAULT_REGION"]]


def test_the_region_is_known_as_us_east_1_too(tmp_path: Path) -> None:
    """So what people have at hand runs as it is, whatever region their environment names."""
    with running(command("serve", "--port", "0"), tmp_path) as server:
        exported = environment(server.lines_until("Ctrl-C ends it."))
        asked = ["describe-availability-zones", "--filters", "Name=region-name,Values=us-east-1"]
        shown = [
            subprocess.run(
                [require_tool("aws"), "ec2", *asked, "--query", "AvailabilityZones[].[ZoneName]", "--output", "text"],
                env=clean(tmp_path) | exported | more,
                capture_output=True,
                text=True,
                timeout=LONG,
                check=True,
            ).stdout.split()
            for more in ({}, {"AWS_DEFAULT_REGION": "us-east-1"})
        ]
        server.interrupted(signal.SIGINT)
    assert shown == [["default"], ["default"]]


def _requested(exported: dict[str, str]) -> None:
    """Make a request that the server refuses, as it is not signed."""
    with pytest.raises(HTTPError):
        urlopen(exported["AWS_ENDPOINT_URL_EC2"] + "/?Action=DescribeImages")


def test_what_a_person_reads_is_not_mixed_with_the_log(tmp_path: Path) -> None:
    """The log is in a file whose path is told, which is removed at the end."""
    with running(command("serve", "--port", "0"), tmp_path) as server:
        lines = server.lines_until("Ctrl-C ends it.")
        told = next(line for line in lines if line.startswith("Its log: "))
        log = Path(re.findall(r"^Its log: (\S+) \(removed at the end\)$", told)[0])
        _requested(environment(lines))
        until(lambda: "DescribeImages" in log.read_text("utf-8"), "the line of the request", LONG)
        assert server.interrupted(signal.SIGINT) == 0
        assert server.process.stdout is not None
        after = server.process.stdout.read()
    assert "EC2Site starting" not in "\n".join(lines)
    assert after.strip() == ""
    assert not log.exists()


def test_the_log_is_kept_in_a_file_of_ones_choice(tmp_path: Path) -> None:
    log = tmp_path / "mine.log"
    log.write_text("before\n", "utf-8")
    with running(command("serve", "--port", "0", "--log", str(log)), tmp_path) as server:
        assert f"Its log: {log}" in server.lines_until("Ctrl-C ends it.")
        assert server.interrupted(signal.SIGINT) == 0
    assert re.match(r"before\n(.*\n)*.*EC2Site starting", log.read_text("utf-8"))


def test_the_log_is_shown_to_those_who_ask_for_it(tmp_path: Path) -> None:
    with running(command("serve", "--port", "0", "--verbose"), tmp_path) as server:
        lines = server.lines_until("Ctrl-C ends it.")
        _requested(environment(lines))
        server.lines_until("DescribeImages")
        assert server.interrupted(signal.SIGINT) == 0
    assert any("EC2Site starting" in line for line in lines)


def test_a_server_that_ends_by_itself_is_a_failure_that_shows_its_last_words(tmp_path: Path) -> None:
    with running(command("serve", "--port", "0"), tmp_path) as server:
        server.lines_until("Ctrl-C ends it.")
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text("ascii").split()
        os.kill(int(children[0]), signal.SIGKILL)
        server.lines_until("FAILED: the server has ended")
        assert server.process.wait(LONG) == 1
        assert server.process.stdout is not None
        assert "EC2Site starting" in server.process.stdout.read()


def test_a_port_that_is_taken_is_said_and_is_a_failure(tmp_path: Path) -> None:
    """With the system's own words for it."""
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
