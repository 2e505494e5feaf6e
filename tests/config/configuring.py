"""Loading an econe.conf from text."""

from __future__ import annotations

from pathlib import Path

import pytest

from econed.config.loading import ConfigError, load
from econed.config.settings import Settings


def settings_of(conf: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    """Return the settings of a file that causes no warnings."""
    conf.write_text(text, encoding="utf-8")
    settings, warnings = load(conf, environ or {})
    assert warnings == ()
    return settings


def problems_of(conf: Path, text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    """Return the messages about an invalid file, without its directory."""
    conf.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(conf, environ or {})
    return [str(problem).removeprefix(f"{conf.parent}/") for problem in caught.value.problems]
