"""What an action is given besides its parameters: who asks, oned in his name, and the settings."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from econed.actions.pacing import WorkBudget
from econed.actions.shared_reads import SharedReads
from econed.errors import EC2Error
from econed.interfaces import IImageFetcher, InThread, IOpenNebula, IScripts, IUpload
from econed.opennebula.documents import OnRead, OwnedView, Right
from econed.opennebula.methods import is_read_only
from econed.opennebula.session import Session
from econed.opennebula.values import whole_number
from econed.slots import CALLS_OF_A_REQUEST, FewAtOnce, Slots

if TYPE_CHECKING:
    from lxml.etree import _Element

    from econed.config.settings import Settings
    from econed.opennebula.file_templates import FileTypes
    from econed.user import User

_T = TypeVar("_T")
_Owned = TypeVar("_Owned", bound=OwnedView)


@dataclass(frozen=True)
class Call:
    """One EC2 call on its way through OpenNebula.

    `one` is the caller's own session, in which everything is done, so that oned decides what he may. `serveradmin` is
    for what no user can see: users and secrets, clusters, the network of elastic IPs. `endpoint` is the URL of this
    server as the client reached it, `parameters` are those of the request that are carried out, by member name;
    `in_thread` is for what keeps a processor busy for longer than others should wait. `file_types` are the files of the
    instance types by their names, None where they are OpenNebula templates. `upload` is the file that comes with the
    request, if one does; `fetcher` fetches images from URLs, None where oned alone does. `scripts` lead elastic IPs to
    instances. `budget` counts work that keeps the reactor from others. `signed_region` is
    the region that the request is signed for, None where its signature names none. `shared` are the reads that the
    requests of a user share.
    """

    caller: User
    one: Session
    serveradmin: Session
    settings: Settings
    clock: IReactorTime
    endpoint: str
    request_id: str
    in_thread: InThread
    scripts: IScripts
    budget: WorkBudget
    file_types: FileTypes | None = None
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    upload: IUpload | None = None
    fetcher: IImageFetcher | None = None
    dry_run: bool = False
    signed_region: str | None = None
    shared: SharedReads = field(default_factory=SharedReads)

    @classmethod
    def of(
        cls,
        caller: User,
        one: IOpenNebula,
        on_read: OnRead | None = None,
        shared: SharedReads | None = None,
        **rest: Any,
    ) -> Call:
        """Return a call of this user on oned; `on_read` is told what is read of oned's documents.

        It makes no more than `CALLS_OF_A_REQUEST` calls to oned at once, both sessions together. `shared` is
        what the calls of a process have in common.
        """
        few = FewAtOnce(one, Slots(CALLS_OF_A_REQUEST))
        shared = shared or SharedReads()
        serveradmin = Session(few, None, on_read, shared.long_documents)
        one_as_caller = replace(serveradmin, user=caller.name)
        return cls(caller=caller, one=one_as_caller, serveradmin=serveradmin, shared=shared, **rest)

    @property
    def now(self) -> int:
        """The time, in seconds since the epoch."""
        return int(self.clock.seconds())

    @property
    def owner_id(self) -> str:
        """The caller's EC2 account number."""
        return account_id(self.caller.id)

    def as_dry_run(self) -> Call:
        """Return this call with nothing in it that can change anything: the first attempt ends it.

        An action does all its checks before its first change, so one that gets there would have worked as far as can be
        told without oned (EC2, DryRun).
        """
        return replace(self._with_changes_refused(lambda method: dry_run_succeeded()), dry_run=True)

    def as_read_only(self) -> Call:
        """Return this call with sessions in which a change is a fault of econed's, for an action that only reads."""
        return self._with_changes_refused(
            lambda method: AssertionError(f"{method} called by an action that is to change nothing")
        )

    def _with_changes_refused(self, error_for: Callable[[str], Exception]) -> Call:
        return replace(
            self,
            one=replace(self.one, oned=_ReadOnly(self.one.oned, error_for)),
            serveradmin=replace(self.serveradmin, oned=_ReadOnly(self.serveradmin.oned, error_for)),
        )

    async def change_all(
        self, right: Right, objects: Iterable[_Owned], change: Callable[[_Owned], Coroutine[Any, Any, object]]
    ) -> None:
        """Change objects that all have passed every other check; `right` is what the change needs.

        Those whose permission bits deny it come first and one by one: a rule of the access control lists may still
        grant it, and if oned refuses, nothing has changed yet. The others follow at the same time. In a dry run oned is
        not asked, and the bits decide: `EC2Error` UnauthorizedOperation.
        """
        doubtful: list[_Owned] = []
        clear: list[_Owned] = []
        for each in objects:
            allowed = each.allows(self.caller.id, self.caller.groups, right)
            (clear if allowed else doubtful).append(each)
        if doubtful and self.dry_run:
            raise EC2Error("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
        for each in doubtful:
            await change(each)
        await together(change(each) for each in clear)

    async def pause(self, seconds: float) -> None:
        """Wait, giving way to everything else."""
        done: Deferred[None] = Deferred()
        self.clock.callLater(seconds, done.callback, None)
        await done

    async def cluster_names(self) -> Mapping[int, str]:
        """Return the clusters of the cloud by id; a user of his own cannot list them."""
        return {cluster.id: cluster.name for cluster in await self.serveradmin.clusters()}


def account_id(user_id: int) -> str:
    """Return the EC2 account number of an OpenNebula user: his id, in twelve digits as Amazon's are."""
    return f"{user_id:012d}"


def user_of(account: str) -> int | None:
    """Return the OpenNebula user whose EC2 account number this is; None for a number that nobody can have."""
    return whole_number(account) if len(account) == len(account_id(0)) else None


async def together(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines at the same time and return their results in order; of their calls to oned, few are made at once.

    All have ended when the first failure is raised: nothing goes on behind an answer.
    """
    running = [Deferred.fromCoroutine(each) for each in coroutines]
    ended: list[tuple[bool, Any]] = await DeferredList(running, consumeErrors=True)
    for succeeded, result in ended:
        if not succeeded:
            result.raiseException()
    return [result for _, result in ended]


@implementer(IOpenNebula)
class _ReadOnly:
    """oned without its methods that may change something: they raise the error that `error_for` makes of their name."""

    def __init__(self, oned: IOpenNebula, error_for: Callable[[str], Exception]) -> None:
        self._oned = oned
        self._error_for = error_for

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        if not is_read_only(method):
            raise self._error_for(method)
        return await self._oned.call(user, method, *args)

    async def document(self, user: str | None, method: str, *args: object) -> _Element:
        return await self._oned.document(user, method, *args)


def dry_run_succeeded() -> EC2Error:
    """Return what a dry run ends with when the request would have been carried out."""
    return EC2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
