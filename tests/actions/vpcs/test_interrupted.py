"""Requests about VPCs and subnets whose process dies, and requests that are made at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from econed.actions.chores import ChoreRun
from econed.actions.vpcs.chores import settle_vpcs
from econed.actions.vpcs.networks import keep_subnet
from econed.catalogue import all_chores
from econed.errors import EC2Error
from econed.reconciler import Reconciler
from tests.actions.networks.networks import without_rule
from tests.actions.vpcs.test_subnets import RESERVED, held
from tests.actions.vpcs.vpcs import create_subnet, create_vpc, number, tags, with_template
from tests.support.cloud import NOW, Cloud, perform
from tests.support.delayed_oned import DyingOned, SteppedOned

pytestmark = pytest.mark.slow

MAX_CALLS = 40
"""More calls to oned than any of these requests makes."""


def reconcile(cloud: Cloud) -> None:
    """Let the reconciler make a round."""
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    cloud.wait(3)


def interrupted(cloud: Cloud, calls: int, action: str, **parameters: Any) -> bool:
    """Make a request of alice in a process that dies after some calls to oned; return whether it did die."""
    dying = DyingOned(cloud.backend, calls, after=True)
    call = cloud.call_in_new_process("alice", dying)
    Deferred.fromCoroutine(perform(call, action, parameters)).addErrback(lambda _: None)
    cloud.wait(3)
    return dying.is_dead


def vpcs(cloud: Cloud) -> dict[str, str]:
    """Return the states of alice's VPCs, by their ids."""
    listed = cloud.run("alice", "DescribeVpcs")["Vpcs"]
    return {vpc["VpcId"]: vpc["State"] for vpc in listed if not vpc["IsDefault"]}


def subnets(cloud: Cloud) -> dict[str, str]:
    """Return the states of alice's subnets in VPCs of her own, by their ids."""
    listed = cloud.run("alice", "DescribeSubnets")["Subnets"]
    return {subnet["SubnetId"]: subnet["State"] for subnet in listed if subnet["VpcId"] != "vpc-9999999999"}


def default_groups(cloud: Cloud) -> list[str]:
    """Return the VPCs of alice's default groups."""
    listed = cloud.run("alice", "DescribeSecurityGroups", Filters=[{"Name": "group-name", "Values": ["default"]}])
    return [group["VpcId"] for group in listed["SecurityGroups"] if group["GroupId"] != "sg-00000000"]


def test_a_vpc_whose_process_dies_is_made_whole_or_not_at_all(cloud: Cloud) -> None:
    """Until the reconciler has finished it, it is pending, and nothing gets into it."""
    deaths = 0
    for calls in range(MAX_CALLS):
        if not interrupted(cloud, calls, "CreateVpc", CidrBlock="10.9.0.0/16"):
            break
        deaths += 1
        for vpc_id, state in vpcs(cloud).items():
            if state == "pending":
                error = cloud.refusal("alice", "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.1.0/24")
                assert error.code == "IncorrectState"
        reconcile(cloud)
        assert set(vpcs(cloud).values()) <= {"available"}
        assert default_groups(cloud) == list(vpcs(cloud))
        for vpc_id in vpcs(cloud):
            cloud.run("alice", "DeleteVpc", VpcId=vpc_id)
    assert deaths > 5


def test_a_vpc_whose_deletion_dies_goes_with_its_default_group_or_stays(cloud: Cloud) -> None:
    vpc_id = create_vpc(cloud)
    for calls in range(MAX_CALLS):
        if not interrupted(cloud, calls, "DeleteVpc", VpcId=vpc_id):
            break
        reconcile(cloud)
        assert default_groups(cloud) == list(vpcs(cloud))
        if not vpcs(cloud):
            vpc_id = create_vpc(cloud)
    assert calls > 2


def test_a_subnet_whose_process_dies_is_made_whole_or_not_at_all(cloud: Cloud) -> None:
    """Until then it is pending, and no instance gets into it."""
    vpc_id = create_vpc(cloud)
    deaths = 0
    for calls in range(MAX_CALLS):
        if not interrupted(cloud, calls, "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.1.0/24"):
            break
        deaths += 1
        for subnet_id, state in subnets(cloud).items():
            if state == "pending":
                launch = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1, "SubnetId": subnet_id}
                assert cloud.refusal("alice", "RunInstances", dry_run=False, **launch).code == "IncorrectState"
        reconcile(cloud)
        for subnet_id, state in subnets(cloud).items():
            assert state == "available"
            assert held(cloud, subnet_id) == RESERVED
            cloud.run("alice", "DeleteSubnet", SubnetId=subnet_id)
    assert deaths > 8


def test_a_subnet_whose_deletion_dies_is_deleted_or_stays_whole(cloud: Cloud) -> None:
    """If it was being deleted, the reconciler deletes it, unless there is an instance in it."""
    vpc_id = create_vpc(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    deaths = 0
    for calls in range(MAX_CALLS):
        if not interrupted(cloud, calls, "DeleteSubnet", SubnetId=subnet_id):
            break
        deaths += 1
        reconcile(cloud)
        if subnets(cloud):
            assert subnets(cloud) == {subnet_id: "available"}
            assert held(cloud, subnet_id) == RESERVED
        else:
            subnet_id = create_subnet(cloud, vpc_id)
    assert deaths > 8


def test_a_subnet_that_is_being_deleted_stays_if_a_machine_gets_into_it(cloud: Cloud) -> None:
    """A machine that is made in OpenNebula does not care about the state of the subnet."""
    subnet_id = create_subnet(cloud, create_vpc(cloud))
    cloud.as_user("alice", "one.vn.update", number(subnet_id), 'EC2_DELETING="YES"', 1)
    for ip in RESERVED:
        cloud.as_user("alice", "one.vn.release", number(subnet_id), f'LEASES=[IP="{ip}"]')
    text = f'CPU="1"\nMEMORY="64"\nNIC=[NETWORK_ID="{number(subnet_id)}"]'
    cloud.as_user("alice", "one.vm.allocate", text)
    assert subnets(cloud) == {subnet_id: "pending"}
    call = cloud.call_as("alice")
    cloud.result(perform(call, "CreateSubnet", {"VpcId": next(iter(vpcs(cloud))), "CidrBlock": "10.9.2.0/24"}))
    reconcile(cloud)
    assert subnets(cloud)[subnet_id] == "available"
    assert len(held(cloud, subnet_id)) == len(RESERVED) - 1  # the machine has the first address


def test_a_network_that_oned_cannot_make_is_removed() -> None:
    """In 7.x it is made first, and ends in ERROR; CreateVpc, or the reconciler, deletes it."""
    cloud = with_template(without_rule(Cloud()))
    text = 'AR=[TYPE="IP4",IP="10.9.0.0",SIZE="x"]\nEC2_CREATING="YES"'
    cloud.as_user("alice", "one.vntemplate.instantiate", 0, "", text)
    cloud.wait(2)
    create_vpc(cloud)
    assert len(vpcs(cloud)) == 2
    reconcile(cloud)
    assert list(vpcs(cloud).values()) == ["available"]


class SteppedRequest:
    """A request of alice in a process of its own, which makes one call to oned at each step."""

    def __init__(self, cloud: Cloud, action: str, **parameters: Any) -> None:
        self._cloud = cloud
        self._oned = SteppedOned(cloud.backend)
        self._outcomes: list[Any] = []
        call = cloud.call_in_new_process("alice", self._oned)
        Deferred.fromCoroutine(perform(call, action, parameters)).addBoth(self._outcomes.append)

    def step(self) -> None:
        """Let the waiting calls proceed."""
        if not self._oned.step():
            self._cloud.clock.advance(1)

    def finish(self) -> str:
        """Make all its calls, and return the code of its error; empty if it succeeds."""
        while not self._outcomes:
            self.step()
        (outcome,) = self._outcomes
        if not isinstance(outcome, Failure):
            return ""
        outcome.trap(EC2Error)
        return str(outcome.value.code)  # type: ignore[union-attr]


@pytest.mark.parametrize("first_steps", range(1, 12))
def test_of_two_subnets_with_common_addresses_that_are_made_at_once_one_is_made(first_steps: int) -> None:
    cloud = vpc_cloud()
    (vpc_id,) = vpcs(cloud)
    first, second = (
        SteppedRequest(cloud, "CreateSubnet", VpcId=vpc_id, CidrBlock=cidr) for cidr in ("10.9.1.0/24", "10.9.1.128/25")
    )
    for _ in range(first_steps):
        first.step()
    assert sorted([second.finish(), first.finish()]) == ["", "InvalidSubnet.Conflict"]
    assert list(subnets(cloud).values()) == ["available"]


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_subnet_made_while_its_vpc_is_deleted_is_refused_or_keeps_the_vpc(steps: int) -> None:
    cloud = vpc_cloud()
    (vpc_id,) = vpcs(cloud)
    creation = SteppedRequest(cloud, "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.1.0/24")
    for _ in range(steps):
        creation.step()
    deletion = SteppedRequest(cloud, "DeleteVpc", VpcId=vpc_id).finish()
    outcome = creation.finish()
    assert bool(outcome) != bool(deletion), (outcome, deletion)
    assert (len(vpcs(cloud)), len(subnets(cloud)), len(default_groups(cloud))) == ((1, 1, 1) if deletion else (0, 0, 0))


@pytest.mark.parametrize("steps", range(1, 14))
def test_two_deletions_of_a_subnet_at_once_delete_it(steps: int) -> None:
    cloud = vpc_cloud()
    (vpc_id,) = vpcs(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    first = SteppedRequest(cloud, "DeleteSubnet", SubnetId=subnet_id)
    for _ in range(steps):
        first.step()
    second = SteppedRequest(cloud, "DeleteSubnet", SubnetId=subnet_id)
    outcomes = {second.finish(), first.finish()}
    assert "" in outcomes
    assert outcomes <= {"", "InvalidSubnetID.NotFound"}
    assert subnets(cloud) == {}


@pytest.mark.parametrize("steps", range(6))
def test_an_instance_gets_into_a_subnet_that_is_deleted_at_once_or_is_refused(steps: int) -> None:
    cloud = vpc_cloud()
    (vpc_id,) = vpcs(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    launch = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1, "SubnetId": subnet_id}
    launching = SteppedRequest(cloud, "RunInstances", **launch)
    for _ in range(steps):
        launching.step()
    deletion = SteppedRequest(cloud, "DeleteSubnet", SubnetId=subnet_id).finish()
    outcomes = (launching.finish(), deletion, [*subnets(cloud).values()])
    assert outcomes in [("InvalidSubnetID.NotFound", "", []), ("", "DependencyViolation", ["available"])]


def vpc_cloud() -> Cloud:
    """Return a cloud of the form 7.4 in which alice has a VPC."""
    cloud = with_template(without_rule(Cloud()))
    create_vpc(cloud)
    return cloud


class SteppedRound:
    """A round of the reconciler that makes one call to oned at each step."""

    def __init__(self, cloud: Cloud) -> None:
        self._clock = cloud.clock
        self._oned = SteppedOned(cloud.backend)
        reconciler = Reconciler(self._oned, cloud.clock, all_chores(), Logger("test"))
        self._round = Deferred.fromCoroutine(reconciler.round())

    def step_until(self, method: str) -> None:
        """Make calls until one of a method has been made."""
        while method not in (made := self._oned.step()):
            assert not self._round.called, f"the round has ended without {method}"
            if not made:
                self._clock.advance(1)

    def finish(self) -> None:
        """Make all calls."""
        while not self._round.called:
            if not self._oned.step():
                self._clock.advance(1)


def test_the_reconciler_does_not_take_the_tags_of_a_subnet_that_is_made_available_meanwhile() -> None:
    """It removes those of the VPC, which oned copies, from a subnet whose process died."""
    cloud = with_template(without_rule(Cloud()))
    vpc_id = create_vpc(cloud, TagSpecifications=tags("vpc", Name="vpc"))
    specified = tags("subnet", Name="subnet")
    creation = SteppedRequest(cloud, "CreateSubnet", VpcId=vpc_id, CidrBlock="10.9.1.0/24", TagSpecifications=specified)
    while not subnets(cloud):
        creation.step()
    cloud.wait(2)  # until oned has made it
    reconciling = SteppedRound(cloud)
    reconciling.step_until("one.vn.hold")
    assert creation.finish() == ""
    reconciling.finish()
    (subnet,) = (each for each in cloud.run("alice", "DescribeSubnets")["Subnets"] if each["VpcId"] == vpc_id)
    assert (subnet["State"], subnet["Tags"]) == ("available", specified[0]["Tags"])


def test_the_reconciler_does_not_delete_a_subnet_that_is_kept_meanwhile() -> None:
    """DeleteSubnet keeps one that a machine got into; the machine may end before the reconciler comes to it."""
    cloud = vpc_cloud()
    (vpc_id,) = vpcs(cloud)
    subnet_id = create_subnet(cloud, vpc_id)
    session = cloud.call_as("alice").session
    cloud.result(session.network_update(number(subnet_id), 'EC2_DELETING="YES"'))
    reconciling = SteppedRound(cloud)
    reconciling.step_until("one.vnpool.info")
    cloud.result(keep_subnet(session, cloud.result(session.network(number(subnet_id)))))
    reconciling.finish()
    assert subnets(cloud) == {subnet_id: "available"}
    assert held(cloud, subnet_id) == RESERVED


def test_a_user_is_watched_until_their_vpcs_are_settled() -> None:
    cloud = vpc_cloud()
    (vpc_id,) = vpcs(cloud)
    create_subnet(cloud, vpc_id)
    session, user = cloud.call_as("alice").session, cloud.result(cloud.call_as("alice").session.current_user())

    def is_watched_on() -> bool:
        run = ChoreRun(session, user, NOW, True, Logger("test"))
        cloud.result(settle_vpcs(run))
        return run.keeps_watching

    assert not is_watched_on()
    cloud.result(session.network_update(number(vpc_id), 'EC2_CREATING="YES"'))
    assert is_watched_on()
