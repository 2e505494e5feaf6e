"""The certificates of this server and the authorities of its clients: read from their files and looked through.

What cannot work is refused before anybody is served with it: a key of another certificate, one with a passphrase, one
that is too weak. What works and will not for long, or not for everybody, is worth a warning.
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
Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]

WARN_BEFORE = timedelta(days=14)
"""How long before a certificate ends there is a warning; those who renew by ACME do so 30 days before."""

_LEAST_RSA_BITS = 2048
_CURVES = (SECP256R1, SECP384R1, SECP521R1)


@dataclass(frozen=True)
class Identity:
    """A certificate of this server, its key, and the certificates between it and the authority, nearest first.

    `place` is where it was read, `setting` the key of econe.conf that names it.
    """

    place: str
    setting: str
    certificate: Certificate
    key: _Key
    chain: tuple[Certificate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of servers for which it is, in lower case; one may begin with `*.`."""
        return tuple(name.value.lower() for name in self._alternatives() if isinstance(name, DNSName))

    def _alternatives(self) -> Iterable[GeneralName]:
        try:
            return self.certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        except (ExtensionNotFound, ValueError):
            return ()

    def warnings(self, now: float) -> Iterator[ConfigProblem]:
        """Yield what a person should know of it at `now` (seconds since the epoch)."""
        for text in _of_its_time(self.certificate, now):
            yield ConfigProblem(self.place, text, key=self.setting)
        if not any(isinstance(name, DNSName | IPAddress) for name in self._alternatives()):
            yield ConfigProblem(
                self.place, "names no server (subjectAltName), so clients will not take it", key=self.setting
            )
        if isinstance(self.certificate.signature_hash_algorithm, MD5 | SHA1):
            yield ConfigProblem(
                self.place, "is signed over MD5 or SHA-1, so clients will not take it", key=self.setting
            )
        for issued, issuer in zip((self.certificate, *self.chain), self.chain, strict=False):
            if issued.issuer != issuer.subject:
                yield ConfigProblem(
                    self.place, "has a chain that is not in order: each issued by the next", key=self.setting
                )
                break


@dataclass(frozen=True)
class Certificates:
    """What TLS is served with: this server's own certificate, others by name, and whose clients' are taken.

    `authorities` is None where clients are not asked for a certificate.
    """

    own: Identity
    others: tuple[Identity, ...]
    authorities: tuple[Certificate, ...] | None
    authorities_place: str = ""

    def warnings(self, now: float) -> tuple[ConfigProblem, ...]:
        """Return what a person should know of them at `now` (seconds since the epoch)."""
        found = [finding for each in (self.own, *self.others) for finding in each.warnings(now)]
        for authority in self.authorities or ():
            name = authority.subject.rfc4514_string()
            found += (
                ConfigProblem(self.authorities_place, f"the authority {name} {text}", key="ssl_client_ca")
                for text in _of_its_time(authority, now)
            )
        return tuple(found)


@dataclass(frozen=True)
class Files:
    """Where the certificates are."""

    own: CertificateFiles
    others: tuple[CertificateFiles, ...] = ()
    client_ca: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Files | None:
        """Return the files that econe.conf names, None where it names none: there is no TLS then."""
        if settings.ssl_cert is None or settings.ssl_key is None:
            return None
        own = CertificateFiles(settings.ssl_cert, settings.ssl_key, settings.ssl_chain)
        return cls(own, settings.ssl_sni, settings.ssl_client_ca if settings.auth == "x509" else None)

    def stamp(self) -> Stamp:
        """Return what is another after the files have changed: inode, size and date of each, None where one is not."""
        named = [name for each in (self.own, *self.others) for name in (each.cert, each.key, each.chain)]
        return tuple(_stamp(name) for name in (*named, self.client_ca) if name is not None)

    def read(self) -> Certificates:
        """Read all of them; raises `ConfigError` with what is wrong with any."""
        problems: list[ConfigProblem] = []
        own = _tried(problems, self.own, "ssl_cert", "ssl_key", "ssl_chain")
        others = [_tried(problems, each, "ssl_sni", "ssl_sni", "ssl_sni") for each in self.others]
        authorities: tuple[Certificate, ...] | None = None
        try:
            if self.client_ca is not None:
                authorities = _certificates(self.client_ca, "ssl_client_ca")
        except ConfigError as error:
            problems += error.problems
        if problems or own is None:
            raise ConfigError(tuple(problems))
        return Certificates(own, tuple(each for each in others if each), authorities, self.client_ca or "")


def _tried(problems: list[ConfigProblem], files: CertificateFiles, cert: str, key: str, chain: str) -> Identity | None:
    """Return the certificate in `files`, or None with what is wrong with it in `problems`; the rest are settings."""
    try:
        first, *rest = _certificates(files.cert, cert)
        if files.chain is not None:
            rest += _certificates(files.chain, chain)
        private = _private_key(files.key, key)
        if first.public_key() != private.public_key():
            text = f"is not the certificate of the key in {files.key}; the server's own has to stand first"
            raise _problem(files.cert, cert, text)
    except ConfigError as error:
        problems += error.problems
        return None
    return Identity(files.cert, cert, first, private, _without_repetition(first, rest))


def _without_repetition(first: Certificate, rest: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """Return the chain: what stands both behind the certificate and in a file of its own counts once."""
    return tuple(each for each in dict.fromkeys(rest) if each != first)


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
        if key.key_size < _LEAST_RSA_BITS:
            text = f"is too weak: expected an RSA key of {_LEAST_RSA_BITS} bits or more, got {key.key_size}"
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


def _of_its_time(certificate: Certificate, now: float) -> Iterator[str]:
    """Yield what is to say about when a certificate is valid."""
    moment = datetime.fromtimestamp(now, UTC)
    ends = certificate.not_valid_after_utc
    if certificate.not_valid_before_utc > moment:
        yield f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if ends <= moment:
        yield f"has expired at {ends:%Y-%m-%d %H:%M} UTC"
    elif ends - moment < WARN_BEFORE:
        yield f"expires soon, at {ends:%Y-%m-%d %H:%M} UTC"


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _problem(path: str, setting: str, text: str) -> ConfigError:
    return ConfigError((ConfigProblem(path, text, key=setting),))
