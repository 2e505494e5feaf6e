"""Clients from before Signature Version 4, such as boto 2 and the Perl modules, by requests built here."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import VERSION, ec2_error, send, v2, v2_form
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

OLD_VERSIONS = ("2015-10-01", "2014-10-01", "2014-06-15", "2014-05-01", "2013-10-15", "2008-12-01")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("algorithm", ["HmacSHA256", "HmacSHA1"])
def test_a_request_with_signature_version_2_succeeds(
    cloud: FurnishedCloud, econed: Econed, alice: Person, method: str, algorithm: str
) -> None:
    """It may use either digest, and be a query or a form."""
    response = v2(alice, econed.url, "DescribeImages", method=method, algorithm=algorithm)
    assert response.status == 200
    assert f"ami-{cloud.ami:08d}" in response.texts("imagesSet", "item", "imageId")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_signature_with_a_wrong_secret_key_is_refused(econed: Econed, alice: Person, method: str) -> None:
    """The response contains no data."""
    response = v2(alice, econed.url, "DescribeImages", method=method, secret="not hers")
    assert (response.status, ec2_error(response)) == (401, "AuthFailure")


def test_a_request_that_was_changed_after_it_was_signed_is_refused(econed: Econed, alice: Person) -> None:
    """The signature covers every byte that is used."""
    form = v2_form(alice, econed.url, {"Action": "DescribeImages"}).replace("DescribeImages", "DescribeTags")
    response = send(econed.url, "GET", form)
    assert (response.status, ec2_error(response)) == (401, "AuthFailure")


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_the_version_of_the_request_is_in_the_namespace_of_the_response(
    econed: Econed, alice: Person, version: str
) -> None:
    """It ends in a slash, without which libcloud does not find the elements."""
    response = v2(alice, econed.url, "DescribeRegions", {"Version": version})
    assert response.namespace == f"http://ec2.amazonaws.com/doc/{version}/"
    assert response.xml.tag == f"{{{response.namespace}}}DescribeRegionsResponse"


@pytest.mark.parametrize(
    "selector",
    [
        {"InstanceId.1": 0, "InstanceId.2": 1},
        {"InstanceId.0": 0, "InstanceId.1": 1},
        {"InstanceId.3": 0, "InstanceId.17": 1},
    ],
    ids=["from 1", "from 0", "with gaps"],
)
def test_lists_of_ids_may_start_with_any_index(
    econed: Econed, alice: Person, launch: Any, selector: dict[str, int]
) -> None:
    """An id that is not read must never select all objects."""
    ids = [instance["InstanceId"] for instance in launch(count=3)]
    response = v2(alice, econed.url, "DescribeInstances", {name: ids[index] for name, index in selector.items()})
    assert response.texts("instancesSet", "item", "instanceId") == ids[:2]


def test_a_list_of_ids_from_index_0_terminates_only_its_instance(econed: Econed, alice: Person, launch: Any) -> None:
    """Fog sends such lists."""
    terminated_id, running_id = (instance["InstanceId"] for instance in launch(count=2))
    response = v2(alice, econed.url, "TerminateInstances", {"InstanceId.0": terminated_id}, method="POST")
    assert response.texts("instancesSet", "item", "instanceId") == [terminated_id]
    states = v2(alice, econed.url, "DescribeInstances", {"InstanceId.1": running_id}).texts("instanceState", "name")
    assert states[0] in ("pending", "running")


def test_actions_without_an_output_return_true(econed: Econed, alice: Person, launch: Any) -> None:
    """Old clients read this element."""
    (instance,) = launch()
    response = v2(
        alice,
        econed.url,
        "CreateTags",
        {"ResourceId.0": instance["InstanceId"], "Tag.0.Key": "k", "Tag.0.Value": "v"},
        method="POST",
    )
    assert response.texts("return") == ["true"]
    assert response.namespace.endswith(f"/{VERSION}/")
