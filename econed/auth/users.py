"""The users of the cloud and their EC2 secrets, as oned has them, cached in memory.

When a change in OpenNebula counts: a removed or disabled user and an old password are refused after `KNOWN_FOR`
seconds at most; a new user is let in after `UNKNOWN_FOR` seconds at most; a new password is taken with its first
signature, or, where other signatures failed just before, `UNKNOWN_FOR` seconds later. The DNs of users of the driver
x509 are found after `UNKNOWN_SUBJECT_FOR` seconds at most; that two users have the same one after `SUBJECTS_FOR`.

A user is read again because of a request only once its signature has been shown to be theirs (`confirmed`). What a
signature that is nobody's leads to (`look_again`) is the same whether there is a user of that name or not, so that
nobody learns from it which names there are: at most once in `UNKNOWN_FOR` seconds, one call for the ids of all users,
one for each new user, and `REREAD` for known ones. Those are the users for whom signatures failed, in the order in
which they did, and if these are fewer, the ones that were read the longest ago.

All users are read at once only at first, and for certificates. Users whose own document is too long for oned's
response to be taken in are as good as none: nobody else is concerned. When oned does not answer, users are let in until
what is known of them is `KNOWN_FOR` seconds old, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from heapq import nsmallest

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from econed.auth.question import Question
from econed.errors import OpenNebulaCode, OpenNebulaRefusal, OpenNebulaTooLarge
from econed.interfaces import IOpenNebula, IUserDirectory
from econed.opennebula.documents import Note, UserDocument
from econed.opennebula.session import Session
from econed.user import User

KNOWN_FOR = 3.0
"""Seconds for which a user is taken to be as last read."""

UNKNOWN_FOR = 2.0
"""Seconds between two looks for what has changed, however many signatures are nobody's."""

REREAD = 8
"""How many known users are read again by a look for what has changed; all of them, if there are fewer."""

UNREADABLE_FOR = 60.0
"""Seconds for which a user whose document is too long is not read again."""

SUBJECTS_FOR = 60.0
"""Seconds for which a DN is taken to be that of the users who had it when all were read, and nobody else's."""

UNKNOWN_SUBJECT_FOR = 10.0
"""Seconds between two readings of all users because of certificates that are nobody's."""


@implementer(IUserDirectory)
class UserDirectory:
    """Users, read from oned as serveradmin.

    Holds as many users as OpenNebula has; of names that are none it remembers nothing. `note` is told what is read of
    oned's documents. `lookups` is told of every look into the caches `userpool` (what has changed, all users) and
    `user` what came of it, as `econed.auth.question.LookedUp`. `log` is told of users whose document is too long.
    """

    def __init__(
        self,
        one: IOpenNebula,
        clock: IReactorTime,
        note: Note | None = None,
        lookups: Callable[[str, str], None] | None = None,
        log: Logger | None = None,
    ) -> None:
        of_pool, self._of_user = (lookups and partial(lookups, cache) for cache in ("userpool", "user"))
        self._session = Session(one, None, note)
        self._clock = clock
        self._log = log or Logger(namespace="econed")
        self._all = Question(clock, self._read_all, of_pool)
        self._changes = Question(clock, self._read_changes, of_pool)
        self._is_filled = False
        self._users: dict[int, Question[User | None]] = {}
        self._ids: dict[str, int] = {}
        self._doubted: dict[int, None] = {}
        """Users for whom a signature failed since they were last read, in that order."""
        self._unreadable: dict[int, float] = {}
        """Users whose document was too long, and when."""
        self._subjects: Mapping[str, Sequence[int]] = {}

    def known(self, access_key: str) -> User | None:
        """See `IUserDirectory.known`."""
        user_id = self._ids.get(access_key)
        last = None if user_id is None else self._users[user_id].last
        return None if last is None else last[1]

    async def confirmed(self, user: User) -> User | None:
        """See `IUserDirectory.confirmed`."""
        question = self._users.get(user.id)
        return None if question is None else await question.answer(KNOWN_FOR)

    async def look_again(self, access_key: str) -> None:
        """See `IUserDirectory.look_again`."""
        user_id = self._ids.get(access_key)
        if user_id is not None:
            self._doubted.setdefault(user_id)
        await (self._changes if self._is_filled else self._all).answer(UNKNOWN_FOR)

    async def with_subject(self, spellings: Sequence[str]) -> Sequence[User]:
        """See `IUserDirectory.with_subject`."""
        found: tuple[User, ...] = ()
        for max_age in (SUBJECTS_FOR, UNKNOWN_SUBJECT_FOR) if spellings else ():
            await self._all.answer(max_age)
            found = await self._having_first(spellings)
            if any(user.enabled for user in found):
                break
        return found

    async def _having_first(self, spellings: Sequence[str]) -> tuple[User, ...]:
        """Return who had the first subject that anybody had when all users were last read, and still has it."""
        for spelling in spellings:
            questions = [self._users[each] for each in self._subjects.get(spelling, ()) if each in self._users]
            users = [await question.answer(KNOWN_FOR) for question in questions]
            found = tuple(user for user in users if user is not None and spelling in user.subjects)
            if found:
                return found
        return ()

    async def _read_all(self) -> None:
        """Read all users anew; each is known as soon as it is read."""
        asked_at = self._clock.seconds()
        users: list[User] = []
        left_out: set[int] = set()

        async def visit(document: UserDocument) -> None:
            users.append(_user(document))
            self._add(users[-1], asked_at)

        def leave_out(user_id: int) -> None:
            left_out.add(user_id)
            self._forget(user_id)
            self._note_unreadable(user_id)

        await self._session.visit_users(visit, leave_out)
        self._keep_only({user.id for user in users} | left_out)
        self._subjects = _by_subject(users)
        self._changes.learn(None, asked_at)
        self._is_filled = True

    async def _read_changes(self) -> None:
        """Read the ids of all users, then the new users and a bounded number of known ones, one after the other."""
        try:
            ids = await self._session.user_ids()
        except OpenNebulaTooLarge:
            await self._all.answer(UNKNOWN_FOR)
            return
        self._keep_only(set(ids))
        to_read = self._to_reread()
        for user_id in ids:
            if user_id not in self._users and not self._is_unreadable(user_id):
                await self._read_new(user_id)
        for user_id in to_read:
            self._doubted.pop(user_id, None)
            if user_id in self._users:
                await self._users[user_id].answer(0)

    def _to_reread(self) -> Sequence[int]:
        """Return which known users to read again; how many does not depend on the names that were asked for."""
        order = {user_id: number for number, user_id in enumerate(self._doubted)}

        def rank(user_id: int) -> tuple[int, float]:
            last = self._users[user_id].last
            return order.get(user_id, len(order)), 0.0 if last is None else last[0]

        return nsmallest(REREAD, self._users, key=rank)

    async def _read_new(self, user_id: int) -> None:
        asked_at = self._clock.seconds()
        user = await self._read_user(user_id)
        if user is not None:
            self._add(user, asked_at)

    async def _read_user(self, user_id: int) -> User | None:
        """Return a user as they are now, None if there is no such user any more, or none that can be read."""
        try:
            document = await self._session.user_by_id(user_id)
        except OpenNebulaTooLarge:
            self._note_unreadable(user_id)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.NO_EXISTS:
                raise
        else:
            self._unreadable.pop(user_id, None)
            return _user(document)
        self._forget(user_id)
        return None

    def _add(self, user: User, asked_at: float) -> None:
        question = self._users.get(user.id)
        if question is None:
            question = self._users[user.id] = Question(self._clock, partial(self._read_user, user.id), self._of_user)
        question.learn(user, asked_at)
        self._ids[user.name] = user.id

    def _keep_only(self, ids: set[int]) -> None:
        for user_id in self._users.keys() - ids:
            self._forget(user_id)
        for user_id in self._unreadable.keys() - ids:
            del self._unreadable[user_id]

    def _forget(self, user_id: int) -> None:
        question = self._users.pop(user_id, None)
        last = None if question is None else question.last
        if last is not None and last[1] is not None and self._ids.get(last[1].name) == user_id:
            del self._ids[last[1].name]
        self._doubted.pop(user_id, None)

    def _note_unreadable(self, user_id: int) -> None:
        if user_id not in self._unreadable:
            self._log.warn("user {id} cannot use EC2: their document in OpenNebula is too long to be read", id=user_id)
        self._unreadable[user_id] = self._clock.seconds()

    def _is_unreadable(self, user_id: int) -> bool:
        noted = self._unreadable.get(user_id)
        return noted is not None and 0 <= self._clock.seconds() - noted < UNREADABLE_FOR


def _by_subject(users: Iterable[User]) -> Mapping[str, Sequence[int]]:
    """Return the ids of the users who have a subject."""
    found: dict[str, list[int]] = {}
    for user in users:
        for subject in dict.fromkeys(user.subjects):
            found.setdefault(subject, []).append(user.id)
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
