"""The configuration of econed: econe.conf as OpenNebula administrators have it, read once, before anything starts.

`load` returns the `Settings` with what deserves a warning, or raises one `ConfigError` with everything that is wrong,
each with file, line and key and what was expected. The keys are those of OpenNebula's own econe-server (OpenNebula
5.12, "EC2 Server Configuration") and some of ours; docs/configuration.md has them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_type_hints

import yaml

from econed import config_values as values
from econed.config_values import Fault, Wrong

_LARGEST_ID = 2**31 - 1
TEMPLATE_DIRECTORY = "ec2query_templates"
"""Where the files of instance types are, beside econe.conf."""

_ALIASES: Mapping[str, str] = MappingProxyType({"elastic_ips_vnet": "elasticips_vnet_id"})


@dataclass(frozen=True)
class Finding:
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

    def __init__(self, problems: tuple[Finding, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@dataclass(frozen=True)
class Settings:
    """What econe.conf says. A field is a key; its default is what holds when the key is absent or empty.

    The annotation of a field holds the function that reads it. Ids are OpenNebula's.
    """

    host: Annotated[str, values.host] = "localhost"
    """Name or address to listen on."""
    port: Annotated[int, values.whole(1, 65535)] = 4567
    """TCP port to listen on."""
    ssl_server: Annotated[str | None, values.optional(values.url)] = None
    """URL by which clients reach econed through a proxy; its host and path are then also taken as signed."""
    tmpdir: Annotated[str, values.absolute_path] = "/var/tmp"  # noqa: S108  the default of the Ruby server
    """Directory for images while they are being uploaded; oned has to be able to read it."""
    max_upload: Annotated[int, values.whole(1, 2**50, "bytes")] = 50 * 2**30
    """Most bytes that an uploaded image may have."""
    debug_level: Annotated[int, values.whole(0, 3)] = 2
    """How much is logged: 0 errors, 1 warnings too, 2 what happens, 3 everything."""

    one_xmlrpc: Annotated[str, values.url] = "http://localhost:2633/RPC2"
    """URL of oned's XML-RPC API."""
    one_calls: Annotated[int, values.whole(1, 1000)] = 8
    """Most calls to oned at the same time; oned serves MAX_CONN (15) for all its clients together."""
    one_timeout: Annotated[float, values.seconds(1, 3600)] = 30.0
    """Seconds that a call to oned may take as a whole, waiting for its turn included."""
    one_ca_file: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the certificate authorities to trust for an https one_xmlrpc, in place of the system's."""
    one_max_reply: Annotated[int, values.whole(2**16, 2**32, "bytes")] = 2**28
    """Most bytes that a reply of oned may have."""

    auth: Annotated[
        Literal["ec2"],
        values.one_of(
            "ec2", later={"x509": "X.509 authentication of requests is not supported in this version, use ec2"}
        ),
    ] = "ec2"
    """How clients prove who they are: ec2 is access key and secret key."""
    core_auth: Annotated[Literal["cipher", "x509"], values.one_of("cipher", "x509")] = "cipher"
    """How econed proves to oned in whose name it acts: by oned's driver server_cipher, or server_x509."""

    regions: Annotated[Mapping[str, str], values.urls_by_name] = field(default_factory=lambda: MappingProxyType({}))
    """EC2 endpoint by OpenNebula zone, for the other zones of a federation."""
    cluster_id: Annotated[int | None, values.optional(values.whole(0, _LARGEST_ID))] = None
    """Cluster that instances are kept to; None: any."""
    datastore_id: Annotated[int, values.whole(0, _LARGEST_ID)] = 1
    """Datastore that uploaded images and new volumes go to."""
    describe_with_terminated_instances: Annotated[bool, values.flag] = True
    """Whether DescribeInstances shows instances that ended lately."""
    terminated_instances_expiration_time: Annotated[int, values.whole(0, 10**9, "seconds")] = 900
    """Seconds for which an instance that ended is shown."""
    elasticips_vnet_id: Annotated[int | None, values.optional(values.whole(0, _LARGEST_ID))] = None
    """Virtual network that elastic IPs are taken from; None: there are no elastic IPs."""
    associate_script: Annotated[tuple[str, ...] | None, values.optional(values.command)] = None
    """Command, as an argv, that leads a public address to a private one."""
    disassociate_script: Annotated[tuple[str, ...] | None, values.optional(values.command)] = None
    """Command, as an argv, that undoes associate_script."""
    script_timeout: Annotated[float, values.seconds(1, 40)] = 20.0
    """Seconds that one of these commands may take: SDKs wait for an answer for 60."""
    elastic_ips_per_user: Annotated[int, values.whole(0, 10**6)] = 5
    """Most elastic IPs that a user can have."""
    ebs_fstype: Annotated[str, values.file_system] = "ext3"
    """File system that new volumes get."""

    use_file_templates: Annotated[bool, values.flag] = False
    """Whether instance types are files; otherwise an instance type is an OpenNebula template with EC2_INSTANCE_TYPE."""
    instance_types: Annotated[Mapping[str, str], values.templates_by_type] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Template file by instance type, in TEMPLATE_DIRECTORY beside econe.conf; for use_file_templates."""


def default_path(environ: Mapping[str, str]) -> Path:
    """Return where econe.conf is when nobody says: below ONE_LOCATION, or in /etc/one."""
    location = environ.get("ONE_LOCATION")
    return Path(location, "etc/econe.conf") if location else Path("/etc/one/econe.conf")


def load(path: Path, environ: Mapping[str, str]) -> tuple[Settings, tuple[Finding, ...]]:
    """Read econe.conf at `path` and ONE_XMLRPC from `environ`; return the settings, and warnings about them.

    Raises `ConfigError` with everything that is wrong.
    """
    found = _Findings(str(path))
    given = _read_keys(_compose(path, found), found)
    override = environ.get("ONE_XMLRPC")
    if override:
        given["one_xmlrpc"] = override
        if not values.is_url(override):
            text = f"expected {values.A_URL}, got {values.shown(override)}"
            found.problems.append(Finding("ONE_XMLRPC", text))
    if given.get("use_file_templates") and not given.get("instance_types"):
        text = "expected instance_types, with a template for each, where this is true"
        found.problems.append(Finding(found.place, text, key="use_file_templates"))
    if found.problems:
        raise ConfigError(tuple(sorted(found.problems, key=lambda problem: problem.line or 0)))
    settings = Settings(**given)
    return settings, (*found.warnings, *_contradictions(settings, str(path)))


class _Findings:
    """What came up while one file was read."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.problems: list[Finding] = []
        self.warnings: list[Finding] = []

    def problem(self, fault: Fault, key: str | None = None) -> None:
        name = ".".join(part for part in (key, fault.within) if part)
        self.problems.append(Finding(self.place, fault.text, values.line_of(fault.node), name or None))

    def warning(self, node: yaml.Node, key: str, text: str) -> None:
        self.warnings.append(Finding(self.place, text, values.line_of(node), key))


def _compose(path: Path, found: _Findings) -> yaml.Node | None:
    """Return the file as YAML nodes, which runs nothing and expands nothing; None if it is empty or cannot be read."""
    try:
        return yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        found.problems.append(Finding(found.place, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError:
        found.problems.append(Finding(found.place, "is not UTF-8 text"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        found.problems.append(Finding(found.place, f"is not YAML: {error.problem or error.context}", line))
    except yaml.YAMLError as error:
        found.problems.append(Finding(found.place, f"is not YAML: {str(error).splitlines()[0]}"))
    return None


def _read_keys(root: yaml.Node | None, found: _Findings) -> dict[str, Any]:
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
    entry: values.Entry, name: str, read: values.Reader[Any], given: dict[str, Any], found: _Findings
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


def _contradictions(settings: Settings, place: str) -> tuple[Finding, ...]:
    """Return warnings about settings that are right by themselves and mean nothing together."""
    if settings.one_ca_file is not None and not settings.one_xmlrpc.startswith("https:"):
        return (Finding(place, "has no effect, one_xmlrpc is not an https URL", key="one_ca_file"),)
    return ()
