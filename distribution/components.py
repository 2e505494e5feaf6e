"""Write the list of the components of the packages (SBOM, in CycloneDX's format): econed and the bundled libraries.

Usage: `python -m distribution.components WHEEL DIRECTORY`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from distribution.environment import install, run, system_python


def write(wheel: Path, target: Path) -> Path:
    """Write the list into a directory and return its path. The components are installed as in a package."""
    path = target / f"econed-{wheel.name.split('-')[1]}.cdx.json"
    epoch = os.environ.get("SOURCE_DATE_EPOCH", str(int(time.time())))
    options = ("--output-reproducible", "--output-format", "JSON", "--output-file", path)
    with TemporaryDirectory() as directory:
        environment = Path(directory, "environment")
        install(system_python(), wheel, environment)
        for local_path in environment.rglob("econed-*.dist-info/direct_url.json"):
            local_path.unlink()
        command = (sys.executable, "-m", "cyclonedx_py", "environment", *options, environment / "bin/python3")
        run(*command, env={**os.environ, "SOURCE_DATE_EPOCH": epoch})
    return path


def main(arguments: Sequence[str]) -> None:
    """Write the list and print its path."""
    parser = argparse.ArgumentParser(description="Write the list of the components of econed's packages.")
    parser.add_argument("wheel", type=Path, help="a wheel of econed")
    parser.add_argument("directory", type=Path, help="directory for the list")
    options = parser.parse_args(arguments)
    print(write(options.wheel.resolve(), options.directory))  # noqa: T201  it is a command


if __name__ == "__main__":
    main(sys.argv[1:])
