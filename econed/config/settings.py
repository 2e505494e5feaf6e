"""What econe.conf can say: one frozen dataclass, its fields the keys, each with the function that reads it.

docs/configuration.md has the same for administrators; `econed.config.loading` reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal

from econed.config import values
from econed.config.values import CertificateFiles, Network

_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class Settings:
    """What econe.conf says. A field is a key; its default is what holds when the key is absent or empty.

    The annotation of a field holds the function that reads it. Ids are OpenNebula's.
    """

    host: Annotated[str, values.host] = "localhost"
    """Name or address to listen on."""
    port: Annotated[int, values.whole(1, 65535)] = 4567
    """TCP port to listen on."""
    ssl_server: Annotated[str | None, values.optional(values.url)] = None
    """URL by which clients reach econed through a proxy; its host and path are then also taken as signed."""
    ssl_cert: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the certificate of this server; with it econed speaks TLS itself."""
    ssl_key: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with its private key, without a passphrase."""
    ssl_chain: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the certificates between it and the authority; they may stand in ssl_cert too."""
    ssl_port: Annotated[int | None, values.optional(values.whole(1, 65535))] = None
    """TCP port for TLS beside the plain one; None: `port` speaks TLS, if there is a certificate."""
    ssl_host: Annotated[str | None, values.optional(values.host)] = None
    """Name or address to listen on for TLS; None: `host`."""
    ssl_sni: Annotated[tuple[CertificateFiles, ...], values.certificates] = ()
    """More certificates, each for the names that it says, for clients that name the server they want (SNI)."""
    ssl_client_ca: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the authorities of the clients' certificates, for auth x509 by econed's own TLS."""
    trusted_proxies: Annotated[tuple[Network, ...], values.networks] = ()
    """Addresses whose X-Forwarded-For, X-Forwarded-Proto and SSL_CLIENT_CERT are believed."""
    tmpdir: Annotated[str, values.absolute_path] = "/var/tmp"  # noqa: S108  the default of the Ruby server
    """Directory for images while they are being uploaded; oned has to be able to read it."""
    tmpdir_is_shared: Annotated[bool, values.flag] = False
    """Whether every oned has tmpdir too, under the same name, also one on another machine."""
    max_upload: Annotated[int, values.whole(1, 2**50, "bytes")] = 50 * 2**30
    """Most bytes that an uploaded image may have."""
    upload_share: Annotated[int | None, values.optional(values.whole(1, 2**50, "bytes"))] = None
    """Most bytes of tmpdir for the images of one user, arriving and waiting for oned; None: half of the disk."""
    min_upload_rate: Annotated[int, values.whole(1, 2**30, "bytes a second")] = 2**16
    """Bytes a second that an image has to arrive with, apart from idle_timeout seconds."""
    image_url_hosts: Annotated[tuple[str, ...], values.url_hosts] = ()
    """Hosts whose URLs oned itself fetches for RegisterImage; what is elsewhere on the internet econed fetches."""
    debug_level: Annotated[int, values.whole(0, 3)] = 2
    """How much is logged: 0 errors, 1 warnings too, 2 what happens, 3 everything."""
    log_file: Annotated[str | None, values.optional(values.absolute_path)] = None
    """File for the log; None: where twistd is told to write it, else standard output, which is systemd's journal."""
    log_format: Annotated[Literal["text", "json"], values.one_of("text", "json")] = "text"
    """How a line of the log looks: text for people, or one JSON object."""

    workers: Annotated[int, values.processes] = 1
    """Processes that serve requests side by side; auto in the file is one for each processor."""
    drain_timeout: Annotated[float, values.seconds(0, 3600)] = 30.0
    """Seconds that requests under way have to finish when a process is to end."""
    admin_port: Annotated[int | None, values.optional(values.whole(1, 65535))] = None
    """TCP port on 127.0.0.1 for /healthz, /readyz and /metrics; None: there is none."""

    max_body: Annotated[int, values.whole(2**15, 2**30, "bytes")] = 2**20
    """Most bytes of a request's form; the files of uploads have max_upload."""
    max_bodies: Annotated[int, values.whole(2**20, 2**40, "bytes")] = 2**26
    """Most bytes of all forms that one process has at the same time, without the first 64 KiB of each."""
    max_headers: Annotated[int, values.whole(2**12, 2**24, "bytes")] = 2**16
    """Most bytes of a request's first line and headers together."""
    max_parameters: Annotated[int, values.whole(10, 10**6)] = 2500
    """Most parameters that a request may have."""
    max_connections_per_address: Annotated[int | None, values.optional(values.whole(1, 10**6))] = 256
    """Most connections that one address may have with one process, trusted proxies apart; None: any number."""
    max_requests_per_user: Annotated[int | None, values.optional(values.whole(1, 10**6))] = 50
    """Most requests that one access key may have under way in one process; None: any number."""
    header_timeout: Annotated[float, values.seconds(1, 3600)] = 20.0
    """Seconds in which first line and headers have to come once the first byte of them has."""
    body_timeout: Annotated[float, values.seconds(1, 3600)] = 60.0
    """Seconds in which a form has to come; of an upload, the parameters before the file."""
    idle_timeout: Annotated[float, values.seconds(1, 3600)] = 75.0
    """Seconds after which a connection on which nothing happens is closed."""
    rate_limit: Annotated[float | None, values.optional(values.rate)] = None
    """Requests a second that one access key may make in the long run; None: any number."""
    rate_burst: Annotated[int, values.whole(1, 10**6)] = 100
    """Requests that it may make at once, where there is a rate_limit."""
    failed_signatures: Annotated[int | None, values.optional(values.whole(1, 10**6))] = 120
    """Signatures a minute from one address that may be wrong, before it is refused unread; None: any number."""

    one_xmlrpc: Annotated[tuple[str, ...], values.urls] = ("http://localhost:2633/RPC2",)
    """URLs of the XML-RPC API of oned: one, or those of all servers of an OpenNebula HA zone."""
    one_calls: Annotated[int, values.whole(1, 1000)] = 8
    """Most calls to oned at the same time; oned serves MAX_CONN (15) for all its clients together."""
    one_timeout: Annotated[float, values.seconds(1, 3600)] = 30.0
    """Seconds that a call to oned may take as a whole, waiting for its turn included."""
    one_ca_file: Annotated[str | None, values.optional(values.readable_file)] = None
    """PEM file with the certificate authorities to trust for an https one_xmlrpc, in place of the system's."""
    one_max_reply: Annotated[int, values.whole(2**16, 2**32, "bytes")] = 2**28
    """Most bytes that a reply of oned may have."""

    auth: Annotated[Literal["ec2", "x509"], values.one_of("ec2", "x509")] = "ec2"
    """How clients prove who they are: ec2 is access key and secret key, x509 a certificate."""
    core_auth: Annotated[Literal["cipher", "x509"], values.one_of("cipher", "x509")] = "cipher"
    """How econed proves to oned in whose name it acts: by oned's driver server_cipher, or server_x509."""

    region_names: Annotated[tuple[str, ...], values.region_names] = ()
    """Further names of our own region, for clients that know Amazon's only and sign by Version 2, which names none."""
    regions: Annotated[Mapping[str, str], values.urls_by_name] = field(default_factory=lambda: MappingProxyType({}))
    """EC2 endpoint by OpenNebula zone, for the other zones of a federation."""
    cluster_id: Annotated[int | None, values.optional(values.whole(0, _LARGEST_ID))] = None
    """Cluster that instances are kept to; None: any."""
    datastore_id: Annotated[int, values.whole(0, _LARGEST_ID)] = 1
    """Datastore that uploaded images and new volumes go to."""
    describe_with_terminated_instances: Annotated[bool, values.flag] = True
    """Whether DescribeInstances shows instances that ended lately."""
    terminated_instances_expiration_time: Annotated[int, values.whole(0, 10**9, "seconds")] = 900
    """Seconds for which an instance that ended is shown."""
    elasticips_vnet_id: Annotated[int | None, values.optional(values.whole(0, _LARGEST_ID))] = None
    """Virtual network that elastic IPs are taken from; None: there are no elastic IPs."""
    associate_script: Annotated[tuple[str, ...] | None, values.optional(values.command)] = None
    """Command, as an argv, that leads a public address to a private one."""
    disassociate_script: Annotated[tuple[str, ...] | None, values.optional(values.command)] = None
    """Command, as an argv, that undoes associate_script."""
    script_timeout: Annotated[float, values.seconds(1, 40)] = 20.0
    """Seconds that one of these commands may take: SDKs wait for an answer for 60."""
    elastic_ips_per_user: Annotated[int, values.whole(0, 10**6)] = 5
    """Most elastic IPs that a user can have."""
    ebs_fstype: Annotated[str, values.file_system] = "ext3"
    """File system that new volumes get."""

    use_file_templates: Annotated[bool, values.flag] = False
    """Whether instance types are files; otherwise an instance type is an OpenNebula template with EC2_INSTANCE_TYPE."""
    instance_types: Annotated[Mapping[str, str], values.templates_by_type] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Template file by instance type, in TEMPLATE_DIRECTORY beside econe.conf; for use_file_templates."""
