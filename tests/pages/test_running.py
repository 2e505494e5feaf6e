"""The pages' commands for OpenNebula do what the pages say: run with the CLI of a real oned, which must be in PATH.

The oned must have no objects with the names on the pages.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.waiting import wait, wait_for
from tests.pages.scripts import ROOT, blocks
from tests.support.certificates import Authority
from tests.support.clients import boto
from tests.support.cloud_forms import LIVE, furnished_cloud
from tests.support.econed_process import Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until
from tests.support.raw_oned import RawOned, Refused
from tests.support.running import command, finished

pytestmark = [pytest.mark.slow, pytest.mark.live]

GROUP_PAGE = "docs/ec2-group.md"
IMAGE = Path("/var/tmp/debian-12.qcow2")
CREDENTIALS = "/var/lib/one/.one"
SERVICES = ("ec2_auth", "sunstone_auth", "oneks_auth")

POOLS: Mapping[str, Sequence[int]] = {
    "template": (-2, -1, -1),
    "image": (-2, -1, -1),
    "vn": (-2, -1, -1),
    "vdc": (),
    "user": (),
    "group": (),
}
"""The pools, in the order in which objects can be removed, with the arguments of the calls that list all objects."""


@dataclass(frozen=True)
class FrontEnd:
    """A machine with OpenNebula's CLI, and oneadmin's credentials for it."""

    cloud: FurnishedCloud
    environment: Mapping[str, str]

    def run(self, script: str) -> str:
        """Run a script in a shell that exits at the first error, and return its output."""
        shell = ["bash", "-euo", "pipefail", "-c", script]
        process = finished(shell, self.cloud.directory, self.environment)
        assert process.returncode == 0, f"{script}\n{process.stdout}{process.stderr}"
        return process.stdout

    def check(self, *arguments: str, auth_file: Path | None = None, **settings: object) -> tuple[int, str]:
        """Run `econe-server check` and return its exit code and its table."""
        config = self.cloud.directory / "check.conf"
        log = str(self.cloud.directory / "check.log")
        files = {"one_xmlrpc": self.cloud.url, "host": "127.0.0.1", "log_file": log}
        config.write_text(yaml.safe_dump({**files, **settings}), "utf-8")
        environment = {**self.environment, "ONE_CIPHER_AUTH": str(auth_file or self.cloud.auth_file)}
        options = ["--config", str(config), "--user", pwd.getpwuid(os.geteuid()).pw_name]
        process = finished(command("server", *options, "check", *arguments), self.cloud.directory, environment)
        return process.returncode, process.stdout

    def password(self, user: str) -> str:
        """Return the PASSWORD of a user, as the CLI shows it."""
        (found,) = re.findall(r"^PASSWORD +: (.*?) *$", self.run(f"oneuser show {user}"), re.MULTILINE)
        return str(found)


@pytest.fixture
def front_end(tmp_path: Path) -> Iterator[FrontEnd]:
    """A front end; all objects that a test creates on it are removed."""
    if shutil.which("onegroup") is None:
        pytest.skip("OpenNebula's CLI is not in PATH")
    with furnished_cloud(LIVE, tmp_path) as cloud:
        auth_file = tmp_path / "one_auth"
        auth_file.touch(0o600)
        auth_file.write_text(cloud.admin.session(), "utf-8")
        before = {pool: set(ids(cloud.admin, pool)) for pool in POOLS}
        try:
            yield FrontEnd(cloud, {**os.environ, "ONE_XMLRPC": cloud.url, "ONE_AUTH": str(auth_file)})
        finally:
            for pool in POOLS:
                for object_id in set(ids(cloud.admin, pool)) - before[pool]:
                    until(partial(removed, cloud, pool, object_id), f"{pool} {object_id} to be removed", MAX_WAIT)


@pytest.fixture
def debian_image() -> Iterator[None]:
    """The file of an image, at the place that the page names."""
    exists = IMAGE.exists()
    if not exists:
        IMAGE.write_bytes(bytes(1 << 20))
    yield
    if not exists:
        IMAGE.unlink()


def ids(oned: RawOned, pool: str) -> list[int]:
    """Return the ids of all objects of a pool."""
    return [int(str(element.text)) for element in oned.document(f"one.{pool}pool.info", *POOLS[pool]).findall("*/ID")]


def removed(cloud: FurnishedCloud, pool: str, object_id: int) -> bool:
    """Delete an object; return whether oned has done so, which it refuses while the object is in use."""
    has_flag = pool == "template" or (pool == "image" and cloud.is_modern)
    try:
        cloud.admin(f"one.{pool}.delete", object_id, *((False,) if has_flag else ()))
    except Refused:
        return False
    return True


def scripts(page: str, program: str = "one[a-z]+") -> list[str]:
    """Return the scripts of a page with lines that begin with a program: a regular expression of its name."""
    found = [block.script for block in blocks(ROOT / page)]
    return [script for script in found if re.search(rf"^{program} ", script, re.MULTILINE)]


def rows(table: str) -> set[str]:
    """Return the rows of a table of `econe-server check`, with any number and URL replaced."""
    lines = re.sub(r"\d+", "N", re.sub(r"http\S+", "URL", table)).splitlines()
    return {" ".join(line.split()) for line in lines}


@pytest.mark.usefixtures("debian_image")
def test_a_user_of_the_group_uses_what_the_page_creates(front_end: FrontEnd) -> None:
    """They run an instance, create a volume and allocate an elastic IP; `check` finds what the page shows."""
    admin = front_end.cloud.admin
    private = 'NAME="private"\nVN_MAD="dummy"\nBRIDGE="br-private"\nAR=[TYPE="IP4",IP="10.78.0.10",SIZE="10"]'
    admin.make("one.vn.allocate", private, -1)
    for script in scripts(GROUP_PAGE):
        front_end.run(script)
    elastic_ips = int(front_end.run("onevnet show ElasticIPs --xml | grep -o '<ID>[0-9]*' | head -n 1").strip()[4:])

    _, table = front_end.check("--group", "ec2", elasticips_vnet_id=elastic_ips)
    ((_, shown),) = [session for block in blocks(ROOT / GROUP_PAGE) for session in block.sessions()]
    assert rows(shown) <= rows(table), table
    assert not [row for row in rows(table) if re.match(r"BAD (group ec2|type m1.small|elastic)", row)]

    alice = Person("alice", 0, front_end.password("alice"), admin)
    econed = front_end.cloud.econed(records_elements=False, settings={"elasticips_vnet_id": elastic_ips})
    use_all(boto(alice, econed.url))


def use_all(ec2: Any) -> None:
    """Use an instance, a volume and an elastic IP, and give them back."""
    (image,) = [image for image in ec2.describe_images()["Images"] if image["Name"] == "debian-12"]
    wait_for(ec2, "image_available", ImageIds=[image["ImageId"]])
    address = ec2.allocate_address()["PublicIp"]
    assert address in {"203.0.113.10", "203.0.113.11"}
    ec2.release_address(PublicIp=address)
    (zone, *_) = ec2.describe_availability_zones()["AvailabilityZones"]
    volume = ec2.create_volume(Size=1, AvailabilityZone=zone["ZoneName"])["VolumeId"]
    wait_for(ec2, "volume_available", VolumeIds=[volume])
    ec2.delete_volume(VolumeId=volume)
    launched = ec2.run_instances(ImageId=image["ImageId"], InstanceType="m1.small", MinCount=1, MaxCount=1)
    instance_ids = [instance["InstanceId"] for instance in launched["Instances"]]
    try:
        wait(ec2, "instance_running", instance_ids)
    finally:
        ec2.terminate_instances(InstanceIds=instance_ids)
        wait(ec2, "instance_terminated", instance_ids)


def test_the_readme_makes_an_instance_type_and_an_ami(front_end: FrontEnd) -> None:
    admin = front_end.cloud.admin
    template = admin.make("one.template.allocate", 'NAME="small"\nCPU="0.1"\nMEMORY="64"')
    image = front_end.cloud.image("ubuntu")
    for script in scripts("README.md", "one(template|image)"):
        front_end.run(script)
    for kind, object_id, attribute in (("template", template, "EC2_INSTANCE_TYPE"), ("image", image, "EC2_AMI")):
        document = admin.document(f"one.{kind}.info", object_id, False)
        assert document.findtext("GNAME") == "users"
        assert document.findtext("PERMISSIONS/GROUP_U") == "1"
        assert document.find(f"TEMPLATE/{attribute}") is not None


def test_users_create_login_tokens_with_their_password(front_end: FrontEnd) -> None:
    """As the README says; the CLI reads the password from a terminal, or with an option from standard input."""
    front_end.run("oneuser create alice opensesame")
    (script,) = scripts("README.md", "oneuser")
    with_copy = 'cp "$ONE_AUTH" alice_auth; export ONE_AUTH="$PWD/alice_auth"'  # the CLI stores the token in this file
    front_end.run(f"{with_copy}; printf opensesame | {script.strip()} --stdin_password --force")
    assert "<LOGIN_TOKEN>" in front_end.run("oneuser show alice --xml")


def test_the_network_of_elastic_ips_has_a_range_for_each_address(front_end: FrontEnd) -> None:
    (script,) = scripts("docs/elastic-ips.md")
    network_id = int(re.findall(r"ID: (\d+)", front_end.run(script))[0])
    document = front_end.cloud.admin.document("one.vn.info", network_id, False)
    ranges = [(element.findtext("IP"), element.findtext("SIZE")) for element in document.findall("AR_POOL/AR")]
    assert ranges == [("203.0.113.10", "1"), ("203.0.113.11", "1")]


def test_users_with_certificates_have_the_subjects_that_the_page_shows(front_end: FrontEnd) -> None:
    certificate = Authority().client("anna")
    (front_end.cloud.directory / "anna.pem").write_bytes(certificate.pem)
    passwords = []
    for session, output in (session for block in blocks(ROOT / "docs/guide/tls.md") for session in block.sessions()):
        assert output.strip() in front_end.run(session)
        if session.startswith("oneuser"):
            passwords.append(front_end.password("anna"))
    subject = r"/O=ONE\20cloud/CN=anna"
    assert passwords == [subject, subject, f"{subject}|/C=ES/CN=anna"]


def test_new_credentials_of_serveradmin_are_valid_in_the_files_of_all_services(front_end: FrontEnd) -> None:
    """The file of oneadmin is left alone. The previous password is restored afterwards."""
    directory = front_end.cloud.directory
    oneadmins, previous = directory / "one_auth", directory / "previous"
    shutil.copy(front_end.cloud.auth_file, previous)
    oneadmins_before = oneadmins.read_bytes()
    for service in SERVICES:
        shutil.copy(front_end.cloud.auth_file, directory / service)
    admin = front_end.cloud.admin
    before = front_end.password("serveradmin")
    (serveradmin,) = re.findall(r"^ID +: (\d+)", front_end.run("oneuser show serveradmin"), re.MULTILINE)
    (script,) = scripts("docs/guide/credentials.md")
    try:
        front_end.run(script.replace(CREDENTIALS, str(directory)))
        assert front_end.password("serveradmin") != before
        assert {front_end.check(auth_file=directory / service)[0] for service in SERVICES} <= {0, 1}
        assert front_end.check(auth_file=previous)[0] == 7
        assert oneadmins.read_bytes() == oneadmins_before
    finally:
        admin("one.user.passwd", int(serveradmin), before)
        shutil.copy(previous, front_end.cloud.auth_file)


def test_the_commands_that_end_everything_leave_a_user_no_token_and_another_password(front_end: FrontEnd) -> None:
    (script,) = [script for script in scripts("docs/credentials.md") if "token-delete-all" in script]
    person = front_end.cloud.person("leaked")
    person.oned("one.user.login", person.name, "", 3600, -1)
    front_end.run(re.sub(r"\balice\b", person.name, script))
    document = front_end.cloud.admin.document("one.user.info", person.id)
    assert document.findall("LOGIN_TOKEN") == []
    assert document.findtext("PASSWORD") != person.secret
