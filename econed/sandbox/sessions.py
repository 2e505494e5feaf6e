"""Who is calling: passwords, login tokens, server tokens, and the one session that oned remembers of each user."""

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
from econed.sandbox.objects.users import Session, User
from econed.sandbox.refusals import Refused

SESSION_EXPIRATION_TIME = 900
"""For how many seconds oned takes a token again without asking its driver (oned.conf)."""

_BLOCK_BITS = 128
_KEY_LENGTH = 32
_IV_LENGTH = 16


def _denied() -> Refused:
    return Refused(OpenNebulaCode.AUTHENTICATION, "User couldn't be authenticated, aborting call.")


def read_server_token(text: str, password: str, *, modern: bool) -> tuple[str, str, int]:
    """Return (server user, target, expiry) that a server_cipher token holds; ValueError where it is none.

    `password` is what oned keeps of the server user: its first 32 characters are the AES-256 key. The IV is 16 zero
    bytes up to 6.0 and the first 16 characters of the key from 6.2 on.
    """
    key = password[:_KEY_LENGTH].encode()
    vector = key[:_IV_LENGTH] if modern else bytes(_IV_LENGTH)
    try:
        sealed = base64.b64decode(text, validate=False)
        decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
        unpadder = padding.PKCS7(_BLOCK_BITS).unpadder()
        plain = unpadder.update(decryptor.update(sealed) + decryptor.finalize()) + unpadder.finalize()
        server, target, expires = plain.decode().split(":")
        return server, target, int(expires)
    except (ValueError, binascii.Error) as problem:
        raise ValueError("no server token") from problem


def read_certificate_token(text: str, certificate: Certificate) -> tuple[str, str, int]:
    """Return (server user, target, expiry) that a server_x509 token holds; ValueError where it is none.

    What the certificate's key signed, without a digest, in base64 twice.
    """
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise ValueError("no RSA certificate")
    try:
        signed = base64.b64decode(base64.b64decode(text))
        server, target, expires = (
            key.recover_data_from_signature(signed, PKCS1v15(), NoDigestInfo()).decode().split(":")
        )
        return server, target, int(expires)
    except (ValueError, InvalidSignature) as problem:
        raise ValueError("no server token") from problem


def distinguished_name(certificate: Certificate) -> str:
    """Return whose a certificate is as oned keeps it in PASSWORD: `/C=ES/CN=server`, blanks as their hex."""
    parts = (attribute.rfc4514_string() for attribute in certificate.subject)
    return "".join(f"/{part}" for part in parts).replace(" ", "\\20")


class Sessions:
    """Authenticates calls as oned does; `authentications` counts, by user, how often a driver had to be asked.

    `certificate` is the server's, which oned finds by server_x509_auth.conf; without one no server_x509 token is taken.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.authentications: Counter[str] = Counter()
        self.certificate: Certificate | None = None

    def authenticate(self, session: str) -> User:
        """Return the user in whose name a call with `session` runs; refuses with code 256."""
        name, colon, token = session.partition(":")
        user = self._cloud.user_named(name)
        if not colon or user is None:
            raise _denied()
        if user.driver.startswith("server"):
            return self._by_server(user, token)
        return self._by_himself(user, token)

    def _by_himself(self, user: User, token: str) -> User:
        if not user.enabled:
            raise _denied()
        if self._remembered(user, token) or self._by_login_token(user, token):
            return user
        self.authentications[user.name] += 1
        hashed = (hashlib.sha256(token.encode()).hexdigest(), hashlib.sha1(token.encode()).hexdigest())  # noqa: S324
        if user.driver != "core" or not any(hmac.compare_digest(user.password, digest) for digest in hashed):
            raise _denied()
        self._remember(user, token, self._cloud.clock.seconds() + SESSION_EXPIRATION_TIME)
        user.password = hashed[0]  # an old installation's SHA-1 is replaced at the next login
        return user

    def _by_login_token(self, user: User, token: str) -> bool:
        now = self._cloud.clock.seconds()
        return any(held.token == token and (held.expires < 0 or held.expires > now) for held in user.login_tokens)

    def _by_server(self, server: User, text: str) -> User:
        target_name, colon, token = text.partition(":")
        target = self._cloud.user_named(target_name)
        if not colon or target is None:
            raise _denied()
        if self._remembered(target, token):
            return target
        self.authentications[target.name] += 1
        now = self._cloud.clock.seconds()
        try:
            named, _, expires = self._opened(server, token)
        except ValueError:
            raise _denied() from None
        if named != server.name or expires <= now:
            raise _denied()
        self._remember(target, token, min(expires, now + SESSION_EXPIRATION_TIME))
        return target

    def _opened(self, server: User, token: str) -> tuple[str, str, int]:
        """Return what is in a token, by the driver of the server user."""
        if server.driver != "server_x509":
            return read_server_token(token, server.password, modern=self._cloud.version.modern)
        if self.certificate is None or distinguished_name(self.certificate) != server.password:
            raise ValueError("no certificate of the server user's")
        return read_certificate_token(token, self.certificate)

    def _remembered(self, user: User, token: str) -> bool:
        session = user.session
        return session is not None and session.token == token and session.until > self._cloud.clock.seconds()

    def _remember(self, user: User, token: str, until: float) -> None:
        user.session = Session(token, until)
