"""The credentials of OpenNebula's server account, serveradmin, with which econed acts on behalf of its users.

For the driver server_cipher oned writes them when it first starts, one line `serveradmin:PASSWORD`: 5.12 to
`ec2_auth`, `sunstone_auth` and others, 6.x and 7.x no longer to `ec2_auth`. All files have the same content, so the
first that exists is used. For the driver server_x509 they are a certificate and its key, which OpenNebula's
`auth/server_x509_auth.conf` names for both oned and its servers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from econed.config import loading
from econed.config.loading import ConfigError, ConfigProblem
from econed.config.settings import Settings

_FILE_NAMES = ("ec2_auth", "sunstone_auth", "oneflow_auth", "onegate_auth")
_EXPECTED = "expected one line NAME:PASSWORD"


@dataclass(frozen=True)
class Credentials:
    """The name and the password of the server account; the password is left out of the `repr`."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Certificate:
    """The name of the server account and the private key of its certificate; the key is left out of the `repr`."""

    name: str
    key: RSAPrivateKey = field(repr=False)


def load(environ: Mapping[str, str]) -> tuple[Credentials, tuple[ConfigProblem, ...]]:
    """Read the credentials of the server account; return them, and warnings about their file.

    The file is the one that ONE_CIPHER_AUTH names, otherwise the first that exists in oned's directory. Raises
    `ConfigError` if no file exists, or if the file cannot be used: falling back to the next would hide the mistake.
    """
    paths = candidates(environ)
    for path in paths:
        try:
            text, mode = _read(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _problem(path, f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise _problem(path, _EXPECTED) from None  # UnicodeDecodeError quotes the content
        return _parse(path, text), mode_warnings(path, mode)
    tried = ", ".join(str(path) for path in paths)
    raise ConfigError((ConfigProblem("credentials of serveradmin", f"not found, looked for {tried}"),))


def load_with_settings(
    where: Path | loading.Source, environ: Mapping[str, str]
) -> tuple[Settings, Credentials | Certificate, tuple[ConfigProblem, ...]]:
    """Read econe.conf and the credentials for its `core_auth`; raises one `ConfigError` with the problems of both."""
    try:
        settings, settings_warnings = loading.load(where, environ)
    except ConfigError as error:
        raise ConfigError(error.problems + _problems(environ)) from None
    if settings.core_auth == "x509":
        certificate, credentials_warnings = load_certificate(environ)
        return settings, certificate, settings_warnings + credentials_warnings
    credentials, credentials_warnings = load(environ)
    return settings, credentials, settings_warnings + credentials_warnings


def load_certificate(environ: Mapping[str, str]) -> tuple[Certificate, tuple[ConfigProblem, ...]]:
    """Read the key of the server account's certificate, which OpenNebula's server_x509_auth.conf names.

    Returns it with warnings about its file. Raises `ConfigError` if key or certificate cannot be used.
    """
    directory = loading.default_path(environ).parent / "auth"
    auth_conf = _read_x509_conf(directory / "server_x509_auth.conf")
    path = Path(auth_conf.get("one_key") or directory / "key.pem")
    try:
        with path.open("rb") as file:
            text, mode = file.read(), os.fstat(file.fileno()).st_mode
        key = load_pem_private_key(text, None)
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _problem(path, "expected a private key in PEM, without a passphrase") from None
    if not isinstance(key, RSAPrivateKey):
        raise _problem(path, "expected an RSA key")
    _check_match(Path(auth_conf.get("one_cert") or directory / "cert.pem"), key, path)
    return Certificate(auth_conf.get("srv_user") or "serveradmin", key), mode_warnings(path, mode)


def _read_x509_conf(path: Path) -> Mapping[str, str]:
    """Return the values in server_x509_auth.conf; none if the file does not exist, so that the defaults apply."""
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError):
        raise _problem(path, "is not YAML") from None
    if not isinstance(content, dict):
        raise _problem(path, "expected keys with values")
    return {str(name).removeprefix(":"): str(value) for name, value in content.items() if value is not None}


def _check_match(path: Path, key: RSAPrivateKey, key_path: Path) -> None:
    """Raise `ConfigError` if the certificate that oned verifies tokens with does not belong to the key."""
    try:
        certificate = load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    except ValueError:
        raise _problem(path, "expected a certificate in PEM") from None
    if certificate.public_key() != key.public_key():
        raise _problem(path, f"is not the certificate of the key in {key_path}")


def candidates(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that may hold the credentials, in the order in which they are tried."""
    override = environ.get("ONE_CIPHER_AUTH")
    if override:
        return (Path(override),)
    location = environ.get("ONE_LOCATION")
    directory = Path(location, "var/.one") if location else Path("/var/lib/one/.one")
    return tuple(directory / name for name in _FILE_NAMES)


def _problems(environ: Mapping[str, str]) -> tuple[ConfigProblem, ...]:
    try:
        load(environ)
    except ConfigError as error:
        return error.problems
    return ()


def _read(path: Path) -> tuple[str, int]:
    """Return the text of a file and its mode."""
    with path.open(encoding="utf-8") as file:
        return file.read(), os.fstat(file.fileno()).st_mode


def _parse(path: Path, text: str) -> Credentials:
    """Parse the one line of a credentials file; error messages never quote it."""
    line = text.strip()
    name, _, password = line.partition(":")
    if not name or not password or len(line.splitlines()) != 1:
        raise _problem(path, _EXPECTED)
    return Credentials(name, password)


def _problem(path: Path, text: str) -> ConfigError:
    return ConfigError((ConfigProblem(str(path), text),))


def mode_warnings(path: Path, mode: int) -> tuple[ConfigProblem, ...]:
    """Return the warnings about the mode of a file with secrets."""
    if not mode & stat.S_IRWXO:
        return ()
    return (
        ConfigProblem(
            str(path), f"is open to every user of this machine (mode {stat.S_IMODE(mode):04o}): run chmod o= on it"
        ),
    )
