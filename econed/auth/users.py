"""The users of the cloud and their EC2 secrets, read from oned and cached in memory: passwords and login tokens.

When a change in OpenNebula takes effect: a removed or disabled user, an old password and a login token that was removed
are refused after `USER_MAX_AGE` seconds at most; a token that expires is refused from that second on. A new user is
accepted after `REFRESH_INTERVAL` seconds at most. A new password or token is accepted with the first signature made
with it or, where other signatures failed just before, `REFRESH_INTERVAL` seconds later. The DNs of users of the driver
x509 are found after `UNKNOWN_SUBJECT_INTERVAL` seconds at most, and a second user with the same DN after
`SUBJECTS_MAX_AGE`.

A request causes its user to be read again only after its signature was verified (`confirm`). The calls to oned that
follow a failed signature (`refresh`) do not depend on whether the named user exists, so that they do not reveal user
names: at most once in `REFRESH_INTERVAL` seconds, a call for the ids of all users, a call for each new user, and
`USERS_PER_REFRESH` calls for known users. Known users for whom signatures failed are read first, in the order of those
failures, then the users whose data is oldest.

All users are read together only the first time, and for certificates. A user whose document exceeds the limit on oned's
response, or is malformed by a text that they have written, is refused; other users are not affected. While oned does
not respond, users are accepted until their data is `USER_MAX_AGE` seconds old.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from heapq import nsmallest

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from econed.cached_lookup import CachedLookup
from econed.credentials.access_keys import stored_keys
from econed.errors import MalformedDocument, OpenNebulaCode, OpenNebulaRefusal, ReplyTooLarge
from econed.interfaces import IOpenNebula, IUserDirectory
from econed.opennebula.documents import OnRead, UserDocument
from econed.opennebula.session import Session
from econed.user import User

USER_MAX_AGE = 3.0
"""Seconds for which a cached user is used without asking oned."""

REFRESH_INTERVAL = 2.0
"""Minimum seconds between two refreshes, however many signatures fail."""

USERS_PER_REFRESH = 8
"""How many known users a refresh reads again; all of them, if there are fewer."""

UNREADABLE_RETRY_INTERVAL = 60.0
"""Seconds after which a user whose document was too long or malformed is read again."""

MAX_ASKED_FOR = 1000
"""Maximum credentials to remember for which users were read; the first is forgotten first."""

SUBJECTS_MAX_AGE = 60.0
"""Seconds for which a cached DN identifies its users without reading all users again."""

UNKNOWN_SUBJECT_INTERVAL = 10.0
"""Minimum seconds between two reads of all users because of certificates with an unknown DN."""


@implementer(IUserDirectory)
class UserDirectory:
    """Users, read from oned as serveradmin.

    Its size is bounded by the number of users in OpenNebula; unknown names are not remembered. `on_read` is called with
    the elements that are read of oned's documents. `count_lookup` is called for each lookup in the caches `userpool`
    (changes, all users) and `user`, with the name of the cache and the outcome (see
    `econed.cached_lookup.CountLookup`). `log` receives the users whose document is too long or malformed.
    """

    def __init__(
        self,
        oned: IOpenNebula,
        clock: IReactorTime,
        on_read: OnRead | None = None,
        count_lookup: Callable[[str, str], None] | None = None,
        *,
        log: Logger,
    ) -> None:
        count_pool, self._count_user = (count_lookup and partial(count_lookup, cache) for cache in ("userpool", "user"))
        self._session = Session(oned, None, on_read)
        self._clock = clock
        self._log = log
        self._all = CachedLookup(clock, self._read_all, count_pool)
        self._changes = CachedLookup(clock, self._read_changes, count_pool)
        self._is_filled = False
        self._users: dict[int, CachedLookup[User | None]] = {}
        self._ids: dict[str, int] = {}
        self._suspects: dict[int, None] = {}
        """Users for whom a signature failed since they were last read, in the order of the failures."""
        self._unreadable: dict[int, float] = {}
        """When the documents of users were last found to be too long or malformed."""
        self._asked_for: OrderedDict[str, CachedLookup[User | None]] = OrderedDict()
        """The reads because of credentials that failed, in the order in which these were first asked for."""
        self._subjects: Mapping[str, Sequence[int]] = {}

    def cached(self, access_key: str) -> User | None:
        """See `IUserDirectory.cached`."""
        user_id = self._ids.get(access_key)
        return None if user_id is None else self.cached_by_id(user_id)

    def cached_by_id(self, user_id: int) -> User | None:
        """See `IUserDirectory.cached_by_id`."""
        lookup = self._users.get(user_id)
        return None if lookup is None or lookup.entry is None else lookup.entry.value

    async def confirm(self, user: User) -> User | None:
        """See `IUserDirectory.confirm`."""
        lookup = self._users.get(user.id)
        return None if lookup is None else await lookup.get(USER_MAX_AGE)

    async def refresh(self, access_key: str) -> None:
        """See `IUserDirectory.refresh`."""
        user_id = self._ids.get(access_key)
        if user_id is not None:
            self._suspects.setdefault(user_id)
        await (self._changes if self._is_filled else self._all).get(REFRESH_INTERVAL)

    async def read(self, user_id: int, credential: str) -> User | None:
        """See `IUserDirectory.read`."""
        lookup = self._asked_for.get(credential)
        if lookup is None:
            lookup = CachedLookup(self._clock, partial(self._read_again, user_id))
            self._asked_for[credential] = lookup
            if len(self._asked_for) > MAX_ASKED_FOR:
                self._asked_for.popitem(last=False)
        return await lookup.get(REFRESH_INTERVAL)

    async def _read_again(self, user_id: int) -> User | None:
        known, asked_at = self._users.get(user_id), self._clock.seconds()
        if known is not None:
            await known.get(0)
            if known.entry is not None and known.entry.requested_at < asked_at:
                await known.get(0)  # the first was in flight: it may have begun before there was the access key
        elif not self._is_unreadable(user_id):
            await self._read_new(user_id)
        return self.cached_by_id(user_id)

    async def find_by_subject(self, spellings: Sequence[str]) -> Sequence[User]:
        """See `IUserDirectory.find_by_subject`."""
        users: tuple[User, ...] = ()
        for max_age in (SUBJECTS_MAX_AGE, UNKNOWN_SUBJECT_INTERVAL) if spellings else ():
            await self._all.get(max_age)
            users = await self._with_first_known(spellings)
            if any(user.enabled for user in users):
                break
        return users

    async def _with_first_known(self, spellings: Sequence[str]) -> tuple[User, ...]:
        """Return the users with the first known spelling: as of the last read of all users, and confirmed since."""
        for spelling in spellings:
            ids = self._subjects.get(spelling, ())
            lookups = [self._users[user_id] for user_id in ids if user_id in self._users]
            candidates = [await lookup.get(USER_MAX_AGE) for lookup in lookups]
            users = tuple(user for user in candidates if user is not None and spelling in user.subjects)
            if users:
                return users
        return ()

    async def _read_all(self) -> None:
        """Read all users again; each is cached as soon as it is read."""
        requested_at = self._clock.seconds()
        users: list[User] = []
        unreadable: set[int] = set()

        async def visit(document: UserDocument) -> None:
            users.append(user_in(document))
            self._add(users[-1], requested_at)

        def leave_out(user_id: int) -> None:
            unreadable.add(user_id)
            self._forget(user_id)
            self._record_unreadable(user_id)

        await self._session.visit_users(visit, leave_out)
        self._forget_all_but({user.id for user in users} | unreadable)
        self._subjects = _ids_by_subject(users)
        self._changes.store(None, requested_at)
        self._is_filled = True

    async def _read_changes(self) -> None:
        """Read the ids of all users, then the new users and a bounded number of known users, one after the other."""
        try:
            ids = await self._session.user_ids()
        except ReplyTooLarge:
            await self._all.get(REFRESH_INTERVAL)
            return
        self._forget_all_but(set(ids))
        to_reread = self._to_reread()
        for user_id in ids:
            if user_id not in self._users and not self._is_unreadable(user_id):
                await self._read_new(user_id)
        for user_id in to_reread:
            self._suspects.pop(user_id, None)
            if user_id in self._users:
                await self._users[user_id].get(0)

    def _to_reread(self) -> Sequence[int]:
        """Return the known users to read again; their number does not depend on the names in requests."""
        position = {user_id: index for index, user_id in enumerate(self._suspects)}

        def rank(user_id: int) -> tuple[int, float]:
            entry = self._users[user_id].entry
            return position.get(user_id, len(position)), 0.0 if entry is None else entry.requested_at

        return nsmallest(USERS_PER_REFRESH, self._users, key=rank)

    async def _read_new(self, user_id: int) -> None:
        requested_at = self._clock.seconds()
        user = await self._read_user(user_id)
        if user is not None:
            self._add(user, requested_at)

    async def _read_user(self, user_id: int) -> User | None:
        """Return the current data of a user; None if the user was removed or cannot be read."""
        try:
            document = await self._session.user_by_id(user_id)
        except (ReplyTooLarge, MalformedDocument):
            self._record_unreadable(user_id)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.NO_EXISTS:
                raise
        else:
            self._unreadable.pop(user_id, None)
            return user_in(document)
        self._forget(user_id)
        return None

    def _add(self, user: User, requested_at: float) -> None:
        lookup = self._users.get(user.id)
        if lookup is None:
            lookup = CachedLookup(self._clock, partial(self._read_user, user.id), self._count_user)
            self._users[user.id] = lookup
        lookup.store(user, requested_at)
        self._ids[user.name] = user.id

    def _forget_all_but(self, ids: set[int]) -> None:
        for user_id in self._users.keys() - ids:
            self._forget(user_id)
        for user_id in self._unreadable.keys() - ids:
            del self._unreadable[user_id]

    def _forget(self, user_id: int) -> None:
        lookup = self._users.pop(user_id, None)
        user = None if lookup is None or lookup.entry is None else lookup.entry.value
        if user is not None and self._ids.get(user.name) == user_id:
            del self._ids[user.name]
        self._suspects.pop(user_id, None)

    def _record_unreadable(self, user_id: int) -> None:
        if user_id not in self._unreadable:
            self._log.warn(
                "user {id} cannot use EC2: their document in OpenNebula is too long or malformed", id=user_id
            )
        self._unreadable[user_id] = self._clock.seconds()

    def _is_unreadable(self, user_id: int) -> bool:
        recorded_at = self._unreadable.get(user_id)
        return recorded_at is not None and 0 <= self._clock.seconds() - recorded_at < UNREADABLE_RETRY_INTERVAL


def _ids_by_subject(users: Iterable[User]) -> Mapping[str, Sequence[int]]:
    """Return the ids of the users with each subject."""
    ids: dict[str, list[int]] = {}
    for user in users:
        for subject in dict.fromkeys(user.subjects):
            ids.setdefault(subject, []).append(user.id)
    return ids


def user_in(document: UserDocument) -> User:
    """Return the user of a document, of which they may have written parts."""
    return User(
        id=document.id,
        name=document.name,
        gid=document.gid,
        groups=tuple(sorted(document.group_ids)),
        secret=document.password,
        driver=document.driver,
        enabled=document.is_enabled,
        login_tokens=document.login_tokens,
        access_keys=stored_keys(document),
    )
