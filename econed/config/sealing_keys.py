"""The keys of `econed.sealing`: from the file `sealing_keys`, or derived from the credentials of serveradmin."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from econed.config.credentials import Certificate, Credentials, mode_warnings
from econed.config.loading import ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.sealing import KEY_SIZE, derived_key

_KEY = re.compile(rf"[0-9A-Fa-f]{{{2 * KEY_SIZE}}}", re.ASCII)
_MAX_KEYS = 8
_MAX_SIZE = 4096
_EXPECTED = f"expected 1 to {_MAX_KEYS} different keys of {2 * KEY_SIZE} hex digits, one in each line"


def load(settings: Settings, server: Credentials | Certificate) -> tuple[Sequence[bytes], tuple[ConfigProblem, ...]]:
    """Return the sealing keys, the one for new texts first, and warnings about their file; raises `ConfigError`."""
    if settings.sealing_keys is None:
        return (derived_key(_secret(server)),), ()
    path = Path(settings.sealing_keys)
    try:
        with path.open("rb") as file:
            content, mode = file.read(_MAX_SIZE + 1), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    return _parse(path, content), mode_warnings(path, mode)


def _secret(server: Credentials | Certificate) -> bytes:
    """Return the secret of serveradmin's credentials; of a certificate its key, which outlives the certificate."""
    if isinstance(server, Credentials):
        return server.password.encode()
    return server.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _parse(path: Path, content: bytes) -> Sequence[bytes]:
    """Return the keys in a file; error messages never quote it."""
    lines = content.decode("ascii", "replace").split()
    if len(content) > _MAX_SIZE or not all(map(_KEY.fullmatch, lines)):
        raise _problem(path, _EXPECTED)
    keys = tuple(map(bytes.fromhex, lines))
    if not 0 < len(keys) <= _MAX_KEYS or len(set(keys)) != len(keys):
        raise _problem(path, _EXPECTED)
    return keys


def _problem(path: Path, text: str) -> ConfigError:
    return ConfigError((ConfigProblem(str(path), text, key="sealing_keys"),))
