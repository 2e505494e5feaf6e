"""The installed botocore, and one whose model has lost something, which the start and `configtest` name."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import botocore
import pytest

from econed.catalogue import all_actions
from econed.configtest import dispatcher
from econed.services import SERVICES

DESCRIPTION = "data/ec2/2016-11-15/service-2.json.gz"
ROOT = Path(__file__).parents[1]


def test_the_installed_botocore_has_all_that_econed_uses() -> None:
    assert dispatcher().routes.keys() == {(action.service, action.name) for action in all_actions()}


def write_package(directory: Path, description: Any) -> None:
    """Write a package botocore 9.9 with this description of EC2, and the installed ones of the other services."""
    package = directory / "botocore"
    for service in SERVICES:
        shutil.copytree(Path(botocore.__file__).parent / "data" / service.name, package / "data" / service.name)
    (package / "__init__.py").write_text('__version__ = "9.9"\n', "ascii")
    (package / DESCRIPTION).write_bytes(gzip.compress(json.dumps(description).encode(), 1))


def started(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of econed with the package in the directory in place of botocore."""
    auth_file, conf = directory / "auth", directory / "econe.conf"
    auth_file.write_text("serveradmin:secret\n", "ascii")
    auth_file.chmod(0o600)
    conf.write_text("port: 1\n", "ascii")
    environ = {**os.environ, "PYTHONPATH": f"{directory}:{ROOT}", "ONE_CIPHER_AUTH": str(auth_file)}
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=environ,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", ["configtest", "start"])
def test_a_botocore_that_has_lost_a_parameter_is_named_with_it(tmp_path: Path, command: str) -> None:
    text = gzip.decompress((resources.files(botocore) / DESCRIPTION).read_bytes())
    description = json.loads(text)
    del description["shapes"]["RunInstancesRequest"]["members"]["KeyName"]
    write_package(tmp_path, description)
    options = ("--user", "root") if os.geteuid() == 0 else ()
    server = ("econed.cli.server", "--config", str(tmp_path / "econe.conf"), "--logfile", str(tmp_path / "log"))
    completed = started(tmp_path, *server, *options, command)
    assert completed.returncode == 4
    assert "botocore 9.9: " in completed.stderr
    assert "run_instances.py:" in completed.stderr
    assert "RunInstances has no member KeyName in Amazon's model" in completed.stderr


@pytest.mark.slow
def test_a_daemon_names_a_botocore_without_a_model_of_ec2(tmp_path: Path) -> None:
    """As a line on standard error."""
    write_package(tmp_path, {"operations": {}})
    completed = started(tmp_path, "econed.cli.twistd", "--nodaemon", "--pidfile=", "econe", "--sandbox", "--port", "0")
    assert completed.returncode == 1
    assert "botocore 9.9: the model of EC2 has no operations or no shapes" in completed.stderr
