"""econed with a notebook: the elements of oned's documents that it reads go to the file that ECONED_NOTES names.

For the tests: `econe.tac` with one thing added. ECONE_CONF names the configuration, ECONED_LISTEN where to listen,
ECONED_INTERVAL the seconds from one round of the reconciler to the next, if they are to be other than always. While
there is a file ECONED_FAILS_WITH, every reading fails, with what is in that file as the message of the exception.
"""

import os
from pathlib import Path

from twisted.application.service import Application

from econed import reconciler, tap

seen: set[str] = set()
notes = Path(os.environ["ECONED_NOTES"])
failing = Path(os.environ["ECONED_FAILS_WITH"]) if "ECONED_FAILS_WITH" in os.environ else None


def note(element: str) -> None:
    """Write an element down the first time that it is read."""
    if failing is not None and failing.exists():
        raise RuntimeError(failing.read_text("utf-8"))
    if element not in seen:
        seen.add(element)
        with notes.open("a", encoding="utf-8") as file:
            file.write(f"{element}\n")


if "ECONED_INTERVAL" in os.environ:
    reconciler.INTERVAL = float(os.environ["ECONED_INTERVAL"])

options = tap.Options()
options.parseOptions(["--config", os.environ["ECONE_CONF"], "--listen", os.environ["ECONED_LISTEN"]])

application = Application("econe")
tap.makeService(options, note=note).setServiceParent(application)
