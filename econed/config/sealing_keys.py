"""The keys of `econed.sealing`: from the file `sealing_keys`, or derived from the credentials of serveradmin.

Each line of the file is a key, the one for new texts first, or what is left of a key that is no longer used: a purpose,
a colon and the key's digest key for that purpose. So ids of access keys are recognized longer than the key is used.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from econed.config.credentials import Certificate, Credentials, mode_warnings
from econed.config.loading import ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.sealing import KEY_SIZE, RetiredKey, Sealer, derived_key

MAX_KEYS = 8
"""Keys that a file may have, without retired ones."""

_MAX_RETIRED = 64
_LINE = re.compile(rf"(?:([a-z-]{{1,32}}):)?([0-9A-Fa-f]{{{2 * KEY_SIZE}}})", re.ASCII)
_MAX_SIZE = 16_384
_EXPECTED = f"expected 1 to {MAX_KEYS} different keys of {2 * KEY_SIZE} hex digits, one in each line"


@dataclass(frozen=True)
class SealingKeys:
    """The sealing keys, the one for new texts first, and those that are retired, the newest first."""

    keys: tuple[bytes, ...] = field(repr=False)
    retired: tuple[RetiredKey, ...] = ()

    def sealer(self) -> Sealer:
        """Return what seals with these keys."""
        return Sealer(self.keys, self.retired)

    def renewed(self) -> SealingKeys:
        """Return these keys with a new one before them."""
        return SealingKeys((os.urandom(KEY_SIZE), *self.keys), self.retired)

    def with_first_only(self, purpose: str) -> SealingKeys:
        """Return the first key; of the others only what makes digests for a purpose is left."""
        retired = (*(RetiredKey.of(key, purpose) for key in self.keys[1:]), *self.retired)
        return SealingKeys(self.keys[:1], retired[:_MAX_RETIRED])

    def text(self) -> str:
        """Return the content of a file with these keys."""
        lines = [*(key.hex() for key in self.keys), *(f"{key.purpose}:{key.digest_key.hex()}" for key in self.retired)]
        return "".join(f"{line}\n" for line in lines)


def load(settings: Settings, server: Credentials | Certificate) -> tuple[SealingKeys, tuple[ConfigProblem, ...]]:
    """Return the sealing keys, and warnings about their file; raises `ConfigError`."""
    if settings.sealing_keys is None:
        return SealingKeys((derived_key(_secret(server)),)), ()
    path = Path(settings.sealing_keys)
    try:
        with path.open("rb") as file:
            content, mode = file.read(_MAX_SIZE + 1), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from error
    return _parse(path, content), mode_warnings(path, mode)


def store(path: Path, keys: SealingKeys) -> None:
    """Write keys to a file that only its owner, the account of this process, can read; raises `OSError`.

    A process that reads the file at the same time finds the old keys or the new ones.
    """
    path = path.resolve()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(keys.text())
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _secret(server: Credentials | Certificate) -> bytes:
    """Return the secret of serveradmin's credentials; of a certificate its key, which outlives the certificate."""
    if isinstance(server, Credentials):
        return server.password.encode()
    return server.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _parse(path: Path, content: bytes) -> SealingKeys:
    """Return the keys in a file; error messages never quote it."""
    lines = [_LINE.fullmatch(line) for line in content.decode("ascii", "replace").split()]
    if len(content) > _MAX_SIZE:
        raise _problem(path, _EXPECTED)
    keys: list[bytes] = []
    retired: list[RetiredKey] = []
    for line in lines:
        if line is None:
            raise _problem(path, _EXPECTED)
        purpose, key = line[1], bytes.fromhex(line[2])
        if purpose is None:
            keys.append(key)
        else:
            retired.append(RetiredKey(purpose, key))
    if not 0 < len(keys) <= MAX_KEYS or len(retired) > _MAX_RETIRED or len(set(keys)) != len(keys):
        raise _problem(path, _EXPECTED)
    return SealingKeys(tuple(keys), tuple(retired))


def _problem(path: Path, text: str) -> ConfigError:
    return ConfigError((ConfigProblem(str(path), text, key="sealing_keys"),))
