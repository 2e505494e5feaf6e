"""What is pinned, and how twistd finds the daemon; tests/packages has what is handed out."""

from __future__ import annotations

import configparser
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from twisted.application.service import IService, IServiceCollection, Service
from twisted.python.usage import Options

ROOT = Path(__file__).parent.parent.parent
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")


def pins(name: str) -> dict[str, str]:
    """Return the versions by name that a requirements file pins, with the files that it takes in."""
    found: dict[str, str] = {}
    for line in (ROOT / "requirements" / name).read_text("utf-8").splitlines():
        if line.startswith("-r "):
            found |= pins(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            pin = PIN.fullmatch(line)
            assert pin, f"{name}: {line!r} pins nothing"
            found[canonicalize_name(pin[1])] = pin[2]
    return found


def wanted(*extras: str) -> list[Requirement]:
    """Return what setup.cfg asks for, with some of its extras."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    return [Requirement(line) for line in "\n".join(texts).splitlines() if line]


def unmet(requirements: list[Requirement], name: str) -> list[str]:
    """Return the requirements that no pin of a file meets."""
    pinned = pins(name)
    return [
        str(each) for each in requirements if not each.specifier.contains(pinned.get(canonicalize_name(each.name), "0"))
    ]


# What is pinned


@pytest.mark.parametrize(
    ("name", "extras"),
    [("daemon.txt", ()), ("demo.txt", ()), ("test.txt", ("test", "lint")), ("botocore-floor.txt", ())],
)
def test_the_pins_meet_what_setup_cfg_asks_for(name: str, extras: tuple[str, ...]) -> None:
    """So that --no-deps leaves nothing out."""
    assert unmet(wanted(*extras), name) == []


def test_the_demo_brings_the_clients_that_drive_it() -> None:
    """boto3, and the aws cli for `make serve`."""
    assert {"boto3", "awscli"} <= pins("demo.txt").keys()


def test_botocore_is_tested_at_both_ends_of_its_range() -> None:
    """The floor is the lower bound itself; the other end is in the highest series that is allowed."""
    (botocore,) = (each for each in wanted() if each.name == "botocore")
    bounds = {each.operator: each.version for each in botocore.specifier}
    assert pins("botocore-floor.txt")["botocore"] == bounds[">="]
    major, minor = bounds["<"].split(".")
    assert pins("test.txt")["botocore"].startswith(f"{major}.{int(minor) - 1}.")


# The plugin and the application


def test_looking_for_plugins_imports_neither_econed_nor_a_reactor(tmp_path: Path) -> None:
    """All plugins are read whenever twistd runs, for whatever."""
    script = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "assert not [name for name in sys.modules if name == 'twisted.internet.reactor' or name.startswith('econed')]"
    )
    plugin = ROOT / "twisted/plugins/econe_plugin.py"
    subprocess.run([sys.executable, "-c", script, plugin], check=True, cwd=tmp_path)


class RecordedService(Service):
    """A service that knows which configuration it was made for."""

    def __init__(self, config: str) -> None:
        self.config = config


class ConfigOption(Options):
    """The one option that econe.tac gives."""

    optParameters = [["config", "c", None, ""]]  # noqa: RUF012  Twisted's way to declare them


def test_the_tac_makes_the_daemon_from_the_file_that_econe_conf_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same options and the same makeService as the plugin."""
    tap = ModuleType("econed.tap")
    vars(tap).update(Options=ConfigOption, makeService=lambda options: RecordedService(options["config"]))
    monkeypatch.setitem(sys.modules, "econed.tap", tap)
    monkeypatch.setattr("econed.tap", tap, raising=False)
    monkeypatch.setenv("ECONE_CONF", "/etc/one/econe.conf")
    application = runpy.run_path(str(ROOT / "econe.tac"))["application"]
    (service,) = IServiceCollection(application)
    assert IService(application).name == "econe"
    assert service.config == "/etc/one/econe.conf"


def test_the_tac_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a KeyError."""
    monkeypatch.setitem(sys.modules, "econed.tap", ModuleType("econed.tap"))
    monkeypatch.setattr("econed.tap", ModuleType("econed.tap"), raising=False)
    monkeypatch.delenv("ECONE_CONF", raising=False)
    with pytest.raises(SystemExit, match="set ECONE_CONF"):
        runpy.run_path(str(ROOT / "econe.tac"))
