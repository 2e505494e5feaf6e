"""The keys that seal what econed keeps in OpenNebula: the file, and the credentials of serveradmin."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from econed.config.credentials import Certificate, Credentials
from econed.config.loading import ConfigError
from econed.config.sealing_keys import load
from econed.config.settings import Settings
from tests.support.certificates import server_certificate

SERVER = Credentials("serveradmin", "hunter2")


def loaded(path: Path, text: str, mode: int = 0o600) -> tuple[list[str], list[str]]:
    """Write a file of keys; return its keys in hex, and the warnings."""
    path.write_text(text, "utf-8")
    path.chmod(mode)
    keys, warnings = load(Settings(sealing_keys=str(path)), SERVER)
    return [key.hex() for key in keys], [str(warning) for warning in warnings]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file of keys."""
    return tmp_path / "sealing.keys"


def test_without_a_file_there_is_one_key_that_depends_on_the_password() -> None:
    (key,), warnings = load(Settings(), SERVER)
    assert (len(key), warnings) == (32, ())
    assert load(Settings(), Credentials("another", "hunter2"))[0] == (key,)
    assert load(Settings(), Credentials("serveradmin", "hunter3"))[0] != (key,)


def test_with_core_auth_x509_the_key_depends_on_the_private_key() -> None:
    """A renewed certificate of the same private key changes nothing."""
    (key,), _ = load(Settings(), Certificate("serveradmin", server_certificate()[0]))
    assert load(Settings(), Certificate("another", server_certificate()[0]))[0] == (key,)
    assert load(Settings(), Certificate("serveradmin", generate_private_key(65537, 2048)))[0] != (key,)


def test_the_keys_of_a_file_are_read_in_their_order(path: Path) -> None:
    """The credentials of serveradmin have no effect then."""
    first, second = "0a" * 32, "F1" * 32
    assert loaded(path, f"{first}\n{second}\n") == ([first, second.lower()], [])
    assert loaded(path, f"\n  {first}\r\n\n")[0] == [first]
    assert load(Settings(sealing_keys=str(path)), Credentials("serveradmin", "hunter3"))[0] == (bytes.fromhex(first),)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "ab" * 31, "ab" * 33, "xy" * 32, "٣" * 64, "ab" * 32 + "\n" + "AB" * 32, "ab" * 32 + " # mine",
     "\n".join(f"{number:064x}" for number in range(9)), "ab" * 32 + "\n" * 5000],
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
