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


def test_ansible_manages_a_security_group(
    lenient_econed: Econed, cloud: FurnishedCloud, alice: Person, tmp_path: Path
) -> None:
    """The second time nothing changes; then the group is absent. The modules for lists show its VPC and a subnet."""
    name = f"ansible {cloud.prefix}"
    present = {
        "name": name,
        "description": "by Ansible",
        "rules": [
            {"proto": "tcp", "ports": [22, "8000-8010"], "cidr_ip": "10.0.0.0/8", "rule_desc": "ssh (office)"},
            {"proto": "icmp", "from_port": 8, "to_port": -1, "cidr_ip": "0.0.0.0/0"},
            {"proto": "tcp", "from_port": 443, "to_port": 443, "cidr_ip": "0.0.0.0/0", "cidr_ipv6": "::/0"},
        ],
        "rules_egress": [{"proto": "all", "cidr_ip": "0.0.0.0/0", "cidr_ipv6": "::/0"}],
        "tags": {"by": "Ansible"},
    }
    steps: list[tuple[str, dict[str, Any]]] = [
        ("ec2_security_group", present),
        ("ec2_security_group", present),
        ("ec2_security_group_info", {"filters": {"group-name": name}}),
        ("ec2_security_group", {"name": name, "state": "absent"}),
        ("ec2_vpc_net_info", {"filters": {"is-default": "true"}}),
        ("ec2_vpc_subnet_info", {"subnet_ids": [f"subnet-{cloud.network:08d}"]}),
    ]
    first, second, listed, absent, vpcs, subnets = results(steps, alice, lenient_econed, tmp_path)
    assert [step["changed"] for step in (first, second, absent)] == [True, False, True]
    (group,) = listed["security_groups"]
    assert group["group_id"] == first["group_id"] == second["group_id"]
    assert {permission["from_port"] for permission in group["ip_permissions"]} == {8, 22, 443, 8000}
    assert [vpc["vpc_id"] for vpc in vpcs["vpcs"]] == [group["vpc_id"]]
    assert [subnet["vpc_id"] for subnet in subnets["subnets"]] == [group["vpc_id"]]


STS_COLLECTION = "community.aws"
"""The collection that has sts_assume_role, also where it is an alias of the one in amazon.aws."""


def results(
    steps: list[tuple[str, dict[str, Any]]], signer: Person, econed: Econed, directory: Path
) -> list[dict[str, Any]]:
    """Run modules of amazon.aws one after the other with a user's credentials, and return the result of each."""
    tasks: list[dict[str, Any]] = [
        {f"amazon.aws.{module}": parameters, "register": f"step{number}"}
        for number, (module, parameters) in enumerate(steps)
    ]
    names = ", ".join(f"step{number}" for number in range(len(steps)))
    written = {"content": f"{{{{ [{names}] | to_json }}}}", "dest": str(directory / "results")}
    tasks.append({"ansible.builtin.copy": written})
    outcome: list[dict[str, Any]] = played(tasks, signer, econed, directory)
    return outcome


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
        "ANSIBLE_PIPELINING": "True",
    }
    completed = run(require_tool("ansible-playbook"), ["-i", "localhost,", "play.yml"], directory, environment)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return json.loads((directory / "results").read_text("utf-8"))
