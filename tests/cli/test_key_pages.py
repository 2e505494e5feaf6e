"""The commands for access keys in the guide do what it says: with real processes, the AWS SDK and a sandbox as oned."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from econed.config.credentials import Credentials
from econed.config.sealing_keys import load
from econed.config.settings import Settings
from econed.credentials.access_keys import AccessKey, state_text
from econed.credentials.key_ids import new_key_id, new_secret
from econed.user import KeyState
from tests.cli.host import TIMEOUT, Host
from tests.pages.scripts import ROOT, blocks
from tests.support.processes import until
from tests.support.raw_oned import RawOned
from tests.support.running import LONG

GUIDE = ROOT / "docs/guide/access-keys.md"
CREDENTIALS = ROOT / "docs/guide/credentials.md"
DIRECTORY = "/var/lib/one/.one"
DAY = 86_400

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("oned")]


def script(page: Path, beginning: str) -> str:
    """Return the only script of a page that matches a regular expression at its beginning."""
    (found,) = [block.script for block in blocks(page) if re.match(beginning, block.script)]
    return found


def run(host: Host, text: str, replaced: Mapping[str, str] | None = None) -> str:
    """Run a script of a page in a shell, with `econe-server` in its PATH, and return its output."""
    program = host.location / "bin/econe-server"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {" ".join(host.command())} "$@"\n', "utf-8")
    program.chmod(0o755)
    for old, new in {DIRECTORY: str(host.location / "var/.one"), **(replaced or {})}.items():
        text = text.replace(old, new)
    environment = {**host.environ, "PATH": f"{program.parent}:{host.environ['PATH']}"}
    shell = ["bash", "-euo", "pipefail", "-c", text]
    process = subprocess.run(shell, cwd="/", env=environment, capture_output=True, text=True, timeout=LONG)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def client(host: Host, service: str, key_id: str, secret: str) -> Any:
    """Return a client of boto3."""
    return boto3.client(
        service,
        region_name="OpenNebula",
        endpoint_url=f"http://127.0.0.1:{host.port}",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


def create(host: Host) -> dict[str, str]:
    """Create an access key of alice."""
    key: dict[str, str] = client(host, "iam", "alice", "alicepw").create_access_key()["AccessKey"]
    return key


def is_accepted(host: Host, key: Mapping[str, str]) -> bool:
    """Whether econed accepts a request signed with a key."""
    sts = client(host, "sts", key["AccessKeyId"], key["SecretAccessKey"])
    try:
        return str(sts.get_caller_identity()["Arn"]).endswith(":user/alice")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "InvalidClientTokenId"
        return False


def is_as(host: Host, key: Mapping[str, str], accepted: bool) -> bool:
    """Whether a key is accepted, or refused, as expected."""
    return is_accepted(host, key) is accepted


def steps(text: str) -> list[tuple[str, bool]]:
    """Return the lines of a script that disables, enables and deletes, and whether keys are accepted after each."""
    return list(zip(text.splitlines(), (False, True, False), strict=True))


def start(host: Host, command: str = "start") -> None:
    """Start econed, or restart it instead of a reload, which the command does not wait for."""
    assert host.run(command).returncode == 0


def states(host: Host) -> list[str]:
    """Return the states of all access keys, as they are listed."""
    return [line.split()[-1] for line in host.run("keys", "list").stdout.splitlines()[1:]]


def oneadmin(host: Host) -> RawOned:
    """Return oned as oneadmin sees it."""
    return RawOned(f"http://127.0.0.1:{host.oned_port}/RPC2", lambda: "oneadmin:opennebula")


def user_id(host: Host, name: str) -> int:
    """Return the id of a user."""
    return int(oneadmin(host).document("one.userpool.info").findtext(f"USER[NAME='{name}']/ID", ""))


def test_the_list_is_as_the_page_shows_it(host: Host) -> None:
    """With other ids."""
    admin = oneadmin(host)
    admin("one.user.allocate", "bob", "bobpw", "core", [])
    sealer = load(Settings(), Credentials("serveradmin", "serverpassword"))[0].sealer()
    for name, days, state in (("alice", 12, KeyState.ACTIVE), ("bob", 97, KeyState.INACTIVE)):
        number = user_id(host, name)
        key = AccessKey(new_key_id(sealer, number), number, new_secret(), int(time.time()) - days * DAY)
        for text in (key.text(sealer), state_text(key.id, state, 0)):
            admin("one.user.update", number, text, 1)
    ((command, shown),) = [session for block in blocks(GUIDE) for session in block.sessions()]
    without_ids = [re.sub(r"AKIA\w{16}", "ID", text).strip() for text in (run(host, command), shown)]
    assert without_ids[0] == without_ids[1]


def test_one_key_and_all_of_a_user_are_ended(host: Host) -> None:
    start(host)
    one, other = create(host), create(host)
    assert is_accepted(host, one)
    for line, accepted in steps(script(GUIDE, "econe-server keys disable AKIA")):
        run(host, line, {"AKIAAAAAAABHWR5CEPFQ": one["AccessKeyId"]})
        until(partial(is_as, host, one, accepted), line, TIMEOUT)
        assert is_accepted(host, other)
    of_alice = script(GUIDE, "econe-server keys disable --of")
    for line, accepted in steps(of_alice):
        run(host, line)
        until(partial(is_as, host, other, accepted), line, TIMEOUT)
    assert states(host) == ["disabled"], "of everything until then"
    assert script(GUIDE, "oneuser passwd").splitlines()[-1] in of_alice


def test_access_keys_outlive_the_renewal_of_the_sealing_key(host: Host) -> None:
    """And a key of the new time, too."""
    file = host.location / "var/.one/sealing.keys"
    start(host)
    keys = [create(host)]
    for beginning in ("econe-server keys renew --file", "econe-server keys renew$"):
        run(host, script(GUIDE, beginning))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        host.configure(f":sealing_keys: {file}\n")
        start(host, "restart")
        keys.append(create(host))
        assert all(is_accepted(host, key) for key in keys)
        assert host.run("keys", "retire").returncode == 1, "some are sealed with the old key"
        run(host, script(GUIDE, "econe-server keys reseal"))
        run(host, script(GUIDE, "econe-server keys retire"))
        assert file.read_text("ascii").count("access-key-id:") == len(keys) - 1
        start(host, "restart")
        assert all(is_accepted(host, key) for key in keys)
    assert states(host) == ["Active"] * 3


def test_everything_ends_at_once(host: Host) -> None:
    file = host.location / "var/.one/sealing.keys"
    run(host, script(GUIDE, "econe-server keys renew --file"))
    host.configure(f":sealing_keys: {file}\n")
    start(host)
    key = create(host)
    run(host, script(GUIDE, r"\(umask"))
    start(host, "restart")
    assert not is_accepted(host, key)
    assert states(host) == ["unreadable"]
    assert f"{key['AccessKeyId']} cannot be opened with any sealing key" in host.run("check").stdout
    assert is_accepted(host, create(host))
    assert "2 access keys of alice are deleted" in run(host, "econe-server keys delete --of alice")


@pytest.mark.parametrize("has_file", [True, False])
def test_access_keys_outlive_the_credentials_of_serveradmin_with_a_file_only(host: Host, has_file: bool) -> None:
    start(host)
    key = create(host)
    if has_file:
        run(host, script(CREDENTIALS, "econe-server keys renew --file"))
        host.configure(f":sealing_keys: {host.location}/var/.one/sealing.keys\n")
        start(host, "restart")
    password = hashlib.sha256(b"another").hexdigest()
    (host.location / "var/.one/ec2_auth").write_text("serveradmin:another\n", "ascii")
    oneadmin(host)("one.user.passwd", user_id(host, "serveradmin"), password)
    start(host, "restart")
    assert is_accepted(host, key) is has_file
    assert states(host) == ["Active" if has_file else "unreadable"]


def test_the_exit_codes_are_those_of_the_other_commands(host: Host) -> None:
    assert host.run("keys", "disable").returncode == 2
    assert host.run("keys", "disable", "ID", "--of", "alice").returncode == 2
    failed = host.run("keys", "delete", "--of", "carol")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "econe-server: there is no user carol whose document can be read\n"
    (host.location / "var/.one/ec2_auth").write_text("serveradmin:wrong\n", "ascii")
    assert host.run("keys", "list").returncode == 7
    host.oned_port = host.port
    host.configure()
    assert host.run("keys", "list").returncode == 6
