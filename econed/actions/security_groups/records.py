"""The rules of a group as econed stores them: each is an attribute of its own, and RULE is written from them.

An update of a group replaces all of its RULEs, and oned has no lock: of two concurrent updates that add a rule, the
later one loses the rule of the earlier. So each rule also is an attribute, a record, `EC2_RULE_<digits>=[GROUP,
DIRECTION, PROTOCOL, FIRST, LAST, CIDR, DESCRIPTION]`, which one atomic append adds or removes, together with all RULEs.
What is in RULE can always be made again from the records, by any process: the group is settled when both agree.

Others write RULE too, such as Sunstone. The same append therefore writes EC2_WRITTEN_RULES: a digest of the RULEs, and
the fingerprints of the records that they were made from. RULEs with another digest are not econed's. Then rules that
are in RULE only were added there, and records that were in RULE and are missing were removed there: both are taken
over. A record that was not in RULE yet is another request's, and stays.

The id of a rule is derived from the group and the rule, so that all processes give a rule that others made the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Final

from econed.actions.security_groups.rules import ANY, MAX_PORT, TrafficRule, block_of, read, written
from econed.actions.tagging import tags_under, untag_text
from econed.ids import SECURITY_GROUP_RULE
from econed.opennebula.attributes import Attributes, Vector
from econed.opennebula.template import decode_member, encode_member, removal, render, template, vector
from econed.opennebula.values import whole_number

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

    from econed.opennebula.documents import SecurityGroup

_PREFIX: Final = "EC2_RULE_"
_TAG_PREFIX: Final = "EC2_RULETAG_"
_WRITTEN: Final = "EC2_WRITTEN_RULES"
_DIGITS = 17
_NAME = re.compile(rf"{_PREFIX}[0-9A-F]{{{_DIGITS}}}", re.ASCII)
_FINGERPRINT_DIGITS = 16
_NONE = "ANY"
"""A port, type or code of a record that is `ANY`."""

_DIRECTIONS = ("INBOUND", "OUTBOUND")


@dataclass(frozen=True)
class Record:
    """A rule of a group, and what is not in RULE: its id in EC2, and its description."""

    id: str
    rule: TrafficRule
    description: str = ""

    @property
    def fingerprint(self) -> str:
        """The same for records of the same id and rule only."""
        return _digest(f"{self.id} {self.rule.text}")[:_FINGERPRINT_DIGITS]

    @property
    def attribute_name(self) -> str:
        """The name of its attribute."""
        return _PREFIX + _hex_of(self.id)

    def attribute(self, group_id: int) -> str:
        """Return its attribute on a group, as template text."""
        rule = self.rule
        members = {
            "GROUP": str(group_id),
            "DIRECTION": _DIRECTIONS[rule.is_egress],
            "PROTOCOL": rule.protocol,
            "FIRST": _NONE if rule.first == ANY else str(rule.first),
            "LAST": _NONE if rule.last == ANY else str(rule.last),
            "CIDR": str(rule.block),
        }
        if self.description:
            members |= encode_member("DESCRIPTION", self.description)
        return vector(self.attribute_name, members)


@dataclass(frozen=True)
class GroupRules:
    """The rules of a group, as its document has them."""

    group: SecurityGroup

    @cached_property
    def records(self) -> Mapping[str, Record]:
        """The rules by id, in the order of `TrafficRule.key`, after what others did to RULE is taken over."""
        records = self._stored
        if not self._is_own:
            records = self._taken_over
        return {record.id: record for record in sorted(records.values(), key=lambda record: record.rule.key)}

    @property
    def is_settled(self) -> bool:
        """Whether RULE holds the rules and no others, or econed has never written them."""
        if not self._names and _WRITTEN not in self.group.template:
            return True
        is_written = _canonical(self.group.rules) == _canonical(self._vectors_of(self.records))
        return is_written and self._is_own and self.records == self._stored

    def text(self, records: Iterable[Record], added: str = "") -> str:
        """Return the text that gives the group these rules and no others; it also has the template text `added`."""
        by_id = {record.id: record for record in records}
        names = {record.attribute_name for record in by_id.values()}
        gone = [name for name in self._names if name not in names]
        changed = [record for record in by_id.values() if self._stored.get(record.id) != record]
        vectors = self._vectors_of(by_id)
        fingerprints = sorted(record.fingerprint for record in by_id.values())
        return template(
            *(record.attribute(self.group.id) for record in changed),
            *map(removal, gone),
            *(self._untag(name) for name in gone),
            render(Attributes(("RULE", rule) for rule in vectors)) or removal("RULE"),
            vector(_WRITTEN, {"DIGEST": self._digest_of(vectors), "RECORDS": " ".join(fingerprints)}),
            added,
        )

    def new_id(self, rule: TrafficRule, taken: Collection[str]) -> str:
        """Return the id for a rule of the group that has none of the ids `taken`."""
        digests = (_digest(f"{self.group.id} {number} {rule.text}")[:_DIGITS] for number in count())
        return next(id_ for digest in digests if (id_ := f"{SECURITY_GROUP_RULE.prefix}-{digest}") not in taken)

    def tags(self, record: Record) -> list[TagTypeDef]:
        """Return the tags of a rule."""
        return tags_under(self.group.template, tag_prefix(record.id))

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """The names of the attributes of records, invalid ones included."""
        return tuple(name for name in self.group.template.names_starting_with(_PREFIX) if _NAME.fullmatch(name))

    @cached_property
    def _stored(self) -> Mapping[str, Record]:
        """The records by id; a copy of another group has the attributes of that group, which are none of its own."""
        found = ((name, _record(name, self.group.template.vector(name), self.group.id)) for name in self._names)
        return {record.id: record for _, record in found if record is not None}

    @cached_property
    def _read(self) -> tuple[frozenset[TrafficRule], tuple[Vector, ...]]:
        return read(self.group.rules)

    @cached_property
    def _is_own(self) -> bool:
        """Whether econed has written the RULEs that the group has."""
        digest = self.group.template.vector(_WRITTEN).get("DIGEST")
        return digest is not None and digest == self._digest_of(self.group.rules)

    @cached_property
    def _taken_over(self) -> Mapping[str, Record]:
        were_written = frozenset(self.group.template.vector(_WRITTEN).get("RECORDS", "").split())
        rules, _ = self._read
        opened = {part for rule in rules for part in rule.parts}
        records = {
            record.id: record
            for record in self._stored.values()
            if record.rule.parts <= opened or record.fingerprint not in were_written
        }
        covered = {part for record in records.values() for part in record.rule.parts}
        for rule in sorted(rules, key=lambda rule: rule.key):
            if not rule.parts <= covered:
                id_ = self.new_id(rule, {*records, *self._stored})
                records[id_] = Record(id_, rule)
        return records

    def _vectors_of(self, records: Mapping[str, Record]) -> list[Vector]:
        """Return the RULEs for these records, and those that are not rules of EC2."""
        return [*written([record.rule for record in records.values()]), *self._read[1]]

    def _digest_of(self, vectors: Iterable[Vector]) -> str:
        return _digest(f"{self.group.id} {_canonical(vectors)}")

    def _untag(self, name: str) -> str:
        """Return the text that removes the tags of the rule of an attribute."""
        prefix = tag_prefix(_id_of(name))
        return untag_text((tag["Key"] for tag in tags_under(self.group.template, prefix)), prefix)


def tag_prefix(rule_id: str) -> str:
    """Return the prefix of the attributes of tags of a rule, which its group keeps."""
    return f"{_TAG_PREFIX}{_hex_of(rule_id)}_"


def _hex_of(rule_id: str) -> str:
    return rule_id.removeprefix(f"{SECURITY_GROUP_RULE.prefix}-").upper()


def _id_of(name: str) -> str:
    return f"{SECURITY_GROUP_RULE.prefix}-{name.removeprefix(_PREFIX).lower()}"


def _record(name: str, members: Vector, group_id: int) -> Record | None:
    """Return the record of an attribute, which users may write too; None if it is not one of this group."""
    direction, block = members.get("DIRECTION"), block_of(members.get("CIDR", ""))
    first, last = (_number(members.get(member, "")) for member in ("FIRST", "LAST"))
    is_of_group = members.get("GROUP") == str(group_id) and direction in _DIRECTIONS
    if not is_of_group or block is None or first is None or last is None:
        return None
    rule = TrafficRule(direction == _DIRECTIONS[True], members.get("PROTOCOL", ""), first, last, block)
    return Record(_id_of(name), rule, decode_member(members, "DESCRIPTION") or "") if rule.is_possible else None


def _number(text: str) -> int | None:
    return ANY if text == _NONE else whole_number(text, MAX_PORT)


def _canonical(vectors: Iterable[Vector]) -> str:
    """Return RULEs as text, the same in any order."""
    return json.dumps(sorted(sorted(members.items()) for members in vectors))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def unsettled(groups: Iterable[SecurityGroup]) -> Iterator[GroupRules]:
    """Yield the rules of those groups that are not settled."""
    return (rules for group in groups if not (rules := GroupRules(group)).is_settled)
