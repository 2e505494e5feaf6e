"""Pinned requirements, the plugin of twistd, and econe.tac; tests/packages tests the packages."""

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
    """Return the pinned versions by name in a requirements file and the files that it includes."""
    pinned: dict[str, str] = {}
    for line in (ROOT / "requirements" / name).read_text("utf-8").splitlines():
        if line.startswith("-r "):
            pinned |= pins(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            pin = PIN.fullmatch(line)
            assert pin, f"{name}: {line!r} pins nothing"
            pinned[canonicalize_name(pin[1])] = pin[2]
    return pinned


def requirements(*extras: str) -> list[Requirement]:
    """Return the requirements in setup.cfg, with some of its extras."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    texts = [setup["options"]["install_requires"], *(setup["options.extras_require"][extra] for extra in extras)]
    return [Requirement(line) for line in "\n".join(texts).splitlines() if line]


def unmet(required: list[Requirement], name: str) -> list[str]:
    """Return the requirements that no pin of a file satisfies."""
    pinned = pins(name)
    return [
        str(requirement)
        for requirement in required
        if not requirement.specifier.contains(pinned.get(canonicalize_name(requirement.name), "0"))
    ]


# Pins


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("daemon.txt", ()),
        ("demo.txt", ()),
        ("test.txt", ("test", "lint", "release")),
        ("benchmarks.txt", ("benchmarks",)),
        ("botocore-floor.txt", ()),
    ],
)
def test_the_pins_satisfy_the_requirements_in_setup_cfg(name: str, extras: tuple[str, ...]) -> None:
    """An installation with --no-deps is then complete."""
    assert unmet(requirements(*extras), name) == []


def test_the_requirements_of_the_demo_include_its_clients() -> None:
    """These are boto3, and the AWS CLI for `make serve`."""
    assert {"boto3", "awscli"} <= pins("demo.txt").keys()


def test_botocore_is_tested_at_both_ends_of_its_range() -> None:
    """One pin is the lower bound itself. There is no upper bound: CI tests with the newest one, which is not pinned."""
    (botocore,) = (requirement for requirement in requirements() if requirement.name == "botocore")
    bounds = {specifier.operator: specifier.version for specifier in botocore.specifier}
    assert bounds == {">=": pins("botocore-floor.txt")["botocore"]}
    assert "botocore" in (ROOT / "requirements/botocore-newest.txt").read_text("ascii").splitlines()
    commands = (ROOT / ".ci/run").read_text("ascii").splitlines()
    assert {"make test-botocore-floor", "make test-botocore-newest"} <= set(commands)


# The plugin and the application


def test_looking_for_plugins_imports_neither_econed_nor_a_reactor(tmp_path: Path) -> None:
    """Twistd reads all plugins at every start, for any service."""
    script = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "assert not [name for name in sys.modules if name == 'twisted.internet.reactor' or name.startswith('econed')]"
    )
    plugin = ROOT / "twisted/plugins/econe_plugin.py"
    subprocess.run([sys.executable, "-c", script, plugin], check=True, cwd=tmp_path)


class RecordedService(Service):
    """A service that records its configuration."""

    def __init__(self, config: str) -> None:
        self.config = config


class ConfigOption(Options):
    """The option that econe.tac sets."""

    optParameters = [["config", "c", None, ""]]  # noqa: RUF012  declared as Twisted requires


def test_the_tac_file_creates_the_daemon_with_the_file_named_by_econe_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses the same options and makeService as the plugin."""
    tap = ModuleType("econed.tap")
    vars(tap).update(Options=ConfigOption, makeService=lambda options: RecordedService(options["config"]))
    monkeypatch.setitem(sys.modules, "econed.tap", tap)
    monkeypatch.setattr("econed.tap", tap, raising=False)
    monkeypatch.setenv("ECONE_CONF", "/etc/one/econe.conf")
    application = runpy.run_path(str(ROOT / "econe.tac"))["application"]
    (service,) = IServiceCollection(application)
    assert IService(application).name == "econe"
    assert service.config == "/etc/one/econe.conf"


def test_the_tac_file_requires_econe_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is a clear message, not a KeyError."""
    monkeypatch.setitem(sys.modules, "econed.tap", ModuleType("econed.tap"))
    monkeypatch.setattr("econed.tap", ModuleType("econed.tap"), raising=False)
    monkeypatch.delenv("ECONE_CONF", raising=False)
    with pytest.raises(SystemExit, match="set ECONE_CONF"):
        runpy.run_path(str(ROOT / "econe.tac"))
