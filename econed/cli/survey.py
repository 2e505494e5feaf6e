"""What the checks of `econe-server check` work on, and the rows of its table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from econed.configtest import LoadedConfiguration
from econed.opennebula.access import Group, Operation, Resource, Rule
from econed.opennebula.documents import OwnedView, Right
from econed.opennebula.session import Session

NO_USER = -1
"""The id of a user who owns nothing, and whom no rule names."""


class Verdict(Enum):
    """The result of a check."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "BAD"


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    verdict: Verdict
    subject: str
    text: str


@dataclass(frozen=True)
class Survey:
    """Input of the checks. `groups` are the groups whose members use EC2, by name if `are_groups_named`."""

    loaded: LoadedConfiguration
    serveradmin: Session
    groups: tuple[Group, ...]
    are_groups_named: bool
    rules: tuple[Rule, ...]

    def may_use(self, group: Group, target: OwnedView, kind: Resource) -> bool:
        """Whether every user of a group may use an object: by its permissions, or by an ACL rule."""
        is_permitted = target.allows(NO_USER, (group.id,), Right.USE)
        return is_permitted or any(rule.grants_on(group.id, kind, Operation.USE, target) for rule in self.rules)

    def users_of(self, target: OwnedView, kind: Resource) -> tuple[Group, ...]:
        """Return the groups that may use an object."""
        return tuple(group for group in self.groups if self.may_use(group, target, kind))

    def usability(self, subject: str, name: str, target: OwnedView, kind: Resource) -> Row:
        """Return the row that says which of the groups may use an object; BAD if none may."""
        groups = self.users_of(target, kind)
        if groups:
            return Row(Verdict.GOOD, subject, f"{name}, usable by {', '.join(group.name for group in groups)}")
        if not self.groups:
            return Row(Verdict.NOTE, subject, f"{name}, not checked for any group")
        whom = ", ".join(group.name for group in self.groups) if self.are_groups_named else "any group of EC2 users"
        command = ""
        if len(self.groups) == 1:
            command = f": {acl_command(self.groups[0], kind, f'#{target.id}', Operation.USE)}"
        return Row(Verdict.BAD, subject, f"{name}, not usable by {whom}{command}")


def acl_command(group: Group, kind: Resource, objects: str, operation: Operation) -> str:
    """Return the command that grants a group an operation on `objects`: `*`, or `#` and an id."""
    return f'oneacl create "@{group.id} {kind.name}/{objects} {operation.name}"'
