"""Numbers in requests and documents: out of range they match nothing or are refused, never a server error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from econed import ids
from econed.actions.action import Action, Members
from econed.actions.call import user_id_of
from econed.catalogue import all_actions
from econed.cli.reference import filters_of
from econed.dispatch import Dispatcher
from econed.errors import EC2Error
from econed.ids import account_id
from econed.services import EC2, AmazonService
from econed.wire.model import input_name, own_name
from econed.wire.shapes import ListShape, Shape, StructureShape
from tests.support.addresses import AddressCloud
from tests.support.cloud import Cloud, perform, perform_pairs

pytestmark = pytest.mark.slow

ACTIONS = sorted(all_actions(), key=lambda action: action.name)
ROUTES = Dispatcher.load(ACTIONS).routes
LACK_OF_CAPACITY = ("InsufficientInstanceCapacity", "InsufficientAddressCapacity")

NUMBERS = (
    *("0", "-1", "-0", "+1", "1.5", "1e9", "1_000", "0x10", "٣", "²", "１２", "۱۲۳۴۵۶۷۸", "NaN", "Infinity"),
    *("-Infinity", "999", "1000", "1001", "2147483647", "2147483648", "4294967295", "4294967296", "-2147483649"),
    *("99999999999", "123456789012", "9223372036854775807", "9223372036854775808", "99999999999999999999"),
    *("9" * 400, "9" * 5000, "-" + "9" * 5000, " 1", "1 ", "1\n"),
    *("\x00", "😀"),
)  # fmt: skip

VALID = {
    "Attribute": "description",
    "AvailabilityZone": "default",
    "Device": "/dev/sdh",
    "ImageId": "ami-00000000",
    "ImageLocation": "ami-00000001",
    "InstanceId": "i-00000000",
    "KeyName": "other",
    "MaxCount": "1",
    "MinCount": "1",
    "Name": "a name",
    "PublicKeyMaterial": "c3NoLWVkMjU1MTkgQUFBQQ==",
    "ResourceId": "vol-00000002",
    "SnapshotId": "snap-00000003",
    "SourceImageId": "ami-00000000",
    "SourceRegion": "OpenNebula",
    "SourceSnapshotId": "snap-00000003",
    "Tag": "",
    "VolumeId": "vol-00000002",
}
"""The other parameters of a call, by names on the wire; for lists the first element."""


def leaves(
    service: AmazonService, shape: Shape | None, members: Members, path: str = ""
) -> Iterator[tuple[str, Shape]]:
    """Yield the names on the wire and the shapes of the scalar parameters of an action."""
    if isinstance(shape, ListShape):
        yield from leaves(service, shape.member, members, first_of(service, path))
    elif isinstance(shape, StructureShape):
        for key, member in shape.members.items():
            supported = members.find(key)
            if supported is not None:
                name = name_of(service, member, key)
                yield from leaves(service, member, supported, f"{path}.{name}" if path else name)
    elif shape is not None:
        yield path, shape


def name_of(service: AmazonService, member: Shape, key: str) -> str:
    """Return the name of a member on the wire."""
    return input_name(member, key) if service is EC2 else own_name(member, key)


def first_of(service: AmazonService, name: str) -> str:
    """Return the name of the first element of a list."""
    return f"{name}.1" if service is EC2 else f"{name}.member.1"


def required_parameters(action: Action) -> dict[str, str]:
    """Return the required parameters of an action."""
    shape = ROUTES[action.service, action.name].operation.input_shape
    assert shape is not None
    parameters: dict[str, str] = {}
    for key in sorted(action.required):
        name = name_of(action.service, shape.members[key], key)
        is_list = isinstance(shape.members[key], ListShape)
        parameters[first_of(action.service, name) if is_list else name] = VALID.get(name, "x")
    if "Tag.1" in parameters:
        del parameters["Tag.1"]
        parameters["Tag.1.Key"] = "a"
    return parameters


LEAVES = [
    (action, path, shape)
    for action in ACTIONS
    for path, shape in leaves(action.service, ROUTES[action.service, action.name].operation.input_shape, action.accepts)
]
INTEGERS = [(action, path) for action, path, shape in LEAVES if shape.type_name in ("integer", "long")]
TEXTS = [(action, path) for action, path, shape in LEAVES if shape.type_name not in ("integer", "long", "boolean")]
PREFIXES = sorted({value.prefix for value in vars(ids).values() if isinstance(value, ids.Kind)})


@pytest.fixture(scope="module")
def cloud() -> AddressCloud:
    """A cloud in which alice has a resource of every kind."""
    cloud = AddressCloud()
    cloud.run_instance()
    cloud.run("alice", "AllocateAddress")
    cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)
    cloud.wait(5)
    cloud.run("alice", "CreateSnapshot", VolumeId="vol-00000002")
    cloud.wait(5)
    return cloud


def refusal(cloud: Cloud, action: str, pairs: dict[str, str]) -> EC2Error | None:
    """Make a call and return its EC2 error, if any; other errors are raised."""
    try:
        cloud.result(perform_pairs(cloud.call_as("alice"), action, tuple(pairs.items())))
    except EC2Error as error:
        return error
    return None


def server_error(cloud: Cloud, action: str, pairs: dict[str, str]) -> EC2Error | None:
    """Make a call and return its error if it is a server error other than a lack of capacity."""
    error = refusal(cloud, action, pairs)
    return error if error is not None and error.status >= 500 and error.code not in LACK_OF_CAPACITY else None


@pytest.mark.parametrize(("action", "path"), INTEGERS, ids=[f"{action.name}-{path}" for action, path in INTEGERS])
def test_an_integer_out_of_range_is_never_a_server_error(cloud: AddressCloud, action: Action, path: str) -> None:
    for number in NUMBERS:
        assert server_error(cloud, action.name, {**required_parameters(action), path: number}) is None, number


@pytest.mark.parametrize(("action", "path"), INTEGERS, ids=[f"{action.name}-{path}" for action, path in INTEGERS])
def test_a_text_that_is_not_an_integer_of_the_model_is_refused(cloud: AddressCloud, action: Action, path: str) -> None:
    """It is never read as another number, and never ignored."""
    for number in NUMBERS:
        if not re.fullmatch(r"-?[0-9]{1,20}", number, re.ASCII) or not -(2**63) <= int(number) < 2**63:
            error = refusal(cloud, action.name, {**required_parameters(action), path: number})
            assert error is not None, number
            assert (error.code, error.status) == ("InvalidParameterValue", 400), number


@settings(max_examples=1000, deadline=None)
@given(
    place=st.sampled_from(TEXTS),
    prefix=st.sampled_from(["", *(f"{prefix}-" for prefix in PREFIXES)]),
    number=st.one_of(st.sampled_from(NUMBERS), st.integers().map(str), st.text(st.characters(categories=["Nd"]))),
)
def test_a_number_in_an_id_or_another_text_is_never_a_server_error(
    cloud: AddressCloud, place: tuple[Action, str], prefix: str, number: str
) -> None:
    action, path = place
    assert server_error(cloud, action.name, {**required_parameters(action), path: prefix + number}) is None


LISTS = [
    action
    for action in ACTIONS
    if "Filters" in action.accepts.of and (filters := filters_of(action)) is not None and filters.known
]
"""The actions with filters; Amazon documents no filter of some."""


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_a_number_in_a_filter_is_never_an_error(cloud: AddressCloud, data: st.DataObject) -> None:
    action = data.draw(st.sampled_from(LISTS))
    filters = filters_of(action)
    assert filters is not None
    name = data.draw(st.sampled_from(sorted(filters.known)))
    short_numbers = [number for number in NUMBERS if len(number) <= 256]
    number = data.draw(st.one_of(st.sampled_from(short_numbers), st.integers().map(str)))
    prefix = data.draw(st.sampled_from(["", *(f"{prefix}-" for prefix in PREFIXES)]))
    given_filters = [{"Name": name, "Values": [(prefix + number)[:256]]}]
    cloud.result(perform(cloud.call_as("alice"), action.name, {"Filters": given_filters}))


@pytest.mark.parametrize("owner", ["123456789012", "999999999999", "002147483648", "00000000000٣", "²" * 12])
def test_instances_of_an_impossible_account_are_an_empty_list(owner: str) -> None:
    cloud = Cloud(vms=3)
    filters: list[Any] = [{"Name": "owner-id", "Values": [owner]}]
    assert cloud.run("alice", "DescribeInstances", Filters=filters) == {"Reservations": []}


def test_an_account_number_is_of_one_user_or_none() -> None:
    assert user_id_of(account_id(3)) == 3
    assert user_id_of("002147483647") == 2**31 - 1
    for text in ("002147483648", "3", "0000000000003", "-00000000003", "00000000000٣", "00000000000²", ""):
        assert user_id_of(text) is None


TEXTS_IN_DOCUMENTS = (*NUMBERS[:-2], "253402300799", "253402300800")


@pytest.mark.parametrize("text", TEXTS_IN_DOCUMENTS)
def test_all_lists_work_with_any_text_in_place_of_a_number(text: str) -> None:
    """Users can also change their documents in Sunstone: a text that is not a number counts as missing."""
    cloud = AddressCloud()
    instance = cloud.run_instance()
    volume = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    cloud.run("alice", "CreateKeyPair", KeyName="laptop")
    cloud.wait(5)
    cloud.run("alice", "AttachVolume", VolumeId=volume, InstanceId=instance, Device="/dev/sdh")
    cloud.run("alice", "CreateSnapshot", VolumeId=volume)
    cloud.wait(5)
    on_image = f'SAVED_VM_ID="{text}"\nEC2_AVAILABILITY_ZONE="{text}"\n'
    on_image += f'EC2_VOLUME_MODIFICATION=[ORIGINAL_SIZE="{text}",TARGET_SIZE="{text}",TIME="{text}"]\n'
    on_image += f'EBS=[INSTANCE_ID="{instance}",DEVICE="sdh",ATTACH_TIME="{text}"]'
    on_machine = f'EC2_LAUNCH_INDEX="{text}"\nEC2_LAUNCH_COUNT="{text}"\nEC2_AVAILABILITY_ZONE="{text}"'
    key_pair = "EC2_KEYPAIR_" + b"laptop".hex().upper()
    cloud.as_user("alice", "one.image.update", int(volume[4:]), on_image, 1)
    cloud.as_user("alice", "one.vm.update", int(instance[2:]), on_machine, 1)
    user = cloud.user("alice").id
    members = f'NAME="laptop",PUBLIC_KEY="ssh-ed25519 AAAA",CREATED="{text}"'
    cloud.as_user("alice", "one.user.update", user, f'{key_pair}=[{members}]\nEC2_WATCHED_UNTIL="{text}"', 1)
    for action in LISTS:
        cloud.run("alice", action.name)


def test_a_launch_count_that_an_owner_wrote_makes_no_more_instances() -> None:
    cloud = Cloud()
    parameters: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 2, "ClientToken": "token"}
    launched = cloud.run("alice", "RunInstances", **parameters)["Instances"]
    for instance in launched:
        cloud.as_user("alice", "one.vm.update", int(instance["InstanceId"][2:]), 'EC2_LAUNCH_COUNT="1000000000"', 1)
    repeated = cloud.run("alice", "RunInstances", **parameters)["Instances"]
    assert [instance["InstanceId"] for instance in repeated] == [instance["InstanceId"] for instance in launched]
