"""Images that econed fetches from users' URLs, as nobody but an outsider could: only what the internet offers to all.

Names are looked up once for each URL, all addresses must be the internet's, and the connection goes to one of exactly
these, while Host header and certificate are the name's. Redirects are followed here, each checked like the first URL.
What arrives is an upload like those of clients: the same account of the disk, the same limits.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar

from hyperlink import EncodedURL
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from zope.interface import implementer

from econed.config.settings import Settings
from econed.errors import EC2Error
from econed.fetching.own_host import is_own_address
from econed.fetching.pinned_agent import PinnedAgent, UnfitResponse
from econed.hosts import Address, is_global, unmapped
from econed.http.channel import Deadline
from econed.http.inflow import Inflow
from econed.http.upload_directory import UploadDirectory
from econed.http.work_in_progress import WorkInProgress
from econed.image_urls import ImageURL, strange_host, unfit
from econed.interfaces import IImageFetcher, InThread
from econed.single_flight import SingleFlight

_T = TypeVar("_T")

MAX_FETCHES = 8
"""Images that one user may have fetched at the same time by one process."""

MAX_REDIRECTS = 5
MAX_ADDRESSES = 3
"""Of a name, the addresses that are tried."""

ANSWER_TIME = 30.0
"""Seconds in which a name has to be looked up and its server to begin its answer."""

_LOOKUPS = 4
"""Names that are looked up at the same time: each takes a thread, for as long as the name service wants."""

_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNREACHABLE = (
    ConnectError,
    ConnectionClosed,
    ConnectingCancelledError,
    CancelledError,
    ResponseFailed,
    UnfitResponse,
    UnicodeError,
)
"""Why a server cannot be asked, or does not answer; no certificate is for a host that IDNA has no rule for."""


@dataclass(frozen=True)
class Place:
    """The outside world as a fetcher sees it, for tests to have another.

    `lookup` returns the addresses of a host and may take its time, `is_allowed` says which are connected to; both run
    in a thread. `trust_root` is as `twisted.internet.ssl.optionsForClientTLS` takes it.
    """

    lookup: Callable[[str, int], Sequence[str]]
    is_allowed: Callable[[Address], bool]
    trust_root: Any = None


def internet() -> Place:
    """Return the real one. Addresses of this machine are not of it: what listens on them trusts those inside."""
    return Place(_looked_up, lambda address: is_global(address) and not is_own_address(str(address)))


class _Literal(EncodedURL):
    """A URL that is sent as it is: `ImageURL` has checked it, and treq would refuse hosts that IDNA has no rule for."""

    def to_uri(self) -> EncodedURL:
        return self


@dataclass
class _User:
    """What is under way for one user: fetches, and one lookup at a time."""

    fetches: int = 0
    lookup: DeferredLock = field(default_factory=DeferredLock)

    @property
    def is_busy(self) -> bool:
        """Whether there is anything."""
        return self.fetches > 0 or self.lookup.locked


@implementer(IImageFetcher)
class ImageFetcher:
    """Fetches images into the directory of uploads, as `settings` limit them, on an injected `clock`."""

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        directory: UploadDirectory,
        settings: Settings,
        in_thread: InThread,
        log: Logger,
        place: Place | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._directory = directory
        self._settings = settings
        self._in_thread = in_thread
        self._log = log
        self._place = place or internet()
        self._turns = DeferredSemaphore(_LOOKUPS)
        self._lookups = WorkInProgress()
        self._users: dict[int, _User] = {}
        self._flights: dict[Hashable, SingleFlight[Any]] = {}

    async def admit(self, url: ImageURL, owner: int) -> None:
        """See `IImageFetcher.admit`."""
        if not await self._directory.is_readable_by_oned():
            raise EC2Error(
                "UnsupportedOperation",
                "Images can be registered here only from hosts that the administrator has named (image_url_hosts): "
                "OpenNebula runs on another machine.",
            )
        url.check_place()
        if url.address is not None:
            await self._in_thread(partial(_allowed, self._place, url))
        await self._directory.check_room(owner, 0)

    async def once(self, key: Hashable, work: Callable[[], Any]) -> Any:
        """See `IImageFetcher.once`."""
        if key in self._flights:
            return await self._flights[key].join()
        flight = self._flights[key] = SingleFlight(work)
        try:
            return await flight.join()
        finally:
            del self._flights[key]

    async def fetch(self, url: ImageURL, owner: int) -> str:
        """See `IImageFetcher.fetch`."""
        user = self._users.setdefault(owner, _User())
        if user.fetches >= MAX_FETCHES:
            raise EC2Error("RequestLimitExceeded", f"{MAX_FETCHES} images are being fetched for you already.", 503)
        user.fetches += 1
        try:
            agent, response = await self._followed(url, user)
            return await self._received(agent, response, owner)
        finally:
            user.fetches -= 1
            self._users = {each: user for each, user in self._users.items() if user.is_busy}

    async def discard(self, path: str) -> None:
        """See `IImageFetcher.discard`."""
        await self._directory.remove(path)

    async def _followed(self, url: ImageURL, user: _User) -> tuple[PinnedAgent, IResponse]:
        """Return the answer in which the image is, and its connection, following redirects."""
        for _ in range(MAX_REDIRECTS + 1):
            agent, response = await self._answer(url, user)
            if response.code == _OK:
                return agent, response
            agent.abort()
            if response.code not in _REDIRECTS:
                raise unfit(f"its server answered with the status {response.code}.")
            locations = response.headers.getRawHeaders(b"location", [])
            if len(locations) != 1:
                raise unfit("its server redirects, and does not say where to.")
            url = url.redirected(locations[0].decode("latin-1"))
        raise unfit("its server redirects too often.")

    async def _answer(self, url: ImageURL, user: _User) -> tuple[PinnedAgent, IResponse]:
        """Return what the server of a URL answers, to the end of its headers, within `ANSWER_TIME`."""
        url.check_place()
        asking = Deferred.fromCoroutine(self._asked(url, user))
        too_late = self._clock.callLater(ANSWER_TIME, asking.cancel)
        try:
            return await asking
        except _UNREACHABLE as error:
            self._log.info("an image cannot be fetched from {host}: {why}", host=url.host, why=type(error).__name__)
            raise unfit("its server does not answer as one should that images are fetched from.") from error
        finally:
            if too_late.active():
                too_late.cancel()

    async def _asked(self, url: ImageURL, user: _User) -> tuple[PinnedAgent, IResponse]:
        *others, last = await self._addresses(url, user)
        for address in others:
            with suppress(ConnectError):
                return await self._asked_at(url, address)
        return await self._asked_at(url, last)

    async def _asked_at(self, url: ImageURL, address: Address) -> tuple[PinnedAgent, IResponse]:
        agent = PinnedAgent(self._reactor, address, self._place.trust_root, timeout=ANSWER_TIME)
        headers = Headers({b"User-Agent": [b"econed"]})
        try:
            response: IResponse = await HTTPClient(agent).get(
                _Literal.from_text(url.canonical),
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
        except Exception:
            agent.abort()
            raise
        return agent, response

    async def _addresses(self, url: ImageURL, user: _User) -> Sequence[Address]:
        """Return the addresses of a host, looked up once; raises `EC2Error` if any of them is not the internet's.

        One that is no name has nothing to be looked up, and stands for itself. A user has one name looked up at a time,
        so that one whose names take long does not keep others waiting.
        """
        await user.lookup.acquire()
        try:
            await self._turns.acquire()
        except CancelledError:
            user.lookup.release()
            raise
        looking_up = Deferred.fromCoroutine(self._looked_up(url, user))
        addresses: Sequence[Address] = await self._lookups.shielded(looking_up)
        return addresses

    async def _looked_up(self, url: ImageURL, user: _User) -> Sequence[Address]:
        """Look a name up; the turn lasts to the end of the thread, which nothing can cut short."""
        try:
            return await self._in_thread(partial(_allowed, self._place, url))
        finally:
            self._turns.release()
            user.lookup.release()

    async def _received(self, agent: PinnedAgent, response: IResponse, owner: int) -> str:
        """Take the body in as an upload and return its path."""
        body = _Body(self._clock, self._directory.check_size, self._settings, agent.abort)
        try:
            length = response.length if isinstance(response.length, int) else None
            self._directory.check_size(length or 0)
            response.deliverBody(body)
            return await self._directory.receive(owner, length, body.inflow.next)
        finally:
            body.give_up()
            agent.abort()


class _Body(Protocol):
    """The body of an answer as it arrives: counted, no faster than the disk, and no slower than `min_upload_rate`."""

    def __init__(
        self,
        clock: IReactorTime,
        check_size: Callable[[int], None],
        settings: Settings,
        abort: Callable[[], None],
    ) -> None:
        self.inflow = Inflow(self)
        self._check_size = check_size
        self._rate, self._grace = settings.min_upload_rate, settings.idle_timeout
        self._abort = abort
        self._taken = 0
        self._deadline = Deadline(clock, self._expired)
        self._deadline.set(self._grace)

    def dataReceived(self, data: bytes) -> None:
        """Take a piece."""
        self._taken += len(data)
        self._deadline.put_off(len(data) / self._rate, most=self._grace)
        try:
            self._check_size(self._taken)
        except EC2Error as error:
            self._fail(error)
            return
        self.inflow.put(data)
        self.inflow.throttle()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take the end: only one that the server has announced is the end of an image."""
        self._deadline.set(None)
        if reason.check(ResponseDone):
            self.inflow.end()
        else:
            self.inflow.fail(unfit("the image did not arrive whole, or its server does not say how long it is."))

    def hold(self) -> None:
        """See `econed.http.inflow.Flow`: the server is not slow meanwhile."""
        self._deadline.hold()
        self._transport().pauseProducing()

    def go_on(self) -> None:
        """See `econed.http.inflow.Flow`."""
        self._deadline.go_on()
        self._transport().resumeProducing()

    def give_up(self) -> None:
        """Wait for nothing more."""
        self._deadline.set(None)

    def _transport(self) -> Any:
        return self.transport

    def _expired(self) -> None:
        self._fail(EC2Error("RequestTimeout", "The image did not arrive in time.", 408))

    def _fail(self, error: EC2Error) -> None:
        self.inflow.fail(error)
        self._abort()


def _looked_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host as this machine's name service has them."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return [str(address[0]) for _, _, _, _, address in found]


def _allowed(place: Place, url: ImageURL) -> Sequence[Address]:
    """Return what to connect to for a URL; raises `EC2Error` if there is nothing, or anything else among it."""
    texts = [url.host] if url.address is not None else place.lookup(url.host, url.port)
    try:
        addresses = list(dict.fromkeys(unmapped(ip_address(text)) for text in texts))
    except ValueError:
        raise strange_host() from None
    if not addresses or not all(place.is_allowed(address) for address in addresses):
        raise strange_host()
    return addresses[:MAX_ADDRESSES]
