"""The credentials of OpenNebula's account for servers, serveradmin, in whose name econed speaks for its users.

oned writes them when it first starts, one line `serveradmin:PASSWORD`: 5.12 into `ec2_auth`, `sunstone_auth` and
others, 6.x and 7.x no longer into `ec2_auth`. All hold the same, so the first that is there is taken.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from econed import config
from econed.config import ConfigError, Finding, Settings

_NAMES = ("ec2_auth", "sunstone_auth", "oneflow_auth", "onegate_auth")
_FORM = "expected one line NAME:PASSWORD"


@dataclass(frozen=True)
class Credentials:
    """The name and the password of the server account; the password is never shown."""

    name: str
    password: str = field(repr=False)


def load(environ: Mapping[str, str]) -> tuple[Credentials, tuple[Finding, ...]]:
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
    raise ConfigError((Finding("credentials of serveradmin", f"not found, looked for {tried}"),))


def load_with_settings(path: Path, environ: Mapping[str, str]) -> tuple[Settings, Credentials, tuple[Finding, ...]]:
    """Read econe.conf at `path` and the credentials; one `ConfigError` says what is wrong with either."""
    try:
        settings, about_settings = config.load(path, environ)
    except ConfigError as error:
        raise ConfigError(error.problems + _problems(environ)) from None
    credentials, about_credentials = load(environ)
    return settings, credentials, about_settings + about_credentials


def candidates(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that may hold the credentials, in the order in which they are looked for."""
    named = environ.get("ONE_CIPHER_AUTH")
    if named:
        return (Path(named),)
    location = environ.get("ONE_LOCATION")
    directory = Path(location, "var/.one") if location else Path("/var/lib/one/.one")
    return tuple(directory / name for name in _NAMES)


def _problems(environ: Mapping[str, str]) -> tuple[Finding, ...]:
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
    return ConfigError((Finding(str(path), text),))


def _warnings(path: Path, mode: int) -> tuple[Finding, ...]:
    if not mode & stat.S_IRWXO:
        return ()
    return (Finding(str(path), f"is open to every user of this machine (mode {stat.S_IMODE(mode):04o}): chmod o= it"),)
