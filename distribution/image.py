"""The files of the container image: Containerfile runs this in its build stage.

Usage: `python -m distribution.image WHEEL DIRECTORY`, in a virtual environment of the Python that the image has at the
same path. DIRECTORY is created, and becomes the root directory of the image above its base.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from distribution.environment import SystemPython, create


def main(arguments: Sequence[str]) -> None:
    """Create the environment with econed below a directory."""
    parser = argparse.ArgumentParser(prog="distribution.image", description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(arguments)
    python = SystemPython(Path(sys.base_prefix, "bin/python3"), sys.version_info.minor)
    create(options.directory, python, options.wheel.resolve(), int(time.time()))


if __name__ == "__main__":
    main(sys.argv[1:])
