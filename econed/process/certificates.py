"""Reads and checks the certificates of this server, and those of its clients' authorities.

Files that cannot work are refused before they are used: a key of another certificate, a key with a passphrase, a weak
key. Certificates that will expire soon, or that some clients will not accept, are a warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    GeneralName,
    IPAddress,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)

from econed.config.loading import ConfigError, ConfigProblem
from econed.config.settings import Settings
from econed.config.values import CertificateFiles

_Key: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey
Fingerprint: TypeAlias = tuple[tuple[int, int, int] | None, ...]

WARN_BEFORE = timedelta(days=14)
"""How long before the expiry of a certificate warnings begin; ACME clients renew 30 days before it."""

_MIN_RSA_BITS = 2048
_CURVES = (SECP256R1, SECP384R1, SECP521R1)


@dataclass(frozen=True)
class Identity:
    """A certificate of this server, its key, and the certificates between it and the root, nearest first.

    `path` is its file, `setting` the key of econe.conf that names the file.
    """

    path: str
    setting: str
    certificate: Certificate
    key: _Key
    chain: tuple[Certificate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names in the certificate, in lower case; a name may begin with `*.`."""
        return tuple(name.value.lower() for name in self._alternative_names() if isinstance(name, DNSName))

    def _alternative_names(self) -> Iterable[GeneralName]:
        try:
            return self.certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        except (ExtensionNotFound, ValueError):
            return ()

    def warnings(self, now: float) -> Iterator[ConfigProblem]:
        """Yield the warnings for the administrator at `now` (seconds since the epoch)."""
        for text in _validity_warnings(self.certificate, now):
            yield ConfigProblem(self.path, text, key=self.setting)
        if not any(isinstance(name, DNSName | IPAddress) for name in self._alternative_names()):
            yield ConfigProblem(
                self.path, "names no server (subjectAltName), so clients will not accept it", key=self.setting
            )
        if isinstance(self.certificate.signature_hash_algorithm, MD5 | SHA1):
            yield ConfigProblem(
                self.path, "is signed with MD5 or SHA-1, so clients will not accept it", key=self.setting
            )
        for issued, issuer in zip((self.certificate, *self.chain), self.chain, strict=False):
            if issued.issuer != issuer.subject:
                yield ConfigProblem(
                    self.path,
                    "has a chain in the wrong order: each certificate must be issued by the next",
                    key=self.setting,
                )
                break


@dataclass(frozen=True)
class Certificates:
    """The certificates for TLS: the default certificate of this server, others by name, and the clients' authorities.

    `authorities` is None if clients are not asked for a certificate.
    """

    own: Identity
    others: tuple[Identity, ...]
    authorities: tuple[Certificate, ...] | None
    authorities_path: str = ""

    def warnings(self, now: float) -> tuple[ConfigProblem, ...]:
        """Return the warnings for the administrator at `now` (seconds since the epoch)."""
        warnings = [warning for identity in (self.own, *self.others) for warning in identity.warnings(now)]
        for authority in self.authorities or ():
            name = authority.subject.rfc4514_string()
            warnings += (
                ConfigProblem(self.authorities_path, f"the authority {name} {text}", key="ssl_client_ca")
                for text in _validity_warnings(authority, now)
            )
        return tuple(warnings)


@dataclass(frozen=True)
class TLSFiles:
    """The paths of all certificate files."""

    own: CertificateFiles
    others: tuple[CertificateFiles, ...] = ()
    client_ca: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> TLSFiles | None:
        """Return the files that econe.conf names; None without a certificate, which means no TLS."""
        if settings.ssl_cert is None or settings.ssl_key is None:
            return None
        own = CertificateFiles(settings.ssl_cert, settings.ssl_key, settings.ssl_chain)
        return cls(own, settings.ssl_sni, settings.ssl_client_ca if settings.auth == "x509" else None)

    def fingerprint(self) -> Fingerprint:
        """Return inode, size and modification time of each file (None if missing), which differ after a change."""
        paths = [path for files in (self.own, *self.others) for path in (files.cert, files.key, files.chain)]
        return tuple(_fingerprint(path) for path in (*paths, self.client_ca) if path is not None)

    def read(self) -> Certificates:
        """Read and check all files; raises `ConfigError` with all problems."""
        problems: list[ConfigProblem] = []
        own = _read_identity(problems, self.own, "ssl_cert", "ssl_key", "ssl_chain")
        others = [_read_identity(problems, files, "ssl_sni", "ssl_sni", "ssl_sni") for files in self.others]
        authorities: tuple[Certificate, ...] | None = None
        try:
            if self.client_ca is not None:
                authorities = _certificates(self.client_ca, "ssl_client_ca")
        except ConfigError as error:
            problems += error.problems
        if problems or own is None:
            raise ConfigError(tuple(problems))
        return Certificates(own, tuple(identity for identity in others if identity), authorities, self.client_ca or "")


def _read_identity(
    problems: list[ConfigProblem], files: CertificateFiles, cert: str, key: str, chain: str
) -> Identity | None:
    """Return the certificate in `files`; if it is invalid, add to `problems` and return None.

    `cert`, `key` and `chain` are the keys of econe.conf that name the files.
    """
    try:
        first, *intermediates = _certificates(files.cert, cert)
        if files.chain is not None:
            intermediates += _certificates(files.chain, chain)
        private = _private_key(files.key, key)
        if first.public_key() != private.public_key():
            text = f"is not the certificate of the key in {files.key}; the server's certificate must come first"
            raise _problem(files.cert, cert, text)
    except ConfigError as error:
        problems += error.problems
        return None
    return Identity(files.cert, cert, first, private, _without_duplicates(first, intermediates))


def _without_duplicates(first: Certificate, intermediates: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """Return the chain without duplicates: the certificate's file and the chain's own file may both contain it."""
    return tuple(certificate for certificate in dict.fromkeys(intermediates) if certificate != first)


def _certificates(path: str, setting: str) -> tuple[Certificate, ...]:
    try:
        return tuple(load_pem_x509_certificates(_content(path, setting)))
    except ValueError:
        raise _problem(path, setting, "expected a certificate in PEM") from None


def _private_key(path: str, setting: str) -> _Key:
    try:
        key = load_pem_private_key(_content(path, setting), None)
    except TypeError:
        raise _problem(path, setting, "has a passphrase: expected a private key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _problem(path, setting, "expected a private key in PEM") from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < _MIN_RSA_BITS:
            text = f"is too weak: expected an RSA key of {_MIN_RSA_BITS} bits or more, got {key.key_size}"
            raise _problem(path, setting, text)
        return key
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise _problem(path, setting, "expected an RSA key, or an EC key on P-256, P-384 or P-521")


def _content(path: str, setting: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise _problem(path, setting, f"cannot be read: {error.strerror}") from None


def _validity_warnings(certificate: Certificate, now: float) -> Iterator[str]:
    """Yield the warnings about the validity period of a certificate."""
    moment = datetime.fromtimestamp(now, UTC)
    expiry = certificate.not_valid_after_utc
    if certificate.not_valid_before_utc > moment:
        yield f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if expiry <= moment:
        yield f"expired at {expiry:%Y-%m-%d %H:%M} UTC"
    elif expiry - moment < WARN_BEFORE:
        yield f"expires soon, at {expiry:%Y-%m-%d %H:%M} UTC"


def _fingerprint(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _problem(path: str, setting: str, text: str) -> ConfigError:
    return ConfigError((ConfigProblem(path, text, key=setting),))
