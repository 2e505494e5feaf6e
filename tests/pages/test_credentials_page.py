"""The commands of docs/credentials.md for users give them the credentials that the page promises."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from econed.cli.sandbox_server import FORMS
from tests.e2e.every_credential import signing, with_access_key
from tests.pages.scripts import ROOT, blocks
from tests.support.cloud_forms import furnished_cloud
from tests.support.configured_clients import run
from tests.support.econed_process import Person
from tests.support.tools import require_tool

PAGE = ROOT / "docs/credentials.md"
URL = "https://ec2.example.org:4567/"
HASH = "d9fb92e3bbe65be1f1aad4a82eef4567f7a1ebe2cd110c8049b9698be7a70c88"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Shell:
    """A user's shell, with names, keys and URL in place of those of the page."""

    home: Path
    user: Person
    url: str
    replaced: Mapping[str, str]

    def __call__(self, script: str, **replaced: str) -> str:
        """Run a script after the user's variables of the page are set, and return its output; it must succeed."""
        environment = {"PATH": f"{Path(require_tool('aws')).parent}:{os.environ['PATH']}"}
        text = self.text(f"{without_last_line(exports())}\n{script}", replaced)
        completed = run("bash", ["-euo", "pipefail", "-c", text], self.home, environment)
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    def text(self, text: str, replaced: Mapping[str, str]) -> str:
        """Return a text of the page as this user writes it."""
        for old, new in {**self.replaced, **replaced}.items():
            text = text.replace(old, new)
        return text


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The shell of a user of two groups, the second of which is `web` on the page."""
    directory = tmp_path_factory.mktemp("credentials")
    with furnished_cloud(FORMS[-1], directory) as cloud:
        user, group = cloud.member("alice")
        econed = cloud.econed(records_elements=False)
        signing("password", user, econed.url, group)
        replaced = {
            URL: econed.url,
            "=alice": f"={user.name}",
            HASH: user.secret,
            "iam::000000000002": f"iam::{user.id:012d}",
            "role/web": f"role/{group}",
        }
        yield Shell(directory, user, econed.url, replaced)


def scripts() -> Sequence[str]:
    """Return the blocks of the page that run the AWS CLI."""
    return [block.script for block in blocks(PAGE) if "aws " in block.script]


def exports() -> str:
    """Return the block that sets the variables; its last line asks who the user is."""
    (script,) = [script for script in scripts() if script.startswith("export ")]
    return script


def without_last_line(script: str) -> str:
    """Return a script without its last line."""
    return script.rstrip("\n").rpartition("\n")[0]


def script_with(command: str) -> str:
    """Return the only block with a command."""
    (script,) = [script for script in scripts() if command in script]
    return script


def new_key(shell: Shell) -> Mapping[str, str]:
    """Return an access key that the user creates as on the page, in place of that of the page."""
    ((command, shown),) = [session for block in blocks(PAGE) for session in block.sessions() if "iam" in session[0]]
    key, secret = shell(command).split()
    assert re.sub(r"\S", "x", f"{key} {secret}") == re.sub(r"\S", "x", " ".join(shown.split()))
    return {KEY: key, SECRET: secret}


def test_the_variables_of_the_page_are_all_that_the_cli_needs(shell: Shell) -> None:
    output = shell(exports())
    assert f'"Account": "{shell.user.id:012d}"' in output


def test_an_access_key_is_created_listed_disabled_and_deleted(shell: Shell) -> None:
    output = shell(script_with("aws iam list-access-keys"), **new_key(shell))
    assert '"Status": "Active"' in output
    assert shell("aws iam list-access-keys --query AccessKeyMetadata --output text").strip() == ""


def test_the_profiles_of_the_page_act_as_the_user_and_in_one_group(shell: Shell) -> None:
    (profiles,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    key = with_access_key(shell.user, shell.url)
    (shell.home / ".aws").mkdir()
    (shell.home / ".aws/config").write_text(shell.text(profiles, {KEY: key.name, SECRET: key.secret}), "utf-8")
    unset = "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT_URL AWS_DEFAULT_REGION\n"
    output = shell(unset + script_with("--profile web"))
    assert output.splitlines()[0] == f"{shell.user.id:012d}"
    assert f":assumed-role/{shell.replaced['role/web'].removeprefix('role/')}/" in output
    assert '"Reservations": []' in output


def test_temporary_credentials_are_given_for_a_session_and_for_a_role(shell: Shell) -> None:
    output = shell(script_with("aws sts get-session-token"))
    assert output.count('"SessionToken"') == 2
    assert "assumed-role" in output
