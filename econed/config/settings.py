"""The settings in econe.conf: a frozen dataclass with a field for each key, and the function that reads it.

docs/configuration.md describes them for administrators; `econed.config.loading` reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal

from econed.config import values
from econed.config.values import CertificateFiles, Network
from econed.user import SecretKeys

_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Settings:
    """The settings in econe.conf. Each field is a key; its default applies if the key is missing or empty.

    The annotation of a field holds the function that reads it. Ids are OpenNebula's.
    """

    host: Annotated[str, values.host] = "localhost"
    """Name or address to listen on."""
    port: Annotated[int, values.integer(1, 65535)] = 4567
    """TCP port to listen on."""
    ssl_server: Annotated[str | None, values.optional(values.url)] = None
    """URL of econed behind a proxy; its host and path are then also accepted in signatures."""
    ssl_cert: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the certificate of this server; if set, econed serves TLS itself."""
    ssl_key: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with its private key, without a passphrase."""
    ssl_chain: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the intermediate certificates; they may be in ssl_cert as well."""
    ssl_port: Annotated[int | None, values.optional(values.integer(1, 65535))] = None
    """TCP port for TLS in addition to the plain one; None: `port` serves TLS, if there is a certificate."""
    ssl_host: Annotated[str | None, values.optional(values.host)] = None
    """Name or address to listen on for TLS; None: `host`."""
    ssl_sni: Annotated[tuple[CertificateFiles, ...], values.certificates] = ()
    """Further certificates, each for the server names in it, selected by the name that clients send (SNI)."""
    ssl_client_ca: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the authorities of client certificates, for auth x509 with TLS served by econed."""
    trusted_proxies: Annotated[tuple[Network, ...], values.networks] = ()
    """Addresses whose X-Forwarded-For, X-Forwarded-Proto and SSL_CLIENT_CERT headers are trusted."""
    tmpdir: Annotated[str, values.absolute_path] = "/var/tmp"  # noqa: S108  the default of the Ruby server
    """Directory for images during their upload; oned must be able to read it."""
    tmpdir_is_shared: Annotated[bool, values.boolean] = False
    """Whether every oned, including those on other machines, can read tmpdir under the same path."""
    max_upload: Annotated[int, values.integer(1, 2**50, "bytes")] = 50 * 2**30
    """Maximum size of an uploaded image in bytes."""
    upload_share: Annotated[int | None, values.optional(values.integer(1, 2**50, "bytes"))] = None
    """Maximum bytes in tmpdir for one user's images, uploading or waiting for oned; None: half of the disk."""
    min_upload_rate: Annotated[int, values.integer(1, 2**30, "bytes a second")] = 2**16
    """Minimum upload rate of an image in bytes/s, with an allowance of idle_timeout seconds."""
    image_url_hosts: Annotated[tuple[str, ...], values.url_hosts] = ()
    """Hosts whose URLs oned itself fetches for RegisterImage; URLs elsewhere on the internet are fetched by econed."""
    debug_level: Annotated[int, values.integer(0, 3)] = 2
    """Log level: 0 errors, 1 warnings, 2 information, 3 debugging; each level includes the lower levels."""
    log_file: Annotated[str | None, values.optional(values.absolute_path)] = None
    """File for the log; None: the file given to twistd, otherwise standard output (systemd's journal)."""
    log_format: Annotated[Literal["text", "json"], values.one_of("text", "json")] = "text"
    """Format of the lines of the log: text, or one JSON object per line."""
    audit_log: Annotated[str | None, values.optional(values.absolute_path)] = None
    """File for the audit log, JSON objects of the calls that changed something or were refused; None: no such log."""

    workers: Annotated[int, values.processes] = 1
    """Number of processes that serve requests; auto in the file: one for each processor."""
    drain_timeout: Annotated[float, values.seconds(0, 3600)] = 30.0
    """Seconds that requests in flight have to finish when a process stops."""
    admin_port: Annotated[int | None, values.optional(values.integer(1, 65535))] = None
    """TCP port on 127.0.0.1 for /healthz, /readyz and /metrics; None: no such port."""

    max_body: Annotated[int, values.integer(2**15, 2**30, "bytes")] = 2**20
    """Maximum size of a request's form in bytes; max_upload applies to uploaded files."""
    max_bodies: Annotated[int, values.integer(2**20, 2**40, "bytes")] = 2**26
    """Maximum bytes of all forms in one process at the same time, not counting the first 64 KiB of each."""
    max_headers: Annotated[int, values.integer(2**12, 2**24, "bytes")] = 2**16
    """Maximum bytes of a request's first line and headers together."""
    max_parameters: Annotated[int, values.integer(10, 10**6)] = 2500
    """Maximum number of parameters of a request."""
    max_connections_per_address: Annotated[int | None, values.optional(values.integer(1, 10**6))] = 256
    """Maximum connections from one address to one process, except from trusted proxies; None: no limit."""
    max_requests_per_user: Annotated[int | None, values.optional(values.integer(1, 10**6))] = 50
    """Maximum requests of one access key in flight in one process; None: no limit."""
    header_timeout: Annotated[float, values.seconds(1, 3600)] = 20.0
    """Seconds from the first byte of a request within which its first line and headers must arrive."""
    body_timeout: Annotated[float, values.seconds(1, 3600)] = 60.0
    """Seconds within which a form must arrive; for an upload, the parameters before the file."""
    idle_timeout: Annotated[float, values.seconds(1, 3600)] = 75.0
    """Seconds after which an idle connection is closed."""
    rate_limit: Annotated[float | None, values.optional(values.rate)] = None
    """Sustained rate of requests per second of one access key; None: no limit."""
    rate_burst: Annotated[int, values.integer(1, 10**6)] = 100
    """Number of requests that an access key may make in a burst, if there is a rate_limit."""
    failed_signatures: Annotated[int | None, values.optional(values.integer(1, 10**6))] = 120
    """Invalid signatures per minute after which an address is refused without reading its requests; None: no limit."""

    one_xmlrpc: Annotated[tuple[str, ...], values.urls] = ("http://localhost:2633/RPC2",)
    """URLs of oned's XML-RPC API: a single one, or those of all servers of an OpenNebula HA zone."""
    one_calls: Annotated[int, values.integer(1, 1000)] = 8
    """Maximum concurrent calls to oned; oned serves MAX_CONN (15) for all its clients together."""
    one_timeout: Annotated[float, values.seconds(1, 3600)] = 30.0
    """Timeout of a call to oned in seconds, from when it is sent."""
    one_ca_file: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the certificate authorities to trust for an https one_xmlrpc, instead of the system's."""
    one_max_reply: Annotated[int, values.integer(2**16, 2**32, "bytes")] = 2**28
    """Maximum size of a reply of oned in bytes."""

    auth: Annotated[Literal["ec2", "x509"], values.one_of("ec2", "x509")] = "ec2"
    """How clients authenticate: ec2 is access key and secret key, x509 a certificate."""
    secret_keys: Annotated[tuple[SecretKeys, ...], values.some_of(SecretKeys)] = tuple(SecretKeys)
    """With auth ec2: the kinds of secret keys that count."""
    keys_may_make_keys: Annotated[bool, values.boolean] = False
    """Whether requests signed with an access key may call IAM, which makes and ends access keys."""
    max_key_age: Annotated[int | None, values.optional(values.integer(1, 36_500, "days"))] = None
    """Age in days from which `econe-server check` names access keys; None: whatever their age."""
    core_auth: Annotated[Literal["cipher", "x509"], values.one_of("cipher", "x509")] = "cipher"
    """oned's authentication driver for econed: cipher is server_cipher, x509 is server_x509."""

    sealing_keys: Annotated[str | None, values.optional(values.readable_file)] = None
    """File with the keys that seal what econed keeps in OpenNebula; None: derived from serveradmin's credentials."""

    region_names: Annotated[tuple[str, ...], values.region_names] = ()
    """Further names of econed's region, for clients that know only Amazon's and sign with Version 2 (no region)."""
    regions: Annotated[Mapping[str, str], values.urls_by_name] = field(default_factory=lambda: MappingProxyType({}))
    """EC2 endpoint by OpenNebula zone, for the other zones of the federation."""
    cluster_id: Annotated[int | None, values.optional(values.integer(0, _LARGEST_ID))] = None
    """OpenNebula cluster in which all instances run; None: any."""
    datastore_id: Annotated[int, values.integer(0, _LARGEST_ID)] = 1
    """OpenNebula datastore for uploaded images and new volumes."""
    describe_with_terminated_instances: Annotated[bool, values.boolean] = True
    """Whether DescribeInstances lists recently terminated instances."""
    terminated_instances_expiration_time: Annotated[int, values.integer(0, 10**9, "seconds")] = 900
    """Seconds for which a terminated instance is listed."""
    network_security_group: Annotated[Literal["refuse", "warn"], values.one_of("refuse", "warn")] = "refuse"
    """What RunInstances does with security groups that do not protect an instance in its network."""
    filtering_drivers: Annotated[tuple[str, ...], values.drivers] = ("fw", "ebtables", "802.1Q", "vxlan")
    """Drivers of OpenNebula networks (VN_MAD) that filter traffic by security groups."""
    elasticips_vnet_id: Annotated[int | None, values.optional(values.integer(0, _LARGEST_ID))] = None
    """OpenNebula virtual network from which elastic IPs are allocated; None: there are no elastic IPs."""
    associate_script: Annotated[tuple[str, ...] | None, values.optional(values.command)] = None
    """Argv of the command that associates a public address with a private one."""
    disassociate_script: Annotated[tuple[str, ...] | None, values.optional(values.command)] = None
    """Argv of the command that undoes associate_script."""
    script_timeout: Annotated[float, values.seconds(1, 40)] = 20.0
    """Timeout of these commands in seconds: SDKs wait 60 seconds for a response."""
    elastic_ips_per_user: Annotated[int, values.integer(0, 10**6)] = 5
    """Maximum number of elastic IPs of a user."""
    ebs_fstype: Annotated[str, values.file_system] = "ext3"
    """File system of new volumes."""

    default_instance_type: Annotated[str, values.instance_type] = "m1.small"
    """Instance type of a RunInstances that names none."""
    use_file_templates: Annotated[bool, values.boolean] = False
    """Whether instance types are files; otherwise they are OpenNebula templates with EC2_INSTANCE_TYPE."""
    instance_types: Annotated[Mapping[str, str], values.templates_by_type] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Template file by instance type, in TEMPLATE_DIRECTORY beside econe.conf; for use_file_templates."""
