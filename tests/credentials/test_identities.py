"""The names of users and groups in IAM and STS."""

from __future__ import annotations

import re

from econed.credentials.identities import assumed_role_arn, assumed_role_id, user_arn, user_unique_id


def test_arns_have_the_account_number_of_the_user() -> None:
    assert user_arn(3, "alice") == "arn:aws:iam::000000000003:user/alice"
    assert assumed_role_arn(3, "web", "deploy") == "arn:aws:sts::000000000003:assumed-role/web/deploy"


def test_unique_ids_have_amazons_form_and_are_different_for_each_user_and_group() -> None:
    users = [user_unique_id(number) for number in range(1000)]
    roles = [assumed_role_id(number, "deploy").removesuffix(":deploy") for number in range(1000)]
    assert all(re.fullmatch(r"AIDA[A-Z2-7]{16}", each) for each in users)
    assert all(re.fullmatch(r"AROA[A-Z2-7]{16}", each) for each in roles)
    assert len({each[4:] for each in (*users, *roles)}) == 2000
    assert user_unique_id(3) == user_unique_id(3)
