"""The users of the cloud and their EC2 secrets, as oned knows them, cached for a few seconds.

When a change in OpenNebula counts: a removed or disabled user and an old password are refused after `KNOWN_FOR`
seconds at most; a new password is taken after `REFRESH_INTERVAL` seconds at most (its first signature does not match,
so the user is read anew); a new user after `UNKNOWN_FOR` seconds at most. The DNs of users of the driver x509 are
passwords in this; that two users have the same one is known after `SUBJECTS_FOR` seconds at most.

What strangers cost oned: one reading of the user pool every `UNKNOWN_FOR` seconds, however many names they try, and
one of a user every `REFRESH_INTERVAL` seconds, however often they try his. When oned does not answer, users are let in
until what is known of them is `KNOWN_FOR` seconds old, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from econed.auth.question import Question
from econed.auth.subjects import kept
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.interfaces import IOpenNebula, IUserDirectory
from econed.opennebula.documents import Note, UserDocument

KNOWN_FOR = 3.0
"""Seconds for which a user is taken to be as last read."""

UNKNOWN_FOR = 2.0
"""Seconds for which a name that is not in the pool is taken not to be there."""

REFRESH_INTERVAL = 1.0
"""Seconds between two readings of a user because of signatures that do not match."""

SUBJECTS_FOR = 60.0
"""Seconds for which a DN is taken to be that of the users who had it when all were read, and nobody else's."""

_SIGNING_DRIVERS = frozenset({"core", "public"})
_CERTIFICATE_DRIVER = "x509"


@dataclass(frozen=True)
class User:
    """A user of OpenNebula who calls by EC2.

    `name` is his access key, `secret` the PASSWORD that oned keeps, which is his secret key. `gid` is his primary
    group, `groups` are all of them in ascending order, `driver` is how he logs in to OpenNebula (AUTH_DRIVER).
    """

    id: int
    name: str
    gid: int
    groups: tuple[int, ...]
    secret: str = field(repr=False)
    driver: str
    enabled: bool

    @property
    def may_sign(self) -> bool:
        """Whether his signatures are taken at all.

        Of the drivers core and public alone oned keeps something that is secret (of x509 it is a name). A disabled
        user is kept out here, because oned goes on taking server tokens for him.
        """
        return self.enabled and self.driver in _SIGNING_DRIVERS and self.secret != ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects of the certificates by which he may come, as `econed.auth.subjects` spells them."""
        return kept(self.secret) if self.driver == _CERTIFICATE_DRIVER else ()


@implementer(IUserDirectory)
class UserDirectory:
    """Users, read from oned as serveradmin: all by `one.userpool.info`, one by `one.user.info`.

    Holds as many users as OpenNebula has; of names that are none it remembers nothing. `note` is told what is read of
    oned's documents. `lookups` is told of every look into the caches `userpool` and `user` what came of it, as
    `econed.auth.question.LookedUp`.
    """

    def __init__(
        self,
        one: IOpenNebula,
        clock: IReactorTime,
        note: Note | None = None,
        lookups: Callable[[str, str], None] | None = None,
    ) -> None:
        self._one = one
        self._clock = clock
        self._note = note
        self._of_pool, self._of_user = (lookups and partial(lookups, cache) for cache in ("userpool", "user"))
        self._pool = Question(clock, self._read_pool, self._of_pool)
        self._users: dict[str, tuple[int, Question[User | None]]] = {}
        self._subjects: Mapping[str, tuple[str, ...]] = {}

    async def find(self, access_key: str) -> User | None:
        """See `IUserDirectory.find`."""
        return await self._ask(access_key, KNOWN_FOR)

    async def refreshed(self, user: User) -> User | None:
        """See `IUserDirectory.refreshed`."""
        return await self._ask(user.name, REFRESH_INTERVAL)

    async def with_subject(self, spellings: Sequence[str]) -> Sequence[User]:
        """See `IUserDirectory.with_subject`."""
        found: tuple[User, ...] = ()
        for max_age in (SUBJECTS_FOR, UNKNOWN_FOR) if spellings else ():
            await self._pool.answer(max_age)
            found = await self._having_first(spellings)
            if any(user.enabled for user in found):
                break
        return found

    async def _having_first(self, spellings: Sequence[str]) -> tuple[User, ...]:
        """Return who had the first subject that anybody had when all users were last read, and still has it."""
        for spelling in spellings:
            users = [await self._known(name, KNOWN_FOR) for name in self._subjects.get(spelling, ())]
            found = tuple(user for user in users if user is not None and spelling in user.subjects)
            if found:
                return found
        return ()

    async def _ask(self, name: str, max_age: float) -> User | None:
        user = await self._known(name, max_age)
        if user is None:
            # He may be new, or have been removed and made again under the same name.
            await self._pool.answer(UNKNOWN_FOR)
            user = await self._known(name, KNOWN_FOR)
        return user

    async def _known(self, name: str, max_age: float) -> User | None:
        if name not in self._users:
            return None
        _, question = self._users[name]
        return await question.answer(max_age)

    async def _read_user(self, user_id: int) -> User | None:
        """Return a user as he is now, None if there is no such user any more."""
        try:
            document = await self._one.document(None, "one.user.info", user_id, False)
        except OpenNebulaRefusal as refusal:
            if refusal.code == OpenNebulaCode.NO_EXISTS:
                return None
            raise
        return _user(UserDocument(document, self._note))

    async def _read_pool(self) -> None:
        """Learn all users anew, and forget those who are gone."""
        asked_at = self._clock.seconds()
        pool = await self._one.document(None, "one.userpool.info")
        users = [_user(UserDocument(each, self._note)) for each in pool.iterchildren("USER")]
        self._users = {user.name: (user.id, self._question(user, asked_at)) for user in users}
        self._subjects = _by_subject(users)

    def _question(self, user: User, asked_at: float) -> Question[User | None]:
        known_id, question = self._users.get(user.name, (None, None))
        if question is None or known_id != user.id:
            question = Question(self._clock, partial(self._read_user, user.id), self._of_user)
        question.learn(user, asked_at)
        return question


def _by_subject(users: Iterable[User]) -> Mapping[str, tuple[str, ...]]:
    """Return the names of the users who have a subject."""
    found: dict[str, tuple[str, ...]] = {}
    for user in users:
        for subject in dict.fromkeys(user.subjects):
            found[subject] = (*found.get(subject, ()), user.name)
    return found


def _user(document: UserDocument) -> User:
    return User(
        id=document.id,
        name=document.name,
        gid=document.gid,
        groups=tuple(sorted(document.group_ids)),
        secret=document.password,
        driver=document.driver,
        enabled=document.is_enabled,
    )
