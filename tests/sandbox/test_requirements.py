"""The expressions in SCHED_REQUIREMENTS."""

from __future__ import annotations

import pytest

from econed.sandbox.machines.requirements import InvalidExpression, is_satisfied

FACTS = {"ID": "3", "NAME": "host-3", "CLUSTER_ID": "0", "CLUSTERS/ID": "0,100", "FREE_CPU": "400"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", True),
        ("CLUSTER_ID=0", True),
        ('CLUSTER_ID = "0" & ID=3', True),
        ("CLUSTER_ID=1 | ID=3", True),
        ("CLUSTER_ID=1 | (ID=3 & NAME=other)", False),
        ("!(CLUSTER_ID=1)", True),
        ('NAME="host-*"', True),
        ("NAME != host-3", False),
        ("FREE_CPU > 300", True),
        ("FREE_CPU < 300", False),
        ('"CLUSTERS/ID" @> 100', True),
        ('"CLUSTERS/ID" @> 7', False),
        ("MISSING=1", False),
        ("MISSING > 1", False),
        ("(CLUSTER_ID = 0) & !(PUBLIC_CLOUD = YES) & !(PIN_POLICY = PINNED)", True),
    ],
)
def test_an_expression_is_evaluated_for_a_host(expression: str, expected: bool) -> None:
    assert is_satisfied(expression, FACTS) is expected


@pytest.mark.parametrize("expression", ["CLUSTER_ID=", "=0", "(ID=3", "ID=3)", "ID 3", "ID=3 &", "&", '"ID'])
def test_an_invalid_expression_is_refused(expression: str) -> None:
    with pytest.raises(InvalidExpression):
        is_satisfied(expression, FACTS)
