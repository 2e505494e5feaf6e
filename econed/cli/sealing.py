"""`econe-server keys renew`, `reseal` and `retire`: new sealing keys, with which all access keys stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from econed.cli.installation import CommandFailed, Exit
from econed.config.sealing_keys import MAX_KEYS, SealingKeys, store
from econed.configtest import LoadedConfiguration
from econed.credentials.access_keys import AccessKey, opened, resealed_text, stored_keys
from econed.credentials.key_ids import KEY_ID_PURPOSE
from econed.errors import OpenNebulaCode, OpenNebulaRefusal
from econed.opennebula.documents import UserDocument
from econed.opennebula.session import Session
from econed.opennebula.template import template
from econed.sealing import Sealer
from econed.telemetry.log_lines import printable


def renew(conf: Path, loaded: LoadedConfiguration, file: Path | None, out: TextIO) -> Exit:
    """Put a new key before those in use, also before the one that is derived from serveradmin's credentials.

    Without `sealing_keys` in econe.conf they are written to a new file. Raises `CommandFailed`.
    """
    configured = loaded.settings.sealing_keys
    if configured is None and file is None:
        raise CommandFailed(Exit.FAILED, "econe.conf names no sealing_keys: name the file to create with --file")
    if configured is not None and file is not None:
        raise CommandFailed(Exit.FAILED, f"econe.conf has sealing_keys: {configured}; --file is for a first file")
    path = Path(configured or file or "").absolute()
    if configured is None and path.exists():
        raise CommandFailed(Exit.FAILED, f"{path} exists already")
    if len(loaded.sealing_keys.keys) >= MAX_KEYS:
        raise CommandFailed(Exit.FAILED, f"{path} has {MAX_KEYS} keys already: econe-server keys retire removes some")
    _store(path, loaded.sealing_keys.renewed())
    print(f"{path}: new texts are sealed with a new key; the other keys still open", file=out)
    if configured is None:
        print(f"Set `:sealing_keys: {path}` in {conf}, and reload econed.", file=out)
    else:
        print("Reload econed.", file=out)
    return Exit.OK


async def reseal(serveradmin: Session, sealer: Sealer, out: TextIO) -> Exit:
    """Seal all access keys again that are not sealed with the first key; a removed key stays removed."""
    outdated, unreadable, too_long = await _outdated_keys(serveradmin, sealer)
    refused = 0
    for user_id, keys in outdated.items():
        try:
            await serveradmin.user_update(user_id, template(*(resealed_text(sealer, key) for key in keys)))
        except OpenNebulaRefusal as refusal:
            if refusal.code == OpenNebulaCode.AUTHENTICATION:
                raise
            if refusal.code != OpenNebulaCode.NO_EXISTS:
                refused += 1
                print(f"user {user_id}: {printable(str(refusal))}", file=out)
    print(f"{sum(map(len, outdated.values()))} access keys of {len(outdated)} users sealed again", file=out)
    for user_id in too_long:
        print(f"user {user_id}: their document is too long to be read, and so their keys stay as they are", file=out)
    if unreadable:
        print(f"{unreadable} access keys cannot be opened: econe-server keys list", file=out)
    return Exit.FAILED if refused else Exit.OK


async def retire(serveradmin: Session, loaded: LoadedConfiguration, out: TextIO) -> Exit:
    """Remove all keys but the first from the file, if no access key is sealed with them; raises `CommandFailed`.

    What recognizes the ids of access keys that were made with them is kept.
    """
    path, keys = loaded.settings.sealing_keys, loaded.sealing_keys
    if path is None:
        raise CommandFailed(Exit.FAILED, "econe.conf names no sealing_keys")
    outdated, *_ = await _outdated_keys(serveradmin, keys.sealer())
    if outdated:
        count = sum(map(len, outdated.values()))
        text = f"{count} access keys are sealed with them: first econe-server keys reseal"
        raise CommandFailed(Exit.FAILED, text)
    _store(Path(path), keys.with_first_only(KEY_ID_PURPOSE))
    print(f"{path}: {len(keys.keys) - 1} keys removed. Reload econed.", file=out)
    return Exit.OK


async def _outdated_keys(serveradmin: Session, sealer: Sealer) -> tuple[dict[int, list[AccessKey]], int, list[int]]:
    """Return the access keys by user that are not sealed with the first key, and how many cannot be opened.

    The third are the ids of users whose document is too long to be read.
    """
    outdated: dict[int, list[AccessKey]] = {}
    too_long: list[int] = []
    unreadable = 0

    async def visit(user: UserDocument) -> None:
        nonlocal unreadable
        for stored in stored_keys(user):
            key = opened(sealer, user.id, stored)
            if key is None:
                unreadable += 1
            elif not sealer.is_newest(stored.sealed):
                outdated.setdefault(user.id, []).append(key)

    await serveradmin.visit_users(visit, too_long.append)
    return outdated, unreadable, too_long


def _store(path: Path, keys: SealingKeys) -> None:
    try:
        store(path, keys)
    except OSError as error:
        raise CommandFailed(Exit.FAILED, f"{path}: cannot be written: {error.strerror}") from None
