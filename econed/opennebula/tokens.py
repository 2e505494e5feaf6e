"""The session strings of calls to oned.

Most are server tokens: serveradmin's credentials for calls in users' names (auth drivers `server_cipher`,
`server_x509`). A server token is a pure function of the credentials, the user and a time window. oned caches one token
per user, and runs its auth driver for a different token (about 0.3 s), so all processes must send the same string.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Protocol

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from econed.user import TokenLogin

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

DEFAULT_WINDOW = 1800
"""Seconds for which all processes send the same token of a user (oned's own cache expires after 900)."""

DEFAULT_SERVER_USER = "serveradmin"

_PADDING = 11
"""Bytes of padding that PKCS #1 v1.5 needs."""


class CipherForm(Enum):
    """The initialisation vector of encrypted server tokens; each oned refuses the other form (error 256)."""

    KEY_IV = "key-iv"
    """From 6.2 on: the first 16 characters of the key."""
    ZERO_IV = "zero-iv"
    """Up to 6.0: 16 zero bytes."""

    @property
    def other(self) -> CipherForm:
        """The other form."""
        return CipherForm.ZERO_IV if self is CipherForm.KEY_IV else CipherForm.KEY_IV


class ServerKey(Protocol):
    """serveradmin's key. The same key makes the same token of the same text in every process."""

    @property
    def forms(self) -> Sequence[CipherForm]:
        """The forms of tokens that oned may accept with this kind of key, the most likely first."""

    def seal(self, text: str, form: CipherForm) -> str:
        """Return `SERVER:TARGET:EXPIRES` encrypted or signed for oned's driver; raises `UnusableName` if impossible."""


class UnusableName(ValueError):
    """A user name that cannot be part of a session string: empty, too long, or with `:`, which separates the parts."""


@dataclass(frozen=True)
class PasswordKey:
    """serveradmin's password, for the driver `server_cipher`; never shown in logs.

    AES-256-CBC with PKCS#7; the key is the first 32 characters of the hex SHA-256 of the password (OpenNebula,
    `server_cipher_auth.rb`).
    """

    password: str = field(repr=False)
    forms: ClassVar[Sequence[CipherForm]] = tuple(CipherForm)

    def seal(self, text: str, form: CipherForm) -> str:
        """Return the text encrypted, in base64."""
        key = hashlib.sha256(self.password.encode()).hexdigest()[:32].encode("ascii")
        vector = bytes(16) if form is CipherForm.ZERO_IV else key[:16]
        padder = PKCS7(128).padder()
        encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
        ciphertext = encryptor.update(padder.update(text.encode()) + padder.finalize()) + encryptor.finalize()
        return base64.b64encode(ciphertext).decode("ascii")


@dataclass(frozen=True)
class CertificateKey:
    """The private key of the server's certificate, for the driver `server_x509`; never shown in logs.

    The text is signed without a digest (PKCS #1 v1.5) and base64-encoded twice, as in OpenNebula's
    `server_x509_auth.rb`. All versions of oned accept the same form.
    """

    key: RSAPrivateKey = field(repr=False)
    forms: ClassVar[Sequence[CipherForm]] = (CipherForm.KEY_IV,)

    def seal(self, text: str, form: CipherForm) -> str:
        """Return the text signed; raises `UnusableName` for a name too long for the key."""
        plain = text.encode()
        if len(plain) > self.key.key_size // 8 - _PADDING:
            raise UnusableName(text)
        signature = self.key.sign(plain, PKCS1v15(), NoDigestInfo())
        return base64.b64encode(base64.b64encode(signature)).decode("ascii")


def server_token(key: ServerKey, server_user: str, target: str, expires: int, form: CipherForm) -> str:
    """Return the session string for calls by `server_user`, who owns `key`, in the name of `target`.

    `expires` is in seconds since the epoch. Raises `UnusableName` for a target that is not a possible user name in
    OpenNebula.
    """
    if not target or ":" in target:
        raise UnusableName(target)
    return f"{server_user}:{target}:{key.seal(f'{server_user}:{target}:{expires}', form)}"


def server_cipher_token(
    password: str, target: str, expires: int, zero_iv: bool, *, server_user: str = DEFAULT_SERVER_USER
) -> str:
    """Return the session string of the driver server_cipher (`server_token`)."""
    form = CipherForm.ZERO_IV if zero_iv else CipherForm.KEY_IV
    return server_token(PasswordKey(password), server_user, target, expires, form)


def window_end(now: float, window: int = DEFAULT_WINDOW, phase: int = 0) -> int:
    """Return the expiry of a token used at `now`: the same throughout a window.

    All times are in seconds. The token stays valid for one whole window after its own, so that it does not expire
    before a call's deadline, and clocks may differ by less than a window. `phase` shifts the windows.
    """
    return (int(now + phase) // window + 2) * window - phase


def session_token(server_user: str, key: ServerKey, target: str | None, now: float, form: CipherForm) -> str:
    """Return the session string for `target` (None: the server user) that every process sends at `now`.

    The windows of different users begin at different times, so that oned's auth driver does not run for all together.
    """
    name = server_user if target is None else target
    expires = window_end(now, phase=zlib.crc32(name.encode()) % DEFAULT_WINDOW)
    return server_token(key, server_user, name, expires, form)


def token_session(login: TokenLogin) -> str:
    """Return the session string of a user's login token; raises `UnusableName` as `server_token`."""
    if not login.name or ":" in login.name:
        raise UnusableName(login.name)
    return f"{login.name}:{login.token}"
