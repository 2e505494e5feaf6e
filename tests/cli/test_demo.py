"""`make demo`: what a newcomer sees first."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from econed.cli.sandbox_server import FORMS, sandbox_server
from tests.support.running import command, finished, running

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
def test_the_demo_goes_through_the_life_of_two_instances_on_either_form(form: str, tmp_path: Path) -> None:
    """The same calls, in the same order, and what they came to."""
    done = finished(command("demo", "--form", form), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"OpenNebula {form}" in done.stdout
    assert tuple(re.findall(r"^(wait \w+|[A-Z]\w+)\(", done.stdout, re.MULTILINE)) == CALLS
    described = re.findall(
        r"^ +(i-\d+) +running +m1\.small +default +10\.0\.\S+ +Name=web, stage=demo$", done.stdout, re.M
    )
    ended = re.findall(r"^ +(i-\d+) +terminated +User initiated", done.stdout, re.MULTILINE)
    assert len(set(described)) == 2
    assert ended == described
    assert "All of it worked." in done.stdout


def test_the_private_key_is_not_printed(tmp_path: Path) -> None:
    """A terminal is no place for it: its first line is all that is shown."""
    shown = finished(command("demo"), tmp_path).stdout
    assert "BEGIN RSA PRIVATE KEY" in shown
    assert "END RSA PRIVATE KEY" not in shown


def test_a_step_that_fails_fails_the_demo_and_shows_what_the_server_said(tmp_path: Path) -> None:
    """The error, by its EC2 code, and the server's line about that request; what was made is taken away again."""
    done = finished(command("demo", "--instance-type", "no.such.type"), tmp_path)
    assert done.returncode == 1
    _, _, told = done.stdout.partition("FAILED: ")
    assert "InvalidParameterValue" in told.splitlines()[0]
    assert re.search(r"RunInstances by demo from 127\.0\.0\.1: 400 InvalidParameterValue", told)
    assert re.search(r"DeleteKeyPair by demo from 127\.0\.0\.1: 200 ok", told)
    assert "All of it worked." not in done.stdout


def test_the_demo_drives_a_server_that_runs_already(tmp_path: Path) -> None:
    """By its URL and the keys of a user, and starts none of its own."""
    with sandbox_server("7.4") as server:
        endpoint = server.endpoint
        keys = ("--access-key", endpoint.access_key, "--secret-key", endpoint.secret_key)
        done = finished(command("demo", "--endpoint", endpoint.url, *keys), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"econed at {endpoint.url}, as {endpoint.access_key}\n")
    assert endpoint.secret_key not in done.stdout


def test_the_demo_says_when_there_is_no_server(tmp_path: Path) -> None:
    """Where one was named and none listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = finished(command("demo", "--endpoint", url, "--access-key", "a", "--secret-key", "b"), tmp_path)
    assert done.returncode == 1
    assert f'FAILED: Could not connect to the endpoint URL: "{url}/"' in done.stdout


def test_an_endpoint_needs_the_keys_for_it(tmp_path: Path) -> None:
    """Those of the environment may be for somewhere else."""
    done = finished(command("demo", "--endpoint", "http://127.0.0.1:1"), tmp_path)
    assert done.returncode == 2
    assert "go together" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_its_server(number: signal.Signals, tmp_path: Path) -> None:
    """Nothing listens any more where its server did."""
    with running(command("demo"), tmp_path) as demo:
        *_, line = demo.lines_until("econed at ")
        port = re.search(r":(\d+),", line)
        assert port
        demo.lines_until("wait instance_running")
        assert demo.interrupted(number) == 130
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port[1]))) != 0
