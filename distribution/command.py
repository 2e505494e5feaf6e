"""The command line of programs that make a file of a wheel."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path


def make_file(description: str, make: Callable[[Path, Path], Path]) -> None:
    """Call `make` with the wheel and the directory in the arguments of this process, and print the path it returns."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("wheel", type=Path, help="a wheel of econed")
    parser.add_argument("directory", type=Path, help="directory for the result")
    options = parser.parse_args(sys.argv[1:])
    options.directory.mkdir(parents=True, exist_ok=True)
    print(make(options.wheel.resolve(), options.directory))  # noqa: T201  it is a command


def source_date() -> int:
    """Return the time that is written into packages, in seconds since the epoch (SOURCE_DATE_EPOCH)."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
