"""The credentials of serveradmin: where they are looked for, and what is said where they are not as they should be."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from econed.config.credentials import Certificate, Credentials, candidates, load, load_certificate, load_with_settings
from econed.config.loading import ConfigError
from econed.config.settings import Settings
from tests.support.certificates import server_certificate

NAMES = ["ec2_auth", "sunstone_auth", "oneflow_auth", "onegate_auth"]


@pytest.fixture
def location(tmp_path: Path) -> Path:
    """An ONE_LOCATION with nothing in it."""
    (tmp_path / "var/.one").mkdir(parents=True)
    return tmp_path


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a credentials file."""
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def environ(location: Path) -> dict[str, str]:
    """Return the environment of an installation below `location`."""
    return {"ONE_LOCATION": str(location)}


def test_they_are_looked_for_in_the_files_that_oned_writes() -> None:
    """5.12 writes all four, 6.x and 7.x all but the first."""
    assert candidates({}) == tuple(Path("/var/lib/one/.one", name) for name in NAMES)
    assert candidates({"ONE_LOCATION": "/opt/one"}) == tuple(Path("/opt/one/var/.one", name) for name in NAMES)


def test_the_first_file_that_is_there_counts(location: Path) -> None:
    """In the order ec2_auth, sunstone_auth, oneflow_auth, onegate_auth."""
    for name in reversed(NAMES):
        write(location / "var/.one" / name, f"serveradmin:{name}-password\n")
        assert load(environ(location)) == (Credentials("serveradmin", f"{name}-password"), ())


def test_one_cipher_auth_names_the_only_file(location: Path) -> None:
    """One that it names and that is not there is not replaced by another."""
    write(location / "var/.one/ec2_auth", "serveradmin:other")
    named = location / "named"
    variables = {**environ(location), "ONE_CIPHER_AUTH": str(named)}
    with pytest.raises(ConfigError, match=f"looked for {named}$"):
        load(variables)
    write(named, "serveradmin:secret")
    assert load(variables)[0].password == "secret"


def test_a_password_may_hold_colons(location: Path) -> None:
    """The name ends at the first."""
    write(location / "var/.one/ec2_auth", "serveradmin:a:b:c\n")
    assert load(environ(location))[0] == Credentials("serveradmin", "a:b:c")


def test_without_any_file_the_problem_names_every_path_tried(location: Path) -> None:
    """So that a person sees which one to make."""
    with pytest.raises(ConfigError) as caught:
        load(environ(location))
    for name in NAMES:
        assert f"{location}/var/.one/{name}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "secret", ":secret", "serveradmin:", "serveradmin:secret\nother:secret\n"])
def test_a_malformed_file_is_a_problem_that_names_it_and_shows_nothing_of_it(location: Path, text: str) -> None:
    """The next file is not tried: the mistake would go unseen."""
    write(location / "var/.one/ec2_auth", text)
    write(location / "var/.one/sunstone_auth", "serveradmin:right")
    with pytest.raises(ConfigError) as caught:
        load(environ(location))
    assert str(caught.value) == f"{location}/var/.one/ec2_auth: expected one line NAME:PASSWORD"


def test_a_file_that_is_no_text_shows_nothing_of_it_in_a_traceback_either(location: Path) -> None:
    """The error of the decoder quotes what it could not read."""
    (location / "var/.one/ec2_auth").write_bytes(b"serveradmin:hunter\xff2")
    with pytest.raises(ConfigError, match="expected one line NAME:PASSWORD") as caught:
        load(environ(location))
    assert "0xff" not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_cannot_be_read_is_a_problem_that_says_why(location: Path) -> None:
    """Here because it is a directory."""
    (location / "var/.one/ec2_auth").mkdir()
    with pytest.raises(ConfigError, match="ec2_auth: cannot be read: Is a directory"):
        load(environ(location))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_file_that_others_can_open_is_a_warning(location: Path, mode: int, warned: bool) -> None:
    """Whoever reads it can act as any user of the cloud. The group's right is the administrator's business."""
    path = write(location / "var/.one/ec2_auth", "serveradmin:secret", mode)
    warnings = [str(warning) for warning in load(environ(location))[1]]
    assert warnings == [f"{path}: is open to every user of this machine (mode {mode:04o}): chmod o= it"] * warned


def test_the_password_does_not_show_in_a_repr() -> None:
    """Reprs end in logs."""
    assert "hunter2" not in repr(Credentials("serveradmin", "hunter2"))


def test_settings_and_credentials_are_read_together(location: Path) -> None:
    """With the warnings about both."""
    conf = write(location / "econe.conf", "unknown: 1\n")
    write(location / "var/.one/ec2_auth", "serveradmin:secret", 0o644)
    settings, credentials, warnings = load_with_settings(conf, environ(location))
    assert (settings, credentials) == (Settings(), Credentials("serveradmin", "secret"))
    assert [warning.place for warning in warnings] == [str(conf), str(location / "var/.one/ec2_auth")]


def test_what_is_wrong_with_settings_and_credentials_is_said_at_once(location: Path) -> None:
    """A person mends both before the next start."""
    conf = write(location / "econe.conf", "port: abc\n")
    with pytest.raises(ConfigError) as caught:
        load_with_settings(conf, environ(location))
    assert [problem.place for problem in caught.value.problems] == [str(conf), "credentials of serveradmin"]


# The driver server_x509


def write_certificate(location: Path, key: RSAPrivateKey, conf: str = "") -> None:
    """Write what OpenNebula has for core_auth x509: the certificate, a key and its configuration."""
    auth = location / "etc/auth"
    auth.mkdir(parents=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    write(auth / "key.pem", pem)
    write(auth / "cert.pem", server_certificate()[1].public_bytes(Encoding.PEM).decode())
    write(auth / "server_x509_auth.conf", conf)


def test_with_core_auth_x509_the_key_is_read_that_opennebulas_own_file_names(location: Path) -> None:
    """No password file is needed then; without a word in that file its defaults hold."""
    key, _ = server_certificate()
    write_certificate(location, key)
    config_file = write(location / "etc/econe.conf", ":core_auth: x509\n")
    settings, credentials, findings = load_with_settings(config_file, environ(location))
    assert settings.core_auth == "x509"
    assert isinstance(credentials, Certificate)
    assert (credentials.name, credentials.key.public_key(), findings) == ("serveradmin", key.public_key(), ())
    (location / "etc/auth/key.pem").rename(location / "private.pem")
    write(location / "etc/auth/server_x509_auth.conf", f":srv_user: econe\n:one_key: {location}/private.pem\n")
    _, credentials, _ = load_with_settings(config_file, environ(location))
    assert credentials.name == "econe"


def test_a_certificate_that_is_not_that_of_the_key_is_refused(location: Path) -> None:
    write_certificate(location, generate_private_key(65537, 2048))
    with pytest.raises(ConfigError, match="is not the certificate of the key"):
        load_certificate(environ(location))


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("key.pem", None, "cannot be read"),
        ("key.pem", "no key", "expected a private key in PEM"),
        ("cert.pem", None, "cannot be read"),
        ("cert.pem", "no certificate", "expected a certificate in PEM"),
        ("server_x509_auth.conf", "- a\n- list\n", "expected keys with values"),
        ("server_x509_auth.conf", ":a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_with_key_and_certificate_is_said_with_the_file(
    location: Path, file: str, text: str | None, says: str
) -> None:
    write_certificate(location, server_certificate()[0])
    path = location / "etc/auth" / file
    path.unlink()
    if text is not None:
        write(path, text)
    with pytest.raises(ConfigError, match=says) as caught:
        load_certificate(environ(location))
    assert [finding.place for finding in caught.value.problems] == [str(path)]


def test_a_key_that_all_can_read_deserves_a_warning(location: Path) -> None:
    write_certificate(location, server_certificate()[0])
    (location / "etc/auth/key.pem").chmod(0o644)
    _, (warning,) = load_certificate(environ(location))
    assert "open to every user" in warning.text
