"""Ansible's collection amazon.aws: credentials of every kind, and an assumed role."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.every_credential import role_arn
from tests.support.configured_clients import run, variables
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.tools import require_tool

ON_A_SANDBOX_OF_7 = pytest.mark.parametrize("cloud", ["7.4"], indirect=True, scope="session")


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


@ON_A_SANDBOX_OF_7
def test_ansible_runs_an_instance_once(
    lenient_econed: Econed, cloud: FurnishedCloud, alice: Person, tmp_path: Path
) -> None:
    """The second time there is nothing to change; then the instance is terminated."""
    instance = {
        "name": f"ansible {cloud.prefix}",
        "image_id": f"ami-{cloud.ami:08d}",
        "instance_type": cloud.instance_type,
        "user_data": "#!/bin/sh",
        "state": "running",
    }
    tasks: list[dict[str, Any]] = [
        {"amazon.aws.ec2_instance": instance, "register": "first"},
        {"amazon.aws.ec2_instance": instance, "register": "second"},
        {
            "amazon.aws.ec2_instance": {"instance_ids": "{{ first.instance_ids }}", "state": "absent"},
            "register": "third",
        },
        {
            "ansible.builtin.copy": {
                "content": "{{ [first, second, third] | to_json }}",
                "dest": str(tmp_path / "results"),
            }
        },
    ]
    first, second, third = played(tasks, alice, lenient_econed, tmp_path)
    assert [first["changed"], second["changed"], third["changed"]] == [True, False, True]
    assert second["instance_ids"] == first["instance_ids"]


def test_ansible_manages_a_vpc_with_a_subnet_and_a_security_group(
    lenient_econed: Econed, cloud: FurnishedCloud, alice: Person, tmp_path: Path
) -> None:
    """Each module is run twice, the second time without a change; the modules for lists show it; then all is absent."""
    vpc = {"name": f"ansible {cloud.prefix}", "cidr_block": "10.30.0.0/16"}
    subnet = {"vpc_id": "{{ step0.vpc.id }}", "cidr": "10.30.1.0/24", "tags": {"Name": "a"}}
    group = {
        "name": "web: ansible",
        "description": "by Ansible",
        "vpc_id": "{{ step0.vpc.id }}",
        "rules": [
            {"proto": "tcp", "ports": [22, "8000-8010"], "cidr_ip": "10.0.0.0/8", "rule_desc": "ssh (office)"},
            {"proto": "icmp", "from_port": 8, "to_port": -1, "cidr_ip": "0.0.0.0/0"},
            {"proto": "tcp", "from_port": 443, "to_port": 443, "cidr_ip": "0.0.0.0/0", "cidr_ipv6": "::/0"},
        ],
        "rules_egress": [{"proto": "all", "cidr_ip": "0.0.0.0/0", "cidr_ipv6": "::/0"}],
        "tags": {"by": "Ansible"},
    }
    in_vpc = {"filters": {"vpc-id": "{{ step0.vpc.id }}"}}
    steps: list[tuple[str, dict[str, Any]]] = [
        *(("ec2_vpc_net", vpc) for _ in range(2)),
        *(("ec2_vpc_subnet", subnet) for _ in range(2)),
        *(("ec2_security_group", group) for _ in range(2)),
        ("ec2_vpc_net_info", {"vpc_ids": ["{{ step0.vpc.id }}"]}),
        ("ec2_vpc_subnet_info", in_vpc),
        ("ec2_security_group_info", in_vpc),
        ("ec2_security_group", {"group_id": "{{ step4.group_id }}", "state": "absent"}),
        ("ec2_vpc_subnet", {**subnet, "state": "absent"}),
        ("ec2_vpc_net", {**vpc, "state": "absent"}),
    ]
    outcome = results(steps, alice, lenient_econed, tmp_path)
    assert [step["changed"] for step in outcome] == [*[True, False] * 3, *[False] * 3, *[True] * 3]
    vpcs, subnets, groups = outcome[6:9]
    assert [each["cidr_block"] for each in vpcs["vpcs"]] == [vpc["cidr_block"]]
    assert [(each["cidr_block"], each["tags"]) for each in subnets["subnets"]] == [(subnet["cidr"], subnet["tags"])]
    (shown,) = [each for each in groups["security_groups"] if each["group_name"] == group["name"]]
    assert {permission["from_port"] for permission in shown["ip_permissions"]} == {8, 22, 443, 8000}


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
