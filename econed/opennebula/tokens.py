"""Server tokens: how serveradmin speaks to oned in the name of a user (auth driver `server_cipher`).

A token is a pure function of the credentials, the user and a window of time: oned remembers one token per user,
and a different one costs it a run of its auth driver (about 0.3 s), so all processes must send the same string.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from enum import Enum

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

DEFAULT_WINDOW = 1800
"""Seconds for which all processes send the same token of a user (oned itself forgets it after 900)."""

DEFAULT_SERVER_USER = "serveradmin"


class CipherForm(Enum):
    """How oned wants server tokens encrypted; either kind refuses the other's (error 256)."""

    KEY_IV = "key-iv"
    """From 6.2 on: the initialisation vector is the first 16 characters of the key."""
    ZERO_IV = "zero-iv"
    """Up to 6.0: the initialisation vector is 16 zero bytes."""

    @property
    def other(self) -> CipherForm:
        """The other form."""
        return CipherForm.ZERO_IV if self is CipherForm.KEY_IV else CipherForm.KEY_IV


class UnusableName(ValueError):
    """A user name that would change the meaning of a session string: `:` separates its parts."""


def server_cipher_token(
    password: str, target: str, expires: int, zero_iv: bool, *, server_user: str = DEFAULT_SERVER_USER
) -> str:
    """Return the session string by which `server_user`, whose password is given, speaks as `target`.

    `expires` is in seconds since the epoch. AES-256-CBC with PKCS#7 over `SERVER:TARGET:EXPIRES`; the key is the
    first 32 characters of the hex SHA-256 of the password (OpenNebula, `server_cipher_auth.rb`).
    Raises `UnusableName` for a target that no user of OpenNebula can be called.
    """
    if not target or ":" in target:
        raise UnusableName(target)
    key = hashlib.sha256(password.encode()).hexdigest()[:32].encode("ascii")
    vector = bytes(16) if zero_iv else key[:16]
    padder = PKCS7(128).padder()
    text = f"{server_user}:{target}:{expires}".encode()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    sealed = encryptor.update(padder.update(text) + padder.finalize()) + encryptor.finalize()
    return f"{server_user}:{target}:{base64.b64encode(sealed).decode('ascii')}"


def window_end(now: float, window: int = DEFAULT_WINDOW, phase: int = 0) -> int:
    """Return when a token used at `now` expires: the same for every moment of one window.

    All times are in seconds. The token stays good for one whole window after its own, so that it ends within no
    call's deadline, and clocks that differ by less than that do no harm. `phase` shifts the windows.
    """
    return (int(now + phase) // window + 2) * window - phase


def session_token(server_user: str, password: str, target: str | None, now: float, form: CipherForm) -> str:
    """Return the session string for `target` (None: the server user) that every process sends at this time.

    Each user's windows begin at a moment of his own, so that they do not all come to oned's auth driver at once.
    """
    name = server_user if target is None else target
    expires = window_end(now, phase=zlib.crc32(name.encode()) % DEFAULT_WINDOW)
    return server_cipher_token(password, name, expires, form is CipherForm.ZERO_IV, server_user=server_user)
