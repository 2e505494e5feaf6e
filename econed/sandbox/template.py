"""OpenNebula's templates as oned parses, merges, stores and shows them.

`econed.opennebula.template_reader` has the grammar.
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
_BLANKS: Final = " \t\n\r\f\v"


def cdata(name: str, value: object) -> str:
    """Return an element with `value` as CDATA; as in oned, a value that contains `]]>` breaks the document."""
    return f"<{name}><![CDATA[{value}]]></{name}>"


def parse(text: str, *, strips_values: bool = False) -> Template:
    """Parse template text, or a template as XML, as oned's `parse_str_or_xml` does; refuses with "Parse error".

    7.x `strips_values`; 5.12 strips only the end of NAME.
    """
    template = Template(_elements(_root(text)) if text.startswith("<") else _attributes(text))
    if strips_values:
        return Template((name, _stripped(value)) for name, value in template)
    if "NAME" in template:
        template.replace("NAME", template.get("NAME").rstrip(_BLANKS))
    return template


def _stored_name(name: str) -> str:
    """Return the name under which oned stores an attribute; a name that XML does not allow gets a prefix."""
    upper = name.upper()
    return f"ONE_{upper}" if upper[0].isdigit() or upper.startswith("XML") else upper


def _stripped(value: Value) -> Value:
    if isinstance(value, str):
        return value.strip(_BLANKS)
    return {key: member.strip(_BLANKS) for key, member in value.items()}


def _attributes(text: str) -> Iterator[tuple[str, Value]]:
    try:
        for name, value in read_template(text):
            yield _stored_name(name), value if isinstance(value, str) else dict(value)
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
        members = [child for child in element.iterchildren("*") if child.text]
        if members:
            yield _stored_name(str(element.tag)), {str(member.tag): member.text or "" for member in members}
        elif len(element) == 0 and element.text:
            yield _stored_name(str(element.tag)), element.text


class Template:
    """A multimap of attributes: single attributes are strings, vector attributes map names to strings.

    As in oned, attributes are sorted by name; attributes of the same name keep their order.
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
        """Return a deep copy."""
        return Template((name, dict(value) if isinstance(value, dict) else value) for name, value in self)

    def add(self, name: str, value: Value) -> None:
        """Add an attribute of this name to those that exist."""
        self._attributes.setdefault(name, []).append(value)

    def replace(self, name: str, value: Value) -> None:
        """Replace all attributes of this name with this attribute."""
        self._attributes[name] = [value]

    def pop(self, name: str) -> list[Value]:
        """Remove all attributes of this name and return them."""
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
        """Merge `other`: each of its names replaces all attributes of that name (`update(..., 1)`).

        A vector without members removes the attribute (oned: `Template::merge`).
        """
        for name in other._attributes:
            self._attributes.pop(name, None)
        for name, value in other:
            if value or isinstance(value, str):
                self.add(name, value)

    def stored(self) -> Template | None:
        """Return the template as oned loads it from its database, or None if it cannot be stored.

        Empty vectors are lost. oned does not store a template whose document is not well-formed, though it replies with
        success: `]]>` in a value (its scanner accepts it after a newline), a vector member whose name begins with a
        digit.
        """
        if not any(_may_break_xml(value) for _, value in self):
            return Template((name, value) for name, value in self if value != {})
        try:
            return Template(_elements(_root(self.xml())))
        except Refused:
            return None

    def unique(self) -> Template:
        """Return the template as users and images store it: only the last attribute of each name."""
        return Template((name, values[-1]) for name, values in self._attributes.items())

    def without_repeated(self, name: str) -> Template:
        """Return the template without vectors of this name that repeat an earlier one exactly."""
        vectors = self.vectors(name)
        repeated = {id(vector) for n, vector in enumerate(vectors) if vector in vectors[:n]}
        return Template((key, value) for key, value in self if id(value) not in repeated)

    def body(self) -> str:
        """Return the elements of the attributes."""
        return "".join(attribute_xml(name, value) for name, value in self)

    def xml(self, element: str = "TEMPLATE") -> str:
        """Return the elements of the attributes, in `element`."""
        return f"<{element}>{self.body()}</{element}>"

    def first_restricted_change(self, base: Template, restricted: Restricted, *, replaces: bool = False) -> str | None:
        """Return the name of a restricted attribute whose value differs from that in `base`, or None.

        Vectors must repeat exactly the restricted values of the base's vectors. They may only be left out if this
        template is merged and does not replace the base (`replaces`) (oned: `Template::check_restricted`).
        """
        for name, keys in restricted.items():
            if keys:
                values, base_values = self._restricted_values(name, keys), base._restricted_values(name, keys)
                if values != base_values and (name in self or replaces):
                    return name
            elif name in self and self.get(name) != base.get(name):
                return name
        return None

    def add_missing(self, base: Template, names: Iterable[str]) -> None:
        """Add the single attributes of `base` with these names that are missing here."""
        for name in names:
            if name not in self and base.get(name):
                self.add(name, base.get(name))

    def first_restricted(self, restricted: Restricted) -> str | None:
        """Return the name of a restricted attribute that the template contains, or None."""
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


def _may_break_xml(value: Value) -> bool:
    if isinstance(value, str):
        return _CDATA_END in value
    return any(_CDATA_END in member or key[0].isdigit() for key, member in value.items())


def attribute_xml(name: str, value: Value) -> str:
    """Return the element of an attribute; the members of a vector are sorted by name."""
    if isinstance(value, str):
        return cdata(name, value)
    return f"<{name}>{''.join(cdata(key, value[key]) for key in sorted(value))}</{name}>"


def restricted_attributes(*paths: str) -> Restricted:
    """Return the restricted attributes of oned.conf (`NIC/MAC`, `EMULATOR`) as `Template` checks them."""
    restricted: dict[str, set[str]] = {}
    for path in paths:
        name, _, key = path.partition("/")
        restricted.setdefault(name, set()).update([key] if key else [])
    return {name: frozenset(keys) for name, keys in restricted.items()}
