r"""How the subject of a certificate is spelled: as OpenSSL and so `oneuser` spells it, and never as another's."""

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


def by_openssl(directory: Path, held: Certificate) -> str:
    """Return a subject as the `openssl` of this machine writes it in one line, which is what Ruby's to_s is."""
    file = directory / "certificate.pem"
    file.write_bytes(held.public_bytes(Encoding.PEM))
    argv = [require_tool("openssl"), "x509", "-in", str(file), "-noout", "-subject", "-nameopt", "compat"]
    shown = subprocess.run(argv, capture_output=True, check=True).stdout.decode("ascii")
    return shown.removeprefix("subject=").rstrip("\n")


def wide(oid: ObjectIdentifier, value: str, kind: _ASN1Type) -> Name:
    """Return a name of one value in a string of this kind."""
    return Name([NameAttribute(oid, value, kind)])


NAMES = {
    "plain": named((NameOID.COUNTRY_NAME, "ES"), (ORG, "ONE"), (CN, "alice")),
    "blanks": named((ORG, "ONE cloud"), (CN, "Alice  B. Liddell")),
    "not ASCII": named((ORG, "Ökostrom €"), (CN, "Ana Muñoz")),
    "control characters": named((CN, "tab\there\x7f")),
    "slash and plus": named((ORG, "a/b"), (CN, "host/node.example.org+x")),
    "other marks": named((ORG, 'quote " and = , ; < > #'), (CN, "pipe|colon:")),
    "backslash": named((CN, r"DOMAIN\alice")),
    "BMP": wide(CN, "Añ", _ASN1Type.BMPString),
    "Universal": wide(CN, "Añ", _ASN1Type.UniversalString),
    "T61": wide(CN, "plain", _ASN1Type.T61String),
    "unknown type": Name([NameAttribute(ObjectIdentifier("1.2.3.4.5.6"), "x")]),
    "several in one part": Name(
        [
            RelativeDistinguishedName([NameAttribute(ORG, "ONE")]),
            RelativeDistinguishedName([NameAttribute(CN, "alice"), NameAttribute(NameOID.USER_ID, "42")]),
        ]
    ),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_a_subject_is_spelled_as_openssl_does_with_its_blanks_escaped(name: Name, tmp_path: Path) -> None:
    """Held against the tool: bytes in hex, short names, order, parts of several attributes."""
    held = certificate(name)
    assert spellings(held)[0] == by_openssl(tmp_path, held).replace(" ", r"\20")


def test_every_type_that_has_a_short_name_is_called_as_openssl_calls_it(tmp_path: Path) -> None:
    """One certificate with all of them."""
    two_letters = ("2.5.4.6", "1.3.6.1.4.1.311.60.2.1.3")
    parts = [(ObjectIdentifier(oid), "ES" if oid in two_letters else "x") for oid in subjects._SHORT_NAMES]
    held = certificate(named(*parts))
    assert spellings(held)[0] == by_openssl(tmp_path, held)


def test_names_that_differ_in_blanks_differ() -> None:
    """Nobody comes in by a name that is like another's but for a blank."""
    assert spellings(certificate(named((ORG, "ONE cloud"), (CN, "ali ce")))) == (r"/O=ONE\20cloud/CN=ali\20ce",)


def test_a_slash_is_also_spelled_as_openssl_1_spelled_it() -> None:
    """Passwords of users that were made with an older Ruby stay good."""
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
def test_no_value_passes_for_two_parts_of_a_name(name: Name, other: str) -> None:
    """The old spelling could not tell them apart."""
    assert other not in spellings(certificate(name))


@pytest.mark.parametrize("value", [r"Jos\xC3\xA9", r"Ali\20ce", "ends in \\", r"a\/b", r"a\+b", "zero\0byte"], ids=repr)
def test_a_value_that_passes_for_an_escape_has_no_spelling(value: str) -> None:
    """Nobody comes in by it, whoever has what it looks like."""
    assert spellings(certificate(named((ORG, "ONE"), (CN, value)))) == ()


def test_a_certificate_without_a_subject_has_no_spelling() -> None:
    """There is nothing to be known by."""
    assert spellings(certificate(Name([]))) == ()


_pieces = st.sampled_from(["/", "+", "=", "\\", " ", "x", "C2", "20", "CN", "a", "é"])
_values = st.lists(_pieces, min_size=1, max_size=6).map("".join)
_names = st.lists(st.tuples(st.sampled_from([ORG, CN]), _values), min_size=1, max_size=3)


@settings(max_examples=1000, deadline=None)
@given(one=_names, other=_names)
def test_different_subjects_are_spelled_differently(
    one: list[tuple[ObjectIdentifier, str]], other: list[tuple[ObjectIdentifier, str]]
) -> None:
    """What one is known by, another is not."""
    if one != other:
        assert not set(_of(named(*one))) & set(_of(named(*other)))


class _Subject:
    """A certificate as far as `spellings` looks at it: issuing one for each example would take long."""

    def __init__(self, subject: Name) -> None:
        self.subject = subject


def _of(name: Name) -> tuple[str, ...]:
    look: Callable[..., tuple[str, ...]] = spellings
    return look(_Subject(name))


def test_a_certificate_with_a_subject_that_is_not_utf_8_has_no_spelling() -> None:
    """OpenSSL took Latin-1 for T61 strings; nobody can say which characters were meant."""
    pem = certificate(wide(CN, "caf€", _ASN1Type.T61String)).public_bytes(Encoding.DER)
    broken = pem.replace("caf€".encode(), b"caf\xe9\xe9\xe9")
    assert broken != pem
    assert spellings(load_der_x509_certificate(broken)) == ()
