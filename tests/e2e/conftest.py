"""The clouds of the end-to-end tests: each test runs once on each form, or on those that it selects with `forms`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.every_credential import KINDS, signing
from tests.support.clients import boto
from tests.support.cloud_forms import FORMS, LIVE, furnished_cloud
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import FurnishedCloud

ELEMENTS_READ = Path(__file__).parents[1] / "data" / "elements-read.txt"


def _forms() -> list[Any]:
    return [pytest.param(form, marks=[pytest.mark.live] if form == LIVE else []) for form in FORMS]


@pytest.fixture(scope="session", params=_forms())
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FurnishedCloud]:
    """An oned of this form with the objects that tests need; they are removed at the end."""
    with furnished_cloud(request.param, tmp_path_factory.mktemp(f"cloud-{request.param}")) as furnished:
        yield furnished


@pytest.fixture(scope="session")
def econed(cloud: FurnishedCloud) -> Econed:
    """An econed on the cloud that records the elements that it reads."""
    return cloud.econed()


@pytest.fixture(scope="session")
def second_econed(cloud: FurnishedCloud) -> Econed:
    """Another econed on the same cloud: `twistd -n econe`, as an administrator starts it."""
    return cloud.econed(records_elements=False)


@pytest.fixture(scope="session")
def alice(cloud: FurnishedCloud) -> Person:
    """A user."""
    return cloud.alice


@pytest.fixture(scope="session")
def bob(cloud: FurnishedCloud) -> Person:
    """Another user of the same group."""
    return cloud.bob


@pytest.fixture(scope="session")
def lenient_econed(cloud: FurnishedCloud) -> Econed:
    """An econed without a limit on wrong signatures, for tests that sign until it knows, or refuses, credentials."""
    return cloud.econed(settings={"failed_signatures": False})


@pytest.fixture(scope="session")
def filtering_econed(cloud: FurnishedCloud) -> Econed:
    """An econed for which the driver of the networks filters, so that security groups protect."""
    return cloud.econed(settings={"filtering_drivers": ["dummy"]})


@pytest.fixture(scope="session")
def subnet_without_groups(cloud: FurnishedCloud) -> str:
    """A subnet in which security groups protect: its network has none of its own."""
    return f"subnet-{cloud.network_without_groups():08d}"


@pytest.fixture(scope="session", params=KINDS)
def signer(request: pytest.FixtureRequest, cloud: FurnishedCloud, lenient_econed: Econed) -> Person:
    """A user of their own for each kind of credentials, who signs with them at the lenient econed."""
    return signing(request.param, cloud.person("signer"), lenient_econed.url, cloud.prefix)


@pytest.fixture(scope="session")
def ec2(econed: Econed, alice: Person) -> Any:
    """Alice's boto3 client."""
    return boto(alice, econed.url)


@pytest.fixture(scope="session")
def _reported() -> set[str]:
    return set()


@pytest.fixture(autouse=True)
def _every_element_read_is_listed(request: pytest.FixtureRequest, _reported: set[str]) -> Iterator[None]:
    """Check that the list of elements for the contract test of the sandbox has every element that econed read."""
    yield
    if "cloud" not in request.fixturenames:
        return
    listed_elements = frozenset(ELEMENTS_READ.read_text(encoding="utf-8").split("\n"))
    unlisted_elements = sorted(request.getfixturevalue("cloud").elements_read - listed_elements - _reported)
    _reported.update(unlisted_elements)
    assert not unlisted_elements, (
        f"econed reads more than {ELEMENTS_READ.name} says; add these lines: {unlisted_elements}"
    )


@pytest.fixture
def launch(cloud: FurnishedCloud, ec2: Any) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Launch instances of alice's and return them as in the response of RunInstances; terminate them after the test."""
    launched: list[str] = []

    def run(count: int = 1, client: Any = ec2, **parameters: Any) -> list[dict[str, Any]]:
        arguments = {"ImageId": f"ami-{cloud.ami:08d}", "InstanceType": cloud.instance_type, **parameters}
        reservation = client.run_instances(**{"MinCount": count, "MaxCount": count, **arguments})
        launched.extend(instance["InstanceId"] for instance in reservation["Instances"])
        instances: list[dict[str, Any]] = reservation["Instances"]
        return instances

    yield run
    if launched:
        ec2.terminate_instances(InstanceIds=launched)
