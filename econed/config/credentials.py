"""The credentials of OpenNebula's account for servers, serveradmin, in whose name econed speaks for its users.

For the driver server_cipher oned writes them when it first starts, one line `serveradmin:PASSWORD`: 5.12 into
`ec2_auth`, `sunstone_auth` and others, 6.x and 7.x no longer into `ec2_auth`. All hold the same, so the first that is
there is taken. For the driver server_x509 they are a certificate and its key, which OpenNebula's
`auth/server_x509_auth.conf` names for oned and its servers alike.
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

_NAMES = ("ec2_auth", "sunstone_auth", "oneflow_auth", "onegate_auth")
_FORM = "expected one line NAME:PASSWORD"


@dataclass(frozen=True)
class Credentials:
    """The name and the password of the server account; the password is never shown."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Certificate:
    """The name of the server account and the private key of its certificate; the key is never shown."""

    name: str
    key: RSAPrivateKey = field(repr=False)


def load(environ: Mapping[str, str]) -> tuple[Credentials, tuple[ConfigProblem, ...]]:
    """Read the credentials of the server account; return them, and warnings about their file.

    The file is the one that ONE_CIPHER_AUTH names, else the first there is in oned's directory. Raises `ConfigError`
    where there is none, or where it cannot be used: the next one is not tried then, the mistake should be seen.
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
            raise _problem(path, _FORM) from None  # the other error quotes what it could not read
        return _parse(path, text), _warnings(path, mode)
    tried = ", ".join(str(path) for path in paths)
    raise ConfigError((ConfigProblem("credentials of serveradmin", f"not found, looked for {tried}"),))


def load_with_settings(
    where: Path | loading.Source, environ: Mapping[str, str]
) -> tuple[Settings, Credentials | Certificate, tuple[ConfigProblem, ...]]:
    """Read econe.conf and the credentials that it wants; one `ConfigError` says what is wrong with either."""
    try:
        settings, about_settings = loading.load(where, environ)
    except ConfigError as error:
        raise ConfigError(error.problems + _problems(environ)) from None
    if settings.core_auth == "x509":
        certificate, about_credentials = load_certificate(environ)
        return settings, certificate, about_settings + about_credentials
    credentials, about_credentials = load(environ)
    return settings, credentials, about_settings + about_credentials


def load_certificate(environ: Mapping[str, str]) -> tuple[Certificate, tuple[ConfigProblem, ...]]:
    """Read the key of the server account's certificate, which OpenNebula's server_x509_auth.conf names.

    Returns it and warnings about its file; raises `ConfigError` with what is wrong.
    """
    directory = loading.default_path(environ).parent / "auth"
    said = _read_x509_conf(directory / "server_x509_auth.conf")
    path = Path(said.get("one_key") or directory / "key.pem")
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
    _demand_match(Path(said.get("one_cert") or directory / "cert.pem"), key, path)
    return Certificate(said.get("srv_user") or "serveradmin", key), _warnings(path, mode)


def _read_x509_conf(path: Path) -> Mapping[str, str]:
    """Return the texts in OpenNebula's own file; where there is none, its defaults hold."""
    try:
        said = yaml.safe_load(path.read_text("utf-8")) or {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError):
        raise _problem(path, "is not YAML") from None
    if not isinstance(said, dict):
        raise _problem(path, "expected keys with values")
    return {str(name).removeprefix(":"): str(value) for name, value in said.items() if value is not None}


def _demand_match(path: Path, key: RSAPrivateKey, key_path: Path) -> None:
    """Raise `ConfigError` if the certificate by which oned opens tokens is not that of the key."""
    try:
        certificate = load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    except ValueError:
        raise _problem(path, "expected a certificate in PEM") from None
    if certificate.public_key() != key.public_key():
        raise _problem(path, f"is not the certificate of the key in {key_path}")


def candidates(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that may hold the credentials, in the order in which they are looked for."""
    named = environ.get("ONE_CIPHER_AUTH")
    if named:
        return (Path(named),)
    location = environ.get("ONE_LOCATION")
    directory = Path(location, "var/.one") if location else Path("/var/lib/one/.one")
    return tuple(directory / name for name in _NAMES)


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
    """Return what is in the one line; no message repeats any of it."""
    line = text.strip()
    name, _, password = line.partition(":")
    if not name or not password or len(line.splitlines()) != 1:
        raise _problem(path, _FORM)
    return Credentials(name, password)


def _problem(path: Path, text: str) -> ConfigError:
    return ConfigError((ConfigProblem(str(path), text),))


def _warnings(path: Path, mode: int) -> tuple[ConfigProblem, ...]:
    if not mode & stat.S_IRWXO:
        return ()
    return (
        ConfigProblem(str(path), f"is open to every user of this machine (mode {stat.S_IMODE(mode):04o}): chmod o= it"),
    )
