"""The zope Interfaces between the folders of econed, whose implementations can be replaced in tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from twisted.internet.defer import Deferred

    from econed.image_urls import ImageURL
    from econed.user import Login, Sender, User
    from econed.wire.signed_request import SignedRequest

_T = TypeVar("_T")

Parse: TypeAlias = Callable[[str, bytes], _T]
"""Parses the body of a reply to a method, as `econed.opennebula.replies.parse_document` does."""


class InThread(Protocol):
    """Runs blocking work in a thread. It is a function, and so not a zope Interface."""

    def __call__(self, work: Callable[[], _T], /) -> Awaitable[_T]:
        """Run `work` in a thread and return its result, or raise its exception."""


class IOpenNebula(Interface):
    """oned's XML-RPC API, called in the sessions of users.

    `user` is in whose session a call runs (`econed.user.Login`). Raises `OpenNebulaRefusal` when oned refuses the call,
    `OpenNebulaUnavailable` when it does not reply in time, `InvalidReply` when the response is not a valid oned reply.
    """

    async def call(user: Login, method: str, *args: object) -> str | int | bool:
        """Call `method` (as `one.vm.action`) with `args` after the session, and return the value of the reply."""

    async def document(user: Login, method: str, *args: object, parse: Parse[Any] = ...) -> Any:
        """Call a `method` that returns a document and return its root, parsed without blocking the reactor.

        With `parse` the result is what it returns for the method and the body of the reply; it may run in a thread.
        Others may get the same result: its elements must not be changed.
        """


class IOnedProxy(Interface):
    """An XML-RPC proxy that returns replies as bytes: for one oned, or for several with failover."""

    url: str = Attribute("The URL of oned; for several servers, all their URLs.")

    def callRemote(method: str, session: str, *args: object) -> Deferred[bytes]:
        """Call `method` and return the body of the response; cancelling closes the connection.

        Fails with `OpenNebulaUnavailable`, or with `InvalidReply` if the response is not HTTP with status 200.
        """


class ICallLimiter(Interface):
    """A client of oned with a bounded number of concurrent calls."""

    calls_in_flight: int = Attribute("Calls in flight.")
    calls_waiting: int = Attribute("Calls waiting for a slot.")


class IScripts(Interface):
    """The scripts that associate elastic IPs with instances, one at a time for each elastic IP.

    `network` is the elastic IP network's document as oned returns it, in base64. `max_seconds` limits the run in
    addition to the configured timeout. Without a configured script nothing is run. Both methods raise `ScriptFailed`
    if a script fails or times out.
    """

    has_any: bool = Attribute("Whether a script is configured.")

    async def associate(elastic_ip: IPv4Address, private_ip: IPv4Address, network: str, max_seconds: float) -> None:
        """Associate the elastic IP with the private address."""

    async def disassociate(
        elastic_ip: IPv4Address, private_ip: IPv4Address | None, network: str, max_seconds: float
    ) -> None:
        """Disassociate the elastic IP; `private_ip` is None if the private address is no longer known."""


class IUserDirectory(Interface):
    """The users of the cloud with their EC2 secrets, which are at most some seconds old."""

    def cached(access_key: str) -> User | None:
        """Return the user with this name as last read, whenever that was; None if there is none. Never calls oned."""

    def cached_by_id(user_id: int) -> User | None:
        """Return the user with this id as last read, as `cached` does."""

    async def confirm(user: User) -> User | None:
        """Return the current data of a user, from the cache where it is recent enough; None if they were removed.

        Only for users whose signature was verified: before that no call to oned may depend on a name in a request.
        Raises `OpenNebulaUnavailable` where oned must be called and does not reply.
        """

    async def refresh(access_key: str) -> None:
        """Look for new users and new secrets, after a signature that matches no cached user.

        The calls to oned do not depend on whether there is a user with this name, and their rate is limited. Raises as
        `confirm` does.
        """

    async def read(user_id: int, credential: str) -> User | None:
        """Return a user, as read from oned because of a credential, now or a moment ago; None if there is none.

        Only for credentials that econed made: it calls oned for any user, with a limited rate for each `credential`,
        the id of an access key or what identifies several. Raises as `confirm` does.
        """

    async def find_by_subject(spellings: Sequence[str]) -> Sequence[User]:
        """Return the users of the driver x509 with the first known subject among `spellings`, including disabled users.

        `spellings` are those of one subject, the most exact first (`econed.auth.subjects`). OpenNebula permits several
        users with the same subject. Raises as `confirm` does.
        """


class IAuthenticator(Interface):
    """Authenticates requests: by their signature, or by the certificate of the client (econe.conf, `auth`)."""

    async def authenticate(request: SignedRequest) -> Sender:
        """Return the user who made the request, and their key.

        Raises `EC2Error` where authentication fails (`econed.auth.failures` has the table), or `OpenNebulaError` if
        the user must be looked up in oned and that fails.
        """


class IUpload(Interface):
    """A file in a request that has not been received yet: reading is paused."""

    async def check_acceptable(owner: int) -> None:
        """Raise `EC2Error` if the file cannot be received for a user: no space, or oned cannot read it."""

    async def receive(owner: int) -> str:
        """Receive the file for the OpenNebula user `owner` and return its path, which oned can read.

        Raises `EC2Error` if it is incomplete, or differs from what was signed; then it is removed.
        """

    async def discard() -> None:
        """Remove a file that was received."""


class IUploadedFiles(Interface):
    """The files in the directory of uploads on this machine."""

    async def complete_files(owner: int | None) -> Sequence[tuple[str, float]]:
        """Return the path and last change (epoch seconds) of each complete file of a user (None: of all users)."""

    async def remove(path: str) -> None:
        """Remove a file, if it exists."""

    async def is_receiving(owner: int) -> bool:
        """Whether any process on this machine is receiving a file of a user."""

    async def remove_abandoned(before: float) -> Sequence[str]:
        """Remove the partial files of processes that have died, and return their paths.

        An empty file may belong to a process that has just created it, so it is removed only if its last change was
        `before` then (epoch seconds).
        """


class IImageFetcher(Interface):
    """Fetches images from URLs of users into the directory of uploads, only from hosts on the internet."""

    async def check_url(url: ImageURL, owner: int) -> None:
        """Raise `EC2Error` if a URL can be rejected for a user without a DNS lookup."""

    async def fetch(url: ImageURL, owner: int) -> str:
        """Fetch an image for the OpenNebula user `owner` and return the path of its file, which oned can read.

        Raises `EC2Error`: InvalidParameterValue if there is no image at the URL or it may not be fetched, and what
        `IUpload.receive` raises. Then the file is removed.
        """

    async def discard(path: str) -> None:
        """Remove a file that was fetched."""

    async def run_once(key: Hashable, work: Callable[[], Coroutine[Deferred[Any], Any, _T]]) -> _T:
        """Return the result of `work`, or of the run with the same key that is in progress in this process."""


class IDrainable(Interface):
    """The connections of one process, which are closed before it exits."""

    connections: int = Attribute("The number of connections.")
    busy: int = Attribute("The number of connections with a request in flight.")

    def drain() -> None:
        """Close each connection after its next response; idle connections are closed at their idle timeout."""

    async def all_closed() -> None:
        """Wait until there are no connections."""

    def abort() -> None:
        """Abort all connections, including those with requests in flight."""
