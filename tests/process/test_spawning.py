"""What a worker's process is started with."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.logger import Logger

from econed.process.spawning import Spawner


class Reactor:
    """Starts nothing, and keeps what it was told to start."""

    def spawnProcess(self, protocol: Any, path: str, argv: Any, environ: dict[str, str], **_: Any) -> None:
        """Keep the environment."""
        self.environ = environ


@pytest.mark.parametrize(("own", "said"), [({}, "1"), ({"MALLOC_ARENA_MAX": "4"}, "4")], ids=["as is", "by the unit"])
def test_workers_keep_no_arena_for_each_thread_unless_it_is_told_to(own: dict[str, str], said: str) -> None:
    """Their threads parse large documents: with glibc's default the memory of each stays as large as its largest."""
    reactor: Any = Reactor()
    Spawner(reactor, {"PATH": "/usr/bin", **own}, Logger())((), None)  # type: ignore[arg-type]
    assert reactor.environ["MALLOC_ARENA_MAX"] == said
    assert reactor.environ["PATH"] == "/usr/bin"
