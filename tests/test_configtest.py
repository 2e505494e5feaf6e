"""What keeps the daemon from starting, apart from econe.conf itself: certificates, authorities, the log."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from econed.config.loading import ConfigError
from econed.config.sealing_keys import SealingKeys
from econed.configtest import LoadedConfiguration, load
from tests.support.certificates import Authority, key_pem, rsa_key, write_server_pair

AUTHORITY = Authority()


def configured(directory: Path, text: str, log_file: Path | None = None) -> LoadedConfiguration:
    """Load a configuration with valid credentials."""
    auth_file = directory / "ec2_auth"
    auth_file.write_text("serveradmin:secret\n", "ascii")
    auth_file.chmod(0o600)
    conf = directory / "econe.conf"
    conf.write_text(text, "utf-8")
    return load(conf, {"ONE_CIPHER_AUTH": str(auth_file)}, log_file)


def problems(directory: Path, text: str, log_file: Path | None = None) -> list[str]:
    """Return the problems of a configuration, without the directory."""
    with pytest.raises(ConfigError) as caught:
        configured(directory, text, log_file)
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


def tls(cert: Path | str, key: Path | str) -> str:
    """Return the lines of econe.conf."""
    return f"ssl_cert: {cert}\nssl_key: {key}\n"


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("garbage", "ascii")
    (tmp_path / "key.pem").write_bytes(key_pem(rsa_key()))
    (tmp_path / "ca.pem").write_text("garbage", "ascii")
    text = tls(tmp_path / "cert.pem", tmp_path / "key.pem") + (
        f"one_xmlrpc: https://one.example.org/RPC2\none_ca_file: {tmp_path}/ca.pem\n"
        f"log_file: {tmp_path}/nowhere/econe.log\n"
        "use_file_templates: true\ninstance_types: {m1.small: {template: small.erb}}\n"
    )
    template, certificate, authorities, log = problems(tmp_path, text)
    assert template.startswith("ec2query_templates/small.erb: m1.small: cannot be read")
    assert certificate == "cert.pem: ssl_cert: expected a certificate in PEM"
    assert authorities.startswith("ca.pem: one_ca_file: ")
    assert log == "nowhere/econe.log: log_file: the log cannot be opened: nowhere does not exist"


def test_a_key_with_a_passphrase_and_a_pair_that_does_not_match_are_refused(tmp_path: Path) -> None:
    cert, key = write_server_pair(tmp_path)
    (tmp_path / "locked.pem").write_bytes(key_pem(rsa_key(), b"secret"))
    (tmp_path / "other.pem").write_bytes(key_pem(rsa_key()))
    assert configured(tmp_path, tls(cert, key)).certificates is not None
    assert problems(tmp_path, tls(cert, tmp_path / "locked.pem")) == [
        "locked.pem: ssl_key: has a passphrase: expected a private key without one"
    ]
    assert "is not the certificate of the key in other.pem" in problems(tmp_path, tls(cert, tmp_path / "other.pem"))[0]


def test_a_certificate_that_expires_in_five_days_is_a_warning(tmp_path: Path) -> None:
    issued = AUTHORITY.server("ec2.example.org", days=5).write(tmp_path, "own")
    loaded = configured(tmp_path, tls(issued.cert, issued.key))
    assert loaded.warnings == ()
    (warning,) = loaded.all_warnings(time.time())
    assert str(warning).startswith(f"{issued.cert}: ssl_cert: expires soon, at ")
    (warning,) = loaded.all_warnings(time.time() + 6 * 86400)
    assert "expired at " in str(warning)


@pytest.mark.parametrize("setting", ["log_file: {}", ""])
def test_a_log_that_cannot_be_opened_is_refused_and_none_is_created(tmp_path: Path, setting: str) -> None:
    """The one that econe.conf names, else the one that the daemon would have."""
    path = tmp_path / "econe.log"
    text = setting.format(path)
    assert configured(tmp_path, text, path).settings.log_file == (str(path) if setting else None)
    assert not path.exists()
    path.mkdir()
    key = "log_file: " if setting else ""
    assert problems(tmp_path, text, path) == [f"econe.log: {key}the log cannot be opened: Is a directory"]


def test_an_audit_log_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    text = f"audit_log: {tmp_path}/nowhere/audit.log"
    assert problems(tmp_path, text) == [
        "nowhere/audit.log: audit_log: the log cannot be opened: nowhere does not exist"
    ]


def test_the_default_log_is_not_looked_at_if_the_configuration_names_another(tmp_path: Path) -> None:
    configured(tmp_path, f"log_file: {tmp_path}/econe.log", tmp_path / "nowhere/other.log")


def test_the_sealing_keys_are_read_and_a_file_of_them_that_is_invalid_is_refused(tmp_path: Path) -> None:
    """They are not in the `repr`; a file that every user can read is a warning."""
    assert len(configured(tmp_path, "").sealing_keys.keys) == 1
    keys = tmp_path / "sealing.keys"
    keys.write_text("ab" * 32, "ascii")
    loaded = configured(tmp_path, f"sealing_keys: {keys}")
    assert loaded.sealing_keys == SealingKeys((b"\xab" * 32,))
    assert "\\xab" not in repr(loaded)
    assert str(loaded.warnings[0]).startswith(f"{keys}: is open to every user of this machine")
    keys.write_text("secret", "ascii")
    (problem,) = problems(tmp_path, f"sealing_keys: {keys}")
    assert problem.startswith("sealing.keys: sealing_keys: expected 1 to 8 different keys")
