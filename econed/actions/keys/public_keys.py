"""SSH keys: generating them, parsing imported public keys, and Amazon's fingerprints of them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
    load_ssh_public_key,
)

from econed.errors import EC2Error

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

KeyType: TypeAlias = Literal["rsa", "ed25519"]

_RSA_BITS = 2048
_RSA_EXPONENT = 65537
# Amazon documents 1024, 2048 and 4096; 3072 is the default of ssh-keygen.
_RSA_SIZES = frozenset({1024, 2048, 3072, 4096})
_MAX_MATERIAL = 2048
"""Maximum length of key material in characters, in base64 as clients send it (Amazon's error of ImportKeyPair)."""

_MAX_COMMENT = 255
"""Maximum length of a comment in characters: that of a key pair's name, which CreateKeyPair uses as the comment."""

_RFC4716_BEGIN = "---- BEGIN SSH2 PUBLIC KEY ----"
_RFC4716_END = "---- END SSH2 PUBLIC KEY ----"


@dataclass(frozen=True)
class PublicKey:
    """A public key: its line for authorized_keys (type, key and comment), and Amazon's fingerprint of it."""

    type: KeyType
    line: str
    fingerprint: str


@dataclass(frozen=True)
class NewKey:
    """A generated key: the public key, and the private key in PEM, which is sent to the client and not stored."""

    public: PublicKey
    private_pem: str


def generate_key(key_type: KeyType, comment: str) -> NewKey:
    """Generate a key: RSA with 2048 bits, which takes much processor time, or ED25519.

    The formats are those of Amazon's CreateKeyPair: RSA in PKCS#1, with the SHA-1 of the private key in DER (PKCS#8) as
    its fingerprint; ED25519 in OpenSSH's format, with the fingerprint of the public key. A comment of more than one
    line is omitted.
    """
    if key_type == "ed25519":
        ed25519 = Ed25519PrivateKey.generate()
        return NewKey(
            PublicKey(key_type, _line(ed25519.public_key(), comment), _sha256(ed25519.public_key())),
            _text(ed25519.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())),
        )
    rsa = generate_private_key(_RSA_EXPONENT, _RSA_BITS)
    return NewKey(
        PublicKey(key_type, _line(rsa.public_key(), comment), _sha1(rsa)),
        _text(rsa.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())),
    )


def parse_public_key(material: bytes) -> PublicKey:
    """Parse imported key material: OpenSSH's format, that of RFC 4716, or DER, which may be in base64 or PEM.

    The fingerprint is that of Amazon's ImportKeyPair: for RSA the MD5 of the key in DER (SubjectPublicKeyInfo), for
    ED25519 the SHA-256. Raises `EC2Error` InvalidKey.Format, or InvalidParameterValue for material or a comment that is
    too long.
    """
    if len(base64.b64encode(material)) > _MAX_MATERIAL:
        raise _too_long(f"Value for parameter PublicKeyMaterial is invalid. Length exceeds maximum of {_MAX_MATERIAL}.")
    try:
        key, comment = _parse(material)
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid_format() from None
    if len(comment) > _MAX_COMMENT:
        raise _too_long(f"The comment of the key is invalid. Length exceeds maximum of {_MAX_COMMENT}.")
    if isinstance(key, Ed25519PublicKey):
        return PublicKey("ed25519", _line(key, comment), _sha256(key))
    if isinstance(key, RSAPublicKey) and key.key_size in _RSA_SIZES:
        return PublicKey("rsa", _line(key, comment), _md5(key))
    raise EC2Error("InvalidKey.Format", "The key must be ED25519, or RSA of 1024, 2048, 3072 or 4096 bits.")


def key_type_of(line: str) -> KeyType:
    """Return the type of the key in a line of authorized_keys."""
    return "ed25519" if line.startswith("ssh-ed25519 ") else "rsa"


def is_one_line(text: str) -> bool:
    """Whether a text can be a comment in authorized_keys, without starting a new line there."""
    return not any(unicodedata.category(c) in ("Cc", "Zl", "Zp") and c != "\t" for c in text)


def _parse(material: bytes) -> tuple[PublicKeyTypes, str]:
    """Return a key and its comment; raises ValueError for other text."""
    if material.startswith(b"0"):  # the tag of an ASN.1 sequence, with which no text format begins
        return load_der_public_key(material), ""
    text = material.decode("utf-8").strip()
    if text.startswith("-----BEGIN"):
        return load_pem_public_key(text.encode()), ""
    if text.startswith(_RFC4716_BEGIN):
        return _parse_rfc4716(text)
    if text.startswith("ssh-"):
        return _parse_openssh(text)
    return load_der_public_key(_decoded(text)), ""


def _parse_openssh(text: str) -> tuple[PublicKeyTypes, str]:
    if not is_one_line(text):
        raise ValueError("more than one line")
    kind, blob, *comment = text.split(None, 2)
    return load_ssh_public_key(f"{kind} {blob}".encode()), "".join(comment)


def _parse_rfc4716(text: str) -> tuple[PublicKeyTypes, str]:
    """Parse the "SSH Public Key File Format": headers, continued on the next line after a backslash, then base64."""
    lines = text.replace("\r\n", "\n").replace("\\\n", "").split("\n")
    if lines[-1] != _RFC4716_END:
        raise ValueError("no end marker")
    headers = [line.partition(": ") for line in lines[1:-1] if ": " in line]
    blob = _decoded("".join(line for line in lines[1:-1] if ": " not in line))
    comments = [value.strip().removeprefix('"').removesuffix('"') for tag, _, value in headers if tag == "Comment"]
    length = int.from_bytes(blob[:4], "big")
    kind = blob[4 : 4 + length].decode("ascii")
    return _parse_openssh(f"{kind} {base64.b64encode(blob).decode()} {''.join(comments[:1])}".rstrip())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _too_long(message: str) -> EC2Error:
    return EC2Error("InvalidParameterValue", message)


def _invalid_format() -> EC2Error:
    return EC2Error("InvalidKey.Format", "Key is not in valid OpenSSH public key format")


def _line(key: RSAPublicKey | Ed25519PublicKey, comment: str) -> str:
    line = _text(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    return f"{line} {comment}" if comment and is_one_line(comment) else line


def _sha1(key: RSAPrivateKey) -> str:
    return _colons(hashlib.sha1(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())))  # noqa: S324


def _md5(key: RSAPublicKey) -> str:
    return _colons(hashlib.md5(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))  # noqa: S324


def _sha256(key: Ed25519PublicKey) -> str:
    """Return OpenSSH's digest in Amazon's form: without `SHA256:`, with the padding."""
    blob = _text(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)).split()[1]
    return base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode()


def _colons(digest: hashlib._Hash) -> str:
    return digest.digest().hex(":")


def _text(raw: bytes) -> str:
    return raw.decode("ascii")
