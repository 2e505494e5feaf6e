"""Running an installed econed, and sending it a request."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config

from tests.support.processes import PASSED_ON, STARTING, until
from tests.support.running import Running, running

ACCESS_KEY, SECRET_KEY = "alice", "opensesame"


def _accepts_connections(server: Running, port: int) -> bool:
    if server.process.poll() is not None:
        raise AssertionError(f"it exited with {server.process.returncode}:\n{server.process.communicate()[0]}")
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(argv: Sequence[str | Path], port: int, cwd: Path, **environment: str) -> Iterator[Running]:
    """Run a command that listens on a port, for the duration of the block; it gets no paths of this Python."""
    passed_on = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    with running(list(map(str, argv)), cwd, {**passed_on, **environment}) as server:
        until(lambda: _accepts_connections(server, port), f"connections on port {port}", STARTING)
        yield server


def sandboxed(port: int) -> list[str]:
    """Return arguments of twistd: econed with an OpenNebula in memory."""
    user = f"{ACCESS_KEY}:{SECRET_KEY}"
    return ["--nodaemon", "--pidfile=", "econe", "--sandbox", "--sandbox-user", user, "--port", str(port)]


def images(port: int) -> list[str]:
    """Return the ids of the images that the server lists to boto3."""
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="opennebula")
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    client = session.client("ec2", endpoint_url=f"http://127.0.0.1:{port}", config=config)
    return [image["ImageId"] for image in client.describe_images()["Images"]]
