"""Sealing: authenticated encryption of what OpenNebula keeps and may not stand there in clear.

Users read and copy OpenNebula's objects: 5.12 lists a group's objects, 7.4 clones anybody's document. A sealed text can
be opened only by econed's processes, and only for the purpose and with the binding for which it was sealed, so a
copied one is useless elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_SIZE: Final = 32
"""Bytes of a sealing key."""

_ID_SIZE = 4
_SALT_SIZE = 24
_NONCE_SIZE = 12
_TAG_SIZE = 16


class NotSealed(ValueError):
    """A text was not sealed with one of the keys for this purpose and binding, or it has been changed."""


@dataclass(frozen=True)
class RetiredKey:
    """What is left of a sealing key that is no longer used: its digests for one purpose. It opens nothing."""

    purpose: str
    digest_key: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes, purpose: str) -> RetiredKey:
        """Return what is left of a sealing key for a purpose."""
        return cls(purpose, _digest_key(key, purpose))


class Sealer:
    """Seals texts and makes digests with the sealing keys, of which the first is used for new ones.

    A sealed text is URL-safe base64 without padding of: 4 bytes that identify the key, 24 random bytes, and the
    ciphertext of AES-256-GCM. Key and nonce are made of the sealing key by HKDF-SHA256 with the random bytes as the
    salt and the purpose as the info, so that texts share key and nonce only if their random bytes are equal. The
    binding is the associated data. Digests of `retired` keys are still known.
    """

    def __init__(self, keys: Sequence[bytes], retired: Sequence[RetiredKey] = ()) -> None:
        if not keys or any(len(key) != KEY_SIZE for key in keys):
            raise ValueError(f"expected keys of {KEY_SIZE} bytes")
        self._keys = tuple((_derive(key, b"", b"econed key id", _ID_SIZE), key) for key in keys)
        self._retired = tuple(retired)

    def seal(self, purpose: str, binding: str, text: bytes) -> str:
        """Return `text` sealed for a purpose, and bound to what it belongs to, for example to a user's id."""
        key_id, key = self._keys[0]
        salt = os.urandom(_SALT_SIZE)
        cipher, nonce = _cipher(key, salt, purpose)
        return _encode(key_id + salt + cipher.encrypt(nonce, text, binding.encode()))

    def open(self, purpose: str, binding: str, sealed: str) -> bytes:
        """Return the text that was sealed for this purpose with this binding; raises `NotSealed`."""
        content = _decode(sealed)
        key_id, salt = content[:_ID_SIZE], content[_ID_SIZE : _ID_SIZE + _SALT_SIZE]
        ciphertext = content[_ID_SIZE + _SALT_SIZE :]
        if len(ciphertext) < _TAG_SIZE:
            raise NotSealed
        for known_id, key in self._keys:
            if known_id == key_id:
                cipher, nonce = _cipher(key, salt, purpose)
                try:
                    return cipher.decrypt(nonce, ciphertext, binding.encode())
                except InvalidTag:
                    continue
        raise NotSealed

    def is_newest(self, sealed: str) -> bool:
        """Whether a sealed text names the first key, with which new texts are sealed; it may not be valid."""
        try:
            return _decode(sealed)[:_ID_SIZE] == self._keys[0][0]
        except NotSealed:
            return False

    def digest(self, purpose: str, text: str) -> bytes:
        """Return the HMAC-SHA-256 of a text for a purpose, with the first key."""
        return _digest(_digest_key(self._keys[0][1], purpose), text)

    def digests(self, purpose: str, text: str) -> Sequence[bytes]:
        """Return the digests of a text with each of the keys, in their order, then with those that are retired."""
        keys = [_digest_key(key, purpose) for _, key in self._keys]
        keys += (key.digest_key for key in self._retired if key.purpose == purpose)
        return tuple(_digest(key, text) for key in keys)


def derived_key(secret: bytes) -> bytes:
    """Return the sealing key that belongs to a secret of any length."""
    return _derive(secret, b"", b"econed sealing key", KEY_SIZE)


def _cipher(key: bytes, salt: bytes, purpose: str) -> tuple[AESGCM, bytes]:
    """Return the cipher and the nonce for one text."""
    material = _derive(key, salt, b"econed seal:" + purpose.encode(), KEY_SIZE + _NONCE_SIZE)
    return AESGCM(material[:KEY_SIZE]), material[KEY_SIZE:]


def _digest_key(key: bytes, purpose: str) -> bytes:
    return _derive(key, b"", b"econed digest:" + purpose.encode(), KEY_SIZE)


def _digest(digest_key: bytes, text: str) -> bytes:
    mac = HMAC(digest_key, SHA256())
    mac.update(text.encode())
    return mac.finalize()


def _derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt, info).derive(secret)


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _decode(sealed: str) -> bytes:
    """Return the bytes of a text, which has one spelling only."""
    try:
        content = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotSealed from None
    if _encode(content) != sealed:
        raise NotSealed
    return content
