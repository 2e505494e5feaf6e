"""The kinds of value in econe.conf: for each a function that reads a YAML node.

A reader takes a composed node and returns its value, or raises `InvalidValue`, which says what was expected.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import TypeAlias, TypeVar
from urllib.parse import SplitResult, urlsplit

import yaml

from econed.config.nodes import YAML_TAG, InvalidValue, NodeProblem, entries_of, quote, scalar, word
from econed.hosts import address_of, is_host, normal_host

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
Reader: TypeAlias = Callable[[yaml.Node], T]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_BOOLEAN = YAML_TAG + "bool"
_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", re.ASCII)
_FILE_SYSTEM = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_DRIVER = re.compile(r"[\w.-]{1,64}", re.ASCII)
_MAX_PROCESSES = 64
_DUPLICATE_URL = "expected URLs that differ, {} is listed twice"

A_URL = "an http:// or https:// URL without user, query or fragment"
"""Description of what `url` and `is_url` accept."""


@dataclass(frozen=True)
class CertificateFiles:
    """The PEM files of a certificate, of its private key, and of the intermediate certificates."""

    cert: str
    key: str
    chain: str | None = None


class AutoCount(int):
    """A default chosen by econed; may be lowered to satisfy other limits."""


# Words, booleans and numbers


def one_of(*words: str) -> Reader[str]:
    """Return a reader of one of the given words."""
    what = " or ".join(quote(choice) for choice in words)

    def read(node: yaml.Node) -> str:
        text = word(node, what)
        if text not in words:
            raise InvalidValue.expected(what, node)
        return text

    return read


def some_of(kinds: type[E]) -> Reader[tuple[E, ...]]:
    """Return a reader of the value of a member, or of a list of some of them."""
    words = [kind.value for kind in kinds]
    what = f"{' or '.join(map(quote, words))}, or a list of some of them"

    def read_one(node: yaml.Node) -> E:
        text = word(node, what)
        if text not in words:
            raise InvalidValue.expected(what, node)
        return kinds(text)

    def read(node: yaml.Node) -> tuple[E, ...]:
        if not (items := _items_of(node)):
            raise InvalidValue.expected(what, node)
        return tuple(dict.fromkeys(_read_items(items, read_one)))

    return read


def boolean(node: yaml.Node) -> bool:
    """Read true or false, in any of YAML's spellings."""
    scalar_node = scalar(node, "true or false")
    if scalar_node.tag != _BOOLEAN:
        raise InvalidValue.expected("true or false", node)
    return yaml.SafeLoader.bool_values[scalar_node.value.lower()]


def optional(read: Reader[T]) -> Reader[T | None]:
    """Return a reader that also accepts `false`, which the stock file of the Ruby server writes for "none"."""

    def read_unless_false(node: yaml.Node) -> T | None:
        if node.tag == _BOOLEAN and not boolean(node):
            return None
        return read(node)

    return read_unless_false


def integer(minimum: int, maximum: int, unit: str = "") -> Reader[int]:
    """Return a reader of a decimal integer from `minimum` to `maximum`."""
    what = f"a number{unit and f' of {unit}'} from {minimum} to {maximum}"

    def read(node: yaml.Node) -> int:
        text = scalar(node, what).value
        if not _INTEGER.fullmatch(text) or not minimum <= int(text) <= maximum:
            raise InvalidValue.expected(what, node)
        return int(text)

    return read


def seconds(minimum: float, maximum: float) -> Reader[float]:
    """Return a reader of a number of seconds from `minimum` to `maximum`, which may have a decimal point."""
    what = f"a number of seconds from {minimum:g} to {maximum:g}"

    def read(node: yaml.Node) -> float:
        text = scalar(node, what).value
        if not _DECIMAL.fullmatch(text) or not minimum <= float(text) <= maximum:
            raise InvalidValue.expected(what, node)
        return float(text)

    return read


def rate(node: yaml.Node) -> float:
    """Read a number per second, greater than 0, which may have a decimal point."""
    what = "a number per second, greater than 0 and up to 1000000"
    text = scalar(node, what).value
    if not _DECIMAL.fullmatch(text) or not 0 < float(text) <= 10**6:
        raise InvalidValue.expected(what, node)
    return float(text)


def processes(node: yaml.Node) -> int:
    """Read a number of processes; `auto` is an `AutoCount`: the number of processors that this process may use."""
    what = f"auto or a number from 1 to {_MAX_PROCESSES}"
    if word(node, what) == "auto":
        return AutoCount(min(len(os.sched_getaffinity(0)), _MAX_PROCESSES))
    try:
        return integer(1, _MAX_PROCESSES)(node)
    except InvalidValue:
        raise InvalidValue.expected(what, node) from None


# Files and commands


def absolute_path(node: yaml.Node) -> str:
    """Read an absolute path."""
    text = word(node, "an absolute path")
    if not text.startswith("/") or "\0" in text:
        raise InvalidValue.expected("an absolute path", node)
    return text


def readable_file(node: yaml.Node) -> str:
    """Read the absolute path of a file that this process can read now."""
    path = absolute_path(node)
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise InvalidValue.expected("a file that can be read", node)
    return path


def command(node: yaml.Node) -> tuple[str, ...]:
    """Read a command as an argv that begins with an absolute path; it is never run by a shell."""
    what = "a command that begins with an absolute path, or false"
    try:
        argv = tuple(shlex.split(word(node, what)))
    except ValueError:
        raise InvalidValue.expected(what, node) from None
    if not argv or not argv[0].startswith("/") or any("\0" in argument for argument in argv):
        raise InvalidValue.expected(what, node)
    return argv


def file_system(node: yaml.Node) -> str:
    """Read the name of a file system, such as ext3."""
    text = word(node, "the name of a file system")
    if not _FILE_SYSTEM.fullmatch(text):
        raise InvalidValue.expected("the name of a file system", node)
    return text


def certificates(node: yaml.Node) -> tuple[CertificateFiles, ...]:
    """Read a list of mappings with `cert`, `key` and optionally `chain`, each a file that can be read."""
    what = "a list of mappings with cert and key, and optionally chain"
    if not isinstance(node, yaml.SequenceNode):
        raise InvalidValue.expected(what, node)

    def read(item: yaml.Node) -> CertificateFiles:
        files = _read_mapping(item, what, readable_file)
        if not {"cert", "key"} <= files.keys() <= {"cert", "key", "chain"}:
            raise InvalidValue.expected(what, item)
        return CertificateFiles(**files)

    return _read_items(node.value, read)


def drivers(node: yaml.Node) -> tuple[str, ...]:
    """Read the name of a network driver, or a list of them."""
    what = "the name of a network driver, or a list of them"

    def read(item: yaml.Node) -> str:
        text = word(item, what)
        if not _DRIVER.fullmatch(text):
            raise InvalidValue.expected(what, item)
        return text

    return tuple(dict.fromkeys(_read_items(_items_of(node), read)))


# Hosts, networks and URLs


def host(node: yaml.Node) -> str:
    """Read a host name or an IP address; the brackets around an IPv6 address are removed."""
    what = "a host name or an IP address"
    text = word(node, what)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not is_host(bare):
        raise InvalidValue.expected(what, node)
    return bare


def url_hosts(node: yaml.Node) -> tuple[str, ...]:
    """Read a host or a list of hosts, in the form of `normal_host`; `*.` before a domain means all hosts below it."""
    what = "a host name, an IP address, *. and a domain, or a list of them"

    def read(item: yaml.Node) -> str:
        text = word(item, what)
        name = normal_host(text.removeprefix("*."))
        if name is None or (text.startswith("*.") and address_of(name) is not None):
            raise InvalidValue.expected(what, item)
        return f"*.{name}" if text.startswith("*.") else name

    return _read_items(_items_of(node), read)


def networks(node: yaml.Node) -> tuple[Network, ...]:
    """Read an IP address or a network, or a list of them."""
    what = "an IP address, a network such as 10.0.0.0/8, or a list of them"

    def read(item: yaml.Node) -> Network:
        try:
            return ipaddress.ip_network(word(item, what))
        except ValueError:
            raise InvalidValue.expected(what, item) from None

    return _read_items(_items_of(node), read)


def url(node: yaml.Node) -> str:
    """Read an http or https URL with a host, and optionally a port and a path."""
    text = word(node, A_URL)
    if not is_url(text):
        raise InvalidValue.expected(A_URL, node)
    return text


def urls(node: yaml.Node) -> tuple[str, ...]:
    """Read a URL, or a list of different URLs."""
    if not isinstance(node, yaml.SequenceNode):
        return (url(node),)
    if not node.value:
        raise InvalidValue(NodeProblem(node, f"expected {A_URL}, or a list of them, got an empty list"))
    seen: set[str] = set()

    def read(item: yaml.Node) -> str:
        value = url(item)
        if value in seen:
            raise InvalidValue(NodeProblem(item, _DUPLICATE_URL.format(quote(value))))
        seen.add(value)
        return value

    return _read_items(node.value, read)


def urls_in(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the URLs in `text`, separated by commas or blanks, and descriptions of its errors."""
    listed = tuple(filter(None, re.split(r"[\s,]+", text)))
    problems = [f"expected {A_URL}, got {quote(item)}" for item in listed if not is_url(item)]
    problems += [_DUPLICATE_URL.format(quote(item)) for item, times in Counter(listed).items() if times > 1]
    return listed, tuple(problems or (() if listed else (f"expected {A_URL}, got {quote(text)}",)))


def is_url(text: str) -> bool:
    """Whether `text` is an http or https URL with nothing but host, port and path."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and port != 0 and _has_only_host_and_path(parts, text)


def _has_only_host_and_path(parts: SplitResult, text: str) -> bool:
    return bool(parts.hostname) and is_host(parts.hostname or "") and not any(mark in text for mark in "@?#")


def urls_by_name(node: yaml.Node) -> Mapping[str, str]:
    """Read a mapping of names to http or https URLs."""
    return _read_mapping(node, "a mapping of names to URLs", url)


# Regions and instance types


def region_names(node: yaml.Node) -> tuple[str, ...]:
    """Read a valid region name, or a list of them."""
    what = "the name of a region, such as us-east-1, or a list of them"

    def read(item: yaml.Node) -> str:
        text = word(item, what)
        if not _REGION.fullmatch(text):
            raise InvalidValue.expected(what, item)
        return text

    return _read_items(_items_of(node), read)


def instance_type(node: yaml.Node) -> str:
    """Read the name of an instance type: any printable text, as the EC2_INSTANCE_TYPE of a template."""
    text = word(node, "the name of an instance type")
    if not text or not text.isprintable():
        raise InvalidValue.expected("the name of an instance type", node)
    return text


def templates_by_type(node: yaml.Node) -> Mapping[str, str]:
    """Read the Ruby server's instance types: a mapping of names to mappings with a file name under `template`."""
    return _read_mapping(node, "a mapping of instance types to their templates", _template)


def _template(node: yaml.Node) -> str:
    what = "a mapping with a 'template'"
    if not isinstance(node, yaml.MappingNode):
        raise InvalidValue.expected(what, node)
    entries, problems = entries_of(node)
    if problems:
        raise InvalidValue(*problems)
    for entry in entries:
        if entry.name == "template":
            return word(entry.value, "the name of a template file")
    raise InvalidValue(NodeProblem(node, f"expected {what}, got none"))


# Lists and mappings


def _items_of(node: yaml.Node) -> Sequence[yaml.Node]:
    """Return the items of a list; a single value counts as a list with one item."""
    return node.value if isinstance(node, yaml.SequenceNode) else (node,)


def _read_items(nodes: Iterable[yaml.Node], read: Reader[T]) -> tuple[T, ...]:
    """Return the values of `nodes`; raises `InvalidValue` with the problems of all of them."""
    values: list[T] = []
    problems: list[NodeProblem] = []
    for node in nodes:
        try:
            values.append(read(node))
        except InvalidValue as error:
            problems += error.problems
    if problems:
        raise InvalidValue(*problems)
    return tuple(values)


def _read_mapping(node: yaml.Node, what: str, read: Reader[T]) -> Mapping[str, T]:
    """Return the values of a mapping by name; raises `InvalidValue` with the problems of all of them."""
    if not isinstance(node, yaml.MappingNode):
        raise InvalidValue.expected(what, node)
    entries, problems = entries_of(node)
    values: dict[str, T] = {}
    for entry in entries:
        try:
            values[entry.name] = read(entry.value)
        except InvalidValue as error:
            problems += (replace(problem, within=entry.name) for problem in error.problems)
    if problems:
        raise InvalidValue(*problems)
    return MappingProxyType(values)
