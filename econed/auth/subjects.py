r"""The subject of a certificate as OpenNebula stores it: in the PASSWORD of a user of the driver x509.

`oneuser` writes the result of Ruby's `X509::Name#to_s`, which is OpenSSL's X509_NAME_oneline: `/C=ES/O=ONE/CN=alice`,
with each byte that is not printable ASCII as `\xC3`. Spaces are then replaced by `\20` (OpenNebula 5.12,
`X509Auth.escape_dn`), since oned accepts no PASSWORD with spaces. OpenSSL 3 escapes `/` and `+` within a value by a
backslash, OpenSSL 1 did not: subjects that `oneuser` wrote with OpenSSL 1 are still accepted unless ambiguous.

Spellings are compared as a whole. A subject whose spelling could also be that of another subject matches no user.
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
"""OpenSSL's short names of attribute types; it writes other types as their dotted number."""

_WIDE_ENCODINGS: Final = MappingProxyType({"BMPString": "utf-16-be", "UniversalString": "utf-32-be"})
"""The encodings of the string types with several bytes per character."""

_ESCAPED_SPACE = r"\20"

# A backslash in a value that could be read as an escape, or as escaping the separator after the value.
_APPARENT_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|20|[/+]|\Z)")
# Text in a value that could be read as the next part of the name if it is not escaped.
_APPARENT_PART = re.compile(r"[/+][^/+]*=")


def spellings(certificate: Certificate) -> tuple[str, ...]:
    """Return the spellings of a certificate's subject that OpenNebula may have stored, the current spelling first.

    The result is empty if the subject is empty, ambiguous, or not encoded according to X.509.
    """
    try:
        name = certificate.subject
    except ValueError:
        return ()
    values = [_raw(attribute) for attribute in name]
    if not values or any(_is_ambiguous(attribute, raw) for attribute, raw in zip(name, values, strict=True)):
        return ()
    lines = [_oneline(name)]
    if all(len(part) == 1 for part in name.rdns) and not any(_APPARENT_PART.search(_printable(raw)) for raw in values):
        lines.append(_oneline(name, escape=False))
    return tuple(dict.fromkeys(line.replace(" ", _ESCAPED_SPACE) for line in lines))


def _oneline(name: Name, *, escape: bool = True) -> str:
    return "".join(f"/{_part(part, escape)}" for part in name.rdns)


def _part(part: RelativeDistinguishedName, escape: bool) -> str:
    """Return a part of a name; OpenSSL 3 joins several attributes by a plus."""
    return "+".join(f"{_type(attribute)}={_value(attribute, escape)}" for attribute in part)


def _type(attribute: NameAttribute[Any]) -> str:
    oid = attribute.oid.dotted_string
    return _SHORT_NAMES.get(oid, oid)


def _value(attribute: NameAttribute[Any], escape: bool) -> str:
    value = _printable(_raw(attribute))
    return re.sub(r"([/+])", r"\\\1", value) if escape else value


def _raw(attribute: NameAttribute[Any]) -> bytes:
    """Return the bytes of a value in the certificate."""
    value = attribute.value
    return value if isinstance(value, bytes) else value.encode(_WIDE_ENCODINGS.get(attribute._type.name, "utf-8"))


def _printable(raw: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02X}" for byte in raw)


def _is_ambiguous(attribute: NameAttribute[Any], raw: bytes) -> bool:
    """Whether the spelling of a value could also be that of another value."""
    if attribute._type.name not in _WIDE_ENCODINGS and b"\0" in raw:
        return True
    return _APPARENT_ESCAPE.search(raw.decode("latin-1")) is not None
