"""Template text: the one place where it is built.

Template text is `NAME="value"` or `NAME=[K="value",…]`, one on a line (OpenNebula, "Template Syntax"). Inside quotes
oned's parser knows one escape, `\\"`; every other backslash stands for itself. What it cannot keep is refused here,
with `NotKeepable`, never sent; `encode_member` encodes it, where a text from outside must survive whatever it holds.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from econed.errors import NotKeepable
from econed.opennebula.attributes import Attributes, Value

_NAME = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)

# All but tab, newline and the printable characters of the Basic Multilingual Plane. Carriage returns become newlines in
# XML, other control characters cannot be written in it, and a character beyond that plane fails the call (fault -503).
_UNSENDABLE = re.compile(r"[^\t\n\x20-\uD7FF\uE000-\uFFFD]")

_BLANKS = " \t\n"

_ENCODED = "_BASE64"

# How oned itself joins the members of CONTEXT before it expands variables and takes them apart again.
_CONTEXT_SEPARATOR = "@^_^@"


def is_sendable(text: str) -> bool:
    """Whether a text can go to oned in an XML-RPC call at all and arrive unchanged."""
    return _UNSENDABLE.search(text) is None


def is_quotable(text: str) -> bool:
    """Whether oned reads a text, quoted, as that text.

    Not what cannot be sent; not `]]>`, at which oned's parser stops ("Parse error.") or which breaks the document that
    it stores; not a backslash at the end, which swallows the closing quote.
    """
    return is_sendable(text) and "]]>" not in text and not text.endswith("\\")


def is_storable(text: str) -> bool:
    """Whether every version of oned keeps a text, quoted, exactly as it is.

    Not with blanks or line ends before or after it: 7.4 takes them off, 5.12 does not.
    """
    return is_quotable(text) and text == text.strip(_BLANKS)


def is_storable_in_context(text: str) -> bool:
    """Whether oned keeps a text exactly as it is inside CONTEXT.

    There it expands `$` (`$NAME`, `$USER[…]`; a lone one makes the instantiation fail), and before it does so it joins
    all members by a separator of its own.
    """
    return is_storable(text) and "$" not in text and _CONTEXT_SEPARATOR not in text


def attribute(name: str, value: str) -> str:
    """Return `NAME="value"`; raises `NotKeepable`."""
    if not is_storable(value):
        raise NotKeepable(name)
    return f"{_checked(name)}={_quoted(name, value)}"


def removal(name: str) -> str:
    """Return the text that takes an attribute away when it is appended: `NAME=[]`.

    oned drops a vector without members when it merges, and so what it was to replace; `NAME=""` leaves an empty
    attribute for good. What is not there is as good as taken away. One text must not both set an attribute and take it
    away: machines and networks then have it, users and images keep what comes last.
    """
    return f"{_checked(name)}=[]"


def vector(name: str, members: Mapping[str, str]) -> str:
    """Return `NAME=[K="v",…]`; raises `NotKeepable`."""
    for key, value in members.items():
        if not is_storable(value):
            raise NotKeepable(f"{name}/{key}")
    return _vector(name, members)


def context(kept: Mapping[str, str], added: Mapping[str, str]) -> str:
    """Return a CONTEXT of what a template had, variables and all, and of texts `added` that must stay as they are.

    oned takes a CONTEXT that is sent in place of the template's whole one. Raises `NotKeepable` where an added text
    would be expanded.
    """
    for name, value in added.items():
        if not is_storable_in_context(value):
            raise NotKeepable(f"CONTEXT/{name}")
    return _vector("CONTEXT", {**kept, **added})


def template(*attributes: str) -> str:
    """Return the template text of these attributes, each made by a function of this module; empty ones are left out."""
    return "\n".join(each for each in attributes if each)


def render(attributes: Attributes) -> str:
    """Return the template text of attributes that were read from a document of oned's, unchanged.

    Blanks around a text are no reason to refuse it here: the oned that showed them keeps them. Raises `NotKeepable` for
    what oned got by another way than template text and would not read back.
    """
    return template(*(_any(name, value) for name, value in attributes))


def hex_name(prefix: str, key: str) -> str:
    """Return an attribute name of its own for a text: `prefix` and the upper-case hex of its UTF-8 bytes.

    oned upper-cases attribute names and takes only `[A-Z0-9_]`: any other mapping would make two keys one.
    """
    return _checked(prefix + key.encode("utf-8", "surrogatepass").hex().upper())


def encode_member(name: str, text: str, *, in_context: bool = False) -> dict[str, str]:
    """Return the member of a vector that keeps `text` whatever it holds: as it is, or `NAME_BASE64`."""
    if is_storable_in_context(text) if in_context else is_storable(text):
        return {name: text}
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotKeepable(name) from None
    return {name + _ENCODED: base64.b64encode(encoded).decode("ascii")}


def member_names(name: str) -> tuple[str, str]:
    """Return the two names under which `encode_member` may have put a text."""
    return name, name + _ENCODED


def decode_member(members: Mapping[str, str], name: str) -> str | None:
    """Return the text that `encode_member` put under `name`; None if there is none or its encoding is invalid."""
    encoded = members.get(name + _ENCODED)
    if encoded is None:
        return members.get(name)
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


def is_name(text: str) -> bool:
    """Whether a text is an attribute name as oned spells them."""
    return _NAME.fullmatch(text) is not None


def _checked(name: str) -> str:
    if not is_name(name):
        raise NotKeepable(name)
    return name


def _quoted(name: str, text: str) -> str:
    if not is_quotable(text):
        raise NotKeepable(name)
    return '"' + text.replace('"', '\\"') + '"'


def _vector(name: str, members: Mapping[str, str]) -> str:
    inner = ",".join(f"{_checked(key)}={_quoted(f'{name}/{key}', value)}" for key, value in members.items())
    return f"{_checked(name)}=[{inner}]"


def _any(name: str, value: Value) -> str:
    return f"{_checked(name)}={_quoted(name, value)}" if isinstance(value, str) else _vector(name, value)
