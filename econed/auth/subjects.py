r"""Whose a certificate is, written as OpenNebula keeps it: the PASSWORD of a user of the driver x509.

`oneuser` writes there what Ruby's `X509::Name#to_s` gives, which is OpenSSL's X509_NAME_oneline:
`/C=ES/O=ONE/CN=alice`, each byte that is no printable ASCII as `\xC3`. Then blanks become `\20` (OpenNebula 5.12,
`X509Auth.escape_dn`), for oned takes no PASSWORD with a blank in it. OpenSSL 3 puts a backslash before a `/` or `+`
within a value, OpenSSL 1 did not: what `oneuser` wrote with that still counts, but for names where it could be read in
two ways.

Spellings are compared as wholes. A name that could be mistaken for another one in its spelling has none at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from cryptography.x509 import Certificate, Name, NameAttribute, RelativeDistinguishedName

_SHORT_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "2.5.4.3": "CN",
        "2.5.4.4": "SN",
        "2.5.4.5": "serialNumber",
        "2.5.4.6": "C",
        "2.5.4.7": "L",
        "2.5.4.8": "ST",
        "2.5.4.9": "street",
        "2.5.4.10": "O",
        "2.5.4.11": "OU",
        "2.5.4.12": "title",
        "2.5.4.13": "description",
        "2.5.4.15": "businessCategory",
        "2.5.4.16": "postalAddress",
        "2.5.4.17": "postalCode",
        "2.5.4.18": "postOfficeBox",
        "2.5.4.20": "telephoneNumber",
        "2.5.4.41": "name",
        "2.5.4.42": "GN",
        "2.5.4.43": "initials",
        "2.5.4.44": "generationQualifier",
        "2.5.4.45": "x500UniqueIdentifier",
        "2.5.4.46": "dnQualifier",
        "2.5.4.51": "houseIdentifier",
        "2.5.4.65": "pseudonym",
        "2.5.4.72": "role",
        "2.5.4.97": "organizationIdentifier",
        "0.9.2342.19200300.100.1.1": "UID",
        "0.9.2342.19200300.100.1.3": "mail",
        "0.9.2342.19200300.100.1.8": "userClass",
        "0.9.2342.19200300.100.1.9": "host",
        "0.9.2342.19200300.100.1.25": "DC",
        "1.2.840.113549.1.9.1": "emailAddress",
        "1.2.840.113549.1.9.2": "unstructuredName",
        "1.2.840.113549.1.9.8": "unstructuredAddress",
        "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
        "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
        "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
    }
)
"""OpenSSL's short names of what a subject is made of; of anything else it writes the number."""

_WIDE: Final = MappingProxyType({"BMPString": "utf-16-be", "UniversalString": "utf-32-be"})
"""The encodings of the strings that are not of single bytes."""

_BLANK = r"\20"

# A backslash in a value that could be taken for one of the escapes, or for that of the separator after the value.
_LIKE_AN_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|20|[/+]|\Z)")
# What could be taken for the next part of the name where it is not escaped.
_LIKE_A_PART = re.compile(r"[/+][^/+]*=")


def spellings(certificate: Certificate) -> tuple[str, ...]:
    """Return how OpenNebula may have kept the subject of a certificate, as it is written today first.

    None at all if the subject is empty, or cannot be told from another one, or is not encoded as X.509 has it.
    """
    try:
        name = certificate.subject
    except ValueError:
        return ()
    values = [_raw(attribute) for attribute in name]
    if not values or any(_is_doubtful(attribute, raw) for attribute, raw in zip(name, values, strict=True)):
        return ()
    lines = [_oneline(name)]
    if all(len(part) == 1 for part in name.rdns) and not any(_LIKE_A_PART.search(_shown(raw)) for raw in values):
        lines.append(_oneline(name, escape=False))
    return tuple(dict.fromkeys(line.replace(" ", _BLANK) for line in lines))


def _oneline(name: Name, *, escape: bool = True) -> str:
    return "".join(f"/{_part(part, escape)}" for part in name.rdns)


def _part(part: RelativeDistinguishedName, escape: bool) -> str:
    """Return one part of a name; where it has several attributes, OpenSSL 3 joins them by a plus."""
    return "+".join(f"{_type(each)}={_value(each, escape)}" for each in part)


def _type(attribute: NameAttribute[Any]) -> str:
    number = attribute.oid.dotted_string
    return _SHORT_NAMES.get(number, number)


def _value(attribute: NameAttribute[Any], escape: bool) -> str:
    shown = _shown(_raw(attribute))
    return re.sub(r"([/+])", r"\\\1", shown) if escape else shown


def _raw(attribute: NameAttribute[Any]) -> bytes:
    """Return the bytes of a value as they stand in the certificate."""
    value = attribute.value
    return value if isinstance(value, bytes) else value.encode(_WIDE.get(attribute._type.name, "utf-8"))


def _shown(raw: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}" for byte in raw)


def _is_doubtful(attribute: NameAttribute[Any], raw: bytes) -> bool:
    """Whether a value, or the bytes of a string of wide characters, could also be those of another one."""
    if attribute._type.name not in _WIDE and b"\0" in raw:
        return True
    return _LIKE_AN_ESCAPE.search(raw.decode("latin-1")) is not None
