"""`econe-server keys`: lists the access keys of all users, and disables, enables and deletes them.

What an administrator disables is recorded on serveradmin, where users cannot write (`econed.credentials.revocations`),
before anything is changed on the user. All users are read at once, and none of them twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence, Set
from dataclasses import dataclass
from typing import TextIO

from econed.cli.connection import is_wrong_credentials
from econed.cli.installation import CommandFailed, Exit
from econed.cli.key_facts import days_between, keys_of
from econed.credentials.access_keys import opened, removal_text, stored_keys
from econed.credentials.key_ids import TEMPORARY, user_id_of_key
from econed.credentials.revocations import (
    MAX_REVOKED_KEYS,
    Revocations,
    key_reinstatement_text,
    key_revocation_text,
    revocations,
    user_reinstatement_text,
    user_revocation_text,
)
from econed.errors import MalformedDocument, OpenNebulaCode, OpenNebulaError, OpenNebulaRefusal, ReplyTooLarge
from econed.opennebula.documents import UserDocument
from econed.opennebula.session import Session
from econed.opennebula.template import template
from econed.sealing import Sealer
from econed.telemetry.log_lines import printable


@dataclass(frozen=True)
class Keys:
    """The commands. `now` is in seconds since the epoch.

    They raise `CommandFailed` if there is no such user or key, and as `IOpenNebula` does.
    """

    serveradmin: Session
    sealer: Sealer
    now: int
    out: TextIO

    async def list(self, owner: str | None) -> Exit:
        """Print the access keys of a user, or of all."""
        revoked = revocations(await self.serveradmin.current_user())
        users = await self._users()
        rows: list[tuple[str, ...]] = []
        shown = users.documents if owner is None else [users.named(owner)]
        for user in sorted(shown, key=lambda user: user.name):
            keys = keys_of(user, self.sealer, revoked)
            rows += [(user.name, key.id, _age(days_between(key.created, self.now)), key.state_text) for key in keys]
            until = revoked.before.get(user.id)
            if until is not None:
                rows.append((user.name, "everything until then", _age(days_between(until, self.now)), "disabled"))
        self._print_table(rows)
        for user_id in sorted(users.unreadable):
            self._print(f"user {user_id}: their document is too long or malformed, and so their keys do not count")
        return Exit.OK

    async def disable(self, key_id: str | None, owner: str | None) -> Exit:
        """Disable a key or temporary credentials, or all that a user has made until now."""
        if key_id is not None:
            _, name = await self._owner_of(key_id)
            await self._revoke(key_id)
            return self._print(f"{key_id} of {name} is disabled")
        users = await self._users()
        user = users.named(owner or "")
        await self._revoke_all(user, users.ids, frozenset())
        return self._print(f"all access keys and temporary credentials that {user.name} has made are disabled")

    async def enable(self, key_id: str | None, owner: str | None) -> Exit:
        """End what `disable` has done, for the same argument."""
        if key_id is None:
            user = (await self._users()).named(owner or "")
            admin = await self.serveradmin.current_user()
            await self.serveradmin.user_update(admin.id, user_reinstatement_text(user.id))
            return self._print(f"what {user.name} has made is enabled, but for keys that are disabled one by one")
        user = await self._user_of(key_id)
        admin = await self.serveradmin.current_user()
        await self.serveradmin.user_update(admin.id, key_reinstatement_text(key_id))
        of_user = Revocations(before=revocations(admin).before)
        if any(key.is_disabled for key in keys_of(user, self.sealer, of_user) if key.id == key_id):
            text = f"{key_id} is still disabled with the others of {user.name}: econe-server keys enable --of"
            raise CommandFailed(Exit.FAILED, f"{text} {user.name}")
        return self._print(f"{key_id} of {user.name} is enabled")

    async def delete(self, key_id: str | None, owner: str | None) -> Exit:
        """Delete a key, or all of a user; a copy that is written back does not count."""
        if key_id is not None:
            if key_id.startswith(TEMPORARY):
                raise CommandFailed(Exit.FAILED, f"{key_id} is stored nowhere: disable it")
            user_id, name = await self._owner_of(key_id)
            await self._revoke(key_id)
            await self.serveradmin.user_update(user_id, removal_text(key_id))
            return self._print(f"{key_id} of {name} is deleted")
        users = await self._users()
        user = users.named(owner or "")
        await self._revoke_all(user, users.ids, {user.id})
        key_ids = [key.id for key in stored_keys(user)]
        if key_ids:
            await self.serveradmin.user_update(user.id, template(*map(removal_text, key_ids)))
        text = f"{len(key_ids)} access keys of {user.name} are deleted, and all temporary credentials are disabled"
        return self._print(text)

    async def _revoke(self, key_id: str) -> None:
        admin = await self.serveradmin.current_user()
        revoked = revocations(admin).keys
        if key_id not in revoked and len(revoked) >= MAX_REVOKED_KEYS:
            text = f"{len(revoked)} keys are disabled one by one, and more are not possible: disable or delete all of a"
            raise CommandFailed(Exit.FAILED, f"{text} user (--of NAME)")
        await self.serveradmin.user_update(admin.id, key_revocation_text(key_id))

    async def _revoke_all(self, user: UserDocument, existing: Set[int], replaced: Set[int]) -> None:
        """Revoke everything that a user has made until now, also by a clock that is ahead.

        This is instead of the revocations of single keys of the users `replaced`, and those of removed users end.
        """
        keys = [opened(self.sealer, user.id, stored) for stored in stored_keys(user)]
        until = max([self.now, *(key.created for key in keys if key is not None)])
        admin = await self.serveradmin.current_user()
        obsolete = _obsolete_texts(revocations(admin), self.sealer, existing, replaced)
        await self.serveradmin.user_update(admin.id, template(*obsolete, user_revocation_text(user.id, until)))

    async def _owner_of(self, key_id: str) -> tuple[int, str]:
        """Return the id and the name of the user of a key (`_user_of`), also if their document cannot be read.

        No user can prevent by their document that a key is disabled.
        """
        user_id = self._owner_id(key_id)
        try:
            return user_id, (await self._user_of(key_id)).name
        except (ReplyTooLarge, MalformedDocument):
            return user_id, f"user {user_id}"

    def _owner_id(self, key_id: str) -> int:
        user_id = user_id_of_key(self.sealer, key_id)
        if user_id is None:
            raise CommandFailed(Exit.FAILED, f"{printable(key_id)} is not an access key that econed has made")
        return user_id

    async def _user_of(self, key_id: str) -> UserDocument:
        """Return the user of an access key or temporary credentials, whether or not they still exist."""
        user_id = self._owner_id(key_id)
        try:
            return await self.serveradmin.user_by_id(user_id)
        except OpenNebulaRefusal as refusal:
            if refusal.code != OpenNebulaCode.NO_EXISTS:
                raise
            raise CommandFailed(Exit.FAILED, f"the user of {key_id} does not exist any longer") from None

    async def _users(self) -> _Users:
        documents: list[UserDocument] = []
        unreadable: set[int] = set()

        async def visit(user: UserDocument) -> None:
            documents.append(user)

        await self.serveradmin.visit_users(visit, unreadable.add)
        return _Users(tuple(documents), frozenset(unreadable))

    def _print_table(self, rows: Sequence[tuple[str, ...]]) -> None:
        cells = [("USER", "ACCESS KEY", "AGE", "STATE"), *(tuple(map(printable, row)) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            self._print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def _print(self, text: str) -> Exit:
        print(printable(text), file=self.out)
        return Exit.OK


@dataclass(frozen=True)
class _Users:
    """All users, and the ids of those whose documents cannot be read."""

    documents: tuple[UserDocument, ...]
    unreadable: frozenset[int]

    @property
    def ids(self) -> frozenset[int]:
        """The ids of all users."""
        return self.unreadable | {user.id for user in self.documents}

    def named(self, name: str) -> UserDocument:
        """Return a user; raises `CommandFailed`."""
        for user in self.documents:
            if user.name == name:
                return user
        raise CommandFailed(Exit.FAILED, f"there is no user {printable(name)} whose document can be read")


async def reporting_errors(command: Awaitable[Exit]) -> Exit:
    """Await a command; raises `CommandFailed` for the errors of oned."""
    try:
        return await command
    except OpenNebulaError as error:
        code = Exit.FAILED if isinstance(error, OpenNebulaRefusal) else Exit.NO_REPLY
        raise CommandFailed(
            Exit.REFUSED if is_wrong_credentials(error) else code, f"oned: {printable(str(error))}"
        ) from None


def _obsolete_texts(revoked: Revocations, sealer: Sealer, existing: Set[int], replaced: Set[int]) -> list[str]:
    """Return the template texts that remove revocations of removed users, and those of keys of the users `replaced`."""
    owners = {key_id: user_id_of_key(sealer, key_id) for key_id in revoked.keys}
    texts = [
        key_reinstatement_text(key_id)
        for key_id, owner in owners.items()
        if owner is not None and (owner not in existing or owner in replaced)
    ]
    return texts + [user_reinstatement_text(user_id) for user_id in revoked.before if user_id not in existing]


def _age(days: int | None) -> str:
    return "-" if days is None else f"{days} d"
