"""All kinds of access keys with which requests may be signed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from econed.auth.access_keys import AccessKeys
from econed.auth.signers import Signers
from econed.auth.temporary import TemporaryKeys
from econed.auth.user_names import UserNames
from econed.credentials.revocations import ReadsRevocations
from econed.interfaces import IUserDirectory
from econed.sealing import Sealer
from econed.user import SecretKeys


def all_signers(
    users: IUserDirectory,
    sealer: Sealer,
    revocations: ReadsRevocations,
    allowed: Collection[SecretKeys] = frozenset(SecretKeys),
) -> Sequence[Signers]:
    """Return the kinds in the order in which they are asked for an access key; the last takes any.

    `allowed` are the kinds of secret keys that count (econe.conf, `secret_keys`). What was requested with them counts
    as well: temporary credentials.
    """
    names = UserNames(users, allowed)
    keys = (AccessKeys(users, sealer, revocations),) if SecretKeys.ACCESS_KEYS in allowed else ()
    return (*keys, TemporaryKeys(users, sealer, (names, *keys), revocations), names)
