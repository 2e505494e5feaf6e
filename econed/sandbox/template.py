"""OpenNebula's template text: what oned reads, keeps, merges and shows.

The grammar is that of oned's `template_parser`: `NAME="value"` and `NAME=[K="value",...]`, names in `[A-Za-z0-9_]`
and upper-cased, `\\"` the one escape, a value without quotes up to the next of ``=#,[]`` or blank. As the longest
quoted text wins, a backslash before the closing quote swallows it; `]]>` cannot be kept, as values travel in CDATA.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from lxml import etree

from econed.sandbox.refusals import internal

Vector: TypeAlias = dict[str, str]
Value: TypeAlias = str | Vector
Restricted: TypeAlias = Mapping[str, frozenset[str]]

_SKIP: Final = re.compile(r"(?:[ \t]*#[^\n]*\n|[ \t\n\r]+)*")
_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_EMPTY: Final = re.compile(r"[ \t]*=[ \t]*\n")
_EQUAL: Final = re.compile(r"[ \t]*=[ \t]*")
_OPEN: Final = re.compile(r"[ \t]*\[[ \t\n]*")
_CLOSE: Final = re.compile(r"[ \t\n]*\][ \t\n]*")
_COMMA: Final = re.compile(r"[ \t\n]*,[ \t\n]*")
_QUOTED: Final = re.compile(r'"((?:\\"|[^"])*)"')
_BARE: Final = re.compile(r"[^=#\s,\[\]]+")
_CDATA_END: Final = "]]>"


def cdata(name: str, value: object) -> str:
    """Return an element whose text is kept as it is; `]]>` never gets here."""
    return f"<{name}><![CDATA[{value}]]></{name}>"


def parse(text: str) -> Template:
    """Read template text, or a template as XML, as oned's `parse_str_or_xml` does; refuses with "Parse error"."""
    if text.lstrip().startswith("<"):
        return _parse_xml(text)
    if _CDATA_END in text:
        raise internal("Parse error.")
    return Template(_attributes(text))


def _attributes(text: str) -> Iterator[tuple[str, Value]]:
    at = _skip(text, 0)
    while at < len(text):
        name, at = _take(_NAME, text, at)
        empty = _EMPTY.match(text, at)
        if empty:
            yield name.upper(), ""
            at = _skip(text, empty.end())
            continue
        _, at = _take(_EQUAL, text, at)
        opened = _OPEN.match(text, at)
        if opened:
            value, at = _vector(text, opened.end())
            yield name.upper(), value
        else:
            single, at = _single(text, at)
            yield name.upper(), single
        at = _skip(text, at)


def _vector(text: str, at: int) -> tuple[Vector, int]:
    vector: Vector = {}
    closed = _CLOSE.match(text, at)
    while not closed:
        name, at = _take(_NAME, text, _skip(text, at))
        _, at = _take(_EQUAL, text, at)
        value, at = _single(text, at)
        vector.setdefault(name.upper(), value)
        closed = _CLOSE.match(text, at)
        if not closed:
            _, at = _take(_COMMA, text, at)
    return vector, closed.end()


def _single(text: str, at: int) -> tuple[str, int]:
    quoted = _QUOTED.match(text, at)
    if quoted:
        return quoted[1].replace('\\"', '"'), quoted.end()
    return _take(_BARE, text, at)


def _skip(text: str, at: int) -> int:
    skipped = _SKIP.match(text, at)
    return skipped.end() if skipped else at


def _take(pattern: re.Pattern[str], text: str, at: int) -> tuple[str, int]:
    match = pattern.match(text, at)
    if not match:
        line = text.count("\n", 0, at)
        column = at - text.rfind("\n", 0, at) - 1
        raise internal(f"Parse error: syntax error at line {line}, columns {column}:{column + 1}")
    return match[0], match.end()


def _parse_xml(text: str) -> Template:
    try:
        root = etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        raise internal("Parse error: Error parsing XML document.") from None
    attributes: list[tuple[str, Value]] = []
    for element in root:
        inner = {str(child.tag).upper(): child.text or "" for child in element}
        attributes.append((str(element.tag).upper(), inner or element.text or ""))
    return Template(attributes)


class Template:
    """A multimap of attributes: single ones are text, vectors map names to text.

    oned keeps it sorted by name; attributes of one name keep the order in which they came.
    """

    def __init__(self, attributes: Iterable[tuple[str, Value]] = ()) -> None:
        self._attributes: dict[str, list[Value]] = {}
        for name, value in attributes:
            self.add(name, value)

    def __contains__(self, name: str) -> bool:
        return name in self._attributes

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        for name in sorted(self._attributes):
            for value in self._attributes[name]:
                yield name, value

    def copy(self) -> Template:
        """Return a template of one's own with the same attributes."""
        return Template((name, dict(value) if isinstance(value, dict) else value) for name, value in self)

    def add(self, name: str, value: Value) -> None:
        """Add one more attribute of this name."""
        self._attributes.setdefault(name, []).append(value)

    def replace(self, name: str, value: Value) -> None:
        """Let this be the only attribute of this name."""
        self._attributes[name] = [value]

    def pop(self, name: str) -> list[Value]:
        """Take all attributes of this name out."""
        return self._attributes.pop(name, [])

    def get(self, name: str, default: str = "") -> str:
        """Return the first single attribute of this name."""
        for value in self._attributes.get(name, ()):
            if isinstance(value, str):
                return value
        return default

    def vectors(self, name: str) -> list[Vector]:
        """Return the vector attributes of this name."""
        return [value for value in self._attributes.get(name, ()) if isinstance(value, dict)]

    def merge(self, other: Template) -> None:
        """Take over `other`: each of its names replaces all attributes of that name (`update(..., 1)`)."""
        for name in other._attributes:
            self._attributes.pop(name, None)
        for name, value in other:
            self.add(name, value)

    def body(self) -> str:
        """Return the attributes as oned shows them, without the element around them."""
        return "".join(render(name, value) for name, value in self)

    def xml(self, element: str = "TEMPLATE") -> str:
        """Return the attributes as oned shows them, in `element`."""
        return f"<{element}>{self.body()}</{element}>"

    def restricted_against(self, base: Template, restricted: Restricted) -> str | None:
        """Return the name of a restricted attribute that is not as in `base`, or None.

        A vector sent must repeat the restricted values of the base's vectors, no more and no fewer
        (oned: `Template::check_restricted`).
        """
        for name, keys in restricted.items():
            if keys:
                mine, theirs = self._restricted_values(name, keys), base._restricted_values(name, keys)
                if name in self and mine != theirs:
                    return name
            elif name in self and self.get(name) != base.get(name):
                return name
        return None

    def restricted(self, restricted: Restricted) -> str | None:
        """Return the name of a restricted attribute that is here at all, or None."""
        for name, keys in restricted.items():
            if keys:
                for key in sorted(keys):
                    if any(key in vector for vector in self.vectors(name)):
                        return key
            elif name in self:
                return name
        return None

    def _restricted_values(self, name: str, keys: frozenset[str]) -> list[str]:
        return sorted(vector[key] for vector in self.vectors(name) for key in keys if key in vector)


def render(name: str, value: Value) -> str:
    """Return one attribute as oned shows it: CDATA, the parts of a vector sorted by name."""
    if isinstance(value, str):
        return cdata(name, value)
    return f"<{name}>{''.join(cdata(key, value[key]) for key in sorted(value))}</{name}>"


def restricted_attributes(*paths: str) -> Restricted:
    """Return the restricted attributes of oned.conf (`NIC/MAC`, `EMULATOR`) in the form that `Template` checks."""
    found: dict[str, set[str]] = {}
    for path in paths:
        name, _, key = path.partition("/")
        found.setdefault(name, set()).update([key] if key else [])
    return {name: frozenset(keys) for name, keys in found.items()}
