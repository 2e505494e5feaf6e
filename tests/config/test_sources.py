"""Where the configuration comes from: econe.conf, its default path, and the environment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from econed.config import loading
from econed.config.loading import ConfigError, default_path
from econed.config.settings import Settings
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
    source = loading.read(conf, {})
    conf.write_text(":workers: many\n", "utf-8")
    settings, warnings = loading.load(source, {})
    assert settings.workers == 3
    assert [(warning.place, warning.line) for warning in warnings] == [(str(conf), 2)]


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """It is missing, or not text."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        loading.read(tmp_path / "none.conf", {})
    (tmp_path / "bytes.conf").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        loading.read(tmp_path / "bytes.conf", {})


# Keys in the environment


def test_every_key_may_be_in_the_environment_and_overrides_the_file(conf: Path) -> None:
    """Lists and mappings are YAML as in the file, also on one line."""
    text = "port: 1\nregion_names: a\nworkers: 2\nlog_format: text\n"
    settings = settings_of(
        conf,
        text,
        {
            "ECONE_PORT": "4568",
            "ECONE_REGION_NAMES": "[us-east-1, eu-west-1]",
            "ECONE_REGIONS": "{zone-b: 'https://b.example.org/'}",
            "ECONE_LOG_FORMAT": ":json",
            "ECONE_HOST": "::",
            "ECONE_IMAGE_URL_HOSTS": "*.example.org",
            "ECONE_ADMIN_PORT": "'4569'",
            "ECONE_RATE_LIMIT": "false",
            "ECONE_WORKERS": "",
            "ECONE_ONE_XMLRPC": "[http://one-1:2633/RPC2, http://one-2:2633/RPC2]",
        },
    )
    assert (settings.port, settings.host, settings.log_format, settings.rate_limit) == (4568, "::", "json", None)
    assert (settings.image_url_hosts, settings.admin_port) == (("*.example.org",), 4569)
    assert settings.region_names == ("us-east-1", "eu-west-1")
    assert settings.regions == {"zone-b": "https://b.example.org/"}
    assert settings.workers == 2, "an empty variable is not set"
    assert settings.one_xmlrpc == ("http://one-1:2633/RPC2", "http://one-2:2633/RPC2")


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_each_key_is_read_from_its_variable(conf: Path, field: Any) -> None:
    """A list in a list is valid for none of them, and the error names the variable."""
    problems = problems_of(conf, "", {f"ECONE_{field.name.upper()}": "[[]]"})
    assert [problem for problem in problems if not problem.startswith(f"ECONE_{field.name.upper()}: ")] == []
    assert problems != []


def test_errors_of_the_file_and_of_the_environment_are_reported_together(conf: Path) -> None:
    assert problems_of(conf, "port: x\n", {"ECONE_WORKERS": "many", "ECONE_SSL_SNI": "["}) == [
        "ECONE_WORKERS: expected auto or a number from 1 to 64, got 'many'",
        "econe.conf:1: port: expected a number from 1 to 65535, got 'x'",
        "ECONE_SSL_SNI:1: is not YAML: expected the node content, but found '<stream end>'",
    ]


def test_a_variable_that_is_no_key_is_a_warning(conf: Path) -> None:
    """Except for that of econe.tac; variables with other prefixes are not looked at."""
    conf.write_text("", "utf-8")
    _, warnings = loading.load(conf, {"ECONE_PROT": "1", "ECONE_CONF": "/etc/one/econe.conf", "ECONED_CI": "1"})
    assert [str(warning) for warning in warnings] == ["ECONE_PROT: unknown key, it has no effect (did you mean port?)"]


def test_one_xmlrpc_of_opennebula_has_priority(conf: Path) -> None:
    environ = {"ONE_XMLRPC": "http://a:2633/RPC2", "ECONE_ONE_XMLRPC": "http://b:2633/RPC2"}
    assert settings_of(conf, "", environ).one_xmlrpc == ("http://a:2633/RPC2",)


def test_the_file_may_be_missing_if_the_environment_sets_a_key(tmp_path: Path) -> None:
    """As in a container. Variables that are no keys do not replace it."""
    missing = tmp_path / "none.conf"
    settings, _ = loading.load(missing, {"ECONE_PORT": "4568"})
    assert settings == Settings(port=4568)
    with pytest.raises(ConfigError, match="cannot be read"):
        loading.load(missing, {"ECONE_PROT": "4568", "ECONE_CONF": str(missing)})
