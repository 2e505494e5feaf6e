"""econe.conf: valid values, invalid values, and the messages about them."""

from __future__ import annotations

import os
import re
from dataclasses import FrozenInstanceError, fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from econed.config import loading
from econed.config.loading import ConfigError, ConfigProblem, default_path, load
from econed.config.settings import Settings
from econed.config.values import CertificateFiles

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


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The path of the econe.conf that a test writes."""
    return tmp_path / "econe.conf"


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


# Valid values


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
    for name in re.findall(r"/[\w/.-]+\.pem", text):
        text = text.replace(name, str(tmp_path / Path(name).name))
        (tmp_path / Path(name).name).touch()
    settings = settings_of(conf, text)
    assert settings.ssl_server == "https://ec2.example.org/"
    assert settings.regions == {"zone-b": "https://ec2.zone-b.example.org/"}
    assert settings.region_names == ("us-east-1",)
    assert (settings.cluster_id, settings.elasticips_vnet_id) == (100, 8)
    assert settings.one_ca_file == str(tmp_path / "cloud-ca.pem")
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
        ("use_file_templates: no", "use_file_templates", False),
        ("core_auth: :x509", "core_auth", "x509"),
        ("describe_with_terminated_instances: Off", "describe_with_terminated_instances", False),
        ("elasticips_vnet_id: 8", "elasticips_vnet_id", 8),
        (":elastic_ips_vnet: 8", "elasticips_vnet_id", 8),
        ("elasticips_vnet_id: 0", "elasticips_vnet_id", 0),
        ("cluster_id: false", "cluster_id", None),
        ("script_timeout: 7.5", "script_timeout", 7.5),
        (":elastic_ips_per_user: 2", "elastic_ips_per_user", 2),
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


# Invalid values


def test_all_errors_are_reported_with_file_line_key_and_expected_value(conf: Path) -> None:
    """The list is in the order of the file, without the valid keys."""
    text = """\
:port: abc
:host: localhost

:debug_level: 4
:one_xmlrpc: ftp://localhost
:regions:
  east: east.example.org
  west: https://west.example.org/
  east: https://east.example.org/
:tmpdir: tmp
"""
    assert problems_of(conf, text, {"ONE_XMLRPC": "localhost:2633"}) == [
        "ONE_XMLRPC: expected an http:// or https:// URL without user, query or fragment, got 'localhost:2633'",
        "econe.conf:1: port: expected a number from 1 to 65535, got 'abc'",
        "econe.conf:4: debug_level: expected a number from 0 to 3, got '4'",
        "econe.conf:5: one_xmlrpc: expected an http:// or https:// URL without user, query or fragment,"
        " got 'ftp://localhost'",
        "econe.conf:7: regions.east: expected an http:// or https:// URL without user, query or fragment,"
        " got 'east.example.org'",
        "econe.conf:9: regions.east: set twice, first in line 7",
        "econe.conf:10: tmpdir: expected an absolute path, got 'tmp'",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("port: 0", "port: expected a number from 1 to 65535, got '0'"),
        ("port: 65536", "port: expected a number from 1 to 65535, got '65536'"),
        ("port: 010", "port: expected a number from 1 to 65535, got '010'"),
        ("port: 4567.0", "port: expected a number from 1 to 65535, got '4567.0'"),
        ("port: [1, 2]", "port: expected a number from 1 to 65535, got a list"),
        ("port: {a: 1}", "port: expected a number from 1 to 65535, got a mapping"),
        ("port: !ruby/object:Port 5", "port: expected a number from 1 to 65535, got '5'"),
        ("one_max_reply: 1", "one_max_reply: expected a number of bytes from 65536 to 4294967296, got '1'"),
        ("one_timeout: 0", "one_timeout: expected a number of seconds from 1 to 3600, got '0'"),
        ("one_timeout: 30s", "one_timeout: expected a number of seconds from 1 to 3600, got '30s'"),
        ("one_timeout: .inf", "one_timeout: expected a number of seconds from 1 to 3600, got '.inf'"),
        ("host: 10.0.0.300", "host: expected a host name or an IP address, got '10.0.0.300'"),
        ("host: http://h/", "host: expected a host name or an IP address, got 'http://h/'"),
        ("host: 'a b'", "host: expected a host name or an IP address, got the text 'a b'"),
        ("describe_with_terminated_instances: 'true'",
         "describe_with_terminated_instances: expected true or false, got the text 'true'"),
        ("auth: basic", "auth: expected 'ec2' or 'x509', got 'basic'"),
        ("workers: 0", "workers: expected auto or a number from 1 to 64, got '0'"),
        ("workers: many", "workers: expected auto or a number from 1 to 64, got 'many'"),
        ("rate_limit: 0", "rate_limit: expected a number per second, greater than 0 and up to 1000000, got '0'"),
        ("log_file: econe.log", "log_file: expected an absolute path, got 'econe.log'"),
        ("log_format: xml", "log_format: expected 'text' or 'json', got 'xml'"),
        ("image_url_hosts: ['http://images.example.org']",
         "image_url_hosts: expected a host name, an IP address, *. and a domain, or a list of them,"
         " got the text 'http://images.example.org'"),
        ("image_url_hosts: '*'",
         "image_url_hosts: expected a host name, an IP address, *. and a domain, or a list of them, got the text '*'"),
        ("image_url_hosts: '*.10.0.0.1'",
         "image_url_hosts: expected a host name, an IP address, *. and a domain, or a list of them,"
         " got the text '*.10.0.0.1'"),
        ("image_url_hosts: [0x7f.1]",
         "image_url_hosts: expected a host name, an IP address, *. and a domain, or a list of them, got '0x7f.1'"),
        ("trusted_proxies: [proxy]",
         "trusted_proxies: expected an IP address, a network such as 10.0.0.0/8, or a list of them, got 'proxy'"),
        ("trusted_proxies: 10.1.2.3/8",
         "trusted_proxies: expected an IP address, a network such as 10.0.0.0/8, or a list of them, got '10.1.2.3/8'"),
        ("ssl_sni: [{cert: /etc/passwd}]",
         "ssl_sni: expected a list of mappings with cert and key, and optionally chain, got a mapping"),
        ("ssl_sni: [{cert: /nowhere, key: /etc/passwd}]",
         "ssl_sni.cert: expected a file that can be read, got '/nowhere'"),
        ("associate_script: script.sh",
         "associate_script: expected a command that begins with an absolute path, or false, got 'script.sh'"),
        ("associate_script: /bin/x 'open",
         'associate_script: expected a command that begins with an absolute path, or false, got "/bin/x \'open"'),
        ("associate_script: true",
         "associate_script: expected a command that begins with an absolute path, or false, got 'true'"),
        ("cluster_id: -1", "cluster_id: expected a number from 0 to 2147483647, got '-1'"),
        ("one_ca_file: /no/such/file", "one_ca_file: expected a file that can be read, got '/no/such/file'"),
        ("ebs_fstype: ext3 -F", "ebs_fstype: expected the name of a file system, got 'ext3 -F'"),
        ("region_names: [us-east-1, 'my region']",
         "region_names: expected the name of a region, such as us-east-1, or a list of them, got the text 'my region'"),
        ("region_names: {a: b}",
         "region_names: expected the name of a region, such as us-east-1, or a list of them, got a mapping"),
        ("regions: https://a/", "regions: expected a mapping of names to URLs, got 'https://a/'"),
        ("regions: {a: }",
         "regions.a: expected an http:// or https:// URL without user, query or fragment, got nothing"),
        ("instance_types: {m1.small: m1.small.erb}",
         "instance_types.m1.small: expected a mapping with a 'template', got 'm1.small.erb'"),
        ("? [a]\n: 1", "expected a key, got a list"),
    ],
)  # fmt: skip
def test_the_error_for_an_invalid_value_says_what_was_expected(conf: Path, line: str, problem: str) -> None:
    """The message is enough to fix the file."""
    assert problems_of(conf, line) == [f"econe.conf:1: {problem}"]


@pytest.mark.parametrize(
    "value",
    [
        "https://",
        "https:///path",
        "https://h:0/",
        "https://h:70000/",
        "https://h:port/",
        "https://h/?q=1",
        "https://h/?",
        "https://h/#f",
        "https://h a/",
        "https://-h/",
        "https://höst/",
        "//h/",
        "h:4567",
    ],
)
def test_only_http_urls_with_a_host_and_without_query_or_fragment_are_valid(conf: Path, value: str) -> None:
    """With any other URL no signature would match."""
    assert len(problems_of(conf, f"ssl_server: '{value}'")) == 1


def test_a_password_in_a_url_is_refused_and_not_quoted(conf: Path) -> None:
    """This holds for the file and the environment: messages may be logged."""
    url = "https://oneadmin:hunter2@localhost/RPC2"
    problems = problems_of(conf, f"one_xmlrpc: {url}", {"ONE_XMLRPC": url})
    assert len(problems) == 2
    assert "hunter2" not in "".join(problems)


@pytest.fixture
def pem(tmp_path: Path) -> str:
    """A readable file."""
    file = tmp_path / "file.pem"
    file.touch()
    return str(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ssl_cert: PEM", "ssl_key: expected the key of ssl_cert"),
        *(
            (f"{key}: {value}", f"{key}: expected ssl_cert as well")
            for key, value in (
                ("ssl_key", "PEM"),
                ("ssl_chain", "PEM"),
                ("ssl_port", "4568"),
                ("ssl_host", "0.0.0.0"),
                ("ssl_sni", "[{cert: PEM, key: PEM}]"),
            )
        ),
        ("auth: x509\nssl_client_ca: PEM", "ssl_client_ca: expected ssl_cert as well"),
        ("ssl_cert: PEM\nssl_key: PEM\nssl_port: 4567", "ssl_port: expected a port that differs from port"),
        (
            "ssl_cert: PEM\nssl_key: PEM\nssl_port: 4567\nssl_host: localhost",
            "ssl_port: expected a port that differs from port",
        ),
        *(
            (
                f"auth: x509\n{rest}",
                "auth: expected ssl_client_ca or trusted_proxies for x509, otherwise no client has a certificate",
            )
            for rest in ("", "ssl_cert: PEM\nssl_key: PEM")
        ),
    ],
)
def test_conflicting_tls_settings_are_refused(conf: Path, pem: str, text: str, message: str) -> None:
    """The message names the key to change or to add."""
    assert f"econe.conf: {message}" in problems_of(conf, text.replace("PEM", pem))


def test_tls_may_use_a_second_port_or_the_only_port_or_another_address(conf: Path, pem: str) -> None:
    """With a certificate and its key, the other TLS settings are valid."""
    tls = f"ssl_cert: {pem}\nssl_key: {pem}\n"
    assert settings_of(conf, tls).ssl_port is None
    assert settings_of(conf, tls + "ssl_port: 4568").ssl_port == 4568
    same_port = settings_of(conf, tls + "ssl_port: 4567\nssl_host: 192.0.2.1")
    assert (same_port.ssl_port, same_port.ssl_host) == (4567, "192.0.2.1")
    with_chain = settings_of(conf, tls + f"ssl_chain: {pem}\nssl_sni:\n- :cert: {pem}\n  key: {pem}\n  chain: {pem}\n")
    assert (with_chain.ssl_chain, with_chain.ssl_sni) == (pem, (CertificateFiles(pem, pem, pem),))


@pytest.mark.parametrize("word", ["x509", ":x509"])
def test_auth_x509_needs_tls_in_econed_or_a_trusted_proxy(conf: Path, pem: str, word: str) -> None:
    """Both can pass on the client's certificate."""
    assert settings_of(conf, f":auth: {word}\ntrusted_proxies: 127.0.0.1").auth == "x509"
    tls = f"ssl_cert: {pem}\nssl_key: {pem}\nssl_client_ca: {pem}\n"
    assert settings_of(conf, f":auth: {word}\n{tls}").ssl_client_ca == pem


def test_ssl_client_ca_without_auth_x509_is_a_warning(conf: Path, pem: str) -> None:
    """Client certificates are then not checked."""
    conf.write_text(f"ssl_cert: {pem}\nssl_key: {pem}\nssl_client_ca: {pem}\n")
    settings, warnings = load(conf, {})
    assert settings.auth == "ec2"
    assert [str(each) for each in warnings] == [f"{conf}: ssl_client_ca: has no effect, auth is not x509"]


def test_use_file_templates_needs_instance_types(conf: Path) -> None:
    """Without them there would be no instance type."""
    (problem,) = problems_of(conf, ":use_file_templates: true\n")
    assert problem.startswith("econe.conf: use_file_templates: expected instance_types")
    types = ":instance_types:\n  :m1.small:\n    :template: m1.small.erb\n"
    settings = settings_of(conf, ":use_file_templates: true\n" + types)
    assert (settings.use_file_templates, settings.instance_types) == (True, {"m1.small": "m1.small.erb"})


def test_a_key_set_twice_is_refused_in_any_spelling(conf: Path) -> None:
    """The intended value is unknown."""
    assert problems_of(conf, ":port: 1\nport: 1\nelastic_ips_vnet: 1\nelasticips_vnet_id: 1\n") == [
        "econe.conf:2: port: set twice, first in line 1",
        "econe.conf:4: elasticips_vnet_id: the same as elastic_ips_vnet in line 3",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("port: 1\nhost: [\n", "econe.conf:3: is not YAML: "),
        ("a: b: c", "econe.conf:1: is not YAML: "),
        ("a: *b", "econe.conf:1: is not YAML: found undefined alias"),
        ("port: 1\n---\nport: 2\n", "econe.conf:2: is not YAML: "),
        ("port: \0", "econe.conf: is not YAML: "),
        (f"port: {'[' * 3000}", "econe.conf: is not YAML: "),
        ("- port", "econe.conf:1: expected keys with values, got a list"),
        (b"host: \xff", "econe.conf: is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_yaml_is_refused_with_its_line(conf: Path, text: str | bytes, problem: str) -> None:
    """The parser does not report a line for every error."""
    (message,) = problems_of(conf, text)
    assert message.startswith(problem)


def test_the_error_for_a_missing_file_names_it(conf: Path) -> None:
    """It is a `ConfigError`, not a traceback."""
    with pytest.raises(ConfigError, match=re.escape(f"{conf}: cannot be read: No such file or directory")):
        load(conf, {})


def test_yaml_tags_run_no_code(conf: Path, tmp_path: Path) -> None:
    """A tag that names a Python function makes the value invalid."""
    proof = tmp_path / "proof"
    problems_of(conf, f"host: !!python/object/apply:os.mkdir ['{proof}']")
    assert not proof.exists()


# Warnings


def test_an_unknown_key_is_a_warning_that_suggests_a_similar_key(conf: Path) -> None:
    """The rest of the file is used."""
    conf.write_text("port: 5000\n:prot: 1\nzzz: [1]\n", encoding="utf-8")
    settings, warnings = load(conf, {})
    assert settings.port == 5000
    assert warnings == (
        ConfigProblem(str(conf), "unknown key, it has no effect (did you mean port?)", 2, "prot"),
        ConfigProblem(str(conf), "unknown key, it has no effect", 3, "zzz"),
    )


def test_a_ca_file_for_an_unencrypted_oned_is_a_warning(conf: Path) -> None:
    """The setting suggests a protection that is not there."""
    conf.write_text(f"one_ca_file: {__file__}\n", encoding="utf-8")
    (warning,) = load(conf, {})[1]
    assert str(warning) == f"{conf}: one_ca_file: has no effect, one_xmlrpc is not an https URL"
    assert load(conf, {"ONE_XMLRPC": "https://one.example.org/RPC2"})[1] == ()


def test_a_region_name_that_regions_assigns_to_another_zone_is_a_warning(conf: Path) -> None:
    """The name remains that of the other zone."""
    conf.write_text("regions: {b: 'https://b.example.org/'}\nregion_names: [us-east-1, b]\n", encoding="utf-8")
    (warning,) = load(conf, {})[1]
    assert str(warning) == f"{conf}: region_names: has no effect for a name that regions assigns to another zone"


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
        "trusted_proxies", "upload_share", "log_file", "admin_port", "one_ca_file", "regions", "region_names",
        "cluster_id", "image_url_hosts", "elasticips_vnet_id", "instance_types",
    }  # fmt: skip


def _in_yaml(value: object) -> str:
    """Return a default as econe.conf writes it."""
    if value is None or isinstance(value, bool):
        return str(bool(value)).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_automatic_workers_are_limited_by_the_concurrent_calls_to_oned(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many processors are not an error; an explicit number of workers that is too high is."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert settings_of(conf, "workers: auto").workers == Settings().one_calls
    assert settings_of(conf, "workers: auto\none_calls: 12").workers == 12
    with pytest.raises(ConfigError, match="one_calls: expected at least one for each of the workers"):
        settings_of(conf, "workers: 16")


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
