"""Construction of template text; no other module builds it.

Template text is `NAME="value"` or `NAME=[K="value",…]`, one attribute a line (OpenNebula, "Template Syntax"). Inside
quotes oned's parser has a single escape, `\\"`; every other backslash is literal. A text that oned would not store
unchanged is never sent: it raises `NotStorable`, or is encoded where any text must be stored (`encode_member`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from econed.errors import NotStorable
from econed.opennebula.attributes import Attributes, Value

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)

# All but tab, newline and the printable characters of the Basic Multilingual Plane. Carriage returns become newlines in
# XML, other control characters are invalid in it, and a character outside that plane fails the call (fault -503).
_UNSENDABLE = re.compile(r"[\x00-\x08\x0B-\x1F\uD800-\uDFFF\uFFFE-\U0010FFFF]")

_BLANKS = " \t\n"

_BASE64_SUFFIX = "_BASE64"

# oned joins the members of CONTEXT with this separator, expands variables, and splits them again.
_CONTEXT_SEPARATOR = "@^_^@"


def is_sendable(text: str) -> bool:
    """Whether a text arrives unchanged in an XML-RPC call to oned."""
    return _UNSENDABLE.search(text) is None


def is_quotable(text: str) -> bool:
    """Whether oned's parser reads a text, quoted, as that text.

    False for a text that cannot be sent; with `]]>`, which stops oned's parser ("Parse error.") or breaks the document
    that it stores; or with a backslash at the end, which escapes the closing quote.
    """
    return is_sendable(text) and "]]>" not in text and not text.endswith("\\")


def is_storable(text: str) -> bool:
    """Whether every version of oned stores a text, quoted, unchanged.

    False with leading or trailing blanks or newlines: 7.4 strips them, 5.12 does not.
    """
    return is_quotable(text) and text == text.strip(_BLANKS)


def is_storable_in_context(text: str) -> bool:
    """Whether oned stores a text unchanged inside CONTEXT.

    There it expands `$` (`$NAME`, `$USER[…]`; a single `$` makes the instantiation fail), after joining all members
    with a separator (`_CONTEXT_SEPARATOR`).
    """
    return is_storable(text) and "$" not in text and _CONTEXT_SEPARATOR not in text


def attribute(name: str, value: str) -> str:
    """Return `NAME="value"`; raises `NotStorable`."""
    if not is_storable(value):
        raise NotStorable(name)
    return f"{_checked_name(name)}={_quoted(name, value)}"


def removal(name: str) -> str:
    """Return the text that removes an attribute when it is appended: `NAME=[]`; no error if there is none.

    When merging, oned drops a vector without members together with the attribute that it replaces; `NAME=""` would
    leave an empty attribute. A template text must not both set and remove an attribute: machines and networks then
    keep the attribute; for users and images the later of the two entries applies.
    """
    return f"{_checked_name(name)}=[]"


def vector(name: str, members: Mapping[str, str]) -> str:
    """Return `NAME=[K="v",…]`; raises `NotStorable`."""
    for key, value in members.items():
        if not is_storable(value):
            raise NotStorable(f"{name}/{key}")
    return _vector(name, members)


def context(inherited: Mapping[str, str], added: Mapping[str, str]) -> str:
    """Return a CONTEXT with the members `inherited` from a template, variables included, and the literal texts `added`.

    oned replaces the template's whole CONTEXT with a CONTEXT that is sent. Raises `NotStorable` where oned would
    expand an added text.
    """
    for name, value in added.items():
        if not is_storable_in_context(value):
            raise NotStorable(f"CONTEXT/{name}")
    return _vector("CONTEXT", {**inherited, **added})


def template(*attributes: str) -> str:
    """Return the template text of these attributes, each from a function of this module; empty texts are left out."""
    return "\n".join(text for text in attributes if text)


def render(attributes: Attributes) -> str:
    """Return the template text of attributes that were read from a document of oned, unchanged.

    Leading and trailing blanks are allowed here: the oned that returned them also stores them. Raises `NotStorable`
    for a text that oned did not receive as template text and could not parse.
    """
    return template(*(_attribute_or_vector(name, value) for name, value in attributes))


def hex_name(prefix: str, key: str) -> str:
    """Return a unique attribute name for a text: `prefix` and the upper-case hex of its UTF-8 bytes.

    oned upper-cases attribute names and accepts only `[A-Z0-9_]`: a mapping that is not injective would merge keys.
    """
    return _checked_name(prefix + key.encode("utf-8", "surrogatepass").hex().upper())


def encode_member(name: str, text: str, *, in_context: bool = False) -> dict[str, str]:
    """Return the vector member that stores any `text`: under `name` itself, or encoded under `<name>_BASE64`."""
    if is_storable_in_context(text) if in_context else is_storable(text):
        return {name: text}
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotStorable(name) from None
    return {name + _BASE64_SUFFIX: base64.b64encode(encoded).decode("ascii")}


def member_names(name: str) -> tuple[str, str]:
    """Return the two names that `encode_member` uses for a member."""
    return name, name + _BASE64_SUFFIX


def decode_member(members: Mapping[str, str], name: str) -> str | None:
    """Return the text that `encode_member` stored for `name`; None if there is none, or its encoding is invalid."""
    encoded = members.get(name + _BASE64_SUFFIX)
    if encoded is None:
        return members.get(name)
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


def is_name(text: str) -> bool:
    """Whether a text is an attribute name in the form that oned stores."""
    return _NAME.fullmatch(text) is not None


def _checked_name(name: str) -> str:
    if not is_name(name):
        raise NotStorable(name)
    return name


def _quoted(name: str, text: str) -> str:
    if not is_quotable(text):
        raise NotStorable(name)
    return '"' + text.replace('"', '\\"') + '"'


def _vector(name: str, members: Mapping[str, str]) -> str:
    inner = ",".join(f"{_checked_name(key)}={_quoted(f'{name}/{key}', value)}" for key, value in members.items())
    return f"{_checked_name(name)}=[{inner}]"


def _attribute_or_vector(name: str, value: Value) -> str:
    return f"{_checked_name(name)}={_quoted(name, value)}" if isinstance(value, str) else _vector(name, value)
