"""Checks of the commands that the documentation shows, by program."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs, urlsplit

import botocore.session
from botocore import xform_name

from econed import __version__
from econed.catalogue import all_actions
from econed.cli.options import make_parser
from econed.services import SERVICES
from tests.pages import opennebula_cli
from tests.pages.opennebula_cli import InvalidCommand
from tests.pages.scripts import ROOT

UNITS: Final = frozenset(("econe", *(path.name for path in (ROOT / "etc/systemd").glob("econe.*"))))
OTHER_UNITS: Final = frozenset(
    (
        *(f"opennebula-{name}*" for name in ("fireedge", "sunstone", "flow", "gate", "form", "ks")),
        *("opennebula-econe", "nginx", "haproxy", "lighttpd"),
    )
)
UNIT_VERBS: Final = frozenset(
    ("start", "stop", "reload", "restart", "try-restart", "enable", "disable", "status", "edit", "kill")
)
OTHER_TOOLS: Final = frozenset(
    (
        *("[", "apt", "awk", "bash", "cat", "cd", "chown", "dnf", "docker", "dpkg", "echo", "export", "grep", "head"),
        *("haproxy", "ip", "jq", "lighttpd", "lighty-enable-mod", "logrotate", "mkdir", "mv", "nginx", "openssl"),
        *("podman", "printf", "pstree", "rm", "sed", "set", "sha256sum", "sort", "sslscan", "sysctl"),
        *("systemd-tmpfiles", "testssl", "twistd", "umask", "uniq"),
    )
)
"""Tools of the system, whose arguments are not checked here."""

ADMIN_PATHS: Final = frozenset(("/healthz", "/readyz", "/metrics"))
_PLACEHOLDERS: Final = frozenset(("…", "COMMAND"))


@dataclass(frozen=True)
class Written:
    """A command as a page shows it.

    One in a sentence may only name a command, without its arguments. `context` is the text around it.
    """

    words: Sequence[str]
    context: str
    is_in_sentence: bool


def check(command: Written) -> None:
    """Raise `InvalidCommand` if a command cannot succeed as it is written."""
    program = command.words[0].rpartition("/")[2]
    for version in re.findall(r"\beconed[-_](\d+\.\d+\.\d+)", " ".join(command.words)):
        if version != __version__:
            raise InvalidCommand(f"this is version {__version__}, not {version}")
    if program in opennebula_programs():
        _check_opennebula(command)
    elif program in CHECKS:
        CHECKS[program](command)
    elif program not in OTHER_TOOLS:
        raise InvalidCommand(f"{program} is not a known program")


@cache
def opennebula_programs() -> frozenset[str]:
    """Return the names of the programs of OpenNebula's CLI."""
    return frozenset(program for version in opennebula_cli.VERSIONS for program in opennebula_cli.commands(version))


def is_command(text: str) -> bool:
    """Return whether the text in a sentence is a command with arguments, of a program whose arguments are checked."""
    program, _, rest = text.partition(" ")
    return bool(rest) and (program in CHECKS or program in opennebula_programs())


def _check_opennebula(command: Written) -> None:
    """A command that only one version has must say so: (7.x), (5.12)."""
    failures = {}
    for version in opennebula_cli.VERSIONS:
        try:
            opennebula_cli.check(version, command.words, is_complete=not command.is_in_sentence)
        except InvalidCommand as failure:
            failures[version] = failure
    valid = set(opennebula_cli.VERSIONS) - failures.keys()
    if not valid or (failures and not any(version.replace("7.4", "7.x") in command.context for version in valid)):
        raise InvalidCommand("; ".join(map(str, failures.values())))


def _check_econe_server(command: Written) -> None:
    arguments = [word for word in command.words[1:] if not word.startswith("[")]
    if _PLACEHOLDERS & set(command.words):
        return
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            make_parser().parse_args(arguments)
    except SystemExit as exit_status:
        raise InvalidCommand(errors.getvalue()) from exit_status


def _check_systemctl(command: Written) -> None:
    verb, *units = (word for word in command.words[1:] if not word.startswith("-"))
    if verb not in UNIT_VERBS and verb != "daemon-reload":
        raise InvalidCommand(f"systemctl has no verb {verb}")
    if unknown := set(units) - UNITS - OTHER_UNITS:
        raise InvalidCommand(f"there are no units {unknown}")


def _check_journalctl(command: Written) -> None:
    if unknown := {unit for option, unit in pairwise(command.words) if option == "-u"} - UNITS:
        raise InvalidCommand(f"there are no units {unknown}")


def _check_curl(command: Written) -> None:
    for url in (word for word in command.words if "://" in word):
        parts = urlsplit(url)
        action = parse_qs(parts.query).get("Action", [None])[0]
        if action is None and parts.path not in ADMIN_PATHS | {"/"}:
            raise InvalidCommand(f"econed has no path {parts.path}")
        if action is not None and action not in {known.name for known in all_actions()}:
            raise InvalidCommand(f"there is no action {action}")


def _check_aws(command: Written) -> None:
    if command.is_in_sentence and command.words[1:] in {(service.name,) for service in SERVICES}:
        return
    service, operation = command.words[1:3]
    name = "".join(word.capitalize() for word in operation.split("-"))
    if (service, operation) == ("ec2", "wait"):
        return
    if (service, name) not in {(action.service.name, action.name) for action in all_actions()}:
        raise InvalidCommand(f"there is no action {service} {name}")
    if command.is_in_sentence and not command.words[3:]:
        return
    if missing := _required_options(service, name) - set(command.words):
        raise InvalidCommand(f"aws requires {', '.join(sorted(missing))}")


def _required_options(service: str, action: str) -> Set[str]:
    """Return the options without which the AWS CLI sends no request."""
    shape = botocore.session.get_session().get_service_model(service).operation_model(action).input_shape
    members = () if shape is None else shape.required_members
    options = {f"--{xform_name(member, '-')}" for member in members}
    return options - {"--min-count", "--max-count"}  # the CLI has --count for both, which is 1 by default


def _check_make(command: Written) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    if unknown := {word for word in command.words[1:] if "=" not in word} - set(targets) - _PLACEHOLDERS:
        raise InvalidCommand(f"the Makefile has no targets {unknown}")


def _check_python(command: Written) -> None:
    module = command.words[command.words.index("-m") + 1]
    if importlib.util.find_spec(module) is None:
        raise InvalidCommand(f"there is no module {module}")


def _check_copy(command: Written) -> None:
    """The files that econed installs in share/econed are those of `etc/`."""
    *sources, _ = (word.rpartition("/share/econed/")[2] for word in command.words[1:] if not word.startswith("-"))
    files = [name for name in sources if re.fullmatch(r"[a-z][\w.-]*/.*|econe.*", name)]
    if missing := [name for name in files if not (ROOT / "etc" / name).is_file()]:
        raise InvalidCommand(f"there are no files {missing}")


def _check_pip(command: Written) -> None:
    files = [word for word in command.words if word.startswith("requirements/")]
    if missing := [name for name in files if not (ROOT / name).is_file()]:
        raise InvalidCommand(f"there are no files {missing}")


CHECKS: Final[Mapping[str, Callable[[Written], None]]] = MappingProxyType(
    {
        "econe-server": _check_econe_server,
        "systemctl": _check_systemctl,
        "install": _check_copy,
        "journalctl": _check_journalctl,
        "cp": _check_copy,
        "curl": _check_curl,
        "aws": _check_aws,
        "make": _check_make,
        "python": _check_python,
        "python3": _check_python,
        "pip": _check_pip,
    }
)
