"""DescribeInstances uses what it sent before only for machines that have not changed; the result never differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from econed.actions.instances import remembered
from econed.actions.instances.remembered import MAX_FILTERS
from econed.actions.instances.view import reservation_view
from econed.pipeline import Invocation
from econed.wire.encoder import Encoder
from tests.actions.networks.networks import reservation
from tests.support.addresses import AddressCloud
from tests.support.cloud import VERSION, Cloud, dispatcher

TEMPLATE = 0
RUNNING = {"Name": "instance-state-name", "Values": ["running"]}


@pytest.fixture
def viewed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the ids of the machines whose reservations have been made from their documents."""
    ids: list[int] = []

    def counting_view(machine: Any, *args: Any) -> Any:
        ids.append(machine.id)
        return reservation_view(machine, *args)

    monkeypatch.setattr(remembered, "reservation_view", counting_view)
    return ids


def create(cloud: Cloud, count: int = 1) -> list[int]:
    """Create machines, wait until they run, and return their ids."""
    ids = [cloud.as_user("alice", "one.template.instantiate", TEMPLATE, "", False, "", False) for _ in range(count)]
    cloud.clock.pump([1] * 20)
    return ids


def listed(cloud: Cloud, user: str = "alice", **parameters: Any) -> Any:
    """Return the reservations in a list, which must be the same as in a process that has just started."""
    result = cloud.run(user, "DescribeInstances", **parameters)["Reservations"]
    memory, cloud.memory = cloud.memory, cloud.new_memory()
    assert result == cloud.run(user, "DescribeInstances", **parameters)["Reservations"]
    cloud.memory = memory
    return result


def viewed_by(cloud: Cloud, viewed: list[int], **parameters: Any) -> list[int]:
    """Return the ids of the machines whose reservations a list makes from their documents."""
    before = len(viewed)
    cloud.run("alice", "DescribeInstances", **parameters)
    return viewed[before:]


def test_machines_that_have_not_changed_are_not_viewed_again(viewed: list[int]) -> None:
    cloud = Cloud()
    ids = create(cloud, 3)
    assert viewed_by(cloud, viewed) == ids
    assert viewed_by(cloud, viewed) == []
    cloud.as_user("alice", "one.vm.update", ids[1], 'EC2_TAG_4E616D65=[KEY="Name",VALUE="web"]', 1)
    (new,) = create(cloud)
    assert viewed_by(cloud, viewed) == [ids[1], new]
    assert len(listed(cloud)) == 4


CHANGES: list[Callable[[Cloud, int], object]] = [
    lambda cloud, vm: cloud.as_user("alice", "one.vm.update", vm, 'EC2_TAG_41=[KEY="A",VALUE="<&é"]', 1),
    lambda cloud, vm: cloud.as_user("alice", "one.vm.action", "poweroff-hard", vm),
    lambda cloud, vm: cloud.as_user("alice", "one.vm.action", "terminate-hard", vm),
    lambda cloud, vm: cloud.as_user("alice", "one.vm.update", vm, 'EC2_DISCARDED="YES"', 1),
    lambda cloud, vm: cloud.oneadmin("one.vm.chown", vm, cloud.user("bob").id, -1),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("parameters", [{}, {"Filters": [RUNNING]}, {"MaxResults": 5}], ids=["all", "filter", "page"])
def test_every_change_is_in_the_next_list(change: Callable[[Cloud, int], object], parameters: dict[str, Any]) -> None:
    cloud = Cloud()
    ids = create(cloud, 3)
    listed(cloud, **parameters)
    change(cloud, ids[1])
    cloud.clock.pump([1] * 20)
    listed(cloud, **parameters)
    listed(cloud, **parameters)


def test_a_machine_that_stops_without_a_recorded_time_is_viewed_each_time(viewed: list[int]) -> None:
    """Its list contains the current time (oned before 6.0 records no time when a machine is powered off)."""
    cloud = Cloud("5.12")
    (machine,) = create(cloud)
    cloud.as_user("alice", "one.vm.action", "poweroff-hard", machine)
    cloud.clock.pump([1] * 20)
    assert viewed_by(cloud, viewed) == [machine]
    assert viewed_by(cloud, viewed) == [machine]


def test_a_stopped_machine_with_a_recorded_time_is_not_viewed_again(viewed: list[int]) -> None:
    cloud = Cloud("7.4")
    (machine,) = create(cloud)
    cloud.as_user("alice", "one.vm.action", "poweroff-hard", machine)
    cloud.clock.pump([1] * 20)
    assert viewed_by(cloud, viewed) == [machine]
    assert viewed_by(cloud, viewed) == []


def test_the_vpc_of_a_network_is_in_the_next_list(viewed: list[int]) -> None:
    """Its network is a reservation; whether the network that it is from is a VPC may change."""
    cloud = Cloud()
    subnet = reservation(cloud, "alice", 0, "subnet", "10.0.1.0")
    (other,) = create(cloud)
    machine = cloud.as_user(
        "alice", "one.template.instantiate", TEMPLATE, "", False, f'NIC=[NETWORK_ID="{subnet}"]', False
    )
    cloud.clock.pump([1] * 20)
    assert viewed_by(cloud, viewed) == [other, machine]
    cloud.oneadmin("one.vn.update", 0, 'EC2_VPC="YES"', 1)
    assert viewed_by(cloud, viewed) == [machine]
    vpcs = [launch["Instances"][0]["VpcId"] for launch in listed(cloud)]
    assert vpcs == ["vpc-9999999999", "vpc-00000000"]


def test_another_name_of_a_cluster_is_in_the_next_list() -> None:
    cloud = Cloud()
    create(cloud, 2)
    listed(cloud)
    (cluster,) = cloud.oned.cloud.clusters
    cluster.name = "another"
    cloud.clock.advance(60)  # names of clusters may be some seconds old
    zones = {reservation["Instances"][0]["Placement"]["AvailabilityZone"] for reservation in listed(cloud)}
    assert zones == {"another"}


def test_an_associated_address_is_in_the_next_list_and_gone_when_disassociated() -> None:
    cloud = AddressCloud()
    ip, instance, _ = cloud.associate()
    other = cloud.run_instance()

    def public_ips() -> dict[str, str | None]:
        instances = [instance for reservation in listed(cloud) for instance in reservation["Instances"]]
        return {instance["InstanceId"]: instance.get("PublicIpAddress") for instance in instances}

    assert public_ips()[instance] == ip
    assert public_ips()[other] is None
    cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=other)
    assert public_ips() == {**public_ips(), instance: None, other: ip}
    cloud.run("alice", "DisassociateAddress", PublicIp=ip)
    assert set(public_ips().values()) == {None}


def test_what_a_filter_excluded_is_known_to_be_excluded_and_is_read_again_for_a_list_of_all(viewed: list[int]) -> None:
    cloud = Cloud()
    ids = create(cloud, 3)
    stopped = {"Filters": [{"Name": "instance-state-name", "Values": ["stopped"]}]}
    assert viewed_by(cloud, viewed, **stopped) == ids
    assert viewed_by(cloud, viewed, **stopped) == []
    assert viewed_by(cloud, viewed, Filters=[RUNNING]) == ids
    assert viewed_by(cloud, viewed, Filters=[RUNNING]) == ids
    assert viewed_by(cloud, viewed, Filters=[RUNNING]) == []
    assert viewed_by(cloud, viewed) == []
    assert viewed_by(cloud, viewed, **stopped) == []
    assert len(listed(cloud)) == 3


def test_filters_of_a_few_names_are_remembered_and_any_number_works(viewed: list[int]) -> None:
    cloud = Cloud()
    (machine,) = create(cloud)
    filters = [{"Name": f"tag:{name}", "Values": ["x"]} for name in range(3 * MAX_FILTERS)]
    for name in filters:
        viewed_by(cloud, viewed, Filters=[name])
    assert viewed_by(cloud, viewed, Filters=filters[-1:]) == []
    assert viewed_by(cloud, viewed, Filters=filters) == [machine]
    assert viewed_by(cloud, viewed, Filters=filters) == [machine]
    assert viewed_by(cloud, viewed, Filters=filters[-1:]) == []
    assert listed(cloud, Filters=filters) == []


def test_instances_with_long_xml_are_listed_like_others(viewed: list[int]) -> None:
    cloud = Cloud()
    (machine,) = create(cloud)
    tags = "\n".join(f'EC2_TAG_{n:04X}=[KEY="{n}",VALUE="{"v" * 200}"]' for n in range(40))
    cloud.as_user("alice", "one.vm.update", machine, tags, 1)
    assert viewed_by(cloud, viewed) == [machine]
    assert viewed_by(cloud, viewed) == [machine]
    ((reservation,),) = (listed(cloud),)
    assert len(reservation["Instances"][0]["Tags"]) == 40


LONG_TAGS = "\n".join(f'EC2_TAG_{n:04X}=[KEY="{n}",VALUE="{"v" * 200}"]' for n in range(40))


@pytest.mark.parametrize("tags", ["", LONG_TAGS], ids=["short", "long"])
def test_two_lists_at_once_are_each_as_the_only_one(tags: str) -> None:
    """The second is read before the first is encoded."""
    cloud = Cloud()
    ids = create(cloud, 3)
    cloud.as_user("alice", "one.vm.update", ids[1], tags, 1)
    lists = [cloud.result(_read(cloud)) for _ in range(2)]
    expected, *others = [cloud.result(_encoded(invocation, parts)) for invocation, parts in lists]
    assert others == [expected]
    assert len(listed(cloud)) == 3


def test_of_a_list_that_is_dropped_nothing_is_kept(viewed: list[int]) -> None:
    """It may be long, and has not been encoded."""
    cloud = Cloud()
    ids = create(cloud, 2)
    _, (_, result) = cloud.result(_read(cloud))
    cloud.result(result.aclose())
    for machine in ids:
        item = cloud.memory.instances.of(cloud.user("alice").session_key).get(machine)
        assert item is not None
        assert not item.xml
    assert viewed_by(cloud, viewed) == ids
    assert viewed_by(cloud, viewed) == []


async def _read(cloud: Cloud) -> tuple[Invocation, tuple[Any, Any]]:
    """Begin a list of all instances: return it with its first part and the rest, of which nothing is encoded yet."""
    pairs = (("Action", "DescribeInstances"), ("Version", VERSION))
    invocation = Invocation.of(dispatcher(), cloud.call_as("alice"), pairs)
    parts: Any = await invocation.run()
    return invocation, (await anext(parts), parts)


async def _encoded(invocation: Invocation, parts: tuple[Any, Any]) -> bytes:
    """Return the response of such a list."""
    first, rest = parts
    body = invocation.body(Encoder())
    pieces = [*body.slices(first)]
    async for part in rest:
        pieces += body.slices(part)
    return b"".join((*pieces, body.end()))


def test_many_empty_values_of_a_filter_are_not_remembered(viewed: list[int]) -> None:
    cloud = Cloud()
    (machine,) = create(cloud)
    tags = "\n".join(f'EC2_TAG_{n:04X}=[KEY="{n}",VALUE=""]' for n in range(100))
    cloud.as_user("alice", "one.vm.update", machine, tags, 1)
    filters = [{"Name": "tag-value", "Values": ["x"]}]
    assert viewed_by(cloud, viewed, Filters=filters) == [machine]
    assert viewed_by(cloud, viewed, Filters=filters) == [machine]


def test_a_session_does_not_use_what_another_session_was_sent(viewed: list[int]) -> None:
    cloud = Cloud()
    (machine,) = create(cloud)
    cloud.oneadmin("one.vm.chmod", machine, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    cloud.run("alice", "DescribeInstances")
    viewed.clear()
    cloud.run("bob", "DescribeInstances")
    assert viewed == [machine]
