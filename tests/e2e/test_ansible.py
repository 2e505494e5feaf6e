"""Ansible's collection amazon.aws: credentials of every kind, and an assumed role."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.every_credential import role_arn
from tests.support.configured_clients import run, variables
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.tools import require_tool


def test_ansible_logs_in_with_credentials_of_every_kind(
    lenient_econed: Econed, cloud: FurnishedCloud, signer: Person, tmp_path: Path
) -> None:
    """aws_caller_info shows whose they are, and ec2_ami_info finds an image."""
    image = f"ami-{cloud.ami:08d}"
    tasks: list[dict[str, Any]] = [
        {"amazon.aws.aws_caller_info": {}, "register": "caller"},
        {"amazon.aws.ec2_ami_info": {"image_ids": [image]}, "register": "found"},
        {"ansible.builtin.copy": {"content": "{{ [caller, found] | to_json }}", "dest": str(tmp_path / "results")}},
    ]
    caller, found = played(tasks, signer, lenient_econed, tmp_path)
    assert caller["account"] == f"{signer.id:012d}"
    assert [each["image_id"] for each in found["images"]] == [image]


def test_ansible_assumes_a_group_as_a_role(
    lenient_econed: Econed, cloud: FurnishedCloud, alice: Person, tmp_path: Path
) -> None:
    """The module sts_assume_role, whose results are the credentials of further tasks."""
    role = {"role_arn": role_arn(alice, cloud.prefix), "role_session_name": "ansible", "region": "us-east-1"}
    assumed = {
        "access_key": "{{ assumed.sts_creds.access_key }}",
        "secret_key": "{{ assumed.sts_creds.secret_key }}",
        "session_token": "{{ assumed.sts_creds.session_token }}",
    }
    tasks: list[dict[str, Any]] = [
        {f"{STS_COLLECTION}.sts_assume_role": role, "register": "assumed"},
        {"amazon.aws.aws_caller_info": assumed, "register": "caller"},
        {"ansible.builtin.copy": {"content": "{{ [caller] | to_json }}", "dest": str(tmp_path / "results")}},
    ]
    (caller,) = played(tasks, alice, lenient_econed, tmp_path)
    assert caller["arn"] == f"arn:aws:sts::{alice.id:012d}:assumed-role/{cloud.prefix}/ansible"


STS_COLLECTION = "community.aws"
"""The collection that has sts_assume_role, also where it is an alias of the one in amazon.aws."""


def played(tasks: list[dict[str, Any]], signer: Person, econed: Econed, directory: Path) -> Any:
    """Run tasks on this machine with a user's credentials, and return what they wrote to `results`."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    play = {"hosts": "localhost", "gather_facts": False, "vars": local, "tasks": tasks}
    (directory / "play.yml").write_text(yaml.safe_dump([play]), "utf-8")
    environment = {
        **variables(signer, econed.url),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
    }
    completed = run(require_tool("ansible-playbook"), ["-i", "localhost,", "play.yml"], directory, environment)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return json.loads((directory / "results").read_text("utf-8"))
