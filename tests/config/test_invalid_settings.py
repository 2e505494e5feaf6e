"""econe.conf: invalid values, unknown keys and invalid files, and the messages about them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from econed.config.loading import ConfigError, ConfigProblem, load
from tests.config.configuring import problems_of


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
        ("secret_keys: [password, token]",
         "secret_keys: expected 'password' or 'tokens' or 'access_keys', or a list of some of them, got 'token'"),
        ("secret_keys: []",
         "secret_keys: expected 'password' or 'tokens' or 'access_keys', or a list of some of them, got a list"),
        ("network_security_group: ignore", "network_security_group: expected 'refuse' or 'warn', got 'ignore'"),
        ("filtering_drivers: [fw, 'a b']",
         "filtering_drivers: expected the name of a network driver, or a list of them, got the text 'a b'"),
        ("workers: 0", "workers: expected auto or a number from 1 to 64, got '0'"),
        ("workers: many", "workers: expected auto or a number from 1 to 64, got 'many'"),
        ("rate_limit: 0", "rate_limit: expected a number per second, greater than 0 and up to 1000000, got '0'"),
        ("default_instance_type: [m1.small]",
         "default_instance_type: expected the name of an instance type, got a list"),
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


def test_an_unknown_key_is_a_warning_that_suggests_a_similar_key(conf: Path) -> None:
    """The rest of the file is used."""
    conf.write_text("port: 5000\n:prot: 1\nzzz: [1]\n", encoding="utf-8")
    settings, warnings = load(conf, {})
    assert settings.port == 5000
    assert warnings == (
        ConfigProblem(str(conf), "unknown key, it has no effect (did you mean port?)", 2, "prot"),
        ConfigProblem(str(conf), "unknown key, it has no effect", 3, "zzz"),
    )
