"""Terraform's AWS provider without skip flags: the calls that it makes first, and, where it is installed, Terraform.

The calls are those of the providers from 3.x on, according to their source (`aws-sdk-go-base`, `conns`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.e2e.every_credential import role_arn
from tests.support.clients import boto, refusal
from tests.support.configured_clients import run, variables
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud
from tests.support.tools import optional_tool

PLUGINS = "ECONED_TERRAFORM_PLUGINS"
"""The environment variable that names a directory with Terraform's providers (`filesystem_mirror`)."""

CONFIGURATION = """\
terraform {{
  required_providers {{
    aws = {{
      source = "hashicorp/aws"
    }}
  }}
}}

provider "aws" {{
{provider}
}}

data "aws_caller_identity" "current" {{}}

data "aws_ami" "image" {{
  owners = ["{owner}"]
  filter {{
    name   = "image-id"
    values = ["{image}"]
  }}
}}

output "account" {{
  value = data.aws_caller_identity.current.account_id
}}

output "arn" {{
  value = data.aws_caller_identity.current.arn
}}

output "image" {{
  value = data.aws_ami.image.id
}}
"""

NETWORKS = """\
terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "name" {}

resource "aws_vpc" "main" {
  cidr_block           = "10.50.0.0/16"
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_subnet" "main" {
  vpc_id     = aws_vpc.main.id
  cidr_block = "10.50.1.0/24"
  tags       = { Name = var.name }
}

resource "aws_security_group" "main" {
  name   = "main"
  vpc_id = aws_vpc.main.id
  ingress {
    description = var.name
    from_port   = 22
    to_port     = 22
    protocol    = "tcp"
    cidr_blocks = [aws_vpc.main.cidr_block]
  }
}

resource "aws_security_group" "separate" {
  name   = "separate"
  vpc_id = aws_vpc.main.id
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  security_group_id = aws_security_group.separate.id
  description       = var.name
  cidr_ipv4         = aws_vpc.main.cidr_block
  from_port         = 22
  to_port           = 22
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "ipv4" {
  security_group_id = aws_security_group.separate.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_vpc_security_group_egress_rule" "ipv6" {
  security_group_id = aws_security_group.separate.id
  cidr_ipv6         = "::/0"
  ip_protocol       = "-1"
}
"""

ASSUME_ROLE = """\
  assume_role {{
    role_arn     = "{role}"
    session_name = "terraform"
  }}"""


def test_the_calls_that_the_provider_makes_first_succeed_or_are_refused_as_it_expects(
    lenient_econed: Econed, signer: Person
) -> None:
    """GetCallerIdentity for the credentials and the account; 3.x asks for platforms, and goes on without them.

    With skip_credentials_validation it asks IAM first, and STS where IAM denies it.
    """
    sts, iam = (boto(signer, lenient_econed.url, service=service) for service in ("sts", "iam"))
    for _ in range(2):
        assert sts.get_caller_identity()["Account"] == f"{signer.id:012d}"
    with pytest.raises(ClientError) as refused:
        boto(signer, lenient_econed.url).describe_account_attributes(AttributeNames=["supported-platforms"])
    assert refusal(refused.value) == ("UnsupportedOperation", 400)
    try:
        arn = iam.get_user()["User"]["Arn"]
    except ClientError as error:
        assert refusal(error) == ("AccessDenied", 403)
    else:
        assert arn.split(":")[:5] == ["arn", "aws", "iam", "", f"{signer.id:012d}"]


@pytest.fixture
def terraform(tmp_path: Path, lenient_econed: Econed) -> Callable[..., str]:
    """Run Terraform in a directory with a configuration, and return what it prints; it must succeed."""
    program, plugins = optional_tool("terraform"), os.environ.get(PLUGINS)
    if plugins is None:
        pytest.skip(f"{PLUGINS} does not name a directory with Terraform's AWS provider")
    settings = tmp_path / "terraform.rc"
    settings.write_text(f'provider_installation {{\n  filesystem_mirror {{ path = "{plugins}" }}\n}}\n', "utf-8")
    own = {"TF_CLI_CONFIG_FILE": str(settings), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}

    def terraform(signer: Person, *arguments: str) -> str:
        completed = run(program, [*arguments], tmp_path, {**variables(signer, lenient_econed.url), **own})
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    return terraform


def test_terraform_logs_in_without_skip_flags_by_credentials_of_every_kind(
    terraform: Callable[..., str], cloud: FurnishedCloud, signer: Person, tmp_path: Path
) -> None:
    """It reads the account, and an AMI."""
    outputs = applied(terraform, cloud, signer, tmp_path, provider="")
    assert outputs["account"]["value"] == f"{signer.id:012d}"
    assert outputs["image"]["value"] == f"ami-{cloud.ami:08d}"


def test_terraform_assumes_a_group_as_its_role(
    terraform: Callable[..., str], cloud: FurnishedCloud, alice: Person, tmp_path: Path
) -> None:
    provider = ASSUME_ROLE.format(role=role_arn(alice, cloud.prefix))
    outputs = applied(terraform, cloud, alice, tmp_path, provider=provider)
    assert outputs["arn"]["value"] == f"arn:aws:sts::{alice.id:012d}:assumed-role/{cloud.prefix}/terraform"
    assert outputs["image"]["value"] == f"ami-{cloud.ami:08d}"


def test_terraform_manages_networks_and_security_groups(
    terraform: Callable[..., str], alice: Person, tmp_path: Path
) -> None:
    """After each change the plan is empty."""
    (tmp_path / "main.tf").write_text(NETWORKS, "utf-8")
    terraform(alice, "init", "-input=false", "-no-color")
    for name in ("one", "two"):
        terraform(alice, "apply", f"-var=name={name}", "-auto-approve", "-input=false", "-no-color")
        terraform(alice, "plan", f"-var=name={name}", "-detailed-exitcode", "-input=false", "-no-color")
    terraform(alice, "destroy", "-var=name=two", "-auto-approve", "-input=false", "-no-color")


def applied(
    terraform: Callable[..., str], cloud: FurnishedCloud, signer: Person, directory: Path, *, provider: str
) -> dict[str, dict[str, str]]:
    """Apply the configuration with these settings of the provider, and return the outputs."""
    image = f"ami-{cloud.ami:08d}"
    owner = f"{int(str(cloud.admin.document('one.image.info', cloud.ami, False).findtext('UID'))):012d}"
    text = CONFIGURATION.format(provider=provider, owner=owner, image=image)
    (directory / "main.tf").write_text(text, "utf-8")
    terraform(signer, "init", "-input=false", "-no-color")
    terraform(signer, "apply", "-auto-approve", "-input=false", "-no-color")
    outputs: dict[str, dict[str, str]] = json.loads(terraform(signer, "output", "-json"))
    return outputs
