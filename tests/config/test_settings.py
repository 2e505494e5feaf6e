"""econe.conf: its valid forms, defaults, and the documentation of its keys."""

from __future__ import annotations

import os
import re
from dataclasses import FrozenInstanceError, fields
from enum import Enum
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from econed.config.loading import load
from econed.config.settings import Settings
from econed.user import SecretKeys
from tests.config.configuring import settings_of

ROOT = Path(__file__).parent.parent.parent
KEYS = [field.name for field in fields(Settings)]

# The settings in the stock econe.conf of OpenNebula 5.12, in its order and spelling.
STOCK = """\
:tmpdir: /var/tmp
:one_xmlrpc: http://localhost:2633/RPC2
:host: localhost
:port: 4567
:auth: ec2
:core_auth: cipher
:debug_level: 3
:cluster_id:
:datastore_id:
:describe_with_terminated_instances: true
:terminated_instances_expiration_time: 900
:use_file_templates: false
:instance_types:
  :m1.small:
    :template: m1.small.erb
:elasticips_vnet_id:
:associate_script: false
:disassociate_script: false
:ebs_fstype: ext3
"""


def test_an_empty_file_gives_the_defaults(conf: Path) -> None:
    """By default econed connects to oned on the same machine."""
    settings = settings_of(conf, "# empty\n")
    assert settings == Settings()
    assert (settings.host, settings.port) == ("localhost", 4567)
    assert settings.one_xmlrpc == ("http://localhost:2633/RPC2",)
    assert (settings.one_calls, settings.one_timeout) == (8, 30)


def test_the_stock_file_of_the_ruby_server_loads_unchanged(conf: Path) -> None:
    """It has symbols, empty keys, and `false` for no script."""
    settings = settings_of(conf, STOCK)
    assert settings == Settings(debug_level=3, instance_types={"m1.small": "m1.small.erb"})
    assert settings.cluster_id is None
    assert settings.datastore_id == 1
    assert settings.associate_script is None


def test_the_shipped_file_sets_the_defaults() -> None:
    """The values that it sets are the defaults of `Settings`."""
    settings, warnings = load(ROOT / "etc/econe.conf", {})
    assert settings == Settings()
    assert warnings == ()


def test_the_commented_settings_of_the_shipped_file_are_valid(conf: Path, tmp_path: Path) -> None:
    """Every example can be uncommented."""
    text = (ROOT / "etc/econe.conf").read_text("utf-8").replace("http://localhost:2633", "https://localhost:2633")
    text = re.sub(r"^#(:|  )", r"\1", text, flags=re.MULTILINE).replace(":auth: ec2", ":auth: x509")
    for name in re.findall(r"/[\w/.-]+\.(?:pem|keys)", text):
        text = text.replace(name, str(tmp_path / Path(name).name))
        (tmp_path / Path(name).name).touch()
    settings = settings_of(conf, text)
    assert settings.ssl_server == "https://ec2.example.org/"
    assert settings.regions == {"zone-b": "https://ec2.zone-b.example.org/"}
    assert settings.region_names == ("us-east-1",)
    assert settings.secret_keys == (SecretKeys.TOKENS, SecretKeys.ACCESS_KEYS)
    assert (settings.cluster_id, settings.elasticips_vnet_id) == (100, 8)
    assert settings.one_ca_file == str(tmp_path / "cloud-ca.pem")
    assert settings.sealing_keys == str(tmp_path / "sealing.keys")
    assert settings.max_key_age == 365
    assert (settings.ssl_cert, settings.ssl_port) == (str(tmp_path / "cert.pem"), 4568)
    assert [str(network) for network in settings.trusted_proxies] == ["127.0.0.1/32", "10.1.0.0/16"]


@pytest.mark.parametrize("line", [":port: 5000", "port: 5000", '":port": 5000', "!ruby/sym port: 5000", "port: '5000'"])
def test_a_key_may_be_a_symbol_or_plain(conf: Path, line: str) -> None:
    """All spellings that YAML and Ruby allow are the same key."""
    assert settings_of(conf, line).port == 5000


@pytest.mark.parametrize("value", ["ec2", ":ec2", "!ruby/symbol ec2"])
def test_a_word_may_be_a_symbol_or_plain(conf: Path, value: str) -> None:
    """Ruby programs write words as symbols."""
    assert settings_of(conf, f":auth: {value}").auth == "ec2"


@pytest.mark.parametrize("value", ["tokens", ":tokens", "[tokens]", "[!ruby/sym tokens, tokens]"])
def test_the_secret_keys_that_count_are_one_kind_or_a_list(conf: Path, value: str) -> None:
    """In any order, and a kind may be named twice."""
    assert settings_of(conf, f"secret_keys: {value}").secret_keys == (SecretKeys.TOKENS,)
    both = settings_of(conf, "secret_keys: [access_keys, password]").secret_keys
    assert both == (SecretKeys.ACCESS_KEYS, SecretKeys.PASSWORD)


@pytest.mark.parametrize("empty", ["", "~", "null"])
@pytest.mark.parametrize("key", KEYS)
def test_an_empty_key_is_not_set(conf: Path, key: str, empty: str) -> None:
    """The default applies."""
    assert settings_of(conf, f":{key}: {empty}\n") == Settings()


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("host: 0.0.0.0", "host", "0.0.0.0"),
        ("host: ec2.example.org", "host", "ec2.example.org"),
        ("host: ::1", "host", "::1"),
        ("host: '::'", "host", "::"),
        ("host: '[::1]'", "host", "::1"),
        ("host: fe80::1%eth0", "host", "fe80::1%eth0"),
        ("ssl_server: https://ec2.example.org:8443/custom/path", "ssl_server", "https://ec2.example.org:8443/custom/path"),
        ("ssl_server: http://[::1]:8443/", "ssl_server", "http://[::1]:8443/"),
        ("ssl_server: false", "ssl_server", None),
        ("one_timeout: 2.5", "one_timeout", 2.5),
        ("workers: 4", "workers", 4),
        ("workers: auto", "workers", min(len(os.sched_getaffinity(0)), 64)),
        ("drain_timeout: 0", "drain_timeout", 0),
        ("admin_port: 9100", "admin_port", 9100),
        ("log_file: /var/log/one/econe.log", "log_file", "/var/log/one/econe.log"),
        ("log_format: :json", "log_format", "json"),
        ("audit_log: /var/log/one/econe-audit.log", "audit_log", "/var/log/one/econe-audit.log"),
        ("audit_log: false", "audit_log", None),
        ("rate_limit: 0.5", "rate_limit", 0.5),
        ("rate_limit: false", "rate_limit", None),
        ("failed_signatures: false", "failed_signatures", None),
        ("max_connections_per_address: false", "max_connections_per_address", None),
        ("image_url_hosts: Images.example.org.", "image_url_hosts", ("images.example.org",)),
        ("image_url_hosts: ['*.example.org', 10.0.0.1, '[2001:DB8::1]']", "image_url_hosts",
         ("*.example.org", "10.0.0.1", "2001:db8::1")),
        ("trusted_proxies: 10.1.2.3", "trusted_proxies", (ip_network("10.1.2.3/32"),)),
        ("trusted_proxies: [127.0.0.1, 'fd00::/8']", "trusted_proxies",
         (ip_network("127.0.0.1/32"), ip_network("fd00::/8"))),
        ("default_instance_type: :m1.large", "default_instance_type", "m1.large"),
        ("default_instance_type: 2", "default_instance_type", "2"),
        ("use_file_templates: no", "use_file_templates", False),
        ("core_auth: :x509", "core_auth", "x509"),
        ("describe_with_terminated_instances: Off", "describe_with_terminated_instances", False),
        ("elasticips_vnet_id: 8", "elasticips_vnet_id", 8),
        (":elastic_ips_vnet: 8", "elasticips_vnet_id", 8),
        ("elasticips_vnet_id: 0", "elasticips_vnet_id", 0),
        ("cluster_id: false", "cluster_id", None),
        ("script_timeout: 7.5", "script_timeout", 7.5),
        (":elastic_ips_per_user: 2", "elastic_ips_per_user", 2),
        (":network_security_group: warn", "network_security_group", "warn"),
        (":filtering_drivers: [fw, mine, fw]", "filtering_drivers", ("fw", "mine")),
        (":filtering_drivers: mine", "filtering_drivers", ("mine",)),
        ("associate_script: /bin/x", "associate_script", ("/bin/x",)),
        ("associate_script: /usr/bin/ruby '/etc/one/my script.rb' -v", "associate_script",
         ("/usr/bin/ruby", "/etc/one/my script.rb", "-v")),
        ("regions:\n  :a: https://a.example.org/\n  b: http://b:4567", "regions",
         {"a": "https://a.example.org/", "b": "http://b:4567"}),
        ("region_names: us-east-1", "region_names", ("us-east-1",)),
        (":region_names:\n  - us-east-1\n  - eu-west-1", "region_names", ("us-east-1", "eu-west-1")),
    ],
)  # fmt: skip
def test_values_are_read_in_all_valid_forms(conf: Path, line: str, key: str, value: object) -> None:
    """One key per file."""
    assert getattr(settings_of(conf, line), key) == value


def test_settings_cannot_be_changed(conf: Path) -> None:
    """The collections in them are immutable too."""
    settings: Any = settings_of(conf, "regions: {a: 'https://a/'}")
    with pytest.raises(FrozenInstanceError):
        settings.port = 1
    with pytest.raises(TypeError):
        settings.regions["b"] = "https://b/"


@pytest.mark.parametrize("key", [*KEYS, "elastic_ips_vnet"])
def test_every_key_is_documented_in_the_file_and_in_the_reference(key: str) -> None:
    """etc/econe.conf has it, perhaps commented out; docs/configuration.md has a row for it."""
    assert re.search(
        rf"^#?:{key}:|\b{key} is another name of this key", (ROOT / "etc/econe.conf").read_text("utf-8"), re.M
    )
    assert re.search(rf"^\|[^|]*`{key}`", (ROOT / "docs/configuration.md").read_text("utf-8"), re.M)


def test_the_reference_gives_the_actual_defaults() -> None:
    """Every key with a default is compared."""
    rows = re.findall(r"^\| `(\w+)`.*?\| .+? \| `(.+?)` \|", (ROOT / "docs/configuration.md").read_text("utf-8"), re.M)
    documented = {key: text for key, text in rows if key in KEYS}
    defaults = {key: getattr(Settings(), key) for key in documented}
    assert documented == {key: _in_yaml(value) for key, value in defaults.items()}
    assert set(KEYS) - set(documented) == {
        "ssl_server", "ssl_cert", "ssl_key", "ssl_chain", "ssl_port", "ssl_host", "ssl_sni", "ssl_client_ca",
        "trusted_proxies", "upload_share", "log_file", "audit_log", "admin_port", "one_ca_file", "regions",
        "sealing_keys", "region_names", "cluster_id", "image_url_hosts", "elasticips_vnet_id", "instance_types",
    }  # fmt: skip


def _in_yaml(value: object) -> str:
    """Return a default as econe.conf writes it."""
    if value is None or isinstance(value, bool):
        return str(bool(value)).lower()
    if isinstance(value, tuple):
        return ", ".join(str(item.value) if isinstance(item, Enum) else item for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
