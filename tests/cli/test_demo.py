"""`make demo`."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from econed.cli.sandbox_server import FORMS, sandbox_server
from tests.support.running import command, finished, running

pytestmark = pytest.mark.slow

CALLS = (
    "DescribeImages",
    "CreateKeyPair",
    "RunInstances",
    "wait instance_running",
    "DescribeInstances",
    "StopInstances",
    "wait instance_stopped",
    "StartInstances",
    "wait instance_running",
    "TerminateInstances",
    "wait instance_terminated",
    "DescribeInstances",
    "DeleteKeyPair",
)


@pytest.mark.parametrize("form", FORMS)
def test_the_demo_launches_stops_starts_and_terminates_two_instances(form: str, tmp_path: Path) -> None:
    """It makes the same calls in the same order on both forms."""
    completed = finished(command("demo", "--form", form), tmp_path)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"OpenNebula {form}" in completed.stdout
    assert tuple(re.findall(r"^(wait \w+|[A-Z]\w+)\(", completed.stdout, re.MULTILINE)) == CALLS
    running_ids = re.findall(
        r"^ +(i-\d+) +running +m1\.small +default +10\.0\.\S+ +Name=web, stage=demo$", completed.stdout, re.M
    )
    terminated_ids = re.findall(r"^ +(i-\d+) +terminated +User initiated", completed.stdout, re.MULTILINE)
    assert len(set(running_ids)) == 2
    assert terminated_ids == running_ids
    assert "All steps succeeded." in completed.stdout


def test_the_private_key_is_not_printed(tmp_path: Path) -> None:
    """Only its first line is printed."""
    output = finished(command("demo"), tmp_path).stdout
    assert "BEGIN RSA PRIVATE KEY" in output
    assert "END RSA PRIVATE KEY" not in output


def test_a_failed_step_fails_the_demo_and_prints_the_log_of_the_server(tmp_path: Path) -> None:
    """The EC2 error code and the server's log line of the request are printed; the key pair is deleted."""
    completed = finished(command("demo", "--instance-type", "no.such.type"), tmp_path)
    assert completed.returncode == 1
    _, _, output = completed.stdout.partition("FAILED: ")
    assert "InvalidParameterValue" in output.splitlines()[0]
    assert re.search(r"RunInstances by demo from 127\.0\.0\.1: 400 InvalidParameterValue", output)
    assert re.search(r"DeleteKeyPair by demo from 127\.0\.0\.1: 200 ok", output)
    assert "All steps succeeded." not in completed.stdout


def test_the_demo_uses_a_server_that_is_already_running(tmp_path: Path) -> None:
    """It takes the server's URL and the keys of a user, and starts no server."""
    with sandbox_server("7.4") as server:
        access = server.access
        keys = ("--access-key", access.access_key, "--secret-key", access.secret_key)
        completed = finished(command("demo", "--endpoint", access.url, *keys), tmp_path)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert completed.stdout.startswith(f"econed at {access.url}, as {access.access_key}\n")
    assert access.secret_key not in completed.stdout


def test_the_demo_fails_if_no_server_listens_at_the_endpoint(tmp_path: Path) -> None:
    with socket.socket() as not_listening:
        not_listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{not_listening.getsockname()[1]}"
        completed = finished(command("demo", "--endpoint", url, "--access-key", "a", "--secret-key", "b"), tmp_path)
    assert completed.returncode == 1
    assert f'FAILED: Could not connect to the endpoint URL: "{url}/"' in completed.stdout


def test_an_endpoint_without_keys_is_rejected(tmp_path: Path) -> None:
    """Keys in the environment may be those of another server."""
    completed = finished(command("demo", "--endpoint", "http://127.0.0.1:1"), tmp_path)
    assert completed.returncode == 2
    assert "go together" in completed.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_its_server(signal_number: signal.Signals, tmp_path: Path) -> None:
    """The server's port is closed afterwards."""
    with running(command("demo"), tmp_path) as demo:
        *_, line = demo.lines_until("econed at ")
        port_match = re.search(r":(\d+),", line)
        assert port_match
        demo.lines_until("wait instance_running")
        assert demo.interrupted(signal_number) == 130
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port_match[1]))) != 0
