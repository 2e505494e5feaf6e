"""Certificates for tests: of servers, of their clients, and of the authorities that issue them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    CertificateBuilder,
    DNSName,
    ExtendedKeyUsage,
    ExtensionType,
    GeneralName,
    IPAddress,
    Name,
    NameAttribute,
    ObjectIdentifier,
    SubjectAlternativeName,
    load_pem_x509_certificate,
    random_serial_number,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.ssl import CertificateOptions

from econed.config.values import CertificateFiles

SUBJECT = "/O=ONE cloud/CN=server"
"""The subject of `server_certificate`, as openssl writes it."""


@cache
def server_certificate() -> tuple[rsa.RSAPrivateKey, Certificate]:
    """Return the key and the self-signed certificate of a server of OpenNebula."""
    key = rsa.generate_private_key(65537, 2048)
    names = (NameOID.ORGANIZATION_NAME, "ONE cloud"), (NameOID.COMMON_NAME, "server")
    name = Name([NameAttribute(oid, value) for oid, value in names])
    now = datetime.now(UTC)
    builder = CertificateBuilder(name, name, key.public_key(), random_serial_number(), now, now + timedelta(days=2))
    return key, builder.sign(key, SHA256())


PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Subject: TypeAlias = str | Name


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return an RSA key, always the same, since generating a key takes long."""
    return rsa.generate_private_key(65537, bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Return a new EC key, on P-256 by default."""
    return ec.generate_private_key(curve or ec.SECP256R1())


def named(*parts: tuple[ObjectIdentifier, str]) -> Name:
    """Return a subject of these parts."""
    return Name([NameAttribute(oid, value) for oid, value in parts])


def key_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return a private key in PEM."""
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and the certificates between it and the root, nearest first."""

    key: PrivateKey
    certificate: Certificate
    chain: tuple[Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """The certificate, followed by its chain."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (self.certificate, *self.chain))

    @property
    def der(self) -> bytes:
        """The certificate as `SignedRequest` has it."""
        return self.certificate.public_bytes(Encoding.DER)

    def write(self, directory: Path, name: str) -> CertificateFiles:
        """Write certificate and key, each atomically, and return their paths."""
        cert, key = directory / f"{name}-cert.pem", directory / f"{name}-key.pem"
        replace_file(cert, self.pem)
        replace_file(key, key_pem(self.key))
        return CertificateFiles(str(cert), str(key))


class Authority:
    """An authority that issues certificates; with an `issuer` it is an intermediate one."""

    def __init__(self, name: str = "Test Authority", issuer: Authority | None = None) -> None:
        self.key = ec_key()
        self.name = named((NameOID.ORGANIZATION_NAME, "ONE cloud"), (NameOID.COMMON_NAME, name))
        self._issuer = issuer
        signer = issuer or self
        now = datetime.now(UTC)
        builder = _builder(self.name, signer.name, self.key, now - timedelta(days=1), now + timedelta(days=365))
        builder = builder.add_extension(BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(signer.key, SHA256())

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> tuple[Certificate, ...]:
        """The certificates to send with an issued certificate: all up to the root, without the root."""
        return () if self._issuer is None else (self.certificate, *self._issuer.chain)

    def server(self, *names: str, key: PrivateKey | None = None, days: float = 90, since: float = -1) -> Issued:
        """Issue a server certificate with these names or addresses, valid from `since` to `days` days from now."""
        general = [_general(name) for name in names]
        extension = [SubjectAlternativeName(general)] if general else []
        return self._issue(
            _plain(names[0] if names else "nameless"), ExtendedKeyUsageOID.SERVER_AUTH, extension, key, days, since
        )

    def client(
        self,
        subject: Subject = "alice",
        *,
        key: PrivateKey | None = None,
        days: float = 90,
        since: float = -1,
        usage: ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> Issued:
        """Issue the certificate of a client; a text as subject is the CN in the organization `ONE cloud`."""
        return self._issue(subject if isinstance(subject, Name) else _plain(subject), usage, [], key, days, since)

    def _issue(
        self,
        subject: Name,
        usage: ObjectIdentifier,
        extensions: Sequence[ExtensionType],
        key: PrivateKey | None,
        days: float,
        since: float,
    ) -> Issued:
        key = key or ec_key()
        now = datetime.now(UTC)
        builder = _builder(subject, self.name, key, now + timedelta(days=since), now + timedelta(days=days))
        builder = builder.add_extension(BasicConstraints(ca=False, path_length=None), critical=True)
        for extension in (ExtendedKeyUsage([usage]), *extensions):
            builder = builder.add_extension(extension, critical=False)
        return Issued(key, builder.sign(self.key, SHA256()), self.chain)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically, as a renewal of certificates should."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


def server_options(pem: bytes, **options: Any) -> CertificateOptions:
    """Return the TLS options of a server with the certificate and the private key in `pem`.

    Twisted's `PrivateCertificate` would give it objects of pyOpenSSL, which are deprecated there.
    """
    key: Any = load_pem_private_key(pem, None)
    certificate: Any = load_pem_x509_certificate(pem)
    return CertificateOptions(key, certificate, **options)


def _builder(subject: Name, issuer: Name, key: PrivateKey, begins: datetime, ends: datetime) -> CertificateBuilder:
    return CertificateBuilder(issuer, subject, key.public_key(), random_serial_number(), begins, ends)


def _plain(name: str) -> Name:
    return named((NameOID.ORGANIZATION_NAME, "ONE cloud"), (NameOID.COMMON_NAME, name))


def _general(name: str) -> GeneralName:
    try:
        return IPAddress(ip_address(name))
    except ValueError:
        return DNSName(name)


def write_server_pair(directory: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate for this machine's loopback addresses and its key; return their paths."""
    key, now = ec_key(), datetime.now(UTC)
    builder = _builder(_plain("localhost"), _plain("localhost"), key, now - timedelta(days=1), now + timedelta(days=90))
    names = SubjectAlternativeName([_general(name) for name in ("localhost", "127.0.0.1", "::1")])
    issued = Issued(key, builder.add_extension(names, critical=False).sign(key, SHA256())).write(directory, "server")
    return Path(issued.cert), Path(issued.key)
