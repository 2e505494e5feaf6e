"""econe.conf: settings that conflict with, require, or have no effect without others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from econed.config.loading import ConfigError, load
from econed.config.settings import Settings
from econed.config.values import CertificateFiles
from tests.config.configuring import problems_of, settings_of


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


def test_automatic_workers_are_limited_by_the_concurrent_calls_to_oned(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many processors are not an error; an explicit number of workers that is too high is."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert settings_of(conf, "workers: auto").workers == Settings().one_calls
    assert settings_of(conf, "workers: auto\none_calls: 12").workers == 12
    with pytest.raises(ConfigError, match="one_calls: expected at least one for each of the workers"):
        settings_of(conf, "workers: 16")
