"""The list of components (SBOM) of the packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from distribution import components
from econed import __version__
from tests.project.test_packaging import pins
from tests.support.packages import built


def test_the_list_of_components_has_econed_and_every_bundled_library_with_its_licence(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """They are the pinned ones, and the list names no file of the machine that built it."""
    wheel, _ = built(tmp_path_factory)
    text = components.write(wheel, tmp_path).read_text("utf-8")
    listed = json.loads(text)["components"]
    versions = {canonicalize_name(component["name"]): component["version"] for component in listed}
    assert versions == {**pins("daemon.txt"), "econed": __version__}
    assert all(component["licenses"] for component in listed)
    assert "file:" not in text
