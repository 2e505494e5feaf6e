"""Clients that find credentials and endpoints in their own files and variables: AWS CLI, Ansible, Terraform."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.clients import TIMEOUT
from tests.support.econed_process import Person
from tests.support.tools import require_tool

REGION = "us-east-1"

AWS_CLI_2 = "ECONED_AWS_CLI_2"
"""The environment variable with the path of an AWS CLI of version 2; default: the one in /usr/local/bin or /usr/bin."""

FIRST_WITH_ENDPOINTS = 13


def variables(person: Person, url: str) -> dict[str, str]:
    """Return the environment variables with which all of Amazon's clients find a user's credentials and econed."""
    token = {} if person.session_token is None else {"AWS_SESSION_TOKEN": person.session_token}
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": person.name,
        "AWS_SECRET_ACCESS_KEY": person.secret,
        **token,
    }


def profile(name: str, url: str, settings: Mapping[str, str]) -> str:
    """Return a profile for the file `.aws/config`, whose service of all names is at `url`."""
    lines = {"region": REGION, "output": "json", "endpoint_url": url, **settings}
    return "\n".join((f"[profile {name}]", *(f"{key} = {value}" for key, value in lines.items()), ""))


def keys(person: Person) -> dict[str, str]:
    """Return the settings of a profile that signs with a user's credentials."""
    token = {} if person.session_token is None else {"aws_session_token": person.session_token}
    return {"aws_access_key_id": person.name, "aws_secret_access_key": person.secret, **token}


def run(
    program: str, arguments: Sequence[str], home: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program with `home` as the home directory, independently of what is configured on this machine."""
    return subprocess.run(
        [program, *arguments],
        cwd=home,
        env={
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "NO_PROXY": "127.0.0.1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "AWS_MAX_ATTEMPTS": "1",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def aws_cli(version: int) -> str:
    """Return the path of the AWS CLI of a major version: 1 is the one that the tests install, 2 is optional.

    The test is skipped without a version 2 that has AWS_ENDPOINT_URL: it came with 2.13.
    """
    if version == 1:
        return require_tool("aws")
    path = os.environ.get(AWS_CLI_2) or shutil.which("aws", path="/usr/local/bin:/usr/bin")
    if path is not None:
        found = re.match(r"aws-cli/2\.(\d+)\.", run(path, ["--version"], Path("/"), {}).stdout)
        if found and int(found[1]) >= FIRST_WITH_ENDPOINTS:
            return path
    pytest.skip("no AWS CLI 2.13 or newer is installed")
