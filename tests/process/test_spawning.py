"""What a worker's process is started with."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from twisted.logger import Logger

from econed.process.spawning import Spawner, with_econed_importable


class Reactor:
    """Starts nothing, and records what it should start."""

    def spawnProcess(self, protocol: Any, path: str, argv: Any, environ: dict[str, str], **_: Any) -> None:
        """Keep the environment."""
        self.environ = environ


@pytest.mark.parametrize(
    ("own", "expected"), [({}, "1"), ({"MALLOC_ARENA_MAX": "4"}, "4")], ids=["default", "set by the unit"]
)
def test_workers_have_one_malloc_arena_unless_the_environment_says_otherwise(
    own: dict[str, str], expected: str
) -> None:
    """Their threads parse large documents: with glibc's default each thread would keep the memory of its largest."""
    reactor: Any = Reactor()
    Spawner(reactor, {"PATH": "/usr/bin", **own}, Logger())((), None)  # type: ignore[arg-type]
    assert reactor.environ["MALLOC_ARENA_MAX"] == expected
    assert reactor.environ["PATH"] == "/usr/bin"


def test_python_imports_the_econed_of_the_supervisor() -> None:
    """Without site packages, only PYTHONPATH leads to it."""
    command = [sys.executable, "-S", "-P", "-c", "import econed; print(econed.__file__)"]
    environ = with_econed_importable({}, installed=())
    output = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=True).stdout
    assert os.path.samefile(output.strip(), sys.modules["econed"].__file__ or "")


def test_an_installed_econed_is_found_without_pythonpath() -> None:
    """Before the standard library its directory could hide modules of the same name."""
    environ = {"PATH": "/usr/bin"}
    assert (
        with_econed_importable(environ, "/usr/lib/python3/dist-packages", ["/usr/lib/python3/dist-packages"]) == environ
    )


def test_the_directory_of_econed_comes_after_those_of_pythonpath() -> None:
    """The environment of the supervisor takes precedence."""
    assert with_econed_importable({"PYTHONPATH": "/a:/b"}, "/c", [])["PYTHONPATH"] == "/a:/b:/c"
