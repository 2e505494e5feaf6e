"""Elastic IPs under concurrent requests, and when processes die between any two steps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from econed.actions.addresses.chores import MIN_CLAIM_AGE
from econed.actions.addresses.claims import LEASE
from econed.actions.addresses.records import AssociationState, LinkedAddress
from econed.errors import EC2Error
from econed.interfaces import IOpenNebula
from econed.opennebula.session import Session
from econed.user import Login
from tests.support.addresses import FIRST, NETWORK, SECOND, AddressCloud
from tests.support.cloud import perform
from tests.support.delayed_oned import DelayedOned, DyingOned

pytestmark = pytest.mark.slow

STEPS = 10
"""Maximum number of calls to oned of each action."""

at_every_step = pytest.mark.parametrize(("step", "after"), [(n, after) for n in range(STEPS) for after in (0, 1)])


def delays(seed: int, max_delay: float = 0.2) -> Iterator[float]:
    """Yield random durations of calls."""
    generator = random.Random(seed)
    return (generator.uniform(0.0, max_delay) for _ in count())


def code(ended: list[Any]) -> str:
    """Return the error code of a call that has ended, empty if it succeeded."""
    (result,) = ended
    if not isinstance(result, Failure):
        return ""
    assert isinstance(result.value, EC2Error), result
    return result.value.code


def reconcile_later(cloud: AddressCloud) -> None:
    """Wait until claims are old enough for the reconciler, and let it make a round."""
    cloud.clock.advance(MIN_CLAIM_AGE + 1)
    cloud.reconcile()


def check_consistent(cloud: AddressCloud) -> None:
    """Check that all held addresses are allocated, no claim is left, and the scripts made the recorded associations."""
    pool = cloud.pool()
    assert cloud.held_addresses() == set(map(str, pool.addresses))
    assert pool.claims == ()
    associations = {
        ip: address.association for ip, address in pool.addresses.items() if isinstance(address, LinkedAddress)
    }
    assert {
        str(ip): str(association.private_ip) for ip, association in associations.items()
    } == cloud.fake_scripts.network
    assert all(association.state is AssociationState.ASSOCIATED for association in associations.values())


class AddressOwners:
    """The owner of each address according to the responses."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        self.allocations = 0
        self.error_codes: list[str] = []

    async def allocate_and_release(self, cloud: AddressCloud, oned: IOpenNebula, user: str) -> None:
        """Allocate an address to a user and release it."""
        call = replace(cloud.call_as(user), session=Session(oned, user), serveradmin=Session(oned, None))
        try:
            ip = (await perform(call, "AllocateAddress", {}))["PublicIp"]
            assert ip not in self.owners, f"{ip} is {self.owners[ip]}'s"
            self.owners[ip] = user
            self.allocations += 1
            await call.pause(0.3)
            assert self.owners.pop(ip) == user
            await perform(call, "ReleaseAddress", {"PublicIp": ip})
        except EC2Error as error:
            self.error_codes.append(error.code)


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_200_calls_at_once_in_two_processes_never_share_an_address_and_leave_nothing(version: str) -> None:
    cloud = AddressCloud(version, limit=20)
    for octet in range(8):
        cloud.oneadmin("one.vn.add_ar", NETWORK, f'AR=[TYPE="IP4",IP="198.51.100.{octet}",SIZE="1"]')
    processes = [DelayedOned(cloud.backend, cloud.clock, delays(seed)) for seed in (1, 2)]
    owners = AddressOwners()
    ended: list[Any] = []
    for number in range(100):
        user = "alice" if number % 3 else "bob"
        task = owners.allocate_and_release(cloud, processes[number % 2], user)
        Deferred.fromCoroutine(task).addBoth(ended.append)
    cloud.wait(60)
    assert ended == [None] * 100
    assert owners.allocations >= 16
    assert set(owners.error_codes) <= {"InsufficientAddressCapacity", "AddressLimitExceeded", "RequestLimitExceeded"}
    assert cloud.held_addresses() == set()
    assert cloud.pool().claims == ()
    assert cloud.pool().addresses == {}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_concurrent_allocations_do_not_exceed_a_users_limit(seed: int) -> None:
    cloud = AddressCloud(limit=3)
    processes = [DelayedOned(cloud.backend, cloud.clock, delays(seed + number)) for number in range(5)]
    results = [cloud.begin(process, "alice", "AllocateAddress") for process in processes]
    cloud.wait(40)
    assert sorted(map(code, results)) == ["", "", "", "AddressLimitExceeded", "AddressLimitExceeded"]
    assert len(cloud.addresses()) == 3
    check_consistent(cloud)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_an_address_released_twice_at_once_is_not_taken_from_its_next_owner(seed: int) -> None:
    cloud = AddressCloud()
    ip = cloud.allocate("alice")
    releases = [
        cloud.begin(
            DelayedOned(cloud.backend, cloud.clock, delays(seed + number, 1.0)), "alice", "ReleaseAddress", PublicIp=ip
        )
        for number in range(2)
    ]
    allocated: list[Any] = []

    async def take() -> None:
        call = cloud.call_as("bob")
        while not allocated:
            try:
                allocated.append(await perform(call, "AllocateAddress", {"Address": ip}))
            except EC2Error:
                await call.pause(0.1)

    Deferred.fromCoroutine(take())
    cloud.wait(80)
    assert "" in map(code, releases)
    assert set(map(code, releases)) <= {"", "IncorrectState", "InvalidAddress.NotFound"}
    assert allocated[0]["PublicIp"] == ip
    assert set(cloud.addresses("bob")) == {ip}
    check_consistent(cloud)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_of_two_associations_of_one_address_at_once_the_reported_one_is_made(seed: int) -> None:
    cloud = AddressCloud()
    instances, ip = [cloud.run_instance(), cloud.run_instance()], cloud.allocate()
    results = [
        cloud.begin(
            DelayedOned(cloud.backend, cloud.clock, delays(seed + number, 0.8)),
            "alice",
            "AssociateAddress",
            PublicIp=ip,
            InstanceId=instance,
        )
        for number, instance in enumerate(instances)
    ]
    cloud.wait(60)
    codes = list(map(code, results))
    assert sorted(codes) in (["", "IncorrectState"], ["", ""])
    if codes == ["", ""]:  # the first had ended before the second read the address
        assert [run[0] for run in cloud.fake_scripts.runs] == ["associate", "disassociate", "associate"]
    else:
        assert cloud.associations() == {ip: instances[codes.index("")]}
    check_consistent(cloud)


def test_a_request_counts_as_alive_while_its_script_runs() -> None:
    cloud = AddressCloud()
    instances, ip = [cloud.run_instance(), cloud.run_instance()], cloud.allocate()
    cloud.fake_scripts.hanging.add("associate")
    first = cloud.begin(cloud.backend, "alice", "AssociateAddress", PublicIp=ip, InstanceId=instances[0])
    second = cloud.begin(cloud.backend, "alice", "AssociateAddress", PublicIp=ip, InstanceId=instances[1])
    cloud.wait(LEASE * 2)
    assert (first, code(second)) == ([], "IncorrectState")
    assert len(cloud.fake_scripts.runs) == 1


@implementer(IOpenNebula)
class LateRenewals:
    """oned with a delay of seconds for the first renewal of a claim."""

    def __init__(self, cloud: AddressCloud) -> None:
        self._cloud = cloud
        self.delayed = 0

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        if 'BEAT="2"' in str(args):
            self.delayed += 1
            await self._cloud.call_as("alice").pause(5)
        return await self._cloud.backend.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        return await self._cloud.backend.document(user, method, *args, **options)


def test_a_late_renewal_does_not_restore_a_claim_that_was_removed() -> None:
    cloud = AddressCloud()
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.fake_scripts.hanging.add("associate")
    oned = LateRenewals(cloud)
    ended = cloud.begin(oned, "alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    cloud.wait(LEASE / 3 + 1)
    cloud.fake_scripts.go_on.callback(None)
    cloud.wait(10)
    assert (oned.delayed, code(ended)) == (1, "")
    check_consistent(cloud)


def test_an_association_is_not_reported_before_it_is_made() -> None:
    cloud = AddressCloud()
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.fake_scripts.hanging.add("associate")
    cloud.begin(cloud.backend, "alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert len(cloud.fake_scripts.runs) == 1
    assert cloud.associations() == {}


# Processes that die


@at_every_step
def test_a_process_that_dies_during_an_allocation_leaks_no_address(step: int, after: int) -> None:
    cloud = AddressCloud()
    cloud.begin(DyingOned(cloud.backend, step, after=bool(after)), "alice", "AllocateAddress")
    allocated = cloud.allocate()
    assert allocated in cloud.addresses()
    reconcile_later(cloud)
    check_consistent(cloud)
    assert len(cloud.addresses()) <= 2


@at_every_step
def test_the_last_address_can_be_allocated_after_its_process_died(step: int, after: int) -> None:
    cloud = AddressCloud(limit=8)
    for _ in range(7):
        cloud.allocate("bob")
    cloud.begin(DyingOned(cloud.backend, step, after=bool(after)), "alice", "AllocateAddress")
    if not cloud.addresses():
        cloud.allocate("alice")
    assert len(cloud.addresses()) == 1
    check_consistent(cloud)


@at_every_step
def test_a_release_can_be_repeated_after_its_process_died(step: int, after: int) -> None:
    cloud = AddressCloud()
    ip = cloud.allocate()
    cloud.begin(DyingOned(cloud.backend, step, after=bool(after)), "alice", "ReleaseAddress", PublicIp=ip)
    if ip in cloud.addresses():
        cloud.run("alice", "ReleaseAddress", PublicIp=ip)
    assert cloud.addresses() == {}
    reconcile_later(cloud)
    assert cloud.held_addresses() == set()
    check_consistent(cloud)


@at_every_step
@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_an_association_whose_process_died_can_be_described_and_repeated(version: str, step: int, after: int) -> None:
    cloud = AddressCloud(version)
    instance, ip = cloud.run_instance(), cloud.allocate()
    parameters: dict[str, Any] = {"PublicIp": ip, "InstanceId": instance}
    cloud.begin(DyingOned(cloud.backend, step, after=bool(after)), "alice", "AssociateAddress", **parameters)
    assert cloud.associations() in ({}, {ip: instance})
    cloud.run("alice", "AssociateAddress", **parameters)
    assert cloud.associations() == {ip: instance}
    check_consistent(cloud)


@at_every_step
def test_an_association_whose_process_died_can_be_made_with_another_instance(step: int, after: int) -> None:
    cloud = AddressCloud()
    instance, other, ip = cloud.run_instance(), cloud.run_instance(), cloud.allocate()
    dying = DyingOned(cloud.backend, step, after=bool(after))
    cloud.begin(dying, "alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=other)
    assert cloud.associations() == {ip: other}
    check_consistent(cloud)


@at_every_step
def test_an_association_whose_process_died_is_undone_or_complete(step: int, after: int) -> None:
    cloud = AddressCloud()
    instance, ip = cloud.run_instance(), cloud.allocate()
    dying = DyingOned(cloud.backend, step, after=bool(after))
    cloud.begin(dying, "alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    reconcile_later(cloud)
    check_consistent(cloud)
    assert cloud.associations() == ({ip: instance} if cloud.fake_scripts.network else {})


@at_every_step
def test_a_repeated_reassociation_whose_process_died_is_with_one_instance(step: int, after: int) -> None:
    cloud = AddressCloud()
    ip, _, _ = cloud.associate()
    other = cloud.run_instance()
    dying = DyingOned(cloud.backend, step, after=bool(after))
    cloud.begin(dying, "alice", "AssociateAddress", PublicIp=ip, InstanceId=other)
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=other)
    assert cloud.associations() == {ip: other}
    check_consistent(cloud)


@at_every_step
def test_a_disassociation_whose_process_died_can_be_repeated_or_is_finished(step: int, after: int) -> None:
    for repeated in (True, False):
        cloud = AddressCloud()
        ip, instance, association = cloud.associate()
        dying = DyingOned(cloud.backend, step, after=bool(after))
        cloud.begin(dying, "alice", "DisassociateAddress", AssociationId=association)
        if repeated and cloud.associations():
            cloud.run("alice", "DisassociateAddress", AssociationId=association)
            assert cloud.associations() == {}
        reconcile_later(cloud)
        check_consistent(cloud)
        if not repeated:
            assert cloud.associations() in ({}, {ip: instance})


def test_a_process_killed_while_its_script_runs_is_recognized_as_dead() -> None:
    """Its claim is not renewed: the next request waits until it counts as dead, and goes on."""
    cloud = AddressCloud()
    instance, ip = cloud.run_instance(), cloud.allocate()
    hanging = type(cloud.fake_scripts)()
    hanging.hanging.add("associate")
    dying = DyingOned(cloud.backend, 8)
    cloud.begin(dying, "alice", "AssociateAddress", hanging, PublicIp=ip, InstanceId=instance)
    cloud.wait(LEASE / 2)
    assert dying.is_dead
    assert len(hanging.runs) == 1
    before = cloud.clock.seconds()
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    assert cloud.clock.seconds() - before < 20
    check_consistent(cloud)


@at_every_step
def test_the_next_reconciler_finishes_the_work_of_one_that_died(step: int, after: int) -> None:
    cloud = AddressCloud()
    instance, ip = cloud.run_instance(), cloud.allocate()
    cloud.fake_scripts.broken.add("associate")
    cloud.refusal("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)
    dying = DyingOned(cloud.backend, step, after=bool(after))
    first_round = cloud.begin_reconciling(dying)
    cloud.wait(3)
    assert first_round == [] or not dying.is_dead
    reconcile_later(cloud)
    check_consistent(cloud)
    assert cloud.associations() == {}


# Terminated machines


@pytest.mark.parametrize("version", ["5.12", "7.4"])
@pytest.mark.parametrize("by", ["TerminateInstances", "Sunstone"])
def test_the_address_of_a_terminated_instance_is_disassociated_and_stays_allocated(version: str, by: str) -> None:
    cloud = AddressCloud(version)
    ip, instance, _ = cloud.associate()
    private = cloud.private_ip(instance)
    if by == "Sunstone":
        cloud.oneadmin("one.vm.action", "terminate-hard", int(instance[2:]))
    else:
        cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.wait(10)
    cloud.reconcile()
    assert cloud.fake_scripts.runs[-1] == ("disassociate", ip, private)
    assert cloud.fake_scripts.network == {}
    assert set(cloud.addresses()) == {ip}
    check_consistent(cloud)
    cloud.reconcile()
    assert len(cloud.fake_scripts.runs) == 2


def test_no_association_with_a_terminated_instance_is_described_before_the_reconciler_runs() -> None:
    cloud = AddressCloud()
    ip, instance, _ = cloud.associate()
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.wait(10)
    assert cloud.associations() == {}
    cloud.run("alice", "ReleaseAddress", PublicIp=ip)
    assert cloud.fake_scripts.network == {}
    check_consistent(cloud)


def test_a_script_that_fails_for_a_terminated_instance_is_retried() -> None:
    cloud = AddressCloud()
    _, instance, _ = cloud.associate()
    cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    cloud.wait(10)
    cloud.fake_scripts.failing.add("disassociate")
    cloud.reconcile()
    assert cloud.fake_scripts.network != {}
    cloud.fake_scripts.failing.clear()
    cloud.reconcile()
    check_consistent(cloud)


def test_a_round_with_nothing_to_do_only_reads() -> None:
    cloud = AddressCloud()
    cloud.associate()
    before = len(cloud.changes)
    cloud.reconcile()
    assert len(cloud.changes) == before


def test_a_hold_without_a_claim_is_never_released() -> None:
    cloud = AddressCloud()
    cloud.oneadmin("one.vn.hold", NETWORK, f'LEASES=[IP="{SECOND}"]')
    reconcile_later(cloud)
    assert cloud.held_addresses() == {SECOND}
    assert cloud.allocate() == FIRST
