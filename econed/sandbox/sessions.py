"""Authentication by password, login token and server token, and the token that oned caches for each user."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import Counter

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509 import Certificate

from econed.errors import OpenNebulaCode
from econed.sandbox.cloud import Cloud
from econed.sandbox.objects.users import ALL_GROUPS, LoginToken, Session, User
from econed.sandbox.refusals import Refused

SESSION_EXPIRATION_TIME = 900
"""Seconds for which oned accepts a token again without calling its auth driver (oned.conf)."""

_BLOCK_BITS = 128
_KEY_LENGTH = 32
_IV_LENGTH = 16


def _denied() -> Refused:
    return Refused(OpenNebulaCode.AUTHENTICATION, "User couldn't be authenticated, aborting call.")


def read_server_token(text: str, password: str, *, is_v7: bool) -> tuple[str, str, int]:
    """Return the server user, target user and expiry in a server_cipher token; ValueError if it is invalid.

    The first 32 characters of `password`, as oned stores it for the server user, are the AES-256 key. The IV is 16 zero
    bytes up to 6.0 and the first 16 characters of the key from 6.2 on.
    """
    key = password[:_KEY_LENGTH].encode()
    iv = key[:_IV_LENGTH] if is_v7 else bytes(_IV_LENGTH)
    try:
        ciphertext = base64.b64decode(text, validate=False)
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        unpadder = padding.PKCS7(_BLOCK_BITS).unpadder()
        plain = unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()
        server, target, expires = plain.decode().split(":")
        return server, target, int(expires)
    except (ValueError, binascii.Error) as error:
        raise ValueError("invalid server token") from error


def read_certificate_token(text: str, certificate: Certificate) -> tuple[str, str, int]:
    """Return the server user, target user and expiry in a server_x509 token; ValueError if it is invalid.

    The token is signed with the certificate's key, without a digest, and encoded in base64 twice.
    """
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA certificate")
    try:
        signed = base64.b64decode(base64.b64decode(text))
        server, target, expires = (
            key.recover_data_from_signature(signed, PKCS1v15(), NoDigestInfo()).decode().split(":")
        )
        return server, target, int(expires)
    except (ValueError, InvalidSignature) as error:
        raise ValueError("invalid server token") from error


def distinguished_name(certificate: Certificate) -> str:
    """Return the subject of a certificate as oned stores it in PASSWORD: `/C=ES/CN=server`, with spaces as `\\20`."""
    parts = (attribute.rfc4514_string() for attribute in certificate.subject)
    return "".join(f"/{part}" for part in parts).replace(" ", "\\20")


class Sessions:
    """Authenticates calls as oned does; `authentications` counts the calls of auth drivers by user name.

    `certificate` is the one that server_x509_auth.conf configures; without it no server_x509 token is accepted.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.authentications: Counter[str] = Counter()
        self.certificate: Certificate | None = None

    def authenticate(self, session: str) -> User:
        """Return the user as whom a call with `session` runs; refuses with code 256."""
        name, colon, token = session.partition(":")
        user = self._cloud.find_user(name)
        if not colon or user is None:
            raise _denied()
        if user.driver.startswith("server"):
            return self._authenticate_target(user, token)
        return self._authenticate_user(user, token)

    def _authenticate_user(self, user: User, token: str) -> User:
        if not user.is_enabled:
            raise _denied()
        login = user.login_tokens.get(token)
        if login is not None and login.is_valid_at(self._cloud.now()):
            return self._within_group(user, login)
        if self._is_cached(user, token):
            return user
        if login is not None:
            raise _denied()
        self.authentications[user.name] += 1
        hashed = (hashlib.sha256(token.encode()).hexdigest(), hashlib.sha1(token.encode()).hexdigest())  # noqa: S324
        if user.driver != "core" or not any(hmac.compare_digest(user.password, digest) for digest in hashed):
            raise _denied()
        self._cache(user, token, self._cloud.clock.seconds() + SESSION_EXPIRATION_TIME)
        user.password = hashed[0]  # oned replaces the SHA-1 of an old installation at the next login
        return user

    def _within_group(self, user: User, login: LoginToken) -> User:
        """Return a user limited to the group of their token; the token of a group that they have left is removed."""
        if login.egid == ALL_GROUPS:
            return user
        if login.egid not in user.gids:
            del user.login_tokens[login.token]
            raise _denied()
        return user.within(self._cloud.groups.get(login.egid))

    def _authenticate_target(self, server: User, text: str) -> User:
        target_name, colon, token = text.partition(":")
        target = self._cloud.find_user(target_name)
        if not colon or target is None:
            raise _denied()
        if self._is_cached(target, token):
            return target
        self.authentications[target.name] += 1
        now = self._cloud.clock.seconds()
        try:
            server_name, _, expires = self._read_token(server, token)
        except ValueError:
            raise _denied() from None
        if server_name != server.name or expires <= now:
            raise _denied()
        self._cache(target, token, min(expires, now + SESSION_EXPIRATION_TIME))
        return target

    def _read_token(self, server: User, token: str) -> tuple[str, str, int]:
        """Return the server user, target user and expiry in a token, by the auth driver of the server user."""
        if server.driver != "server_x509":
            return read_server_token(token, server.password, is_v7=self._cloud.version.is_v7)
        if self.certificate is None or distinguished_name(self.certificate) != server.password:
            raise ValueError("not the server user's certificate")
        return read_certificate_token(token, self.certificate)

    def _is_cached(self, user: User, token: str) -> bool:
        session = user.session
        return session is not None and session.token == token and session.expires > self._cloud.clock.seconds()

    def _cache(self, user: User, token: str, expires: float) -> None:
        user.session = Session(token, expires)
