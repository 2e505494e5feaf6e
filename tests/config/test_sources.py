"""Where the configuration comes from: econe.conf, its default path, and ONE_XMLRPC."""

from __future__ import annotations

from pathlib import Path

import pytest

from econed.config import loading
from econed.config.loading import ConfigError, default_path
from tests.config.configuring import problems_of, settings_of

# Environment and defaults


def test_one_xmlrpc_of_the_environment_overrides_the_file(conf: Path) -> None:
    """OpenNebula's own tools do the same; an empty variable counts as not set."""
    text = "one_xmlrpc: http://file:2633/RPC2"
    assert settings_of(conf, text, {"ONE_XMLRPC": "http://env:2633/RPC2"}).one_xmlrpc == ("http://env:2633/RPC2",)
    assert settings_of(conf, text, {"ONE_XMLRPC": ""}).one_xmlrpc == ("http://file:2633/RPC2",)


@pytest.mark.parametrize("separator", [",", " ", ", ", "\n", " , "])
def test_one_xmlrpc_of_the_environment_may_list_several_urls(conf: Path, separator: str) -> None:
    """Commas or blanks separate them."""
    urls = ("http://a:2633/RPC2", "https://b/RPC2")
    assert settings_of(conf, "", {"ONE_XMLRPC": separator.join(urls)}).one_xmlrpc == urls


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://a/ ftp://b", "got 'ftp://b'"),
        ("http://a/,http://a/", "'http://a/' is listed twice"),
        (",", "got ','"),
        ("http://a/ b c", "got 'b'"),
    ],
)
def test_each_url_of_the_environment_is_validated(conf: Path, text: str, message: str) -> None:
    assert message in problems_of(conf, "", {"ONE_XMLRPC": text})[0]


@pytest.mark.parametrize(
    "text", ["[http://a:2633/RPC2, 'https://b/RPC2']", "\n  - http://a:2633/RPC2\n  - https://b/RPC2"]
)
def test_one_xmlrpc_may_list_all_servers_of_a_zone(conf: Path, text: str) -> None:
    """Their order is kept."""
    assert settings_of(conf, f":one_xmlrpc: {text}").one_xmlrpc == ("http://a:2633/RPC2", "https://b/RPC2")


def test_every_url_of_a_list_is_validated_and_may_be_listed_only_once(conf: Path) -> None:
    """A server listed twice would count as two that agree."""
    messages = problems_of(conf, "one_xmlrpc:\n  - http://a/\n  - ftp://b\n  - [c]\n  - http://a/\n")
    assert [line.partition(", got")[0].partition(": expected")[0] for line in messages] == [
        "econe.conf:3: one_xmlrpc",
        "econe.conf:4: one_xmlrpc",
        "econe.conf:5: one_xmlrpc",
    ]
    assert "'http://a/' is listed twice" in messages[2]
    assert "got an empty list" in problems_of(conf, "one_xmlrpc: []")[0]


def test_the_default_path_is_below_one_location_or_in_etc_one() -> None:
    """These are OpenNebula's self-contained and system-wide installations."""
    assert default_path({"ONE_LOCATION": "/opt/one"}) == Path("/opt/one/etc/econe.conf")
    assert default_path({"ONE_LOCATION": ""}) == Path("/etc/one/econe.conf")
    assert default_path({}) == Path("/etc/one/econe.conf")


# The text, passed to processes that must use the same configuration


def test_a_source_is_loaded_independently_of_later_changes_to_the_file(conf: Path) -> None:
    """Errors and warnings still name the file."""
    conf.write_text(":workers: 3\n:prot: 1\n", "utf-8")
    source = loading.read(conf)
    conf.write_text(":workers: many\n", "utf-8")
    settings, warnings = loading.load(source, {})
    assert settings.workers == 3
    assert [(warning.place, warning.line) for warning in warnings] == [(str(conf), 2)]


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """It is missing, or not text."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        loading.read(tmp_path / "none.conf")
    (tmp_path / "bytes.conf").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        loading.read(tmp_path / "bytes.conf")
