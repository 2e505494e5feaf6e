"""OpenNebula's template text: what oned reads, keeps, merges and shows.

The grammar is that of `econed.opennebula.template_reader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from lxml import etree

from econed.opennebula.template_reader import TemplateSyntaxError, read_template
from econed.sandbox.refusals import Refused, internal

Vector: TypeAlias = dict[str, str]
Value: TypeAlias = str | Vector
Restricted: TypeAlias = Mapping[str, frozenset[str]]

_CDATA_END: Final = "]]>"
_TRIMMED: Final = " \t\n\r\f\v"


def cdata(name: str, value: object) -> str:
    """Return an element whose text is kept as it is; one with `]]>` in it breaks the document."""
    return f"<{name}><![CDATA[{value}]]></{name}>"


def parse(text: str, *, trims: bool = False) -> Template:
    """Read template text, or a template as XML, as oned's `parse_str_or_xml` does; refuses with "Parse error".

    7.x `trims` every value; 5.12 takes off what is blank at the end of NAME, and no more.
    """
    read = Template(_elements(_root(text)) if text.startswith("<") else _attributes(text))
    if trims:
        return Template((name, _trimmed(value)) for name, value in read)
    if "NAME" in read:
        read.replace("NAME", read.get("NAME").rstrip(_TRIMMED))
    return read


def _named(name: str) -> str:
    """Return the name of an attribute as oned keeps it; one that could not name an element of XML gets a prefix."""
    upper = name.upper()
    return f"ONE_{upper}" if upper[0].isdigit() or upper.startswith("XML") else upper


def _trimmed(value: Value) -> Value:
    if isinstance(value, str):
        return value.strip(_TRIMMED)
    return {name: part.strip(_TRIMMED) for name, part in value.items()}


def _attributes(text: str) -> Iterator[tuple[str, Value]]:
    try:
        for name, value in read_template(text):
            yield _named(name), value if isinstance(value, str) else dict(value)
    except TemplateSyntaxError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - text.rfind("\n", 0, error.position) - 1
        raise internal(f"Parse error: syntax error at line {line}, columns {column}:{column + 1}") from None


def _root(text: str) -> etree._Element:
    try:
        return etree.fromstring(text.encode(), etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    except etree.XMLSyntaxError:
        raise internal("Parse error: XML Template malformed.") from None


def _elements(root: etree._Element) -> Iterator[tuple[str, Value]]:
    for element in root.iterchildren("*"):
        inner = [child for child in element.iterchildren("*") if child.text]
        if inner:
            yield _named(str(element.tag)), {str(child.tag): child.text or "" for child in inner}
        elif len(element) == 0 and element.text:
            yield _named(str(element.tag)), element.text


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
        """Take over `other`: each of its names replaces all attributes of that name (`update(..., 1)`).

        A vector without members is not put in their place: the attribute is gone (oned: `Template::merge`).
        """
        for name in other._attributes:
            self._attributes.pop(name, None)
        for name, value in other:
            if value or isinstance(value, str):
                self.add(name, value)

    def stored(self) -> Template | None:
        """Return the template as oned reads it back from its database, or None where it cannot be stored there.

        Vectors with nothing in them are lost. What makes no well-formed document is not stored, though oned answers
        success: `]]>` in a value (its scanner lets it through after a line end), a digit at the begin of a part's name.
        """
        if not any(_is_doubtful(value) for _, value in self):
            return Template((name, value) for name, value in self if value != {})
        try:
            return Template(_elements(_root(self.xml())))
        except Refused:
            return None

    def unique(self) -> Template:
        """Return the template as users and images read one: of several attributes of one name, the last only."""
        return Template((name, values[-1]) for name, values in self._attributes.items())

    def body(self) -> str:
        """Return the attributes as oned shows them, without the element around them."""
        return "".join(render(name, value) for name, value in self)

    def xml(self, element: str = "TEMPLATE") -> str:
        """Return the attributes as oned shows them, in `element`."""
        return f"<{element}>{self.body()}</{element}>"

    def restricted_against(self, base: Template, restricted: Restricted, *, whole: bool = False) -> str | None:
        """Return the name of a restricted attribute that is not as in `base`, or None.

        A vector sent must repeat the restricted values of the base's vectors, no more and no fewer; where the `whole`
        base is to be replaced, it must be sent (oned: `Template::check_restricted`).
        """
        for name, keys in restricted.items():
            if keys:
                mine, theirs = self._restricted_values(name, keys), base._restricted_values(name, keys)
                if mine != theirs and (name in self or whole):
                    return name
            elif name in self and self.get(name) != base.get(name):
                return name
        return None

    def keep(self, base: Template, names: Iterable[str]) -> None:
        """Take over from `base` the single attributes of these names that are not here."""
        for name in names:
            if name not in self and base.get(name):
                self.add(name, base.get(name))

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


def _is_doubtful(value: Value) -> bool:
    if isinstance(value, str):
        return _CDATA_END in value
    return any(_CDATA_END in part or name[0].isdigit() for name, part in value.items())


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
