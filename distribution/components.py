"""Write the list of the components of the packages (SBOM, in CycloneDX's format): econed and the bundled libraries.

Usage: `python -m distribution.components WHEEL DIRECTORY`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from distribution.command import make_file, source_date
from distribution.environment import install, run, system_python


def write(wheel: Path, target: Path) -> Path:
    """Write the list into a directory and return its path. The components are installed as in a package."""
    path = target / f"econed-{wheel.name.split('-')[1]}.cdx.json"
    options = ("--output-reproducible", "--output-format", "JSON", "--output-file", path)
    with TemporaryDirectory() as directory:
        environment = Path(directory, "environment")
        install(system_python(), wheel, environment)
        for local_path in environment.rglob("econed-*.dist-info/direct_url.json"):
            local_path.unlink()
        command = (sys.executable, "-m", "cyclonedx_py", "environment", *options, environment / "bin/python3")
        run(*command, env={**os.environ, "SOURCE_DATE_EPOCH": str(source_date())})
    return path


if __name__ == "__main__":
    make_file("Write the list of the components of econed's packages.", write)
