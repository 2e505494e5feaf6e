"""Fetches images from URLs that users give, from public addresses only, so that no internal server can be reached.

The host of each URL is looked up once, all its addresses must be on the internet, and the connection is made to one of
exactly these addresses, while the Host header and the certificate are for the name. Redirects are followed here, each
checked like the first URL. An image is stored as an upload, under the same limits.
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
from econed.fetching.pinned_agent import PinnedAgent, UnusableResponse
from econed.hosts import Address, is_global, unmapped
from econed.http.channel import Deadline
from econed.http.file_buffer import FileBuffer
from econed.http.upload_directory import UploadDirectory
from econed.http.work_in_progress import WorkInProgress
from econed.image_urls import ImageURL, forbidden_host, invalid_location
from econed.interfaces import IImageFetcher, InThread
from econed.single_flight import KeyedFlights

_T = TypeVar("_T")

MAX_FETCHES = 8
"""Images that one process fetches at the same time for one user."""

MAX_REDIRECTS = 5
MAX_ADDRESSES = 3
"""Addresses of a host that are tried."""

RESPONSE_TIMEOUT = 30.0
"""Seconds from looking a host up to the end of the headers of its response."""

_MAX_LOOKUPS = 4
"""Hosts that are looked up at the same time: each lookup keeps a thread until the name service replies."""

_OK = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNREACHABLE = (
    ConnectError,
    ConnectionClosed,
    ConnectingCancelledError,
    CancelledError,
    ResponseFailed,
    UnusableResponse,
    UnicodeError,
)
"""Raised if a server cannot be reached or sends no usable response; `UnicodeError` for a host invalid in IDNA."""


@dataclass(frozen=True)
class Internet:
    """The network as a fetcher uses it; tests replace it.

    `lookup` returns the addresses of a host, `is_allowed` whether a connection to an address is allowed. Both may block
    and run in a thread. `trust_root` is as for `twisted.internet.ssl.optionsForClientTLS`.
    """

    lookup: Callable[[str, int], Sequence[str]]
    is_allowed: Callable[[Address], bool]
    trust_root: Any = None


def public_internet() -> Internet:
    """Return the real internet. Addresses of this machine are not allowed: services on them may trust local clients."""
    return Internet(_lookup, lambda address: is_global(address) and not is_own_address(str(address)))


class _UnchangedURL(EncodedURL):
    """A URL that is sent unchanged: `ImageURL` has checked it, and treq refuses hosts that are invalid in IDNA."""

    def to_uri(self) -> EncodedURL:
        return self


@dataclass
class _UserActivity:
    """The fetches of one user, and the lock by which one host at a time is looked up for them."""

    fetches: int = 0
    lookup: DeferredLock = field(default_factory=DeferredLock)

    @property
    def is_busy(self) -> bool:
        """Whether there is a fetch or a lookup."""
        return self.fetches > 0 or self.lookup.locked


@implementer(IImageFetcher)
class ImageFetcher:
    """Fetches images into the directory of uploads, within the limits of `settings`, on an injected `clock`."""

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        directory: UploadDirectory,
        settings: Settings,
        in_thread: InThread,
        log: Logger,
        internet: Internet | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._directory = directory
        self._settings = settings
        self._in_thread = in_thread
        self._log = log
        self._internet = internet or public_internet()
        self._lookup_slots = DeferredSemaphore(_MAX_LOOKUPS)
        self._lookups_in_progress = WorkInProgress()
        self._activities: dict[int, _UserActivity] = {}
        self._flights = KeyedFlights()

    async def check_url(self, url: ImageURL, owner: int) -> None:
        """See `IImageFetcher.check_url`."""
        if not await self._directory.is_readable_by_oned():
            raise EC2Error(
                "UnsupportedOperation",
                "Images can be registered here only from hosts that the administrator has named (image_url_hosts): "
                "OpenNebula runs on another machine.",
            )
        url.check_origin()
        if url.address is not None:
            await self._in_thread(partial(_allowed_addresses, self._internet, url))
        await self._directory.check_room(owner, 0)

    async def run_once(self, key: Hashable, work: Callable[[], Any]) -> Any:
        """See `IImageFetcher.run_once`."""
        return await self._flights.run(key, work)

    async def fetch(self, url: ImageURL, owner: int) -> str:
        """See `IImageFetcher.fetch`."""
        activity = self._activities.setdefault(owner, _UserActivity())
        if activity.fetches >= MAX_FETCHES:
            raise EC2Error("RequestLimitExceeded", f"{MAX_FETCHES} images are being fetched for you already.", 503)
        activity.fetches += 1
        try:
            agent, response = await self._follow(url, activity)
            return await self._receive(agent, response, owner)
        finally:
            activity.fetches -= 1
            self._activities = {key: value for key, value in self._activities.items() if value.is_busy}

    async def discard(self, path: str) -> None:
        """See `IImageFetcher.discard`."""
        await self._directory.remove(path)

    async def _follow(self, url: ImageURL, activity: _UserActivity) -> tuple[PinnedAgent, IResponse]:
        """Follow redirects and return the response that has the image, with its connection."""
        for _ in range(MAX_REDIRECTS + 1):
            agent, response = await self._request(url, activity)
            if response.code == _OK:
                return agent, response
            agent.abort()
            if response.code not in _REDIRECTS:
                raise invalid_location(f"its server returned the status {response.code}.")
            locations = response.headers.getRawHeaders(b"location", [])
            if len(locations) != 1:
                raise invalid_location("its server sent a redirect without exactly one Location header.")
            url = url.redirected(locations[0].decode("latin-1"))
        raise invalid_location("its server redirects too often.")

    async def _request(self, url: ImageURL, activity: _UserActivity) -> tuple[PinnedAgent, IResponse]:
        """Request a URL and return the response once its headers are complete, within `RESPONSE_TIMEOUT`."""
        url.check_origin()
        requesting = Deferred.fromCoroutine(self._try_addresses(url, activity))
        timeout = self._clock.callLater(RESPONSE_TIMEOUT, requesting.cancel)
        try:
            return await requesting
        except _UNREACHABLE as error:
            self._log.info("fetching an image from {host}: {why}", host=url.host, why=type(error).__name__)
            raise invalid_location("its server cannot be reached, or does not send a usable response.") from error
        finally:
            if timeout.active():
                timeout.cancel()

    async def _try_addresses(self, url: ImageURL, activity: _UserActivity) -> tuple[PinnedAgent, IResponse]:
        *first_addresses, last_address = await self._addresses(url, activity)
        for address in first_addresses:
            with suppress(ConnectError):
                return await self._request_from(url, address)
        return await self._request_from(url, last_address)

    async def _request_from(self, url: ImageURL, address: Address) -> tuple[PinnedAgent, IResponse]:
        agent = PinnedAgent(self._reactor, address, self._internet.trust_root, timeout=RESPONSE_TIMEOUT)
        headers = Headers({b"User-Agent": [b"econed"]})
        try:
            response: IResponse = await HTTPClient(agent).get(
                _UnchangedURL.from_text(url.canonical),
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
        except Exception:
            agent.abort()
            raise
        return agent, response

    async def _addresses(self, url: ImageURL, activity: _UserActivity) -> Sequence[Address]:
        """Look a host up and return its addresses; raises `EC2Error` if any of them is not on the internet.

        A host that is an address needs no lookup. One host at a time is looked up for each user, so that slow lookups
        of one user do not block others.
        """
        await activity.lookup.acquire()
        try:
            await self._lookup_slots.acquire()
        except CancelledError:
            activity.lookup.release()
            raise
        lookup = Deferred.fromCoroutine(self._lookup_in_thread(url, activity))
        addresses: Sequence[Address] = await self._lookups_in_progress.shielded(lookup)
        return addresses

    async def _lookup_in_thread(self, url: ImageURL, activity: _UserActivity) -> Sequence[Address]:
        """Look a host up; the slot is held until the thread has ended, since a thread cannot be cancelled."""
        try:
            return await self._in_thread(partial(_allowed_addresses, self._internet, url))
        finally:
            self._lookup_slots.release()
            activity.lookup.release()

    async def _receive(self, agent: PinnedAgent, response: IResponse, owner: int) -> str:
        """Store the body as an upload and return its path."""
        body = _ImageBody(self._clock, self._directory.check_size, self._settings, agent.abort)
        try:
            length = response.length if isinstance(response.length, int) else None
            self._directory.check_size(length or 0)
            response.deliverBody(body)
            return await self._directory.receive(owner, length, body.buffer.next_piece)
        finally:
            body.stop()
            agent.abort()


class _ImageBody(Protocol):
    """The body of a response: received no faster than the disk, and aborted if slower than `min_upload_rate`."""

    def __init__(
        self,
        clock: IReactorTime,
        check_size: Callable[[int], None],
        settings: Settings,
        abort: Callable[[], None],
    ) -> None:
        self.buffer = FileBuffer(self)
        self._check_size = check_size
        self._min_rate, self._idle_timeout = settings.min_upload_rate, settings.idle_timeout
        self._abort = abort
        self._received = 0
        self._deadline = Deadline(clock, self._expired)
        self._deadline.set(self._idle_timeout)

    def dataReceived(self, data: bytes) -> None:
        """Process a piece of the body."""
        self._received += len(data)
        self._deadline.extend(len(data) / self._min_rate, limit=self._idle_timeout)
        try:
            self._check_size(self._received)
        except EC2Error as error:
            self._fail(error)
            return
        self.buffer.put(data)
        self.buffer.throttle()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Process the end of the connection: the image is complete only if the server sent its length or chunks."""
        self._deadline.set(None)
        if reason.check(ResponseDone):
            self.buffer.end()
        else:
            self.buffer.fail(
                invalid_location("the image was not received completely, or its server did not send its length.")
            )

    def pause_reading(self) -> None:
        """See `econed.http.file_buffer.BodySource`; the deadline is paused too, since the server is not slow."""
        self._deadline.pause()
        self._transport().pauseProducing()

    def resume_reading(self) -> None:
        """See `econed.http.file_buffer.BodySource`."""
        self._deadline.resume()
        self._transport().resumeProducing()

    def stop(self) -> None:
        """Stop the deadline."""
        self._deadline.set(None)

    def _transport(self) -> Any:
        return self.transport

    def _expired(self) -> None:
        self._fail(EC2Error("RequestTimeout", "The image was not received in time.", 408))

    def _fail(self, error: EC2Error) -> None:
        self.buffer.fail(error)
        self._abort()


def _lookup(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host from this machine's name service, none if there is an error."""
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return [str(address[0]) for _, _, _, _, address in entries]


def _allowed_addresses(internet: Internet, url: ImageURL) -> Sequence[Address]:
    """Return the addresses for a URL; raises `EC2Error` if it has none, or any that is not allowed."""
    texts = [url.host] if url.address is not None else internet.lookup(url.host, url.port)
    try:
        addresses = list(dict.fromkeys(unmapped(ip_address(text)) for text in texts))
    except ValueError:
        raise forbidden_host() from None
    if not addresses or not all(internet.is_allowed(address) for address in addresses):
        raise forbidden_host()
    return addresses[:MAX_ADDRESSES]
