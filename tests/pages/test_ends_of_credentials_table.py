"""The table of docs/credentials.md that lists what ends credentials, and after how many seconds, is true."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import pytest

from econed.actions.sts.temporary import assume_role, get_session_token
from econed.cli.installation import Exit
from econed.cli.keys import Keys as Commands
from econed.errors import EC2Error
from econed.opennebula.session import Session
from tests.pages.scripts import ROOT
from tests.support.cloud import Cloud
from tests.support.signing_in import Keys, Process

HEAD: Final = "| what happens |"
KINDS: Final = ("password", "login token", "access key", "temporary credentials")
HOUR: Final = 3600
AFTER_A_RELOAD: Final = ("a kind is removed from `secret_keys`", "the sealing key is lost")
"""Rows about the configuration, which a process reads when it starts."""

_Command: TypeAlias = Callable[[Commands, str | None, str | None], Coroutine[Any, Any, Exit]]


class Scene:
    """Alice, in the group `web` beside her own, with credentials of each kind."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.alice = self.cloud.user("alice")
        self.web = self.cloud.oneadmin("one.group.allocate", "web")
        self.cloud.oneadmin("one.user.addgroup", self.alice.id, self.web)
        self.process = Process(self.cloud)
        self.password = Keys("alice", self.alice.secret)
        self.tokens = [self._token(-1), self._token(self.web)]
        made = self.cloud.run("alice", "CreateAccessKey")["AccessKey"]
        self.key = Keys(made["AccessKeyId"], made["SecretAccessKey"])

    def _token(self, group: int) -> Keys:
        return Keys("alice", str(self.cloud.as_user("alice", "one.user.login", "alice", "", HOUR, group)))

    def session(self, keys: Keys) -> Keys:
        """Return temporary credentials for an hour that were requested with others."""
        call = self.cloud.call_of(self.process.sender(keys))
        return Keys.of(self.cloud.result(get_session_token(call, duration_seconds=HOUR))["Credentials"])

    def role(self) -> Keys:
        """Return temporary credentials of the group `web`."""
        call = self.cloud.call_of(self.process.sender(self.password))
        arn = f"arn:aws:iam::{self.alice.id:012d}:role/web"
        return Keys.of(self.cloud.result(assume_role(call, role_arn=arn, role_session_name="page"))["Credentials"])

    def count(self, keys: Keys) -> bool:
        """Whether a request with these credentials is accepted."""
        try:
            self.process.sender(keys)
        except EC2Error as error:
            assert error.code in {"AuthFailure", "RequestExpired", "ExpiredToken", "InvalidClientTokenId"}, error
            return False
        return True

    def remove_tokens(self, text: str) -> None:
        """Remove a login token of alice's; all of them for an empty text."""
        self.cloud.as_user("alice", "one.user.login", "alice", text, 0, -1)

    def set_key(self, status: str) -> None:
        """Make the access key Active or Inactive."""
        self.cloud.run("alice", "UpdateAccessKey", AccessKeyId=self.key.access_key, Status=status)

    def end(self, command: _Command, key_id: str | None, owner: str | None) -> None:
        """Run a command of `econe-server keys`."""
        now = int(self.cloud.clock.seconds())
        commands = Commands(Session(self.cloud.backend, None), self.cloud.sealer, now, io.StringIO())
        self.cloud.result(command(commands, key_id, owner))


@dataclass(frozen=True)
class Event:
    """What may happen, which login token of the scene it concerns, and which temporary credentials."""

    happen: Callable[[Scene], object]
    token: int = 0
    temporary: Callable[[Scene], Keys] = lambda scene: scene.session(scene.password)

    def credentials(self, scene: Scene) -> Mapping[str, Keys]:
        """Return the credentials of each kind."""
        return dict(
            zip(KINDS, (scene.password, scene.tokens[self.token], scene.key, self.temporary(scene)), strict=True)
        )


def _oneadmin(method: str, *args: object) -> Callable[[Scene], object]:
    return lambda scene: scene.cloud.oneadmin(method, scene.alice.id, *args)


EVENTS: Final[Mapping[str, Sequence[Event]]] = MappingProxyType(
    {
        "a new password (`oneuser passwd`)": [Event(_oneadmin("one.user.passwd", "another"))],
        "`oneuser token-delete`": [
            Event(
                lambda scene: scene.remove_tokens(scene.tokens[0].secret),
                temporary=lambda scene: scene.session(scene.tokens[0]),
            )
        ],
        "`oneuser token-delete-all`": [Event(lambda scene: scene.remove_tokens(""))],
        "the key is made inactive or deleted": [
            Event(lambda scene: scene.set_key("Inactive"), temporary=lambda scene: scene.session(scene.key)),
            Event(
                lambda scene: scene.cloud.run("alice", "DeleteAccessKey", AccessKeyId=scene.key.access_key),
                temporary=lambda scene: scene.session(scene.key),
            ),
        ],
        "`econe-server keys disable ID`, or `delete`": [
            Event(
                lambda scene: scene.end(Commands.disable, scene.key.access_key, None),
                temporary=lambda scene: scene.session(scene.key),
            ),
            Event(
                lambda scene: scene.end(Commands.delete, scene.key.access_key, None),
                temporary=lambda scene: scene.session(scene.key),
            ),
        ],
        "`econe-server keys disable --of NAME`, or `delete`": [
            Event(lambda scene: scene.end(Commands.disable, None, "alice")),
            Event(
                lambda scene: scene.end(Commands.delete, None, "alice"),
                temporary=lambda scene: scene.session(scene.key),
            ),
        ],
        "their own time is over": [Event(lambda scene: scene.cloud.clock.advance(HOUR))],
        "the user leaves the group": [
            Event(
                lambda scene: scene.cloud.oneadmin("one.user.delgroup", scene.alice.id, scene.web),
                token=1,
                temporary=Scene.role,
            )
        ],
        "the user is deleted, or disabled (7.x)": [
            Event(_oneadmin("one.user.delete")),
            Event(_oneadmin("one.user.enable", False)),
        ],
    }
)


@cache
def table() -> Mapping[str, Sequence[str]]:
    """Return the cells of the table by the first of their row, without those about the configuration."""
    text = (ROOT / "docs/credentials.md").read_text("utf-8")
    head, _, *lines = text[text.index(HEAD) :].partition("\n\n")[0].splitlines()
    assert tuple(head.strip("| ").split(" | "))[1:] == KINDS
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {first: cells for first, *cells in rows if not first.startswith(AFTER_A_RELOAD)}


def test_every_row_has_an_event() -> None:
    assert table().keys() == EVENTS.keys()


@pytest.mark.parametrize("row", EVENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_credentials_end_after_the_seconds_of_the_table_or_do_not(row: str, kind: str) -> None:
    shown = table()[row][KINDS.index(kind)]
    seconds = re.match(r"\d+", shown)
    for event in EVENTS[row]:
        scene = Scene()
        keys = event.credentials(scene)[kind]
        assert scene.count(keys)
        event.happen(scene)
        scene.cloud.clock.advance(int(seconds[0]) if seconds else 60)
        assert scene.count(keys) == (seconds is None), shown
