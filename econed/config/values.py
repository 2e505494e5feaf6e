"""The kinds of value that econe.conf holds: each a function from a YAML node to the value, or to what was expected.

A reader takes a composed node and returns its value, or raises `Wrong`, which says in words what was expected. Nodes
are read rather than constructed objects because a node knows its line, and because composing never runs anything.
Ruby's symbols (`:ec2`) are read as the words they are.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias, TypeVar
from urllib.parse import SplitResult, urlsplit

import yaml

from econed.hosts import address_of, is_host, normal_host

T = TypeVar("T")
Reader: TypeAlias = Callable[[yaml.Node], T]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOLEAN = _TAG + "null", _TAG + "bool"
_SYMBOL_TAGS = ("!ruby/symbol", "!ruby/sym")
_SYMBOL = re.compile(r":([A-Za-z_].*)", re.DOTALL)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", re.ASCII)
_FILE_SYSTEM = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_SHOWN = 60

_TWICE = "expected URLs that differ, {} is there twice"

A_URL = "an http:// or https:// URL without user, query or fragment"
"""What `url` and `is_url` expect, in words."""


@dataclass(frozen=True)
class CertificateFiles:
    """The PEM files of a certificate, of its private key, and of the certificates between it and the authority."""

    cert: str
    key: str
    chain: str | None = None


@dataclass(frozen=True)
class Fault:
    """One thing wrong in the file: the node where it stands, what it is, and `within` which part of its key's value."""

    node: yaml.Node
    text: str
    within: str = ""


class Wrong(Exception):
    """A value is not what its key needs, for one or more reasons."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*(fault.text for fault in faults))
        self.faults = faults

    @classmethod
    def expected(cls, what: str, node: yaml.Node) -> Wrong:
        """Return the error for a node that does not hold `what`."""
        return cls(Fault(node, f"expected {what}, got {describe(node)}"))


@dataclass(frozen=True)
class Entry:
    """One key of a mapping, by its name, with its value."""

    name: str
    key: yaml.Node
    value: yaml.Node


def is_empty(node: yaml.Node) -> bool:
    """Whether nothing stands behind the key, or `null`: it is then not set."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def shown(text: str) -> str:
    """Return `text` as a message may show it: quoted, not too long, and without a password that a URL may hold."""
    masked = re.sub(r"//[^/]*@", "//…@", text)
    return repr(masked if len(masked) <= _SHOWN else masked[: _SHOWN - 1] + "…")


def describe(node: yaml.Node) -> str:
    """Return what a node holds, for the end of a message: "'abc'", "a list", "nothing" (quoted: "the text …")."""
    if is_empty(node):
        return "nothing"
    if isinstance(node, yaml.ScalarNode):
        return f"the text {shown(node.value)}" if node.style else shown(node.value)
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"


def entries(node: yaml.MappingNode) -> tuple[list[Entry], list[Fault]]:
    """Return what a mapping holds, and what is wrong with its keys: no name, or one that stood there before.

    A key is the same whether it is written `port`, `:port` or `":port"`.
    """
    found: dict[str, Entry] = {}
    faults: list[Fault] = []
    for key, value in node.value:
        try:
            name = _key_name(key)
        except Wrong as wrong:
            faults += wrong.faults
            continue
        if name in found:
            faults.append(Fault(key, f"said twice, first in line {line_of(found[name].key)}", name))
        else:
            found[name] = Entry(name, key, value)
    return list(found.values()), faults


def _key_name(node: yaml.Node) -> str:
    name = str(_scalar(node, "a key").value)
    symbol = _SYMBOL.fullmatch(name)
    return symbol[1] if symbol else name


def line_of(node: yaml.Node) -> int:
    """Return the line on which a node begins, counted from 1."""
    return int(node.start_mark.line) + 1


def _scalar(node: yaml.Node, what: str) -> yaml.ScalarNode:
    if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith((_TAG, *_SYMBOL_TAGS)):
        raise Wrong.expected(what, node)
    return node


def _word(node: yaml.Node, what: str) -> str:
    """Return the text of a scalar, a plain symbol without its colon."""
    scalar = _scalar(node, what)
    text = str(scalar.value)
    symbol = _SYMBOL.fullmatch(text)
    return symbol[1] if symbol and scalar.style is None else text


def one_of(*words: str, later: Mapping[str, str] = MappingProxyType({})) -> Reader[str]:
    """Read one of some words. `later` names words that are known and refused, each with the reason."""
    what = " or ".join(shown(word) for word in words)

    def read(node: yaml.Node) -> str:
        word = _word(node, what)
        if word in later:
            raise Wrong(Fault(node, later[word]))
        if word not in words:
            raise Wrong.expected(what, node)
        return word

    return read


def flag(node: yaml.Node) -> bool:
    """Read true or false, in any of YAML's spellings."""
    scalar = _scalar(node, "true or false")
    if scalar.tag != _BOOLEAN:
        raise Wrong.expected("true or false", node)
    return yaml.SafeLoader.bool_values[scalar.value.lower()]


def optional(read: Reader[T]) -> Reader[T | None]:
    """Read what `read` reads, or `false`, which the stock file of the Ruby server writes for "none"."""

    def read_unless_false(node: yaml.Node) -> T | None:
        if node.tag == _BOOLEAN and not flag(node):
            return None
        return read(node)

    return read_unless_false


def whole(least: int, most: int, unit: str = "") -> Reader[int]:
    """Read a whole decimal number from `least` to `most`."""
    what = f"a number{unit and f' of {unit}'} from {least} to {most}"

    def read(node: yaml.Node) -> int:
        text = _scalar(node, what).value
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
            raise Wrong.expected(what, node)
        return int(text)

    return read


def seconds(least: float, most: float) -> Reader[float]:
    """Read a number of seconds from `least` to `most`, which may have a decimal point."""
    what = f"a number of seconds from {least:g} to {most:g}"

    def read(node: yaml.Node) -> float:
        text = _scalar(node, what).value
        if not _DECIMAL.fullmatch(text) or not least <= float(text) <= most:
            raise Wrong.expected(what, node)
        return float(text)

    return read


def rate(node: yaml.Node) -> float:
    """Read how many a second, more than none and perhaps with a decimal point."""
    what = "a number a second, more than 0 and up to 1000000"
    text = _scalar(node, what).value
    if not _DECIMAL.fullmatch(text) or not 0 < float(text) <= 10**6:
        raise Wrong.expected(what, node)
    return float(text)


_MOST_PROCESSES = 64


class Automatic(int):
    """A number that nobody has asked for: it may be less where something else does not suffice."""


def processes(node: yaml.Node) -> int:
    """Read a number of processes; `auto` is `Automatic`: one for each processor that this one may run on."""
    what = f"auto or a number from 1 to {_MOST_PROCESSES}"
    if _word(node, what) == "auto":
        return Automatic(min(len(os.sched_getaffinity(0)), _MOST_PROCESSES))
    try:
        return whole(1, _MOST_PROCESSES)(node)
    except Wrong:
        raise Wrong.expected(what, node) from None


def absolute_path(node: yaml.Node) -> str:
    """Read an absolute path."""
    text = _word(node, "an absolute path")
    if not text.startswith("/") or "\0" in text:
        raise Wrong.expected("an absolute path", node)
    return text


def readable_file(node: yaml.Node) -> str:
    """Read the absolute path of a file that this process can read now."""
    path = absolute_path(node)
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise Wrong.expected("a file that can be read", node)
    return path


def command(node: yaml.Node) -> tuple[str, ...]:
    """Read a command, by its absolute path and with arguments if it has any, as an argv: no shell ever sees it."""
    what = "a command that begins with an absolute path, or false"
    try:
        argv = tuple(shlex.split(_word(node, what)))
    except ValueError:
        raise Wrong.expected(what, node) from None
    if not argv or not argv[0].startswith("/") or any("\0" in word for word in argv):
        raise Wrong.expected(what, node)
    return argv


def file_system(node: yaml.Node) -> str:
    """Read the name of a file system, such as ext3."""
    text = _word(node, "the name of a file system")
    if not _FILE_SYSTEM.fullmatch(text):
        raise Wrong.expected("the name of a file system", node)
    return text


def host(node: yaml.Node) -> str:
    """Read a host name or an IP address; an IPv6 address may stand in brackets, which are taken off."""
    what = "a host name or an IP address"
    text = _word(node, what)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not is_host(bare):
        raise Wrong.expected(what, node)
    return bare


def url_hosts(node: yaml.Node) -> tuple[str, ...]:
    """Read a list of hosts, or one, in the form of `normal_host`; `*.` and a domain are all hosts below it."""
    what = "a host name, an IP address, *. and a domain, or a list of them"

    def read(each: yaml.Node) -> str:
        text = _word(each, what)
        name = normal_host(text.removeprefix("*."))
        if name is None or (text.startswith("*.") and address_of(name) is not None):
            raise Wrong.expected(what, each)
        return f"*.{name}" if text.startswith("*.") else name

    return _each(node.value if isinstance(node, yaml.SequenceNode) else (node,), read)


def networks(node: yaml.Node) -> tuple[Network, ...]:
    """Read a list of IP addresses and networks, or one of them."""
    what = "an IP address, a network such as 10.0.0.0/8, or a list of them"

    def read(each: yaml.Node) -> Network:
        try:
            return ipaddress.ip_network(_word(each, what))
        except ValueError:
            raise Wrong.expected(what, each) from None

    return _each(node.value if isinstance(node, yaml.SequenceNode) else (node,), read)


def url(node: yaml.Node) -> str:
    """Read an http or https URL with a host, and a port and a path if need be, and nothing else."""
    text = _word(node, A_URL)
    if not is_url(text):
        raise Wrong.expected(A_URL, node)
    return text


def urls(node: yaml.Node) -> tuple[str, ...]:
    """Read a URL, or a list of different ones."""
    if not isinstance(node, yaml.SequenceNode):
        return (url(node),)
    if not node.value:
        raise Wrong(Fault(node, f"expected {A_URL}, or a list of them, got an empty list"))
    found: set[str] = set()

    def read(each: yaml.Node) -> str:
        value = url(each)
        if value in found:
            raise Wrong(Fault(each, _TWICE.format(shown(value))))
        found.add(value)
        return value

    return _each(node.value, read)


def urls_of(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the URLs in `text`, separated by commas or blanks, and what is wrong with it."""
    found = tuple(filter(None, re.split(r"[\s,]+", text)))
    faults = [f"expected {A_URL}, got {shown(each)}" for each in found if not is_url(each)]
    twice = (each for each, times in Counter(found).items() if times > 1)
    faults += [_TWICE.format(shown(each)) for each in twice]
    return found, tuple(faults or (() if found else (f"expected {A_URL}, got {shown(text)}",)))


def is_url(text: str) -> bool:
    """Whether `text` is an http or https URL of host, port and path."""
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and port != 0 and _only_place_and_path(parts, text)


def _only_place_and_path(parts: SplitResult, text: str) -> bool:
    return bool(parts.hostname) and is_host(parts.hostname or "") and not any(mark in text for mark in "@?#")


def urls_by_name(node: yaml.Node) -> Mapping[str, str]:
    """Read a mapping of names to http or https URLs."""
    return _mapping(node, "a mapping of names to URLs", url)


def region_names(node: yaml.Node) -> tuple[str, ...]:
    """Read a list of names that a region can have, or one of them."""
    what = "the name of a region, such as us-east-1, or a list of them"

    def read(each: yaml.Node) -> str:
        text = _word(each, what)
        if not _REGION.fullmatch(text):
            raise Wrong.expected(what, each)
        return text

    return _each(node.value if isinstance(node, yaml.SequenceNode) else (node,), read)


def templates_by_type(node: yaml.Node) -> Mapping[str, str]:
    """Read the Ruby server's instance types: a mapping of names to mappings with a file name under `template`."""
    return _mapping(node, "a mapping of instance types to their templates", _template)


def _template(node: yaml.Node) -> str:
    what = "a mapping with a 'template'"
    if not isinstance(node, yaml.MappingNode):
        raise Wrong.expected(what, node)
    held, faults = entries(node)
    if faults:
        raise Wrong(*faults)
    for entry in held:
        if entry.name == "template":
            return _word(entry.value, "the name of a template file")
    raise Wrong(Fault(node, f"expected {what}, got none"))


def certificates(node: yaml.Node) -> tuple[CertificateFiles, ...]:
    """Read a list of mappings with `cert`, `key` and perhaps `chain`, each a file that can be read."""
    what = "a list of mappings with cert and key, and chain if need be"
    if not isinstance(node, yaml.SequenceNode):
        raise Wrong.expected(what, node)

    def read(each: yaml.Node) -> CertificateFiles:
        files = _mapping(each, what, readable_file)
        if not {"cert", "key"} <= files.keys() <= {"cert", "key", "chain"}:
            raise Wrong.expected(what, each)
        return CertificateFiles(**files)

    return _each(node.value, read)


def _each(nodes: Iterable[yaml.Node], read: Reader[T]) -> tuple[T, ...]:
    """Read every one of some nodes; raises `Wrong` with what is wrong with any."""
    found: list[T] = []
    faults: list[Fault] = []
    for node in nodes:
        try:
            found.append(read(node))
        except Wrong as wrong:
            faults += wrong.faults
    if faults:
        raise Wrong(*faults)
    return tuple(found)


def _mapping(node: yaml.Node, what: str, read: Reader[T]) -> Mapping[str, T]:
    if not isinstance(node, yaml.MappingNode):
        raise Wrong.expected(what, node)
    held, faults = entries(node)
    values: dict[str, T] = {}
    for entry in held:
        try:
            values[entry.name] = read(entry.value)
        except Wrong as wrong:
            faults += (replace(fault, within=entry.name) for fault in wrong.faults)
    if faults:
        raise Wrong(*faults)
    return MappingProxyType(values)
