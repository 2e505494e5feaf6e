"""`econe-server keys renew`, `reseal` and `retire`: the steps after which access keys are sealed with a new key."""

from __future__ import annotations

import io
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from econed.cli import sealing
from econed.cli.installation import CommandFailed, Exit
from econed.config.sealing_keys import MAX_KEYS, SealingKeys, load
from econed.configtest import LoadedConfiguration
from econed.credentials.access_keys import opened, removal_text
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.session import Session
from econed.opennebula.template import vector
from econed.sandbox.backend import SandboxBackend
from econed.user import Login
from tests.actions.iam.support import attributes, create, document, listed, stored
from tests.auth.test_access_keys import Process
from tests.cli.test_check import loaded_configuration
from tests.support.cloud import SEALING_KEYS, Cloud

CONF = Path("/etc/one/econe.conf")


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each form of oned."""
    return Cloud(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file of keys."""
    return tmp_path / "sealing.keys"


def read(path: Path) -> LoadedConfiguration:
    """Return the configuration with the keys of a file, as after a reload."""
    loaded = loaded_configuration(sealing_keys=str(path))
    return replace(loaded, sealing_keys=load(loaded.settings, loaded.server)[0])


def renew(loaded: LoadedConfiguration, file: Path | None = None) -> list[str]:
    """Run the command, and return its output."""
    out = io.StringIO()
    assert sealing.renew(CONF, loaded, file, out) is Exit.OK
    return out.getvalue().splitlines()


def reseal(cloud: Cloud, *, code: Exit = Exit.OK) -> list[str]:
    """Seal all keys of a cloud again with the keys that its processes have, and return the output."""
    out = io.StringIO()
    assert cloud.result(sealing.reseal(Session(cloud.backend, None), cloud.sealer, out)) is code
    return out.getvalue().splitlines()


def retire(cloud: Cloud, loaded: LoadedConfiguration) -> Exit:
    """Run the command."""
    return cloud.result(sealing.retire(Session(cloud.backend, None), loaded, io.StringIO()))


def is_accepted(cloud: Cloud, key: dict[str, Any]) -> bool:
    """Whether a new process accepts requests signed with a key."""
    user = Process(cloud).sender(key["AccessKeyId"], key["SecretAccessKey"]).user
    return user.name == str(key["UserName"])


def test_all_access_keys_outlive_the_key_that_they_were_sealed_with(cloud: Cloud, path: Path) -> None:
    """From no file, through two renewals; those made before, between and after."""
    keys = [create(cloud)]
    loaded = loaded_configuration()
    for _ in range(2):
        renew(loaded, None if path.exists() else path)
        loaded = read(path)
        cloud.sealer = loaded.sealing_keys.sealer()
        keys.append(create(cloud))
        assert all(is_accepted(cloud, key) for key in keys)
        assert reseal(cloud) == [f"{len(keys) - 1} access keys of 1 users sealed again"]
        assert all(is_accepted(cloud, key) for key in keys)
        assert retire(cloud, loaded) is Exit.OK
        loaded = read(path)
        assert len(loaded.sealing_keys.keys) == 1
        cloud.sealer = loaded.sealing_keys.sealer()
        assert all(is_accepted(cloud, key) for key in keys)
    assert reseal(cloud) == ["0 access keys of 0 users sealed again"]
    alice = cloud.user("alice").id
    assert all(opened(SEALING_KEYS.sealer(), alice, key) is None for key in stored(cloud))


def test_the_first_file_has_the_key_that_is_derived_from_serveradmins_credentials(path: Path) -> None:
    derived = load(loaded_configuration().settings, loaded_configuration().server)[0]
    output = renew(replace(loaded_configuration(), sealing_keys=derived), path)
    assert output[1] == f"Set `:sealing_keys: {path}` in {CONF}, and reload econed."
    assert read(path).sealing_keys.keys[1:] == derived.keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(key.hex() in line for key in read(path).sealing_keys.keys for line in output)


def test_what_cannot_be_renewed_is_left_as_it_is(path: Path) -> None:
    def refusal(loaded: LoadedConfiguration, file: Path | None) -> str:
        with pytest.raises(CommandFailed) as caught:
            renew(loaded, file)
        assert caught.value.code is Exit.FAILED
        return caught.value.text

    assert "--file" in refusal(loaded_configuration(), None)
    nowhere = path / "nowhere" / "file"
    assert refusal(loaded_configuration(), nowhere) == f"{nowhere}: cannot be written: No such file or directory"
    renew(loaded_configuration(), path)
    assert refusal(loaded_configuration(), path) == f"{path} exists already"
    assert "--file is for a first file" in refusal(read(path), path)
    while len(read(path).sealing_keys.keys) < MAX_KEYS:
        renew(read(path))
    before = path.read_text("ascii")
    assert "econe-server keys retire" in refusal(read(path), None)
    assert path.read_text("ascii") == before


def test_keys_are_not_retired_while_access_keys_are_sealed_with_them(cloud: Cloud, path: Path) -> None:
    create(cloud)
    create(cloud, "bob")
    renew(loaded_configuration(), path)
    before = path.read_text("ascii")
    with pytest.raises(CommandFailed, match="2 access keys are sealed with them: first econe-server keys reseal"):
        retire(cloud, read(path))
    assert path.read_text("ascii") == before
    with pytest.raises(CommandFailed, match="names no sealing_keys"):
        retire(cloud, loaded_configuration())


def test_a_key_that_is_deleted_while_all_are_sealed_again_stays_deleted(cloud: Cloud) -> None:
    """What is written then is of no use, and a key of that id is removed with all that belongs to it."""
    key = create(cloud)

    class Slow(SandboxBackend):
        """An oned to which a user says that a key is deleted, after it has been read."""

        async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
            """Delete the key before the change."""
            if method == "one.user.update" and "EC2_KEY_SEALED_" in str(args[1]):
                await super().call("alice", method, args[0], removal_text(key["AccessKeyId"]), 1)
            return await super().call(user, method, *args)

    cloud.sealer = SealingKeys((b"another key of thirty-two bytes.", *SEALING_KEYS.keys)).sealer()
    backend, cloud.backend = cloud.backend, Slow(cloud.oned)
    reseal(cloud)
    cloud.backend = backend
    assert listed(cloud) == {}
    assert attributes(cloud) == [f"EC2_KEY_SEALED_{key['AccessKeyId']}"]


def test_deleting_a_key_removes_what_was_sealed_again(cloud: Cloud) -> None:
    key = create(cloud)
    cloud.sealer = SealingKeys((b"another key of thirty-two bytes.", *SEALING_KEYS.keys)).sealer()
    reseal(cloud)
    assert len(attributes(cloud)) == 2
    cloud.run("alice", "DeleteAccessKey", AccessKeyId=key["AccessKeyId"])
    assert attributes(cloud) == []


def test_all_users_are_read_with_one_call_and_each_is_written_once(cloud: Cloud) -> None:
    for user in ("alice", "alice", "bob"):
        create(cloud, user)
    cloud.sealer = SealingKeys((b"another key of thirty-two bytes.", *SEALING_KEYS.keys)).sealer()
    before = len(cloud.oned.calls)
    assert reseal(cloud) == ["3 access keys of 2 users sealed again"]
    calls = [(call.user, call.method) for call in list(cloud.oned.calls)[before:]]
    assert calls == [("serveradmin", "one.userpool.info"), *[("serveradmin", "one.user.update")] * 2]


def test_what_cannot_be_opened_is_left_and_counted(cloud: Cloud) -> None:
    key = create(cloud, "bob")
    text = vector(f"EC2_ACCESS_KEY_{key['AccessKeyId']}", {"ID": key["AccessKeyId"], "SEALED": "x"})
    cloud.result(cloud.call_as("alice").session.user_update(document(cloud).id, text))
    assert reseal(cloud)[1:] == ["1 access keys cannot be opened: econe-server keys list"]
    assert attributes(cloud) == [f"EC2_ACCESS_KEY_{key['AccessKeyId']}"]


@pytest.mark.parametrize(
    ("code", "exit_code"), [(OpenNebulaCode.NO_EXISTS, Exit.OK), (OpenNebulaCode.AUTHORIZATION, Exit.FAILED)]
)
def test_a_user_whose_keys_cannot_be_changed_does_not_keep_the_others_from_it(
    cloud: Cloud, code: OpenNebulaCode, exit_code: Exit
) -> None:
    """A user who was removed meanwhile is no failure."""
    for user in ("alice", "bob"):
        create(cloud, user)
    alice = cloud.user("alice").id

    class Refusing(SandboxBackend):
        """An oned that refuses changes of alice."""

        async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
            """Make a call, or refuse it."""
            if method == "one.user.update" and args[0] == alice:
                raise OpenNebulaRefusal(method, code, "no")
            return await super().call(user, method, *args)

    new = SealingKeys((b"another key of thirty-two bytes.", *SEALING_KEYS.keys)).sealer()
    cloud.sealer, cloud.backend = new, Refusing(cloud.oned)
    reseal(cloud, code=exit_code)
    assert [new.is_newest(key.sealed) for user in ("alice", "bob") for key in stored(cloud, user)] == [False, True]
