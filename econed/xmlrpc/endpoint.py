"""The endpoint of an oned: plain, or TLS with the system's authorities or those of a file.

The supervisor checks the settings with it. So it imports neither XML-RPC nor lxml, which only workers need.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet import ssl
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint


def oned_endpoint(reactor: Any, url: str, ca_file: Path | None = None, timeout: float = 30.0) -> IStreamClientEndpoint:
    """Return the endpoint for the oned at `url`; https verifies the chain and the host name.

    `ca_file` is a PEM file of authorities that replace the system's. Raises ValueError for an invalid URL or file,
    OSError for a file that cannot be read. `timeout` is that of the connection in seconds.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not the http or https URL of an oned: {url}")
    is_https = parts.scheme == "https"
    endpoint = HostnameEndpoint(reactor, parts.hostname, parts.port or (443 if is_https else 80), timeout)
    if not is_https:
        return endpoint
    return wrapClientTLS(ssl.optionsForClientTLS(parts.hostname, _trust_root(ca_file)), endpoint)


def _trust_root(ca_file: Path | None) -> Any:
    if ca_file is None:
        return None
    authorities = load_pem_x509_certificates(ca_file.read_bytes())
    return ssl.trustRootFromCertificates(
        [ssl.Certificate.loadPEM(authority.public_bytes(Encoding.PEM)) for authority in authorities]
    )
