"""Every action runs in the caller's own session: what is another's is not shown and not changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from econed.catalogue import all_actions
from econed.opennebula.methods import is_reading
from tests.e2e.every_action import EXAMPLES, ON_SHARED, Example, Things, furnished
from tests.e2e.waiting import known, wait
from tests.support.clients import boto, refusal
from tests.support.estate import Cloud, Econed, Person

ACTIONS = sorted(action.name for action in all_actions())

OF_SERVERADMIN = frozenset({"one.userpool.info", "one.user.info", "one.clusterpool.info"})
"""What serveradmin's own session is for: users and secrets, and clusters. No action here needs the elastic IPs."""


@pytest.fixture(scope="session")
def owned(cloud: Cloud, econed: Econed) -> Things:
    """What a user has who shares nothing."""
    erin = cloud.person("erin")
    return furnished(cloud, known(boto(erin, econed.url)), erin, wait)


@pytest.fixture(scope="session")
def shared(cloud: Cloud, econed: Econed) -> Things:
    """What a user has who lets his group use his instances and his AMI."""
    frank = cloud.person("frank")
    things = furnished(cloud, known(boto(frank, econed.url)), frank, wait)
    for kind, number in things.objects:
        if kind in ("vm", "image"):
            cloud.share(kind, number, frank)
    return things


@pytest.fixture(scope="session")
def stranger(cloud: Cloud, econed: Econed) -> Any:
    """The client of a user of the same group who has nothing."""
    grace = cloud.person("grace")
    return known(boto(grace, econed.url))


def _call(client: Any, action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = client._make_api_call(action, dict(parameters))
    return answer


def _as_dry_run(example: Example) -> dict[str, Any]:
    """Return the parameters of a dry run; without a token, which would find what was made with it before."""
    return {**{key: value for key, value in example.parameters.items() if key != "ClientToken"}, "DryRun": True}


def _end(client: Any, answer: Mapping[str, Any]) -> None:
    made = [each["InstanceId"] for each in answer.get("Instances", ())]
    if made:
        client.terminate_instances(InstanceIds=made)


def test_every_action_is_in_the_tables() -> None:
    """A new action is held to the same."""
    assert sorted(EXAMPLES) == ACTIONS


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_anothers_is_neither_shown_nor_changed(cloud: Cloud, owned: Things, stranger: Any, action: str) -> None:
    """For every action and every kind of id: NotFound, and the owner's objects are as they were, byte for byte."""
    before = owned.documents(cloud)
    for example in EXAMPLES[action](owned):
        try:
            answer = _call(stranger, action, example.parameters)
        except ClientError as error:
            code, status = refusal(error)
            assert code in example.refused_with, f"{example}: {error}"
            assert status == 400
        else:
            assert not example.refused_with, f"{example} was answered: {answer}"
            _end(stranger, answer)
            if action != "RunInstances":
                assert not [name for name in owned.names() if name in repr(answer)], f"{example} shows {answer}"
            else:
                assert owned.instance not in repr(answer)
    assert owned.documents(cloud) == before


@pytest.mark.parametrize("action", sorted(ON_SHARED))
def test_what_may_be_used_may_not_be_changed(cloud: Cloud, shared: Things, stranger: Any, action: str) -> None:
    """A group's right to USE makes a thing visible; each change is refused by oned."""
    before = shared.documents(cloud)
    for example in ON_SHARED[action](shared):
        with pytest.raises(ClientError) as raised:
            _call(stranger, action, example.parameters)
        assert refusal(raised.value) == ("UnauthorizedOperation", 403), example
    assert shared.documents(cloud) == before


def test_what_may_be_used_is_visible(shared: Things, stranger: Any) -> None:
    """In every list, with its owner; a machine can be made of it."""
    reservations = stranger.describe_instances(InstanceIds=[shared.instance, shared.stopped])["Reservations"]
    assert {each["OwnerId"] for each in reservations} == {f"{shared.owner.id:012d}"}
    listed = stranger.describe_instances()["Reservations"]
    assert shared.instance in {one["InstanceId"] for each in listed for one in each["Instances"]}
    (status,) = stranger.describe_instance_status(InstanceIds=[shared.instance])["InstanceStatuses"]
    assert status["InstanceState"]["Name"] == "running"
    (image,) = stranger.describe_images(ImageIds=[shared.image])["Images"]
    assert image["OwnerId"] == f"{shared.owner.id:012d}"
    tags = stranger.describe_tags(Filters=[{"Name": "key", "Values": ["secret"]}])["Tags"]
    assert {shared.instance, shared.stopped, shared.image} <= {each["ResourceId"] for each in tags}
    assert shared.key_id not in {each["ResourceId"] for each in tags}
    made = stranger.run_instances(ImageId=shared.image, InstanceType=shared.common_type, MinCount=1, MaxCount=1)
    _end(stranger, made)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_dry_run_of_every_action_says_that_it_would_have_worked(
    cloud: Cloud, owned: Things, econed: Econed, action: str
) -> None:
    """All checks are made, nothing is changed, and oned is not even asked to change anything."""
    client = boto(owned.owner, econed.url)
    before = owned.documents(cloud)
    log = cloud.log_length() if cloud.tells_its_calls else None
    for example in EXAMPLES[action](owned):
        if owned.unregistered in example.parameters.get("Resources", ()):
            continue  # it is no AMI, and so nothing that has tags
        with pytest.raises(ClientError) as raised:
            _call(client, action, _as_dry_run(example))
        assert refusal(raised.value) == ("DryRunOperation", 412), example
    assert owned.documents(cloud) == before
    if log is not None:
        _assert_nothing_written(cloud, log, owned.owner)


@pytest.mark.parametrize("action", sorted(ON_SHARED))
def test_a_dry_run_says_that_permission_is_missing(cloud: Cloud, shared: Things, stranger: Any, action: str) -> None:
    """By the permission bits of what would be changed, without trying."""
    before = shared.documents(cloud)
    for example in ON_SHARED[action](shared):
        with pytest.raises(ClientError) as raised:
            _call(stranger, action, _as_dry_run(example))
        assert refusal(raised.value) == ("UnauthorizedOperation", 403), example
    assert shared.documents(cloud) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_a_dry_run_finds_everything_else_that_is_wrong_first(owned: Things, stranger: Any, action: str) -> None:
    """What does not exist for the caller is said as without DryRun."""
    for example in EXAMPLES[action](owned):
        with pytest.raises(ClientError) as raised:
            _call(stranger, action, _as_dry_run(example))
        expected = example.refused_with or {"DryRunOperation"}
        assert refusal(raised.value)[0] in expected, example


def _assert_nothing_written(cloud: Cloud, since: int, person: Person) -> None:
    calls = [call for call in cloud.calls(since) if call.user in (person.name, "serveradmin")]
    assert [call for call in calls if not is_reading(call.method)] == []


def test_serveradmins_own_session_is_for_users_and_clusters_alone(
    cloud: Cloud, econed: Econed, alice: Person, ec2: Any, launch: Any
) -> None:
    """Read off the log of all that has been done on this cloud so far, a launch and an end among it."""
    launch()
    ec2.describe_availability_zones()
    methods = {call.method for call in cloud.calls() if call.user == "serveradmin"}
    assert methods
    assert methods <= OF_SERVERADMIN
    in_hers = {call.method for call in cloud.calls() if call.user == alice.name}
    assert {"one.template.instantiate", "one.vmpool.infoset", "one.user.update"} <= in_hers


def test_only_the_administrator_of_the_test_made_calls_as_oneadmin(cloud: Cloud, ec2: Any) -> None:
    """There is no way to be oneadmin: every call in a user's session names that user."""
    before = cloud.log_length()
    ec2.describe_instances()
    ec2.describe_images()
    assert {call.user for call in cloud.calls(before)} <= {cloud.alice.name, "serveradmin"}
