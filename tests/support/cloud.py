"""A cloud in the sandbox, and EC2 calls on it as boto3 makes and reads them, without HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, TypeVar, cast

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.actions.call import Call, sessions_of
from econed.actions.pacing import Pacer, WorkBudget
from econed.actions.process_memory import ProcessMemory
from econed.actions.zones_and_clusters import ZonesAndClusters
from econed.answers import failure
from econed.auth.users import UserDirectory
from econed.calls.queue import CallQueue
from econed.catalogue import all_actions
from econed.config.sealing_keys import SealingKeys
from econed.config.settings import Settings
from econed.dispatch import Dispatcher
from econed.errors import EC2Error, OpenNebulaError
from econed.interfaces import IOpenNebula, IScripts
from econed.opennebula.file_templates import FileTypes
from econed.opennebula.long_documents import LongDocuments
from econed.opennebula.methods import is_read_only
from econed.opennebula.session import Session
from econed.pipeline import Invocation
from econed.sandbox.demo_cloud import populate
from econed.sandbox.oned import LoggedCall, Oned
from econed.services import EC2, AmazonService
from econed.user import Credential, CredentialKind, Login, Sender, User, origin_of
from econed.wire.encoder import Encoder
from tests.support.sandbox_connection import sandbox_backend

if TYPE_CHECKING:
    pass

_T = TypeVar("_T")

NOW = 1_800_000_000
"""The time at which every test begins, in seconds since the epoch."""

ENDPOINT = "http://cloud.example:4567"
"""The URL of econed that clients use."""

SEALING_KEYS = SealingKeys((b"sealing key of all the processes",))
"""The sealing keys of every test."""

VERSION = "2016-11-15"
REQUEST_ID = "7f0c2f7e-0000-0000-0000-000000000000"

_STEP, _TIMEOUT = 0.1, 1200.0
"""Seconds by which the clock is advanced at a time, and in all, until a result must be there."""


@implementer(IScripts)
class NoScripts:
    """The scripts of an econed that has none configured."""

    has_any = False

    async def associate(
        self, elastic_ip: IPv4Address, private_ip: IPv4Address, network: str, max_seconds: float
    ) -> None:
        """Do nothing (`IScripts`)."""

    async def disassociate(
        self, elastic_ip: IPv4Address, private_ip: IPv4Address | None, network: str, max_seconds: float
    ) -> None:
        """Do nothing (`IScripts`)."""


@cache
def _amazon(service: AmazonService) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(service.name, "service-2"), service.name)


@cache
def dispatcher() -> Dispatcher:
    """Return the dispatcher of all actions."""
    return Dispatcher.load(all_actions())


@cache
def _encoder() -> Encoder:
    return Encoder()


def service_with(action: str) -> AmazonService:
    """Return the service that has an action; EC2 if none has."""
    return next((service for service, name in dispatcher().routes if name == action), EC2)


class Cloud:
    """A sandbox with what `populate` makes, and the users alice and bob of the group ec2.

    `clock` advances only while a test waits. A test may replace `backend`. `signed_region` is the region that calls
    are signed for.
    """

    def __init__(self, version: str = "7.4", *, vms: int = 0, settings: Settings | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.oned = Oned(self.clock, version=version)
        populate(self.oned, users=[("alice", "alicepw"), ("bob", "bobpw")], vms=vms)
        self.settings = settings or Settings()
        self.backend: IOpenNebula = sandbox_backend(self.oned, self.clock)
        self._queued: tuple[IOpenNebula, CallQueue] | None = None
        self.file_types: FileTypes | None = None
        self.signed_region: str | None = None
        self.scripts: IScripts = NoScripts()
        self.sealer = SEALING_KEYS.sealer()
        self.cached_users: dict[str, User] = {}
        """Users whose calls are made with these records, even if they have changed in oned since they were read."""
        self.pacer = Pacer(self.clock, now=self.clock.seconds)
        self.memory = self.new_memory()
        self.as_user("alice", "one.system.version")  # the backend determines which tokens oned accepts
        self._logged = len(self.oned.calls)

    @property
    def calls(self) -> CallQueue:
        """The queue of calls to the backend; with another backend it is another, as that of another process."""
        if self._queued is None or self._queued[0] is not self.backend:
            self._queued = (self.backend, CallQueue(self.backend, self.settings.one_calls, self.clock))
        return self._queued[1]

    def renew_calls(self) -> None:
        """Make the next calls in another queue, as another process does."""
        self._queued = None

    def run(self, user: str, action: str, *, dry_run: bool = False, **parameters: Any) -> dict[str, Any]:
        """Make an EC2 call and return the response as boto3 would; raises the `EC2Error` that a client would get."""
        call = self.call_as(user, dry_run=dry_run)
        return self.result(perform(call, action, parameters))

    def refusal(self, user: str, action: str, *, dry_run: bool = False, **parameters: Any) -> EC2Error:
        """Make an EC2 call that must fail, and return the error."""
        try:
            response = self.run(user, action, dry_run=dry_run, **parameters)
        except EC2Error as error:
            return error
        raise AssertionError(f"{action} did not fail: {response}")

    def call_as(self, user: str, *, dry_run: bool = False) -> Call:
        """Return the `Call` that an action gets when this user calls it."""
        caller = self.user(user)
        origin = origin_of(CredentialKind.PASSWORD, caller.secret)
        return self.call_of(Sender(caller, Credential(CredentialKind.PASSWORD, user, origin)), dry_run=dry_run)

    def call_of(self, sender: Sender, *, dry_run: bool = False) -> Call:
        """Return the `Call` that an action gets for a sender."""
        caller = sender.user
        session, serveradmin = sessions_of(caller, self.calls.for_user(caller), self.memory)
        call = Call(
            caller=caller,
            credential=sender.credential,
            session=session,
            serveradmin=serveradmin,
            settings=self.settings,
            clock=self.clock,
            in_thread=_at_once,
            scripts=self.scripts,
            budget=WorkBudget(self.pacer),
            endpoint=ENDPOINT,
            request_id=REQUEST_ID,
            file_types=self.file_types,
            signed_region=self.signed_region,
            memory=self.memory,
            sealer=self.sealer,
        )
        return call.as_dry_run() if dry_run else call

    def call_in_new_process(self, user: str, oned: IOpenNebula) -> Call:
        """Return the `Call` that an action gets in a process that has just started, with `oned` as its client."""
        session, serveradmin = Session(oned, user), Session(oned, None)
        return replace(self.call_as(user), session=session, serveradmin=serveradmin, memory=self.new_memory(oned))

    def new_memory(self, oned: IOpenNebula | None = None) -> ProcessMemory:
        """Return the memory of a process that has just started, with `oned` as its client, else the current backend."""
        serveradmin = Session(oned or _ReplaceableBackend(self), None)
        return ProcessMemory(ZonesAndClusters(serveradmin, self.clock), LongDocuments(self.clock.seconds))

    def user(self, name: str) -> User:
        """Return a user as the authenticator would."""
        if name in self.cached_users:
            return self.cached_users[name]
        directory = UserDirectory(self.backend, self.clock, log=Logger(namespace="econed"))
        self.result(directory.refresh(name))
        user = directory.cached(name)
        assert user is not None, f"there is no user {name}"
        return user

    def result(self, awaited: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a coroutine, or raise its exception; advance the clock until it has ended."""
        results: list[Any] = []
        Deferred.fromCoroutine(awaited).addBoth(results.append)
        waited = 0.0
        while not results and waited < _TIMEOUT:
            self.clock.advance(_STEP)
            waited += _STEP
        assert results, f"no result after {waited:.0f} s"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return cast(_T, results[0])

    def wait(self, seconds: float) -> None:
        """Advance the clock in small steps, so that work that waits several times can end."""
        for _ in range(round(seconds / _STEP)):
            self.clock.advance(_STEP)

    def oneadmin(self, method: str, *args: object) -> Any:
        """Make a call to oned as oneadmin, which must succeed, and return its value."""
        succeeded, value, *_ = self.oned.execute(method, self.oned.oneadmin, *args)
        assert succeeded is True, value
        return value

    def as_user(self, name: str, method: str, *args: object) -> Any:
        """Make a call to oned as a user, which must succeed, and return its value."""
        return self.result(self.backend.call(name, method, *args))

    @property
    def changes(self) -> list[LoggedCall]:
        """The changes that users have requested from oned since the cloud was created, including refused ones."""
        return [
            call
            for call in list(self.oned.calls)[self._logged :]
            if call.user != "oneadmin" and not is_read_only(call.method)
        ]


@implementer(IOpenNebula)
class _ReplaceableBackend:
    """The backend of a cloud at the time of each call."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        return await self._cloud.backend.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        return await self._cloud.backend.document(user, method, *args, **options)


async def perform(call: Call, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Make a call as boto3 would and return the response as boto3 reads it; raises the `EC2Error` it would get."""
    service = service_with(action)
    client = _amazon(service).operation_model(action)
    serializer = create_serializer(service.protocol, include_validation=False)
    form = serializer.serialize_to_request(parameters, client)["body"]
    return await perform_pairs(call, action, _texts(form))


async def perform_pairs(call: Call, action: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Make a call with any pairs of a query, and return the response as boto3 reads it."""
    service = service_with(action)
    try:
        return _read(service, action, await body_of(call, action, pairs))
    except (EC2Error, OpenNebulaError) as error:
        told = failure(error, service).error
        if told is error:
            raise
        raise told from error


async def body_of(call: Call, action: str, pairs: Sequence[tuple[str, str]], version: str | None = None) -> bytes:
    """Send a call through the daemon's pipeline and return the body of the response, also where it is in parts.

    `version` is that of the API; None: `VERSION` for EC2, and the only one of another service.
    """
    version = version or service_with(action).version or VERSION
    parameters = [(name, value) for name, value in pairs if name not in ("Action", "Version")]
    invocation = Invocation.of(dispatcher(), call, (("Action", action), ("Version", version), *parameters))
    body = invocation.body(_encoder())
    result = await invocation.run()
    if isinstance(result, AsyncGenerator):
        async with aclosing(result) as parts:
            pieces = [piece async for part in parts for piece in body.slices(part)]
    else:
        pieces = list(body.slices(result or {}))
    return b"".join((*pieces, body.end()))


def _read(service: AmazonService, action: str, body: bytes) -> dict[str, Any]:
    response = {"status_code": 200, "headers": {}, "body": body}
    shape = _amazon(service).operation_model(action).output_shape
    members: dict[str, Any] = create_parser(service.protocol).parse(response, cast(Shape, shape))
    del members["ResponseMetadata"]
    return members


def _at_once(work: Callable[[], _T]) -> Awaitable[_T]:
    return succeed(work())


def _texts(form: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in form.items()]
