"""A user directory over a fake oned, for the tests of authentication."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from lxml import etree
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

from econed.auth.users import UserDirectory
from econed.errors import OpenNebulaRefusal, OpenNebulaUnavailable, ReplyTooLarge
from econed.interfaces import IOpenNebula
from econed.user import Login, User
from tests.auth.support import ALICE, done

BOB = User(id=3, name="bob", gid=100, groups=(1, 100), secret="bobpublic", driver="public", enabled=True)
ANNA = User(id=4, name="anna", gid=100, groups=(100,), secret="/O=ONE/CN=anna|/CN=anna", driver="x509", enabled=True)
SUBJECT = ("/O=ONE/CN=anna",)

POOL = ("one.userpool.info",)
GROUPS = ("one.grouppool.info",)


def reading(user: User) -> tuple[Any, ...]:
    """Return the call that reads a user."""
    return ("one.user.info", user.id, False)


@implementer(IOpenNebula)
@dataclass
class FakeOned:
    """An oned with users. It responds immediately or, while `is_held`, when `release` is called.

    The responses to `long_methods`, and the documents of `long_users`, exceed the limit.
    """

    users: list[User] = field(default_factory=lambda: [ALICE, BOB])
    long_methods: set[str] = field(default_factory=set)
    long_users: set[int] = field(default_factory=set)
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    is_down: bool = False
    is_held: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        raise AssertionError(f"{method} returns no document")

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        assert user is None, "users must be read as serveradmin"
        self.calls.append((method, *args))
        users = list(self.users)
        if self.is_held:
            released: Deferred[None] = Deferred()
            self.waiting.append(lambda: released.callback(None))
            await released
        if self.is_down:
            raise OpenNebulaUnavailable(method, "connection refused")
        if method in self.long_methods or (method == "one.user.info" and args[0] in self.long_users):
            raise ReplyTooLarge(method, "a response of too many bytes")
        if method == "one.grouppool.info":
            groups = sorted({gid for listed in users for gid in listed.groups})
            ids = {gid: "".join(f"<ID>{listed.id}</ID>" for listed in users if gid in listed.groups) for gid in groups}
            items = "".join(f"<GROUP><ID>{gid}</ID><USERS>{ids[gid]}</USERS></GROUP>" for gid in groups)
            return etree.fromstring(f"<GROUP_POOL>{items}</GROUP_POOL>")
        if method == "one.userpool.info":
            quotas = "<QUOTAS><ID>{}</ID><DATASTORE_QUOTA/></QUOTAS>"
            items = "".join(document(listed) + quotas.format(listed.id) for listed in users)
            return etree.fromstring(f"<USER_POOL>{items}</USER_POOL>")
        requested = next((listed for listed in users if listed.id == args[0]), None)
        if requested is None:
            raise OpenNebulaRefusal(method, 1024, "Error getting user")
        return etree.fromstring(document(requested))

    def release(self) -> None:
        """Respond to the calls that are waiting."""
        waiting, self.waiting = self.waiting, []
        for respond in waiting:
            respond()

    def change(self, user: User) -> None:
        """Replace the user with the same id."""
        self.users = [user if old.id == user.id else old for old in self.users]


def document(user: User) -> str:
    """Return a user's document in oned's format."""
    groups = "".join(f"<ID>{gid}</ID>" for gid in user.groups)
    tokens = "".join(
        f"<LOGIN_TOKEN><TOKEN>{token.text}</TOKEN><EXPIRATION_TIME>{_or_none(token.expires)}</EXPIRATION_TIME>"
        f"<EGID>{_or_none(token.group)}</EGID></LOGIN_TOKEN>"
        for token in user.login_tokens
    )
    return (
        f"<USER><ID>{user.id}</ID><GID>{user.gid}</GID><GROUPS>{groups}</GROUPS><GNAME>ec2</GNAME>"
        f"<NAME>{escape(user.name)}</NAME><PASSWORD><![CDATA[{user.secret}]]></PASSWORD>"
        f"<AUTH_DRIVER><![CDATA[{user.driver}]]></AUTH_DRIVER><ENABLED>{int(user.enabled)}</ENABLED>{tokens}"
        "<TEMPLATE/></USER>"
    )


def _or_none(number: int | None) -> int:
    """Return a number as oned writes it in login tokens: -1 for none."""
    return -1 if number is None else number


@dataclass
class FakeCloud:
    """A directory over a fake oned, with a clock that the tests advance."""

    one: FakeOned = field(default_factory=FakeOned)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.directory = UserDirectory(self.one, self.clock, log=Logger(namespace="econed"))

    def start_find(self, name: str) -> Deferred[User | None]:
        """Look a user up as an authenticator does for a correct signature."""
        return Deferred.fromCoroutine(self._find(name))

    async def _find(self, name: str) -> User | None:
        cached = self.directory.cached(name)
        current = None if cached is None else await self.directory.confirm(cached)
        if current is None:
            await self.directory.refresh(name)
            current = self.directory.cached(name)
        return current

    def find(self, name: str) -> Any:
        """Look a user up, and return the result, which must be available immediately."""
        return done(self.start_find(name))

    def fail(self, *names: str) -> None:
        """Let a signature fail for each of these names."""
        for name in names:
            done(Deferred.fromCoroutine(self.directory.refresh(name)))

    def advance(self, seconds: float) -> list[tuple[Any, ...]]:
        """Advance the clock, and return the calls made before."""
        self.clock.advance(seconds)
        calls, self.one.calls = self.one.calls, []
        return calls


def find_by_subject(cloud: FakeCloud, *spellings: str) -> Any:
    """Return the users with a subject, which must be available immediately."""
    return done(Deferred.fromCoroutine(cloud.directory.find_by_subject(spellings)))
