"""SSH keys: generated keys, accepted formats of public keys, and Amazon's fingerprints.

The constant keys were created by ssh-keygen. Their fingerprints were computed by ssh-keygen and openssl, with the
commands in the EC2 User Guide ("Verify the fingerprint of your key pair").
"""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from econed.actions.keys.public_keys import generate_key, parse_public_key
from econed.errors import EC2Error
from tests.support.awkward_texts import AWKWARD

RSA = (
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC0Ld3gAiu4xkg2OdEhGMGbsE3Lqh7kUYkMixdhVcjmkgKTb73GrJDlLBkA4r9RnOu5eda3gU"
    "u78S3hgHJVF/gIkU22m8ppuVUsoWgKxCisp0BkHYXXtSVOe+EM8smeVtjAoMdzZXCjqq4lYoZNg5EfEg8wguWye/LH3SlC+c09ueqKTkbY+F0g"
    "vOqS9mihiWlprWd0N2MTJTSznJqOwIj1+xWuTCoBTUVW+APvkk+RE7lKRwMVdF7bVHzePZ/tJHhCnlWdUWYEMEYDeTNcHrixipX13VY2d4y+xc"
    "YkkbgPy1W1TK6U4hOzK34gSUA1uwN06b8eDXEFeOpzjUX/rSLd"
)
RSA_FINGERPRINT = "16:90:a0:4c:0a:55:59:f1:0b:ab:33:11:3b:fd:5f:d5"
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJaTttRaXbZqQ+XP0KMNAglZTHmWCYi/rPR7zO6tHUQ5"
ED25519_FINGERPRINT = "VodN9Ot0RVX3YGOhohiXSE4Yp1flcSRmMTFk78k6GmI="
ECDSA = (
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBNsBhnlUDi0dWvBwqk+HJrOedYKn3OFisch2O7"
    "en/OkBZBW6eah05G1rzZ0SI421jR3tV3/Ik0TszkxO7ZmNCVc="
)
PEM = b"""-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAtC3d4AIruMZINjnRIRjB
m7BNy6oe5FGJDIsXYVXI5pICk2+9xqyQ5SwZAOK/UZzruXnWt4FLu/Et4YByVRf4
CJFNtpvKablVLKFoCsQorKdAZB2F17UlTnvhDPLJnlbYwKDHc2Vwo6quJWKGTYOR
HxIPMILlsnvyx90pQvnNPbnqik5G2PhdILzqkvZooYlpaa1ndDdjEyU0s5yajsCI
9fsVrkwqAU1FVvgD75JPkRO5SkcDFXRe21R83j2f7SR4Qp5VnVFmBDBGA3kzXB64
sYqV9d1WNneMvsXGJJG4D8tVtUyulOITsyt+IElANbsDdOm/Hg1xBXjqc41F/60i
3QIDAQAB
-----END PUBLIC KEY-----
"""
BASE64_DER = b"".join(PEM.splitlines()[1:-1])
RFC4716 = f"""---- BEGIN SSH2 PUBLIC KEY ----
Subject: somebody
Comment: "of many \\
words"
{ED25519.split()[1][:40]}
{ED25519.split()[1][40:]}
---- END SSH2 PUBLIC KEY ----
"""


def test_a_generated_rsa_key_has_amazons_formats() -> None:
    key = generate_key("rsa", "my key")
    assert key.private_pem.startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    private = load_pem_private_key(key.private_pem.encode(), None)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert key.public.line == f"{public} my key"
    pkcs8 = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert key.public.fingerprint.replace(":", "") == hashlib.sha1(pkcs8).hexdigest()
    assert len(key.public.fingerprint) == 59
    assert getattr(private, "key_size", 0) == 2048


def test_a_generated_ed25519_key_has_amazons_formats() -> None:
    key = generate_key("ed25519", "my key")
    assert key.private_pem.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    private = load_ssh_private_key(key.private_pem.encode(), None)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert key.public.line == f"{public} my key"
    assert key.public.fingerprint == parse_public_key(public.encode()).fingerprint


def test_a_name_of_two_lines_is_not_used_as_a_comment() -> None:
    assert len(generate_key("ed25519", "one\ncommand line").public.line.split()) == 2


@pytest.mark.parametrize(
    ("material", "line", "fingerprint"),
    [
        (f"{RSA} me@example.org\n".encode(), f"{RSA} me@example.org", RSA_FINGERPRINT),
        (f"\r\n {RSA}\r\n".encode(), RSA, RSA_FINGERPRINT),
        (f"{ED25519} two  words".encode(), f"{ED25519} two  words", ED25519_FINGERPRINT),
        (RFC4716.encode(), f"{ED25519} of many words", ED25519_FINGERPRINT),
        (RFC4716.replace("\n", "\r\n").encode(), f"{ED25519} of many words", ED25519_FINGERPRINT),
        (PEM, RSA, RSA_FINGERPRINT),
        (BASE64_DER, RSA, RSA_FINGERPRINT),
        (base64.b64decode(BASE64_DER), RSA, RSA_FINGERPRINT),
    ],
    ids=["openssh", "blanks", "ed25519", "rfc4716", "rfc4716-crlf", "pem", "base64-der", "der"],
)
def test_a_key_is_parsed_in_every_format_that_amazon_accepts(material: bytes, line: str, fingerprint: str) -> None:
    key = parse_public_key(material)
    assert (key.line, key.fingerprint) == (line, fingerprint)
    assert f"ssh-{key.type}" == line.split()[0]


@pytest.mark.parametrize(
    "material",
    [
        b"",
        b"\n",
        b"ssh-rsa",
        b"ssh-rsa AAAA",
        b"ssh-rsa !!!! x",
        b"\xff\xfe",
        b"0",
        b"0\x82\x01",
        RSA[8:].encode(),
        RSA.replace("ssh-rsa", "ssh-ed25519").encode(),
        ECDSA.encode(),
        f"{RSA} a\n{RSA} b".encode(),
        f"{RSA} a\rb".encode(),
        f"{RSA} a\0b".encode(),
        f"{RSA} a\u2028b".encode(),
        f'command="reboot" {RSA}'.encode(),
        RFC4716.replace("---- END", "---- NO END").encode(),
        b"---- BEGIN SSH2 PUBLIC KEY ----\n---- END SSH2 PUBLIC KEY ----",
        b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_invalid_key_material_is_refused(material: bytes) -> None:
    with pytest.raises(EC2Error) as caught:
        parse_public_key(material)
    assert caught.value.code == "InvalidKey.Format"


@pytest.mark.parametrize("text", [text for text in AWKWARD.values() if "\n" not in text])
def test_an_awkward_comment_of_one_line_is_preserved(text: str) -> None:
    assert parse_public_key(f"{ED25519} {text}".encode()).line == f"{ED25519} {text}"


# Lengths


def test_key_material_is_limited_to_2048_characters_in_base64() -> None:
    """Amazon counts the characters of the base64 text ("Length exceeds maximum of 2048")."""
    longest = f"{ED25519} me@example.org".encode().ljust(2048 * 3 // 4)
    assert parse_public_key(longest).line == f"{ED25519} me@example.org"
    with pytest.raises(EC2Error, match=r"PublicKeyMaterial is invalid\. Length exceeds maximum of 2048\.") as caught:
        parse_public_key(longest + b" ")
    assert caught.value.code == "InvalidParameterValue"


def test_every_accepted_key_fits_with_the_longest_comment() -> None:
    """RSA of 4096 bits is the longest."""
    key = generate_private_key(65537, 4096).public_key()
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert parse_public_key(f"{line} {'c' * 255}".encode()).line == f"{line} {'c' * 255}"
    assert parse_public_key(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).line == line


def test_a_comment_is_limited_to_255_characters() -> None:
    """This holds for every format with comments."""
    headers = f"---- BEGIN SSH2 PUBLIC KEY ----\nComment: {'c' * 256}\n"
    for material in (f"{ED25519} {'c' * 256}", f"{headers}{ED25519.split()[1]}\n---- END SSH2 PUBLIC KEY ----"):
        with pytest.raises(EC2Error, match="comment") as caught:
            parse_public_key(material.encode())
        assert caught.value.code == "InvalidParameterValue"
