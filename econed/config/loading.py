"""The configuration of econed: OpenNebula's econe.conf and the environment, read once before anything starts.

`load` returns the `Settings` and warnings, or raises one `ConfigError` with every problem: file, line, key, and what
was expected. The keys are those of OpenNebula's own econe-server (OpenNebula 5.12, "EC2 Server Configuration") and some
that only econed has; docs/configuration.md lists them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import yaml

from econed.config import nodes, values
from econed.config.nodes import InvalidValue, NodeProblem
from econed.config.settings import Settings

TEMPLATE_DIRECTORY = "ec2query_templates"
"""Directory beside econe.conf that holds the files of instance types."""

PREFIX = "ECONE_"
"""The variable ECONE_PORT overrides the key `port`, and so on for every key."""

_OTHER_VARIABLES = ("ECONE_CONF",)
"""Variables with this prefix that are no keys: the one for twistd -y."""

_BEGIN_YAML = ("[", "{", "'", '"')
"""The beginning of a variable that is YAML; any other is plain text, such as `::` or `*.example.org`."""

_ALIASES: Mapping[str, str] = MappingProxyType({"elastic_ips_vnet": "elasticips_vnet_id"})


@dataclass(frozen=True)
class ConfigProblem:
    """An error in the configuration, or a warning about it.

    `place` is a file or an environment variable, `line` counts from 1, `key` is the name of the setting. `line` and
    `key` are None if the problem has no line or concerns no single key.
    """

    place: str
    text: str
    line: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        where = self.place if self.line is None else f"{self.place}:{self.line}"
        return ": ".join(part for part in (where, self.key, self.text) if part)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` holds all of its errors, in the order of the file."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def default_path(environ: Mapping[str, str]) -> Path:
    """Return the default path of econe.conf: below ONE_LOCATION, or in /etc/one."""
    location = environ.get("ONE_LOCATION")
    return Path(location, "etc/econe.conf") if location else Path("/etc/one/econe.conf")


@dataclass(frozen=True)
class Source:
    """The text of econe.conf and its path: passed to processes that must use the same configuration."""

    path: Path
    text: str


def read(path: Path, environ: Mapping[str, str]) -> Source:
    """Read econe.conf without parsing it; raises `ConfigError` if it cannot be read.

    It may be missing if `environ` sets a key.
    """
    try:
        return Source(path, path.read_text("utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and any(_key_of(variable) in _readers() for variable in environ):
            return Source(path, "")
        problem = ConfigProblem(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problem = ConfigProblem(str(path), "is not UTF-8 text")
    raise ConfigError((problem,))


def load(where: Path | Source, environ: Mapping[str, str]) -> tuple[Settings, tuple[ConfigProblem, ...]]:
    """Parse econe.conf, and the keys and ONE_XMLRPC in `environ`; return the settings, and warnings.

    Raises `ConfigError` with all problems.
    """
    source = read(where, environ) if isinstance(where, Path) else where
    report = _Report(str(source.path))
    arguments = _read_keys(_compose(source.text, report.place, report.problems), report)
    _read_variables(environ, arguments, report)
    override = environ.get("ONE_XMLRPC")
    if override:
        arguments["one_xmlrpc"], texts = values.urls_in(override)
        report.problems += (ConfigProblem("ONE_XMLRPC", text) for text in texts)
    if arguments.get("use_file_templates") and not arguments.get("instance_types"):
        report.add("use_file_templates", "expected instance_types with a template for each type if this is true")
    report.raise_if_any()
    settings = Settings(**arguments)
    if isinstance(settings.workers, values.AutoCount):
        settings = replace(settings, workers=min(settings.workers, settings.one_calls))  # each needs at least one call
    for key, text in _conflicts(settings):
        report.add(key, text)
    report.raise_if_any()
    ineffective = (ConfigProblem(report.place, text, key=key) for key, text in _ineffective(settings))
    return settings, (*report.warnings, *ineffective)


class _Report:
    """The problems and warnings of one file."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.problems: list[ConfigProblem] = []
        self.warnings: list[ConfigProblem] = []

    def add(self, key: str, text: str) -> None:
        """Add a problem with a setting that has no line of its own."""
        self.problems.append(ConfigProblem(self.place, text, key=key))

    def add_at(self, problem: NodeProblem, key: str | None = None) -> None:
        """Add a problem with a node; `key` is the setting that the node belongs to."""
        name = ".".join(part for part in (key, problem.within) if part)
        self.problems.append(ConfigProblem(self.place, problem.text, nodes.line_of(problem.node), name or None))

    def raise_if_any(self) -> None:
        """Raise `ConfigError` with the problems, if there are any."""
        if self.problems:
            raise ConfigError(tuple(sorted(self.problems, key=lambda problem: problem.line or 0)))

    def warn_at(self, node: yaml.Node, key: str, text: str) -> None:
        """Add a warning about a node."""
        self.warnings.append(ConfigProblem(self.place, text, nodes.line_of(node), key))


def _compose(text: str, place: str, problems: list[ConfigProblem]) -> yaml.Node | None:
    """Return the YAML nodes of a text, which runs and expands nothing; None if it is empty or not YAML."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problems.append(ConfigProblem(place, f"is not YAML: {error.problem or error.context}", line))
    except yaml.YAMLError as error:
        problems.append(ConfigProblem(place, f"is not YAML: {str(error).splitlines()[0]}"))
    except RecursionError:
        problems.append(ConfigProblem(place, "is not YAML: nested too deeply"))
    return None


def _read_keys(root: yaml.Node | None, report: _Report) -> dict[str, Any]:
    """Return the arguments of `Settings` from the file; an empty value leaves the default."""
    if root is None or nodes.is_empty(root):
        return {}
    if not isinstance(root, yaml.MappingNode):
        report.add_at(NodeProblem(root, f"expected keys with values, got {nodes.describe(root)}"))
        return {}
    readers = _readers()
    entries, problems = nodes.entries_of(root)
    for problem in problems:
        report.add_at(problem)
    arguments: dict[str, Any] = {}
    seen: dict[str, nodes.Entry] = {}
    for entry in entries:
        name = _ALIASES.get(entry.name, entry.name)
        if name not in readers:
            report.warn_at(entry.key, entry.name, "unknown key, it has no effect" + _did_you_mean(entry.name, readers))
        elif name in seen:
            text = f"the same as {seen[name].name} in line {nodes.line_of(seen[name].key)}"
            report.add_at(NodeProblem(entry.key, text), entry.name)
        else:
            seen[name] = entry
            _read_value(entry, name, readers[name], arguments, report)
    return arguments


def _read_value(
    entry: nodes.Entry, name: str, read: values.Reader[Any], arguments: dict[str, Any], report: _Report
) -> None:
    """Read one value into `arguments`; an empty value leaves the default."""
    if nodes.is_empty(entry.value):
        return
    try:
        arguments[name] = read(entry.value)
    except InvalidValue as error:
        for problem in error.problems:
            report.add_at(problem, entry.name)


def _read_variables(environ: Mapping[str, str], arguments: dict[str, Any], report: _Report) -> None:
    """Read the keys in the environment into `arguments`; an empty variable leaves the value of the file."""
    readers = _readers()
    for variable in sorted(environ):
        name = _key_of(variable)
        if name is None or not environ[variable].strip():
            continue
        if name not in readers:
            text = "unknown key, it has no effect" + _did_you_mean(name, readers)
            report.warnings.append(ConfigProblem(variable, text))
            continue
        text = environ[variable].strip()
        is_yaml = text.startswith(_BEGIN_YAML)
        node = _compose(text, variable, report.problems) if is_yaml else nodes.plain(text)
        try:
            if node is not None and not nodes.is_empty(node):
                arguments[name] = readers[name](node)
        except InvalidValue as error:
            report.problems += (ConfigProblem(variable, item.text, key=item.within or None) for item in error.problems)


def _key_of(variable: str) -> str | None:
    """Return the name of the key that a variable of the environment would set."""
    if variable in _OTHER_VARIABLES or not variable.startswith(PREFIX) or variable != variable.upper():
        return None
    return variable.removeprefix(PREFIX).lower()


def _readers() -> Mapping[str, values.Reader[Any]]:
    hints = get_type_hints(Settings, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(Settings)}


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""


def _conflicts(settings: Settings) -> list[tuple[str, str]]:
    """Return key and text of errors in the combination of settings that are valid separately."""
    rules = (
        ("ssl_key", settings.ssl_cert is not None and settings.ssl_key is None, "expected the key of ssl_cert"),
        *(
            (key, settings.ssl_cert is None and getattr(settings, key) not in (None, ()), "expected ssl_cert as well")
            for key in ("ssl_key", "ssl_chain", "ssl_port", "ssl_host", "ssl_sni", "ssl_client_ca")
        ),
        ("ssl_port", _has_same_ports(settings), "expected a port that differs from port"),
        (
            "auth",
            settings.auth == "x509" and settings.ssl_client_ca is None and not settings.trusted_proxies,
            "expected ssl_client_ca or trusted_proxies for x509, otherwise no client has a certificate",
        ),
        ("one_calls", settings.one_calls < settings.workers, "expected at least one for each of the workers"),
    )
    return [(key, text) for key, is_violated, text in rules if is_violated]


def _has_same_ports(settings: Settings) -> bool:
    return settings.ssl_port == settings.port and settings.ssl_host in (None, settings.host)


def _ineffective(settings: Settings) -> list[tuple[str, str]]:
    """Return key and text of warnings about valid settings that others leave without effect."""
    rules = (
        (
            "one_ca_file",
            settings.one_ca_file is not None and not any(url.startswith("https:") for url in settings.one_xmlrpc),
            "has no effect, one_xmlrpc is not an https URL",
        ),
        (
            "ssl_client_ca",
            settings.ssl_client_ca is not None and settings.auth != "x509",
            "has no effect, auth is not x509",
        ),
        (
            "region_names",
            not settings.regions.keys().isdisjoint(settings.region_names),
            "has no effect for a name that regions assigns to another zone",
        ),
    )
    return [(key, text) for key, is_ineffective, text in rules if is_ineffective]
