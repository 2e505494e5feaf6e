r"""The spelling of a certificate's subject is that of OpenSSL and `oneuser`, and unambiguous."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import (
    Certificate,
    Name,
    NameAttribute,
    ObjectIdentifier,
    RelativeDistinguishedName,
    load_der_x509_certificate,
)
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from econed.auth import subjects
from econed.auth.subjects import spellings
from tests.support.certificates import Authority, named
from tests.support.tools import require_tool

ORG, CN = NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME
AUTHORITY = Authority()


def certificate(name: Name) -> Certificate:
    """Return a certificate with this subject."""
    return AUTHORITY.client(name).certificate


def spelled_by_openssl(directory: Path, issued: Certificate) -> str:
    """Return the subject as the local `openssl` writes it on one line, which is the result of Ruby's to_s."""
    file = directory / "certificate.pem"
    file.write_bytes(issued.public_bytes(Encoding.PEM))
    argv = [require_tool("openssl"), "x509", "-in", str(file), "-noout", "-subject", "-nameopt", "compat"]
    output = subprocess.run(argv, capture_output=True, check=True).stdout.decode("ascii")
    return output.removeprefix("subject=").rstrip("\n")


def wide(oid: ObjectIdentifier, value: str, kind: _ASN1Type) -> Name:
    """Return a name with a single value, a string of this type."""
    return Name([NameAttribute(oid, value, kind)])


NAMES = {
    "plain": named((NameOID.COUNTRY_NAME, "ES"), (ORG, "ONE"), (CN, "alice")),
    "spaces": named((ORG, "ONE cloud"), (CN, "Alice  B. Liddell")),
    "not ASCII": named((ORG, "Ökostrom €"), (CN, "Ana Muñoz")),
    "control characters": named((CN, "tab\there\x7f")),
    "slash and plus": named((ORG, "a/b"), (CN, "host/node.example.org+x")),
    "other punctuation": named((ORG, 'quote " and = , ; < > #'), (CN, "pipe|colon:")),
    "backslash": named((CN, r"DOMAIN\alice")),
    "BMP": wide(CN, "Añ", _ASN1Type.BMPString),
    "Universal": wide(CN, "Añ", _ASN1Type.UniversalString),
    "T61": wide(CN, "plain", _ASN1Type.T61String),
    "unknown type": Name([NameAttribute(ObjectIdentifier("1.2.3.4.5.6"), "x")]),
    "several attributes in a part": Name(
        [
            RelativeDistinguishedName([NameAttribute(ORG, "ONE")]),
            RelativeDistinguishedName([NameAttribute(CN, "alice"), NameAttribute(NameOID.USER_ID, "42")]),
        ]
    ),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_subject_is_spelled_as_by_openssl_with_escaped_spaces(name: Name, tmp_path: Path) -> None:
    """Compared with its output: bytes in hex, short names, order, parts of several attributes."""
    issued = certificate(name)
    assert spellings(issued)[0] == spelled_by_openssl(tmp_path, issued).replace(" ", r"\20")


def test_every_short_name_is_that_of_openssl(tmp_path: Path) -> None:
    """A certificate contains all of them."""
    two_letters = ("2.5.4.6", "1.3.6.1.4.1.311.60.2.1.3")
    parts = [(ObjectIdentifier(oid), "ES" if oid in two_letters else "x") for oid in subjects._SHORT_NAMES]
    issued = certificate(named(*parts))
    assert spellings(issued)[0] == spelled_by_openssl(tmp_path, issued)


def test_spaces_are_significant() -> None:
    """Subjects that differ only in spaces have different spellings."""
    assert spellings(certificate(named((ORG, "ONE cloud"), (CN, "ali ce")))) == (r"/O=ONE\20cloud/CN=ali\20ce",)


def test_a_slash_is_also_spelled_as_by_openssl_1() -> None:
    """Passwords that were set with an older Ruby remain valid."""
    assert spellings(certificate(named((ORG, "ONE"), (CN, "host/node")))) == (
        r"/O=ONE/CN=host\/node",
        "/O=ONE/CN=host/node",
    )


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (named((ORG, "ONE"), (CN, "mallory/CN=alice")), "/O=ONE/CN=mallory/CN=alice"),
        (named((ORG, "ONE/CN=alice")), "/O=ONE/CN=alice"),
        (named((ORG, "ONE"), (CN, "alice+UID=42")), "/O=ONE/CN=alice+UID=42"),
    ],
)
def test_a_value_cannot_be_read_as_two_parts_of_a_name(name: Name, other: str) -> None:
    """The spelling of OpenSSL 1 would be ambiguous."""
    assert other not in spellings(certificate(name))


@pytest.mark.parametrize("value", [r"Jos\xC3\xA9", r"Ali\20ce", "ends in \\", r"a\/b", r"a\+b", "zero\0byte"], ids=repr)
def test_a_value_that_can_be_read_as_an_escape_has_no_spelling(value: str) -> None:
    """It could be the spelling of another subject."""
    assert spellings(certificate(named((ORG, "ONE"), (CN, value)))) == ()


def test_a_certificate_without_a_subject_has_no_spelling() -> None:
    """An empty one would match nothing."""
    assert spellings(certificate(Name([]))) == ()


_pieces = st.sampled_from(["/", "+", "=", "\\", " ", "x", "C2", "20", "CN", "a", "é"])
_values = st.lists(_pieces, min_size=1, max_size=6).map("".join)
_names = st.lists(st.tuples(st.sampled_from([ORG, CN]), _values), min_size=1, max_size=3)


@settings(max_examples=1000, deadline=None)
@given(first=_names, second=_names)
def test_different_subjects_are_spelled_differently(
    first: list[tuple[ObjectIdentifier, str]], second: list[tuple[ObjectIdentifier, str]]
) -> None:
    """No spelling belongs to two subjects."""
    if first != second:
        assert not set(_spellings_of(named(*first))) & set(_spellings_of(named(*second)))


class _Subject:
    """The part of a certificate that `spellings` reads: issuing a certificate for each example would be slow."""

    def __init__(self, subject: Name) -> None:
        self.subject = subject


def _spellings_of(name: Name) -> tuple[str, ...]:
    untyped: Callable[..., tuple[str, ...]] = spellings
    return untyped(_Subject(name))


def test_a_certificate_with_a_subject_that_is_not_utf_8_has_no_spelling() -> None:
    """OpenSSL used Latin-1 for T61 strings, so the characters are ambiguous."""
    der = certificate(wide(CN, "caf€", _ASN1Type.T61String)).public_bytes(Encoding.DER)
    broken = der.replace("caf€".encode(), b"caf\xe9\xe9\xe9")
    assert broken != der
    assert spellings(load_der_x509_certificate(broken)) == ()
