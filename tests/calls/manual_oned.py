"""oned whose calls end when a test says so, and requests that call it through a queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from econed.calls.queue import CallQueue, CallShare
from econed.calls.turns import Owner
from econed.interfaces import IOpenNebula
from econed.user import Login

if TYPE_CHECKING:
    from lxml.etree import _Element


@dataclass(eq=False)
class SentCall:
    """A call that oned has received, and its reply."""

    user: Login
    method: str
    args: tuple[object, ...]
    reply: Deferred[Any] = field(default_factory=Deferred)

    def __repr__(self) -> str:
        return f"{self.user} {self.method.removeprefix('one.')} {self.args}"


@implementer(IOpenNebula)
class ManualOned:
    """oned that keeps all calls in flight until a test ends them. `sent` are all calls, `in_flight` those not ended."""

    def __init__(self) -> None:
        self.sent: list[SentCall] = []

    @property
    def in_flight(self) -> list[SentCall]:
        """The calls that have not ended."""
        return [call for call in self.sent if not call.reply.called]

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Receive a call (`IOpenNebula.call`)."""
        self.sent.append(SentCall(user, method, args))
        value: str | int | bool = await self.sent[-1].reply
        return value

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Receive a call (`IOpenNebula.document`)."""
        self.sent.append(SentCall(user, method, args))
        root: _Element = await self.sent[-1].reply
        return root


@dataclass
class Queued:
    """A queue before a `ManualOned`."""

    limit: int = 8
    clock: Clock = field(default_factory=Clock)
    oned: ManualOned = field(default_factory=ManualOned)

    def __post_init__(self) -> None:
        self.queue = CallQueue(self.oned, self.limit, self.clock)

    def request(self, user: int = 1, session_key: object = None) -> Request:
        """Return a new request of a user, whose name is `user-ID`."""
        return Request(self.queue.share(Owner(user), session_key), f"user-{user}")

    def end_all(self) -> None:
        """End the calls in flight, one after the other, until there are none."""
        while in_flight := self.oned.in_flight:
            in_flight[0].reply.callback(machines(()))

    @property
    def is_forgotten(self) -> bool:
        """Whether the queue keeps nothing."""
        return (
            self.queue._turns.is_idle
            and not self.queue._gatherings
            and self.queue.calls_waiting == self.queue.calls_in_flight == 0
            and not self.clock.getDelayedCalls()
        )


@dataclass
class Request:
    """A request, and the results of its calls in the order in which they ended."""

    share: CallShare
    user: Login
    results: list[Any] = field(default_factory=list)

    def change(self, number: int) -> Deferred[Any]:
        """Start a change of the object with this number."""
        return self._started(self.share.call(self.user, "one.vm.action", "resume", number))

    def read(self, method: str, *args: object, user: str | None = "") -> Deferred[Any]:
        """Start a read of a document, in the session of the user, another user, or serveradmin (None)."""
        return self._started(self.share.document(self.user if user == "" else user, method, *args))

    def read_set(self, *ids: int) -> Deferred[Any]:
        """Start a read of machines by their ids."""
        return self.read("one.vmpool.infoset", ",".join(map(str, ids)), True)

    def _started(self, work: Any) -> Deferred[Any]:
        started = Deferred.fromCoroutine(work)
        started.addBoth(self.results.append)
        return started


def machines(ids: Sequence[int]) -> _Element:
    """Return a pool of machines."""
    return etree.fromstring(f"<VM_POOL>{''.join(f'<VM><ID>{id_}</ID></VM>' for id_ in ids)}</VM_POOL>")


def ids_of(root: _Element) -> list[int]:
    """Return the ids in a pool of machines."""
    return [int(element.text or "") for element in root.findall("VM/ID")]
