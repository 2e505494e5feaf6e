"""The seams of econed, as zope Interfaces: what stands between the rooms and can be replaced in tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from lxml.etree import _Element

    from econed.auth.users import User

_T = TypeVar("_T")


class InThread(Protocol):
    """Runs in a thread what would hold up everybody else; a function, and so no zope Interface."""

    def __call__(self, work: Callable[[], _T], /) -> Awaitable[_T]:
        """Run `work` and return its result, or raise what it raised."""


class IOpenNebula(Interface):
    """oned's XML-RPC API, called in the name of users.

    `user` is the OpenNebula name of the user in whose session a call runs (a server token of serveradmin's for
    that user); `None` is serveradmin himself. Raises `OpenNebulaRefusal` when oned says no, `OpenNebulaUnavailable`
    when it does not answer in time, `OpenNebulaNonsense` when what it says is no reply of oned's.
    """

    async def call(user: str | None, method: str, *args: object) -> str | int | bool:
        """Call `method` (as `one.vm.action`) with `args` after the session, and return the value of the reply."""

    async def document(user: str | None, method: str, *args: object) -> _Element:
        """Call a `method` that answers with a document and return its root, parsed without holding up the reactor."""


class IScripts(Interface):
    """The scripts that lead elastic IPs to instances, one at a time for each elastic IP.

    `network` is the elastic IP network's document as oned gives it, in base64; `most` is how many seconds a script may
    take at most, whatever the configuration says. Where no script is configured, nothing is run. Both raise
    `ScriptFailed` where a script ends with anything but success, or not in time.
    """

    has_any: bool = Attribute("Whether there is a script at all.")

    async def associate(elastic_ip: str, private_ip: str, network: str, most: float) -> None:
        """Lead the elastic IP to the private address."""

    async def disassociate(elastic_ip: str, private_ip: str, network: str, most: float) -> None:
        """Lead the elastic IP nowhere any more."""


class IUserDirectory(Interface):
    """The users of the cloud with their EC2 secrets, fresh within seconds."""

    async def find(access_key: str) -> User | None:
        """Return the user with this name, from the cache where it is fresh enough; None if there is none.

        Raises `OpenNebulaUnavailable` where oned must be asked and does not answer.
        """

    async def refreshed(user: User) -> User | None:
        """Return the user as oned knows him now, for when a signature did not match what the cache said.

        Asked too often it returns what is cached: wrong signatures never become a flood of calls to oned.
        """


class IUpload(Interface):
    """A file on its way in, of which nothing has been taken yet: its sender waits."""

    async def admit() -> None:
        """Raise `EC2Error` if the file cannot be taken: it is too large, or the disk too full, or oned elsewhere."""

    async def receive(owner: int) -> str:
        """Take the file in for the OpenNebula user `owner` and return its path, which oned can read.

        Raises `EC2Error` if it does not come whole, or not as it was signed; then nothing of it is left.
        """

    async def discard() -> None:
        """Remove a file that was received."""


class IUploadedFiles(Interface):
    """The files that were uploaded to this machine and are still there."""

    def of(owner: int | None) -> Sequence[tuple[str, float]]:
        """Return the paths of a user's files, or of all, each with when it was last written to (epoch seconds)."""

    def remove(path: str) -> None:
        """Remove one of them, unless it is gone already."""
