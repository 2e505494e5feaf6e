"""Rules of a group that several processes change, that others write too, and whose process dies between two calls."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.interfaces import IOpenNebula
from econed.user import Login
from tests.actions.security_groups.groups import (
    OUTBOUND,
    authorize,
    create,
    document,
    inbound,
    open_ports,
    reconcile,
    rules_by_id,
    tcp,
    write_rules,
)
from tests.support.cloud import Cloud, perform
from tests.support.delayed_oned import DyingOned, SteppedOned

pytestmark = pytest.mark.slow

CALLS = 4
"""Calls to oned of a change that no other interferes with: the group and the user, the update, the group."""

STEPS = 3
"""The first two are made in one step."""


class SteppedRequest:
    """A request of alice in a process of its own, which makes one call to oned at each step."""

    def __init__(self, cloud: Cloud, action: str, **parameters: Any) -> None:
        self._cloud = cloud
        self._oned = SteppedOned(cloud.backend)
        call = cloud.call_in_new_process("alice", self._oned)
        self.outcomes: list[Any] = []
        Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(self.outcomes.append)

    def step(self) -> None:
        """Let the waiting call proceed."""
        if not self._oned.step():
            self._cloud.clock.advance(1)

    def finish(self) -> Any:
        """Make all its calls, and return its result."""
        while not self.outcomes:
            self.step()
        (outcome,) = self.outcomes
        if isinstance(outcome, Failure):
            outcome.raiseException()
        return outcome


def authorizing(cloud: Cloud, group: str, port: int) -> SteppedRequest:
    """Begin to allow a port."""
    return SteppedRequest(cloud, "AuthorizeSecurityGroupIngress", GroupId=group, IpPermissions=[tcp(port)])


def revoking(cloud: Cloud, group: str, port: int) -> SteppedRequest:
    """Begin to remove the rule for a port."""
    return SteppedRequest(cloud, "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[tcp(port)])


def ports_shown(cloud: Cloud, group: str) -> list[str]:
    """Return the ports of the rules for incoming traffic that EC2 shows, sorted."""
    return sorted(text.split()[2] for text in rules_by_id(cloud, group).values() if text.startswith("ingress"))


def prepared(*ports: int) -> tuple[Cloud, str]:
    """Return a cloud in which alice has a group with these ports."""
    cloud = Cloud()
    group = create(cloud)
    if ports:
        authorize(cloud, group, *map(tcp, ports))
    return cloud, group


ORDERS = list(itertools.combinations(range(2 * STEPS), STEPS))
"""The steps of the first of two requests, in every order of the steps of both."""


def test_two_rules_that_are_added_at_once_are_both_there_in_every_order() -> None:
    cloud, group = prepared(1)
    for index, first_steps in enumerate(ORDERS):
        ports = 100 + index, 300 + index
        first, second = (authorizing(cloud, group, port) for port in ports)
        for step in range(2 * STEPS):
            (first if step in first_steps else second).step()
        first.finish(), second.finish()
        assert {str(port) for port in ports} < set(open_ports(cloud, group))
        cloud.run("alice", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[*map(tcp, ports)])
        assert open_ports(cloud, group) == ["1"]


def test_of_a_rule_added_and_another_removed_at_once_only_the_first_is_there_in_every_order() -> None:
    cloud, group = prepared(1, 2)
    for first_steps in ORDERS:
        first, second = authorizing(cloud, group, 80), revoking(cloud, group, 2)
        for step in range(2 * STEPS):
            (first if step in first_steps else second).step()
        first.finish(), second.finish()
        assert open_ports(cloud, group) == ports_shown(cloud, group) == ["1", "80"]
        cloud.run("alice", "RevokeSecurityGroupIngress", GroupId=group, IpPermissions=[tcp(80)])
        authorize(cloud, group, tcp(2))


@settings(deadline=None, max_examples=30)
@given(turns=st.permutations(sorted([0, 1, 2, 3] * STEPS)))
def test_four_changes_at_once_all_take_place(turns: list[int]) -> None:
    cloud, group = prepared(1, 2)
    requests = [
        authorizing(cloud, group, 80),
        revoking(cloud, group, 1),
        authorizing(cloud, group, 443),
        revoking(cloud, group, 2),
    ]
    for turn in turns:
        requests[turn].step()
    for request in requests:
        request.finish()
    assert open_ports(cloud, group) == ports_shown(cloud, group) == ["443", "80"]


def test_a_rule_that_two_requests_add_at_once_is_there_once() -> None:
    """Both processes give it the same id."""
    cloud, group = prepared()
    first, second = authorizing(cloud, group, 80), authorizing(cloud, group, 80)
    for _ in range(STEPS):
        first.step()
        second.step()
    ids = [request.finish()["SecurityGroupRules"][0]["SecurityGroupRuleId"] for request in (first, second)]
    assert ids[0] == ids[1]
    assert open_ports(cloud, group) == ["80"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("calls", range(CALLS))
def test_a_process_that_dies_while_it_adds_a_rule_loses_none_and_leaves_it_whole_or_not_at_all(
    calls: int, after: bool
) -> None:
    cloud, group = prepared(1)
    dying = DyingOned(cloud.backend, calls, after=after)
    call = cloud.call_in_new_process("alice", dying)
    Deferred.fromCoroutine(
        perform(call, "AuthorizeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [tcp(80)]})
    ).addErrback(lambda _: None)
    cloud.wait(2)
    assert dying.is_dead
    reconcile(cloud)
    was_written = (calls, after) >= (2, True)
    assert open_ports(cloud, group) == ports_shown(cloud, group) == (["1", "80"] if was_written else ["1"])


@pytest.mark.parametrize("dead_first", [False, True])
def test_a_rule_is_not_lost_to_a_process_that_overwrites_it_and_dies(dead_first: bool) -> None:
    """The rule was answered, then a process wrote what it had read before, and died: the reconciler writes it again."""
    cloud, group = prepared(1)
    dead = revoking(cloud, group, 1) if dead_first else authorizing(cloud, group, 443)
    for _ in range(STEPS - 2):
        dead.step()
    authorize(cloud, group, tcp(80))
    dead.step()
    assert "80" not in open_ports(cloud, group)
    reconcile(cloud)
    expected = ["80"] if dead_first else ["1", "443", "80"]
    assert open_ports(cloud, group) == ports_shown(cloud, group) == expected


def test_a_rule_that_was_removed_does_not_come_back_from_a_process_that_dies() -> None:
    cloud, group = prepared(1, 2)
    dead = authorizing(cloud, group, 443)
    for _ in range(STEPS - 2):
        dead.step()
    revoking(cloud, group, 2).finish()
    dead.step()
    reconcile(cloud)
    assert open_ports(cloud, group) == ports_shown(cloud, group) == ["1", "443"]


@implementer(IOpenNebula)
class InterruptedOned:
    """oned, with a change by somebody else before the call number `before` (from 0)."""

    def __init__(self, backend: IOpenNebula, before: int, change: Any) -> None:
        self._backend = backend
        self._calls = itertools.count(-before)
        self._change = change

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        self._interrupt()
        return await self._backend.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        self._interrupt()
        return await self._backend.document(user, method, *args, **options)

    def _interrupt(self) -> None:
        if next(self._calls) == 0:
            self._change()


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("before", [0, 3, 4])
def test_what_others_write_into_rule_is_taken_over(before: int, mode: int) -> None:
    """Sunstone removes port 1, adds port 25 and, with mode 0, all attributes of econed."""
    cloud, group = prepared(1, 2)

    def write() -> None:
        kept = [inbound(port) for port in open_ports(cloud, group) if port != "1"]
        write_rules(cloud, group, [*kept, inbound(25), OUTBOUND], mode)

    oned = InterruptedOned(cloud.backend, before, write)
    call = cloud.call_in_new_process("alice", oned)
    cloud.result(perform(call, "AuthorizeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [tcp(80)]}))
    if before == CALLS:
        write()
    expected = ["2", "25", "80"]
    assert ports_shown(cloud, group) == expected
    reconcile(cloud)
    assert open_ports(cloud, group) == ports_shown(cloud, group) == expected


def test_rules_keep_their_ids_when_others_replace_everything() -> None:
    """The ids are derived from the rules; descriptions are lost with the attributes."""
    cloud, group = prepared(1, 2)
    before = rules_by_id(cloud, group)
    write_rules(cloud, group, [inbound(2), inbound(1), OUTBOUND], mode=0)
    after = rules_by_id(cloud, group)
    assert {id_: text for id_, text in before.items() if "ingress" in text}.items() <= after.items()
    authorize(cloud, group, tcp(3))
    assert after.items() <= rules_by_id(cloud, group).items()


def test_the_rules_of_a_clone_are_its_own() -> None:
    """OpenNebula copies all attributes of a group."""
    cloud, group = prepared(1)
    number = cloud.as_user("alice", "one.secgroup.clone", int(group[3:]), "copy")
    copy = f"sg-{number:08d}"
    assert not set(rules_by_id(cloud, copy)) & set(rules_by_id(cloud, group))
    cloud.run("alice", "RevokeSecurityGroupIngress", GroupId=copy, IpPermissions=[tcp(1)])
    assert open_ports(cloud, copy) == []
    assert open_ports(cloud, group) == ["1"]
    assert not [name for name in rules_by_id(cloud, copy) if name in rules_by_id(cloud, group)]


def test_rules_that_are_none_of_ec2_stay_in_rule() -> None:
    cloud, group = prepared(1)
    write_rules(cloud, group, [inbound(1), inbound(25, 'NETWORK_ID="0"'), OUTBOUND])
    authorize(cloud, group, tcp(80))
    assert open_ports(cloud, group) == ["1", "25", "80"]
    assert ports_shown(cloud, group) == ["1", "80"]


def test_a_group_that_econed_never_changed_is_not_touched() -> None:
    cloud = Cloud()
    group = create(cloud)
    write_rules(cloud, group, [inbound("22,80:90")])
    before = document(cloud, group).template
    cloud.run("alice", "RunInstances", ImageId="ami-00000000", MinCount=1, MaxCount=1)
    reconcile(cloud)
    assert document(cloud, group).template == before


def test_attributes_that_users_write_are_no_rules() -> None:
    """A record must be what a request could have made, in this group."""
    cloud, group = prepared(1)
    number = int(group[3:])
    valid = {"GROUP": str(number), "DIRECTION": "INBOUND", "PROTOCOL": "tcp", "FIRST": "5", "LAST": "5", "CIDR": "::/0"}
    wrong = [{"GROUP": "0"}, {"DIRECTION": "UP"}, {"PROTOCOL": "GRE"}, {"FIRST": "9"}, {"LAST": "x"}, {"CIDR": "::/64"}]
    for index, members in enumerate(wrong):
        text = ",".join(f'{name}="{value}"' for name, value in {**valid, **members}.items())
        cloud.as_user("alice", "one.secgroup.update", number, f"EC2_RULE_{index:017X}=[{text}]", 1)
    cloud.as_user("alice", "one.secgroup.update", number, 'EC2_RULE_X="1"\nEC2_WRITTEN_RULES="1"', 1)
    assert ports_shown(cloud, group) == ["1"]
    authorize(cloud, group, tcp(80))
    assert open_ports(cloud, group) == ports_shown(cloud, group) == ["1", "80"]


def test_an_answer_waits_until_rule_holds_the_change() -> None:
    """Another process overwrites it between the update and the read that follows."""
    cloud, group = prepared(1)
    other = authorizing(cloud, group, 443)
    for _ in range(STEPS - 2):
        other.step()
    call = cloud.call_as("alice")
    oned = InterruptedOned(call.session.oned, CALLS - 1, other.step)
    call = replace(call, session=replace(call.session, oned=oned))
    cloud.result(perform(call, "AuthorizeSecurityGroupIngress", {"GroupId": group, "IpPermissions": [tcp(80)]}))
    assert open_ports(cloud, group) == ["1", "443", "80"]
