"""econed that writes the elements of oned's documents that it reads to the file ECONED_NOTES, for tests.

ECONE_CONF is the path of the configuration, ECONED_LISTEN the endpoint to listen on, ECONED_INTERVAL the time between
two rounds of the reconciler in seconds, if not the default. While the file ECONED_FAILS_WITH exists, reading any
element fails with the text of that file as the message.
"""

import os
from pathlib import Path

from twisted.application.service import Application

from econed import reconciler, tap

recorded: set[str] = set()
elements_path = Path(os.environ["ECONED_NOTES"])
failing = Path(os.environ["ECONED_FAILS_WITH"]) if "ECONED_FAILS_WITH" in os.environ else None


def record_element(element: str) -> None:
    """Write an element to the file when it is read for the first time."""
    if failing is not None and failing.exists():
        raise RuntimeError(failing.read_text("utf-8"))
    if element not in recorded:
        recorded.add(element)
        with elements_path.open("a", encoding="utf-8") as file:
            file.write(f"{element}\n")


if "ECONED_INTERVAL" in os.environ:
    reconciler.INTERVAL = float(os.environ["ECONED_INTERVAL"])

options = tap.Options()
options.parseOptions(["--config", os.environ["ECONE_CONF"], "--listen", os.environ["ECONED_LISTEN"]])

application = Application("econe")
tap.makeService(options, on_read=record_element).setServiceParent(application)
