"""GetSessionToken and AssumeRole: what their credentials may do, and when they end."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from lxml import etree
from twisted.internet.defer import Deferred

from econed.actions.call import Call
from econed.actions.sts.login_tokens import login_token
from econed.actions.sts.temporary import assume_role, get_session_token
from econed.credentials.temporary import MAX_DURATION, MAX_EARLIER
from econed.errors import EC2Error
from econed.ids import IMAGE, INSTANCE
from econed.sandbox.objects.base import Kind, Right
from econed.sandbox.rights import ALL, GROUP, INDIVIDUAL
from econed.user import Credential, CredentialKind, Sender, TokenLogin, origin_of
from tests.actions.sts.requests import (
    HOUR,
    cloud_with_groups,
    end_of,
    group_id,
    password_of,
    role_arn,
    role_keys,
    session_keys,
)
from tests.support.cloud import NOW, Cloud, perform
from tests.support.signing_in import Keys, Process, login_tokens

# GetSessionToken


def test_session_credentials_act_as_the_user() -> None:
    cloud = Cloud()
    user = Process(cloud).sender(session_keys(cloud, password_of(cloud, "alice"))).user
    assert (user.name, user.groups, user.gid) == ("alice", cloud.user("alice").groups, cloud.user("alice").gid)


def test_new_credentials_count_at_once_in_a_process_that_has_just_read_the_user() -> None:
    """Its record of the user lacks the login token."""
    cloud = Cloud()
    password, other_process = password_of(cloud, "alice"), Process(cloud)
    for _ in range(3):
        other_process.sender(password)
        assert other_process.sender(session_keys(cloud, password)).user.name == "alice"


def test_wrong_signatures_with_many_credentials_cause_as_few_reads_as_with_one() -> None:
    cloud = Cloud()
    password, process = password_of(cloud, "alice"), Process(cloud)
    stolen = [replace(session_keys(cloud, password), secret="wrong") for _ in range(10)]
    process.sender(password)
    before = len(cloud.oned.calls)
    for keys in stolen:
        with pytest.raises(EC2Error, match="AuthFailure"):
            process.sender(keys)
    assert [call.method for call in list(cloud.oned.calls)[before:]] == ["one.user.info"]


def test_session_credentials_have_amazons_form_and_end_after_twelve_hours() -> None:
    cloud = Cloud()
    credentials = cloud.result(get_session_token(cloud.call_as("alice")))["Credentials"]
    assert sorted(credentials) == ["AccessKeyId", "Expiration", "SecretAccessKey", "SessionToken"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    assert len(credentials["SecretAccessKey"]) == 40
    assert credentials["Expiration"].timestamp() == pytest.approx(NOW + 12 * HOUR, abs=10)


@pytest.mark.parametrize("seconds", [900, MAX_DURATION])
def test_session_credentials_live_as_long_as_requested(seconds: int) -> None:
    cloud = Cloud()
    keys = session_keys(cloud, password_of(cloud, "alice"), duration_seconds=seconds)
    assert end_of(cloud, keys) == pytest.approx(seconds, abs=10)
    cloud.clock.advance(seconds - 20)
    assert Process(cloud).sender(keys).user.name == "alice"
    cloud.clock.advance(20)
    with pytest.raises(EC2Error, match="ExpiredToken"):
        Process(cloud).sender(keys)


def test_credentials_end_with_the_login_token_that_requested_them() -> None:
    cloud = Cloud()
    cloud.as_user("alice", "one.user.login", "alice", "alices-own-token", 2 * HOUR, -1)
    keys = session_keys(cloud, Keys("alice", "alices-own-token"))
    assert end_of(cloud, keys) == pytest.approx(2 * HOUR, abs=10)


def test_credentials_requested_by_a_login_token_end_when_it_is_removed() -> None:
    cloud = Cloud()
    cloud.as_user("alice", "one.user.login", "alice", "alices-own-token", 2 * HOUR, -1)
    keys = session_keys(cloud, Keys("alice", "alices-own-token"))
    cloud.as_user("alice", "one.user.login", "alice", "alices-own-token", 0, -1)
    with pytest.raises(EC2Error, match="AuthFailure"):
        Process(cloud).sender(keys)


def test_a_token_of_a_group_gets_credentials_of_that_group() -> None:
    cloud = cloud_with_groups("research")
    research = group_id(cloud, "research")
    cloud.as_user("alice", "one.user.login", "alice", "token-of-research", HOUR, research)
    user = Process(cloud).sender(session_keys(cloud, Keys("alice", "token-of-research"))).user
    assert (user.gid, user.groups) == (research, (research,))
    assert user.login != TokenLogin("alice", "token-of-research")
    assert isinstance(user.login, TokenLogin)


def test_temporary_credentials_cannot_request_session_credentials() -> None:
    cloud = Cloud()
    keys = session_keys(cloud, password_of(cloud, "alice"))
    with pytest.raises(EC2Error, match="AccessDenied: Cannot call GetSessionToken with session credentials"):
        session_keys(cloud, keys)


@pytest.mark.parametrize("parameters", [{"serial_number": "arn:aws:iam::1:mfa/x"}, {"token_code": "123456"}])
def test_there_are_no_mfa_devices(parameters: dict[str, str]) -> None:
    cloud = cloud_with_groups("research")
    keys = password_of(cloud, "alice")
    for request in (partial(session_keys, cloud, keys), partial(role_keys, cloud, keys, "research")):
        with pytest.raises(EC2Error, match="AccessDenied: MultiFactorAuthentication failed"):
            request(**parameters)
    assert login_tokens(cloud, "alice") == []


def test_certificates_get_no_temporary_credentials() -> None:
    """Nobody could sign with them where certificates authenticate."""
    cloud = cloud_with_groups("research")
    kind = CredentialKind.CERTIFICATE
    call = cloud.call_of(Sender(cloud.user("alice"), Credential(kind, "CN=alice", origin_of(kind, "CN=alice"))))
    for request in (
        get_session_token(call),
        assume_role(call, role_arn=role_arn(cloud, "research"), role_session_name="session"),
    ):
        with pytest.raises(EC2Error, match="AccessDenied"):
            cloud.result(request)
    assert login_tokens(cloud, "alice") == []


# AssumeRole


def test_credentials_of_a_role_act_in_the_group_alone() -> None:
    cloud = cloud_with_groups("research")
    sender = Process(cloud).sender(role_keys(cloud, password_of(cloud, "alice"), "research"))
    research = group_id(cloud, "research")
    assert (sender.user.gid, sender.user.groups) == (research, (research,))
    assert isinstance(sender.user.login, TokenLogin)
    assert (sender.credential.role, sender.credential.session_name) == ("research", "session")
    assert end_of(cloud, role_keys(cloud, password_of(cloud, "alice"), "research")) == pytest.approx(HOUR, abs=20)


def test_the_name_of_a_group_may_have_spaces() -> None:
    cloud = cloud_with_groups("R+D, all of it")
    assert role_keys(cloud, password_of(cloud, "alice"), "R+D, all of it").token is not None


def test_the_assumed_role_is_named() -> None:
    cloud = cloud_with_groups("research")
    call = cloud.call_as("alice")
    result = cloud.result(
        assume_role(call, role_arn=role_arn(cloud, "research"), role_session_name="terraform", duration_seconds=900)
    )
    assert result["AssumedRoleUser"]["Arn"].endswith(":assumed-role/research/terraform")
    assert result["AssumedRoleUser"]["AssumedRoleId"].startswith("AROA")
    assert result["AssumedRoleUser"]["AssumedRoleId"].endswith(":terraform")


def test_roles_that_are_no_groups_of_the_caller_are_refused() -> None:
    """Whether or not there is such a group, and other accounts."""
    cloud = cloud_with_groups("research")
    cloud.oneadmin("one.group.allocate", "secret")
    alice, bob = (f"{cloud.user(name).id:012d}" for name in ("alice", "bob"))
    for arn in (
        role_arn(cloud, "secret"),
        role_arn(cloud, "no-such-group"),
        f"arn:aws:iam::{bob}:role/research",
        f"arn:aws:iam::{alice}:user/research",
        f"arn:aws:sts::{alice}:role/research",
        f"arn:aws:iam:us-east-1:{alice}:role/research",
        f"arn:aws:iam::{int(alice)}:role/research",
        f"arn:aws:iam::{alice}:role/",
    ):
        with pytest.raises(
            EC2Error, match=r"AccessDenied: User: arn:aws:iam::.* not authorized to perform: sts:Assume"
        ):
            cloud.result(assume_role(cloud.call_as("alice"), role_arn=arn, role_session_name="session"))
    assert login_tokens(cloud, "alice") == []


def test_a_text_that_is_no_arn_is_invalid() -> None:
    cloud = Cloud()
    with pytest.raises(EC2Error, match="ValidationError: research-and-development is invalid"):
        cloud.result(
            assume_role(cloud.call_as("alice"), role_arn="research-and-development", role_session_name="session")
        )


def test_oneadmin_assumes_own_groups_alone() -> None:
    """Oneadmin sees all groups."""
    cloud = cloud_with_groups("research")
    with pytest.raises(EC2Error, match="AccessDenied"):
        cloud.result(
            assume_role(
                cloud.call_as("oneadmin"), role_arn="arn:aws:iam::000000000000:role/research", role_session_name="name"
            )
        )


def test_session_credentials_can_assume_a_role_until_they_end() -> None:
    cloud = cloud_with_groups("research")
    session = session_keys(cloud, password_of(cloud, "alice"), duration_seconds=900)
    keys = role_keys(cloud, session, "research", duration_seconds=12 * HOUR)
    assert end_of(cloud, keys) == pytest.approx(900, abs=20)


def test_credentials_of_a_role_can_assume_the_same_role_until_they_end() -> None:
    """For an hour at most, as Amazon's; another one is not theirs."""
    cloud = cloud_with_groups("research", "teaching")
    keys = role_keys(cloud, password_of(cloud, "alice"), "research", duration_seconds=2 * HOUR)
    again = role_keys(cloud, keys, "research")
    assert end_of(cloud, again) == pytest.approx(HOUR, abs=20)
    with pytest.raises(EC2Error, match="ValidationError: The requested DurationSeconds exceeds the 1 hour session"):
        role_keys(cloud, keys, "research", duration_seconds=HOUR + 1)
    with pytest.raises(EC2Error, match="AccessDenied"):
        role_keys(cloud, keys, "teaching")
    cloud.clock.advance(HOUR + HOUR // 2)
    assert end_of(cloud, role_keys(cloud, keys, "research")) == pytest.approx(HOUR // 2, abs=60)


def test_a_few_credentials_are_requested_one_with_the_other() -> None:
    cloud = cloud_with_groups("research")
    keys = session_keys(cloud, password_of(cloud, "alice"))
    for _ in range(MAX_EARLIER):
        keys = role_keys(cloud, keys, "research", duration_seconds=900)
    with pytest.raises(EC2Error, match="AccessDenied: At most 10 temporary credentials"):
        role_keys(cloud, keys, "research", duration_seconds=900)


def test_credentials_of_a_group_cannot_get_others_though_econed_asks() -> None:
    """They are requested in the session of their own login token, so oned refuses what exceeds it."""
    cloud = cloud_with_groups("research", "teaching")
    sender = Process(cloud).sender(role_keys(cloud, password_of(cloud, "alice"), "research"))
    alice = cloud.user("alice")
    mistaken = replace(sender.user, groups=alice.groups, gid=alice.gid)
    call = cloud.call_of(Sender(mistaken, sender.credential))
    before = login_tokens(cloud, "alice")
    for group in (group_id(cloud, "teaching"), alice.gid, None):
        with pytest.raises(EC2Error, match="AccessDenied"):
            cloud.result(_new_login_token(call, group))
    assert login_tokens(cloud, "alice") == before


async def _new_login_token(call: Call, group: int | None) -> object:
    return await login_token(call, await call.session.user_by_id(call.caller.id), group, NOW + HOUR)


# What they may do


def test_an_instance_of_a_role_has_its_group_and_what_another_group_may_see_is_not_found() -> None:
    """While the same user, without a role, sees it at the same moment."""
    cloud = cloud_with_groups("research")
    research = group_id(cloud, "research")
    image, hidden = (image.id for image in cloud.oned.cloud.images)
    for kind, object_id in (("template", 0), ("image", image), ("vn", 0)):  # for all, not for the group ec2 alone
        cloud.oneadmin(f"one.{kind}.chmod", object_id, 1, 1, 0, 1, 0, 0, 1, 0, 0)
    cloud.oned.cloud.rights.add(GROUP | research, Kind.VM.bit | Kind.TEMPLATE.bit | ALL, Right.CREATE, INDIVIDUAL)
    keys = role_keys(cloud, password_of(cloud, "alice"), "research")
    as_role = cloud.call_of(Process(cloud).sender(keys))
    launch = {"ImageId": IMAGE.format(image), "InstanceType": "m1.small", "MinCount": 1, "MaxCount": 1}
    instance = cloud.result(perform(as_role, "RunInstances", launch))["Instances"][0]["InstanceId"]
    machine = etree.fromstring(cloud.oneadmin("one.vm.info", INSTANCE.parse(instance), False))
    assert (machine.findtext("UNAME"), machine.findtext("GNAME")) == ("alice", "research")

    cloud.oneadmin("one.image.update", hidden, 'EC2_AMI="YES"', 1)
    requests = [
        perform(call, "DescribeImages", {"ImageIds": [IMAGE.format(hidden)]})
        for call in (as_role, cloud.call_as("alice"))
    ]
    refused, seen = (Deferred.fromCoroutine(request) for request in requests)
    with pytest.raises(EC2Error, match=r"InvalidAMIID\.NotFound"):
        cloud.result(_result(refused))
    assert len(cloud.result(_result(seen))["Images"]) == 1


async def _result(pending: Deferred[Any]) -> Any:
    return await pending
