"""The proxies, and the user who sends requests through them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.http.proxies.proxied_deployment import ProxiedDeployment
from tests.support.econed_process import Person
from tests.support.proxies import NAMES
from tests.support.tools import require_tool


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedDeployment]:
    """All econeds and proxies, for all tests of the folder."""
    for name in NAMES:
        require_tool(name)
    deployment = ProxiedDeployment(tmp_path_factory.mktemp("proxies"))
    try:
        deployment.furnish()
        yield deployment
    finally:
        deployment.remove()


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a proxy."""
    return str(request.param)


@pytest.fixture(scope="package")
def alice(deployment: ProxiedDeployment) -> Person:
    """A user who signs requests."""
    return deployment.cloud.alice
