"""The user who makes a request, and the credential with which it was authenticated."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, TypeAlias

OWN_TOKEN_PREFIX: Final = "econed-"
"""Login tokens that begin with it were made by econed, behind temporary credentials, and are no secret keys."""

_PASSWORD_DRIVERS = frozenset({"core", "public"})
_CERTIFICATE_DRIVER = "x509"
_SERVER_DRIVERS = "server_"
_FINGERPRINT_DIGITS = 16


class CredentialKind(Enum):
    """The kinds of credentials that authenticate a request."""

    PASSWORD = "password"
    LOGIN_TOKEN = "token"
    ACCESS_KEY = "key"
    TEMPORARY = "temporary"
    CERTIFICATE = "certificate"


class SecretKeys(Enum):
    """The kinds of secret keys that an administrator may allow (econe.conf, `secret_keys`)."""

    PASSWORD = "password"
    TOKENS = "tokens"
    ACCESS_KEYS = "access_keys"


@dataclass(frozen=True)
class LoginToken:
    """A login token of a user (one.user.login), which oned accepts in place of the password.

    `expires` is in seconds since the epoch, None if it never does. `group` is the only group in which it lets the user
    act, None if it does not restrict them.
    """

    text: str = field(repr=False)
    expires: int | None
    group: int | None

    def is_valid_at(self, now: float) -> bool:
        """Whether oned accepts it at `now`, in seconds since the epoch (LoginToken::is_valid)."""
        return self.expires is None or now < self.expires

    @property
    def is_own(self) -> bool:
        """Whether econed made it."""
        return self.text.startswith(OWN_TOKEN_PREFIX)


class KeyState(Enum):
    """The states of access keys; IAM's clients see Active and Inactive, a key that is being created is Pending."""

    ACTIVE = "Active"
    INACTIVE = "Inactive"
    PENDING = "Pending"


@dataclass(frozen=True)
class StoredKey:
    """An access key as it is stored on a user, who may have changed it (`econed.credentials.access_keys`).

    `marked_at` is when a state other than Active was recorded, in seconds since the epoch; None if it is unknown.
    """

    id: str
    sealed: str = field(repr=False)
    state: KeyState = KeyState.ACTIVE
    marked_at: int | None = None


@dataclass(frozen=True)
class TokenLogin:
    """A session with oned in the name of a user by one of their login tokens, which restricts what they may do."""

    name: str
    token: str = field(repr=False)


Login: TypeAlias = str | TokenLogin | None
"""In whose session a call to oned is made: of a user, by their name, with a server token of serveradmin for them; of a
user by a login token; of serveradmin (None)."""


@dataclass(frozen=True)
class User:
    """A user of OpenNebula who calls EC2.

    `secret` is the PASSWORD that oned stores: the secret key, or for the driver x509 the subjects of certificates.
    `gid` is the primary group, `groups` are all groups in ascending order. `driver` is OpenNebula's AUTH_DRIVER, by
    which the user logs in there. `login_tokens` include those that have expired. A request with `acts_by` is made
    in the session of that token.
    """

    id: int
    name: str
    gid: int
    groups: tuple[int, ...]
    secret: str = field(repr=False)
    driver: str
    enabled: bool
    login_tokens: tuple[LoginToken, ...] = ()
    access_keys: tuple[StoredKey, ...] = ()
    acts_by: LoginToken | None = None

    @property
    def login(self) -> str | TokenLogin:
        """The session with oned in which the user's requests are carried out."""
        return self.name if self.acts_by is None else TokenLogin(self.name, self.acts_by.text)

    @property
    def session_key(self) -> Hashable:
        """What identifies the user's session with oned: the user, and what decides what they may see."""
        return (self.id, self.login, self.gid, self.groups)

    @property
    def has_secret_password(self) -> bool:
        """Whether the PASSWORD is a secret key: only the drivers core and public store a secret in it."""
        return self.driver in _PASSWORD_DRIVERS and self.secret != ""

    @property
    def may_use_tokens(self) -> bool:
        """Whether oned accepts login tokens of the user: it does for all drivers but those of server accounts."""
        return not is_server_driver(self.driver)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects of the certificates that authenticate this user, as `econed.auth.subjects` spells them."""
        return tuple(filter(None, self.secret.split("|"))) if self.driver == _CERTIFICATE_DRIVER else ()

    @property
    def only_group(self) -> int | None:
        """The only group in which the user may act; None if they act in all of theirs."""
        return None if self.acts_by is None else self.acts_by.group

    def within(self, token: LoginToken) -> User:
        """Return the user as they act in the group of a login token, in its session; as they are if it has none."""
        if token.group is None:
            return self
        return replace(self, gid=token.group, groups=(token.group,), acts_by=token)


@dataclass(frozen=True)
class Credential:
    """The credential with which a request was authenticated.

    `key` is the access key or the subject of the certificate, as claimed. `origin` identifies the long-term credential
    behind it (`origin_of`). `expires` is when it ends, in seconds since the epoch, None if it does not. `session_name`
    and `role` are those of AssumeRole: its RoleSessionName, and the name of the group. `earlier` are the ids of the
    temporary credentials with which others were requested until these, the first first.
    """

    kind: CredentialKind
    key: str
    origin: str = field(repr=False)
    expires: float | None = None
    session_name: str | None = None
    role: str | None = None
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sender:
    """The sender of a request: a user, and the credential that authenticated them."""

    user: User
    credential: Credential

    @property
    def key(self) -> str:
        """The access key or the subject of the certificate, as claimed."""
        return self.credential.key


def is_server_driver(driver: str) -> bool:
    """Whether an authentication driver is for accounts of OpenNebula's servers, which act for other users."""
    return driver.startswith(_SERVER_DRIVERS)


def origin_of(kind: CredentialKind, secret: str) -> str:
    """Return what identifies a long-term credential without showing its secret, as `token:0123456789abcdef`."""
    digest = hashlib.sha256(f"econed {kind.value} {secret}".encode()).hexdigest()
    return f"{kind.value}:{digest[:_FINGERPRINT_DIGITS]}"
