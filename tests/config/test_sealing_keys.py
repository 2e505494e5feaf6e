"""The keys that seal what econed keeps in OpenNebula: the file, and the credentials of serveradmin."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from econed.config.credentials import Certificate, Credentials
from econed.config.loading import ConfigError
from econed.config.sealing_keys import load, store
from econed.config.settings import Settings
from econed.sealing import NotSealed
from tests.support.certificates import server_certificate

SERVER = Credentials("serveradmin", "hunter2")


def loaded(path: Path, text: str, mode: int = 0o600) -> tuple[list[str], list[str]]:
    """Write a file of keys; return its keys in hex, and the warnings."""
    path.write_text(text, "utf-8")
    path.chmod(mode)
    keys, warnings = load(Settings(sealing_keys=str(path)), SERVER)
    return [key.hex() for key in keys.keys], [str(warning) for warning in warnings]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file of keys."""
    return tmp_path / "sealing.keys"


def test_without_a_file_there_is_one_key_that_depends_on_the_password() -> None:
    keys, warnings = load(Settings(), SERVER)
    assert ([len(key) for key in keys.keys], warnings) == ([32], ())
    assert load(Settings(), Credentials("another", "hunter2"))[0] == keys
    assert load(Settings(), Credentials("serveradmin", "hunter3"))[0] != keys


def test_with_core_auth_x509_the_key_depends_on_the_private_key() -> None:
    """A renewed certificate of the same private key changes nothing."""
    keys, _ = load(Settings(), Certificate("serveradmin", server_certificate()[0]))
    assert load(Settings(), Certificate("another", server_certificate()[0]))[0] == keys
    assert load(Settings(), Certificate("serveradmin", generate_private_key(65537, 2048)))[0] != keys


def test_the_keys_of_a_file_are_read_in_their_order(path: Path) -> None:
    """The credentials of serveradmin have no effect then."""
    first, second = "0a" * 32, "F1" * 32
    assert loaded(path, f"{first}\n{second}\n") == ([first, second.lower()], [])
    assert loaded(path, f"\n  {first}\r\n\n")[0] == [first]
    assert load(Settings(sealing_keys=str(path)), Credentials("serveradmin", "hunter3"))[0].keys == (
        bytes.fromhex(first),
    )


@pytest.mark.parametrize(
    "text",
    ["", "\n", "ab" * 31, "ab" * 33, "xy" * 32, "٣" * 64, "ab" * 32 + "\n" + "AB" * 32, "ab" * 32 + " # mine",
     "keys:" + "ab" * 32, "ab" * 32 + "\nK:" + "ab" * 32, "ab" * 32 + ("\nkeys:" + "cd" * 32) * 65,
     "\n".join(f"{number:064x}" for number in range(9)), "ab" * 32 + "\n" * 20000],
)  # fmt: skip
def test_a_file_with_anything_else_is_refused_without_being_quoted(path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(path, text)
    expected = "expected 1 to 8 different keys of 64 hex digits, one in each line"
    assert str(caught.value) == f"{path}: sealing_keys: {expected}"


def test_the_error_for_an_unreadable_file_gives_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sealing_keys: cannot be read: Is a directory"):
        load(Settings(sealing_keys=str(tmp_path)), SERVER)


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_file_that_every_user_can_access_is_a_warning(path: Path, mode: int, is_warned: bool) -> None:
    warning = f"{path}: is open to every user of this machine (mode {mode:04o}): run chmod o= on it"
    assert loaded(path, "ab" * 32, mode)[1] == [warning] * is_warned


# New keys


def test_a_renewed_file_has_a_new_key_before_those_used_until_then(path: Path) -> None:
    """Also before the one that is derived from the credentials."""
    derived, _ = load(Settings(), SERVER)
    store(path, derived.renewed())
    once, warnings = load(Settings(sealing_keys=str(path)), SERVER)
    assert (len(once.keys), once.keys[1:], warnings) == (2, derived.keys, ())
    store(path, once.renewed())
    twice, _ = load(Settings(sealing_keys=str(path)), SERVER)
    assert twice.keys[1:] == once.keys
    assert len(set(twice.keys)) == 3


def test_of_retired_keys_only_their_digests_for_one_purpose_are_left(path: Path) -> None:
    old = load(Settings(), SERVER)[0]
    renewed = old.renewed()
    store(path, renewed.with_first_only("ids").renewed().with_first_only("ids"))
    keys, _ = load(Settings(sealing_keys=str(path)), SERVER)
    assert [len(keys.keys), len(keys.retired)] == [1, 2]
    digests = keys.sealer().digests("ids", "text")
    assert digests[1:] == renewed.sealer().digests("ids", "text")
    assert len(keys.sealer().digests("other", "text")) == 1
    with pytest.raises(NotSealed):
        keys.sealer().open("ids", "", old.sealer().seal("ids", "", b"text"))
    assert not any(key.hex() in path.read_text("ascii") for key in renewed.keys)


def test_only_the_newest_retired_keys_are_stored(path: Path) -> None:
    keys = load(Settings(), SERVER)[0]
    for _ in range(70):
        keys = keys.renewed().with_first_only("ids")
    store(path, keys)
    stored, _ = load(Settings(sealing_keys=str(path)), SERVER)
    assert stored == keys
    assert len(stored.retired) == 64


def test_a_stored_file_can_be_read_by_its_owner_only_and_nothing_else_is_left(path: Path) -> None:
    """Whatever the mode of the file that it replaces; a link stays one."""
    link = path.with_name("link")
    path.write_text("old", "ascii")
    path.chmod(0o644)
    link.symlink_to(path.name)
    store(link, load(Settings(), SERVER)[0].renewed())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert link.is_symlink()
    assert {each.name for each in path.parent.iterdir()} == {"sealing.keys", "link"}


def test_a_file_that_cannot_be_stored_stays_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path.write_text("old", "ascii")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        store(path, load(Settings(), SERVER)[0])
    assert path.read_text("ascii") == "old"
    assert [each.name for each in path.parent.iterdir()] == ["sealing.keys"]


def test_keys_are_in_no_representation() -> None:
    keys = load(Settings(), SERVER)[0].renewed().with_first_only("ids")
    assert repr(keys) == "SealingKeys(retired=(RetiredKey(purpose='ids'),))"
