"""What every row of the benchmarks uses: the cloud, an econed in front of it, clients, and how often to measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from benchmarks.client import EC2Client
from benchmarks.clouds import Cloud
from benchmarks.econed import Econed, running_econed
from benchmarks.furniture import User
from benchmarks.series import Series
from benchmarks.signing import Keys

Figures: TypeAlias = dict[str, object]
"""Numbers by name, for the file of results: summaries of series, or nested figures."""


@dataclass(frozen=True)
class Compared:
    """The number of a row that is compared with its goals, and its unit."""

    value: float
    unit: str


class NotMeasured(Exception):
    """A row cannot be measured in this cloud, for the reason given."""


@dataclass(frozen=True)
class Outcome:
    """The result of a row: what others do, what econed does, and what is compared with the goals."""

    raw: Figures
    econed: Figures
    compared: Compared | None = None


@dataclass(frozen=True)
class Effort:
    """How often and how long to measure."""

    rounds: int = 7
    """Measurements of each thing."""
    launch_rounds: int = 3
    """Measurements of launches of many instances, which take long on a real oned."""
    rate_rounds: int = 3
    """Runs of wrk for each thing."""
    rate_seconds: int = 5
    """The duration of each run in whole seconds, as wrk takes it."""
    warm_up_seconds: int = 2
    """The duration of the run of wrk before those that are measured, in whole seconds."""
    quiet_seconds: float = 3.0
    """How long to measure what goes on without load, or to wait until a new process is idle."""
    launched: int = 200
    """Instances of a launch of many."""
    upload_bytes: int = 256 << 20
    """The size of the uploaded image."""
    upload_rounds: int = 3
    """Uploads of it."""
    ended: int = 100_000
    """Ended machines beside the running ones."""
    paged: int = 0
    """Running machines that are listed in pages; 0 for none."""


@dataclass(frozen=True)
class Bench:
    """The cloud of a row, and how to measure in it."""

    cloud: Cloud
    effort: Effort
    report: Callable[[str], None]
    sandbox: Callable[[], AbstractContextManager[Cloud]] | None = None
    """Runs another, new sandbox; None if the cloud is a real oned."""

    @contextmanager
    def econed(self, **settings: object) -> Iterator[Econed]:
        """Run an econed in front of the cloud, with further settings, for the duration of the block."""
        elastic = {"elasticips_vnet_id": self.cloud.furniture.elastic_network}
        conf = {**elastic, **settings}
        with running_econed(self.cloud.directory, self.cloud.url, self.cloud.auth_file, conf) as econed:
            yield econed

    def client(self, econed: Econed) -> EC2Client:
        """Return a client with the keys of the user of the machines."""
        return EC2Client(econed.url, keys(self.cloud.furniture.user))

    def other_client(self, econed: Econed) -> EC2Client:
        """Return a client with the keys of the other user."""
        return EC2Client(econed.url, keys(self.cloud.furniture.other))

    @contextmanager
    def in_sandbox(self, machines: int, ended: int = 0) -> Iterator[Bench]:
        """Measure in a new sandbox with these machines, running and ended; raises `NotMeasured` on a real oned."""
        if self.sandbox is None:
            raise NotMeasured("only the sandbox can be given other machines")
        with self.sandbox() as cloud:
            cloud.fill(1)
            cloud.add_ended_machines(ended)
            cloud.fill(machines)
            yield replace(self, cloud=cloud)


def keys(user: User) -> Keys:
    """Return the keys of a user."""
    return Keys(user.name, user.secret)


@dataclass
class Timed:
    """Durations and processor times of econed, in seconds, of repeated requests."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def figures(self) -> Figures:
        """Return them for the results."""
        return {
            "seconds": Series.of(self.seconds).summary(),
            "cpu_seconds": Series.of(self.cpu).summary(),
        }
