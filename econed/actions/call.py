"""The context of one EC2 call: the caller, sessions with oned, and the settings."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.actions.pacing import WorkBudget
from econed.actions.process_memory import ProcessMemory
from econed.errors import EC2Error
from econed.ids import account_id
from econed.interfaces import IImageFetcher, InThread, IOpenNebula, IScripts, IUpload
from econed.opennebula.documents import OnRead, OwnedView, Right
from econed.opennebula.methods import is_read_only
from econed.opennebula.session import Session
from econed.opennebula.values import whole_number
from econed.slots import MAX_CALLS_PER_REQUEST

if TYPE_CHECKING:
    from econed.config.settings import Settings
    from econed.opennebula.documents import Zone
    from econed.opennebula.file_templates import FileTypes
    from econed.sealing import Sealer
    from econed.user import Credential, Login, User

_T = TypeVar("_T")
_Owned = TypeVar("_Owned", bound=OwnedView)


@dataclass(frozen=True)
class Call:
    """One call of an EC2 action: everything that the action uses besides its parameters.

    `credential` is what authenticated the caller. Everything is done in `session`, the caller's own, so oned decides
    what they may do. `serveradmin` is for what no user can read: users and secrets, the network of elastic IPs.
    `endpoint` is the URL of this server as the client used it. `parameters` are the supported parameters of the
    request, by member name. `in_thread` runs long computations, and `budget` shares the reactor between the requests.
    `file_types` are the files of the instance types by name, None if the types are OpenNebula templates. `upload` is
    the file that the request carries, if any; `fetcher` downloads images from URLs, None if only oned does. `scripts`
    associate elastic IPs. `signed_region` is the region in the request's signature, None if it has none. `memory` is
    what the process remembers between requests. `sealer` encrypts what may not stand in OpenNebula in clear.
    """

    caller: User
    credential: Credential
    session: Session
    serveradmin: Session
    settings: Settings
    clock: IReactorTime
    endpoint: str
    request_id: str
    in_thread: InThread
    scripts: IScripts
    budget: WorkBudget
    memory: ProcessMemory
    sealer: Sealer
    file_types: FileTypes | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    upload: IUpload | None = None
    fetcher: IImageFetcher | None = None
    dry_run: bool = False
    signed_region: str | None = None

    @property
    def now(self) -> int:
        """The time, in seconds since the epoch."""
        return int(self.clock.seconds())

    @property
    def session_key(self) -> Hashable:
        """What identifies the caller's session in the memory of a process: the user and what they may see."""
        return self.caller.session_key

    @property
    def owner_id(self) -> str:
        """The caller's EC2 account number."""
        return account_id(self.caller.id)

    def as_dry_run(self, **changes: Any) -> Call:
        """Return this call with other `changes`, and sessions in which the first change raises EC2's DryRunOperation.

        An action makes all its checks before its first change, so an action that gets there would have succeeded, as
        far as is known without oned.
        """
        return self._with_changes_refused(lambda method: dry_run_succeeded(), dry_run=True, **changes)

    def as_read_only(self, **changes: Any) -> Call:
        """Return this call with other `changes`, and sessions in which a change raises `AssertionError`.

        It is for actions that only read.
        """
        return self._with_changes_refused(
            lambda method: AssertionError(f"{method} called by an action that only reads"), **changes
        )

    def _with_changes_refused(self, error_for: Callable[[str], Exception], **changes: Any) -> Call:
        return replace(
            self,
            **changes,
            session=replace(self.session, oned=_ReadOnly(self.session.oned, error_for)),
            serveradmin=replace(self.serveradmin, oned=_ReadOnly(self.serveradmin.oned, error_for)),
        )

    async def change_all(
        self, right: Right, objects: Iterable[_Owned], change: Callable[[_Owned], Coroutine[Any, Any, object]]
    ) -> None:
        """Change objects that have passed all other checks; `right` is what the change requires.

        Objects whose permission bits deny it are changed first, one by one: an access control list may still grant it,
        and if oned refuses, nothing has been changed yet. The others are changed concurrently. A dry run does not call
        oned, so the bits decide: `EC2Error` UnauthorizedOperation.
        """
        denied: list[_Owned] = []
        allowed: list[_Owned] = []
        for target in objects:
            is_allowed = target.allows(self.caller.id, self.caller.groups, right)
            (allowed if is_allowed else denied).append(target)
        if denied and self.dry_run:
            raise EC2Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        for target in denied:
            await change(target)
        await gather(change(target) for target in allowed)

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds."""
        await deferLater(self.clock, seconds)

    async def cluster_names(self) -> Mapping[int, str]:
        """Return the names of the clusters by id; they may be some seconds old."""
        return await self.memory.zones_and_clusters.cluster_names()

    async def zones(self) -> Sequence[Zone]:
        """Return the zones of the federation; they may be some seconds old."""
        return await self.memory.zones_and_clusters.zones()


def sessions_of(
    user: User, oned: IOpenNebula, memory: ProcessMemory, on_read: OnRead | None = None
) -> tuple[Session, Session]:
    """Return the sessions of a user, by what they act by, and of serveradmin for one request.

    `oned` limits the calls of the request. `on_read` is called with the path of each element that is read from its
    documents.
    """
    session, serveradmin = (Session(oned, login, on_read, memory.long_documents) for login in (user.login, None))
    return session, serveradmin


def user_id_of(account: str) -> int | None:
    """Return the id of the OpenNebula user with this EC2 account number; None if it is not an account number."""
    return whole_number(account) if len(account) == len(account_id(0)) else None


async def gather(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines, at most `MAX_CALLS_PER_REQUEST` at a time, and return their results in order.

    The next coroutine is taken from `coroutines` when one has ended, so a generator creates each when it is run. The
    first failure is raised when all have ended, so that nothing is still running after the response.
    """
    remaining = enumerate(coroutines)
    results: dict[int, _T] = {}
    failures: dict[int, Failure] = {}

    async def run() -> None:
        for index, coroutine in remaining:
            try:
                results[index] = await coroutine
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - raised below, when all have ended
                failures[index] = Failure()

    running = [Deferred.fromCoroutine(run()) for _ in range(MAX_CALLS_PER_REQUEST)]
    ended: list[tuple[bool, Any]] = await DeferredList(running, consumeErrors=True)
    for has_ended, failure in ended:
        if not has_ended:
            failure.raiseException()
    if failures:
        failures[min(failures)].raiseException()
    return [results[index] for index in range(len(results))]


@implementer(IOpenNebula)
class _ReadOnly:
    """oned without the methods that may change something: they raise the error that `error_for` returns for them."""

    def __init__(self, oned: IOpenNebula, error_for: Callable[[str], Exception]) -> None:
        self._oned = oned
        self._error_for = error_for

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        if not is_read_only(method):
            raise self._error_for(method)
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        return await self._oned.document(user, method, *args, **options)


def dry_run_succeeded() -> EC2Error:
    """Return the error of a dry run that would have succeeded (EC2, DryRun)."""
    return EC2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
