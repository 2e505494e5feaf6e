"""The credentials of serveradmin: which files are tried, and how errors in them are reported."""

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
    """An empty ONE_LOCATION."""
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


def test_the_files_that_oned_writes_are_tried() -> None:
    """OpenNebula 5.12 writes all four, 6.x and 7.x all but the first."""
    assert candidates({}) == tuple(Path("/var/lib/one/.one", name) for name in NAMES)
    assert candidates({"ONE_LOCATION": "/opt/one"}) == tuple(Path("/opt/one/var/.one", name) for name in NAMES)


def test_the_first_existing_file_is_used(location: Path) -> None:
    """The order is ec2_auth, sunstone_auth, oneflow_auth, onegate_auth."""
    for name in reversed(NAMES):
        write(location / "var/.one" / name, f"serveradmin:{name}-password\n")
        assert load(environ(location)) == (Credentials("serveradmin", f"{name}-password"), ())


def test_one_cipher_auth_names_the_only_file(location: Path) -> None:
    """If that file does not exist, no other is tried."""
    write(location / "var/.one/ec2_auth", "serveradmin:other")
    path = location / "another"
    variables = {**environ(location), "ONE_CIPHER_AUTH": str(path)}
    with pytest.raises(ConfigError, match=f"looked for {path}$"):
        load(variables)
    write(path, "serveradmin:secret")
    assert load(variables)[0].password == "secret"


def test_a_password_may_hold_colons(location: Path) -> None:
    """The first colon ends the name."""
    write(location / "var/.one/ec2_auth", "serveradmin:a:b:c\n")
    assert load(environ(location))[0] == Credentials("serveradmin", "a:b:c")


def test_the_error_for_missing_files_names_every_path_tried(location: Path) -> None:
    """An administrator sees which file to create."""
    with pytest.raises(ConfigError) as caught:
        load(environ(location))
    for name in NAMES:
        assert f"{location}/var/.one/{name}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n", "secret", ":secret", "serveradmin:", "serveradmin:secret\nother:secret\n"])
def test_the_error_for_a_malformed_file_names_it_without_its_content(location: Path, text: str) -> None:
    """The next file is not tried, which would hide the mistake."""
    write(location / "var/.one/ec2_auth", text)
    write(location / "var/.one/sunstone_auth", "serveradmin:right")
    with pytest.raises(ConfigError) as caught:
        load(environ(location))
    assert str(caught.value) == f"{location}/var/.one/ec2_auth: expected one line NAME:PASSWORD"


def test_the_traceback_for_a_file_that_is_not_text_does_not_show_its_content(location: Path) -> None:
    """The decoder's error quotes the bytes that it could not decode."""
    (location / "var/.one/ec2_auth").write_bytes(b"serveradmin:hunter\xff2")
    with pytest.raises(ConfigError, match="expected one line NAME:PASSWORD") as caught:
        load(environ(location))
    assert "0xff" not in "".join(traceback.format_exception(caught.value))


def test_the_error_for_an_unreadable_file_gives_the_reason(location: Path) -> None:
    """Here the path is a directory."""
    (location / "var/.one/ec2_auth").mkdir()
    with pytest.raises(ConfigError, match="ec2_auth: cannot be read: Is a directory"):
        load(environ(location))


@pytest.mark.parametrize(("mode", "is_warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_file_that_every_user_can_access_is_a_warning(location: Path, mode: int, is_warned: bool) -> None:
    """Its content allows to act as any user of the cloud. Access of the group is left to the administrator."""
    path = write(location / "var/.one/ec2_auth", "serveradmin:secret", mode)
    warnings = [str(warning) for warning in load(environ(location))[1]]
    assert (
        warnings == [f"{path}: is open to every user of this machine (mode {mode:04o}): run chmod o= on it"] * is_warned
    )


def test_the_password_is_not_in_the_repr() -> None:
    """A `repr` may be logged."""
    assert "hunter2" not in repr(Credentials("serveradmin", "hunter2"))


def test_settings_and_credentials_are_read_together(location: Path) -> None:
    """The warnings about both are returned."""
    conf = write(location / "econe.conf", "unknown: 1\n")
    write(location / "var/.one/ec2_auth", "serveradmin:secret", 0o644)
    settings, credentials, warnings = load_with_settings(conf, environ(location))
    assert (settings, credentials) == (Settings(), Credentials("serveradmin", "secret"))
    assert [warning.place for warning in warnings] == [str(conf), str(location / "var/.one/ec2_auth")]


def test_errors_in_settings_and_credentials_are_reported_together(location: Path) -> None:
    """An administrator can fix both before the next start."""
    conf = write(location / "econe.conf", "port: abc\n")
    with pytest.raises(ConfigError) as caught:
        load_with_settings(conf, environ(location))
    assert [problem.place for problem in caught.value.problems] == [str(conf), "credentials of serveradmin"]


# The driver server_x509


def write_certificate(location: Path, key: RSAPrivateKey, conf: str = "") -> None:
    """Write OpenNebula's files for core_auth x509: the certificate, a key and the configuration."""
    auth = location / "etc/auth"
    auth.mkdir(parents=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    write(auth / "key.pem", pem)
    write(auth / "cert.pem", server_certificate()[1].public_bytes(Encoding.PEM).decode())
    write(auth / "server_x509_auth.conf", conf)


def test_with_core_auth_x509_the_key_named_in_server_x509_auth_conf_is_read(location: Path) -> None:
    """No password file is needed; settings missing in server_x509_auth.conf have its defaults."""
    key, _ = server_certificate()
    write_certificate(location, key)
    config_file = write(location / "etc/econe.conf", ":core_auth: x509\n")
    settings, credentials, warnings = load_with_settings(config_file, environ(location))
    assert settings.core_auth == "x509"
    assert isinstance(credentials, Certificate)
    assert (credentials.name, credentials.key.public_key(), warnings) == ("serveradmin", key.public_key(), ())
    (location / "etc/auth/key.pem").rename(location / "private.pem")
    write(location / "etc/auth/server_x509_auth.conf", f":srv_user: econe\n:one_key: {location}/private.pem\n")
    _, credentials, _ = load_with_settings(config_file, environ(location))
    assert credentials.name == "econe"


def test_a_certificate_that_does_not_match_the_key_is_refused(location: Path) -> None:
    write_certificate(location, generate_private_key(65537, 2048))
    with pytest.raises(ConfigError, match="is not the certificate of the key"):
        load_certificate(environ(location))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("key.pem", None, "cannot be read"),
        ("key.pem", "no key", "expected a private key in PEM"),
        ("cert.pem", None, "cannot be read"),
        ("cert.pem", "no certificate", "expected a certificate in PEM"),
        ("server_x509_auth.conf", "- a\n- list\n", "expected keys with values"),
        ("server_x509_auth.conf", ":a: [", "is not YAML"),
    ],
)
def test_errors_in_key_and_certificate_name_the_file(location: Path, file: str, text: str | None, message: str) -> None:
    write_certificate(location, server_certificate()[0])
    path = location / "etc/auth" / file
    path.unlink()
    if text is not None:
        write(path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_certificate(environ(location))
    assert [problem.place for problem in caught.value.problems] == [str(path)]


def test_a_key_that_every_user_can_read_is_a_warning(location: Path) -> None:
    write_certificate(location, server_certificate()[0])
    (location / "etc/auth/key.pem").chmod(0o644)
    _, (warning,) = load_certificate(environ(location))
    assert "open to every user" in warning.text
