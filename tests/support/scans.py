"""Scans of a TLS server by sslscan and testssl, as packaged by Debian."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from lxml import etree

from tests.support.tools import require_tool

LONG = 600
"""Seconds that a scan may take on a busy machine."""

_PROTOCOLS = {("tls", "1.2"), ("tls", "1.3")}
_CIPHER = re.compile(
    r"TLS_(AES_(128|256)_GCM_SHA\d+|CHACHA20_POLY1305_SHA256)|ECDHE-(RSA|ECDSA)-.*(GCM-SHA\d+|POLY1305)"
)
_STRENGTHS = {"strong", "acceptable"}
_SEVERITIES = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"}


def sslscan(port: int, directory: Path) -> tuple[set[str], set[str]]:
    """Return the faults that sslscan finds on a port, and the names of the ciphers offered there."""
    report = directory / "sslscan.xml"
    argv = [require_tool("sslscan"), f"--xml={report}", f"127.0.0.1:{port}"]
    subprocess.run(argv, check=True, capture_output=True, timeout=LONG)
    results = etree.parse(report)
    ciphers = {str(cipher.get("cipher")) for cipher in results.iter("cipher")}
    faults = {
        f"protocol {protocol.get('type')} {protocol.get('version')}"
        for protocol in results.iter("protocol")
        if protocol.get("enabled") == "1" and (protocol.get("type"), protocol.get("version")) not in _PROTOCOLS
    }
    faults |= {
        f"cipher {cipher.get('cipher')}"
        for cipher in results.iter("cipher")
        if not _CIPHER.fullmatch(str(cipher.get("cipher"))) or cipher.get("strength") not in _STRENGTHS
    }
    for name, attribute in (("heartbleed", "vulnerable"), ("renegotiation", "supported"), ("compression", "supported")):
        faults |= {name for element in results.iter(name) if element.get(attribute) == "1"}
    return faults, ciphers


def testssl(port: int, directory: Path, *options: str) -> tuple[set[str], set[str]]:
    """Run testssl with these options; return the faults that it finds on a port, and the ids of all its checks."""
    report = directory / "testssl.json"
    argv = [
        require_tool("testssl"),
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "off",
        "--jsonfile",
        str(report),
        *options,
    ]
    completed = subprocess.run([*argv, f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=LONG, check=False)
    assert report.exists(), completed.stdout + completed.stderr
    findings = json.loads(report.read_text("utf-8"))
    faults = {f"{finding['id']}: {finding['finding']}" for finding in findings if finding["severity"] in _SEVERITIES}
    return faults, {finding["id"] for finding in findings}


testssl.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test by its name
