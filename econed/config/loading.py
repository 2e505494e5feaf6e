"""The configuration of econed: econe.conf as OpenNebula administrators have it, read once, before anything starts.

`load` returns the `Settings` with what deserves a warning, or raises one `ConfigError` with everything that is wrong,
each with file, line and key and what was expected. The keys are those of OpenNebula's own econe-server (OpenNebula
5.12, "EC2 Server Configuration") and some of ours; docs/configuration.md has them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import yaml

from econed.config import values
from econed.config.settings import Settings
from econed.config.values import Fault, Wrong

TEMPLATE_DIRECTORY = "ec2query_templates"
"""Where the files of instance types are, beside econe.conf."""

_ALIASES: Mapping[str, str] = MappingProxyType({"elastic_ips_vnet": "elasticips_vnet_id"})


@dataclass(frozen=True)
class ConfigProblem:
    """Something about the configuration that a person should know: where it stands, and what about it.

    `place` is a file or an environment variable, `line` counts from 1, `key` is the setting's name; the last two are
    None where there is no line or no one key.
    """

    place: str
    text: str
    line: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        where = self.place if self.line is None else f"{self.place}:{self.line}"
        return ": ".join(part for part in (where, self.key, self.text) if part)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` is everything that is wrong with it, in the order of the file."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def default_path(environ: Mapping[str, str]) -> Path:
    """Return where econe.conf is when nobody says: below ONE_LOCATION, or in /etc/one."""
    location = environ.get("ONE_LOCATION")
    return Path(location, "etc/econe.conf") if location else Path("/etc/one/econe.conf")


@dataclass(frozen=True)
class Source:
    """The text of econe.conf, and where it stands: what processes are given that are to agree on one configuration."""

    path: Path
    text: str


def read(path: Path) -> Source:
    """Return econe.conf as it stands at `path`; raises `ConfigError` if it cannot be read."""
    try:
        return Source(path, path.read_text("utf-8"))
    except OSError as error:
        problem = ConfigProblem(str(path), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        problem = ConfigProblem(str(path), "is not UTF-8 text")
    raise ConfigError((problem,))


def load(where: Path | Source, environ: Mapping[str, str]) -> tuple[Settings, tuple[ConfigProblem, ...]]:
    """Read econe.conf, or what was read of it, and ONE_XMLRPC from `environ`; return the settings, and warnings.

    Raises `ConfigError` with everything that is wrong.
    """
    source = read(where) if isinstance(where, Path) else where
    found = _Problems(str(source.path))
    given = _read_keys(_compose(source.text, found), found)
    override = environ.get("ONE_XMLRPC")
    if override:
        given["one_xmlrpc"], faults = values.urls_of(override)
        found.problems += (ConfigProblem("ONE_XMLRPC", fault) for fault in faults)
    if given.get("use_file_templates") and not given.get("instance_types"):
        text = "expected instance_types, with a template for each, where this is true"
        found.problems.append(ConfigProblem(found.place, text, key="use_file_templates"))
    found.demand_none()
    settings = Settings(**given)
    if isinstance(settings.workers, values.Automatic):
        settings = replace(settings, workers=min(settings.workers, settings.one_calls))  # each needs one
    found.problems += _impossible(settings, found.place)
    found.demand_none()
    return settings, (*found.warnings, *_contradictions(settings, found.place))


class _Problems:
    """What came up while one file was read."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.problems: list[ConfigProblem] = []
        self.warnings: list[ConfigProblem] = []

    def problem(self, fault: Fault, key: str | None = None) -> None:
        name = ".".join(part for part in (key, fault.within) if part)
        self.problems.append(ConfigProblem(self.place, fault.text, values.line_of(fault.node), name or None))

    def demand_none(self) -> None:
        """Raise `ConfigError` with the problems, if there are any."""
        if self.problems:
            raise ConfigError(tuple(sorted(self.problems, key=lambda problem: problem.line or 0)))

    def warning(self, node: yaml.Node, key: str, text: str) -> None:
        self.warnings.append(ConfigProblem(self.place, text, values.line_of(node), key))


def _compose(text: str, found: _Problems) -> yaml.Node | None:
    """Return the file as YAML nodes, which runs nothing and expands nothing; None if it is empty or cannot be read."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        found.problems.append(ConfigProblem(found.place, f"is not YAML: {error.problem or error.context}", line))
    except yaml.YAMLError as error:
        found.problems.append(ConfigProblem(found.place, f"is not YAML: {str(error).splitlines()[0]}"))
    except RecursionError:
        found.problems.append(ConfigProblem(found.place, "is not YAML: it is nested too deeply"))
    return None


def _read_keys(root: yaml.Node | None, found: _Problems) -> dict[str, Any]:
    """Return the settings that the file gives, by name."""
    if root is None or values.is_empty(root):
        return {}
    if not isinstance(root, yaml.MappingNode):
        found.problem(Fault(root, f"expected keys with values, got {values.describe(root)}"))
        return {}
    readers = _readers()
    entries, faults = values.entries(root)
    for fault in faults:
        found.problem(fault)
    given: dict[str, Any] = {}
    said: dict[str, values.Entry] = {}
    for entry in entries:
        name = _ALIASES.get(entry.name, entry.name)
        if name not in readers:
            found.warning(entry.key, entry.name, "unknown key, it has no effect" + _did_you_mean(entry.name, readers))
        elif name in said:
            first = said[name]
            found.problem(Fault(entry.key, f"the same as {first.name} in line {values.line_of(first.key)}"), entry.name)
        else:
            said[name] = entry
            _read_value(entry, name, readers[name], given, found)
    return given


def _read_value(
    entry: values.Entry, name: str, read: values.Reader[Any], given: dict[str, Any], found: _Problems
) -> None:
    """Read one value into `given`; an empty one leaves the default."""
    if values.is_empty(entry.value):
        return
    try:
        given[name] = read(entry.value)
    except Wrong as wrong:
        for fault in wrong.faults:
            found.problem(fault, entry.name)


def _readers() -> Mapping[str, values.Reader[Any]]:
    hints = get_type_hints(Settings, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in (each.name for each in fields(Settings))}


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _impossible(settings: Settings, place: str) -> list[ConfigProblem]:
    """Return what is wrong with settings that are right by themselves and cannot be had together."""
    rules = (
        ("ssl_key", settings.ssl_cert is not None and settings.ssl_key is None, "expected the key of ssl_cert"),
        *(
            (key, settings.ssl_cert is None and getattr(settings, key) not in (None, ()), "expected ssl_cert, too")
            for key in ("ssl_key", "ssl_chain", "ssl_port", "ssl_host", "ssl_sni", "ssl_client_ca")
        ),
        ("ssl_port", _is_one_port(settings), "expected another port than port"),
        (
            "auth",
            settings.auth == "x509" and settings.ssl_client_ca is None and not settings.trusted_proxies,
            "expected ssl_client_ca or trusted_proxies where this is x509: nobody could bring a certificate",
        ),
        ("one_calls", settings.one_calls < settings.workers, "expected at least one for each of the workers"),
    )
    return [ConfigProblem(place, text, key=key) for key, is_so, text in rules if is_so]


def _is_one_port(settings: Settings) -> bool:
    return settings.ssl_port == settings.port and settings.ssl_host in (None, settings.host)


def _contradictions(settings: Settings, place: str) -> tuple[ConfigProblem, ...]:
    """Return warnings about settings that are right by themselves and mean nothing together."""
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
            "has no effect for a name that regions gives to another zone",
        ),
    )
    return tuple(ConfigProblem(place, text, key=key) for key, is_so, text in rules if is_so)
