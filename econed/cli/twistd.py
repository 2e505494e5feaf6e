"""twistd in this Python interpreter, since its script may be anywhere: `python -m econed.cli.twistd`."""

from __future__ import annotations

import sys

from twisted.scripts.twistd import run

if __name__ == "__main__":
    sys.argv[0] = "twistd"
    run()
