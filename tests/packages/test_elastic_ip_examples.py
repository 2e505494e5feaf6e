"""The examples for elastic IPs, run: the scripts with sudo and nftables, in the service as packages install it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.packages.booted import System, booted, in_network_of
from tests.packages.root import Root, bootable_root
from tests.packages.service import CONF, SERVICE, configure
from tests.packages.serving import ACCESS_KEY, SECRET_KEY
from tests.support.packages import ROOT, ran
from tests.support.processes import STARTING, until
from tests.support.tools import require_tool

EXAMPLES = "/usr/share/doc/econed/examples/elastic-ips"
SCRIPTS = "/etc/one/elastic-ips"
NETWORK = 1
"""The id of the network of elastic IPs in the sandbox."""

SANDBOX = f"""[Service]
ExecStart=
ExecStart=/usr/lib/econed/bin/twistd --nodaemon --pidfile= econe --config {CONF} --sandbox \\
    --sandbox-user {ACCESS_KEY}:{SECRET_KEY}
"""
"""The service of the package with an OpenNebula in memory, but with its own user, confinement and econe.conf."""

ASSOCIATE = f"""
import json, boto3
session = boto3.Session({ACCESS_KEY!r}, {SECRET_KEY!r}, region_name="opennebula")
ec2 = session.client("ec2", endpoint_url="http://127.0.0.1:4567")
image = ec2.describe_images()["Images"][0]["ImageId"]
launched = ec2.run_instances(ImageId=image, InstanceType="m1.small", MinCount=1, MaxCount=1)
instance = launched["Instances"][0]["InstanceId"]
ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={{"Delay": 1}})
elastic = ec2.allocate_address()["PublicIp"]
ec2.associate_address(InstanceId=instance, PublicIp=elastic)
described = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
print(json.dumps([elastic, described["PrivateIpAddress"]]))
"""
DISASSOCIATE = f"""
import sys, boto3
session = boto3.Session({ACCESS_KEY!r}, {SECRET_KEY!r}, region_name="opennebula")
ec2 = session.client("ec2", endpoint_url="http://127.0.0.1:4567")
ec2.disassociate_address(PublicIp=sys.argv[1])
"""
SERVER = """
import socket
with socket.create_server(("0.0.0.0", 8080)) as server:
    print("listening", flush=True)
    while True:
        connection, (client, _) = server.accept()
        connection.sendall(client.encode())
        connection.close()
"""
"""Tells each client its address."""

CLIENT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 8080), timeout=2) as connection:
        print(connection.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def system(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[System]:
    """A booted router with econed on which the examples are installed as their comments say."""
    root = bootable_root(tmp_path_factory).copy(tmp_path / "root")
    configure(root)
    root.run("mkdir", SCRIPTS)
    root.run("install", "-m", "755", f"{EXAMPLES}/associate", f"{EXAMPLES}/disassociate", SCRIPTS)
    root.run("install", "-m", "440", f"{EXAMPLES}/sudoers", "/etc/sudoers.d/econed")
    root.run("install", "-m", "755", f"{EXAMPLES}/nftables.conf", "/etc/nftables.conf")
    _set_scripts(root)
    drop_in = root / "/etc/systemd/system/econe.service.d/sandbox.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(SANDBOX, "utf-8")
    with booted(root) as system:
        yield system
    shutil.rmtree(root.path)


def _set_scripts(root: Root) -> None:
    text = (root / CONF).read_text("utf-8").replace("#:elasticips_vnet_id: 8", f":elasticips_vnet_id: {NETWORK}")
    for name in ("associate", "disassociate"):
        key = f":{name}_script:"
        assert f"{key} false" in text
        text = text.replace(f"{key} false", f"{key} /usr/bin/sudo -n {SCRIPTS}/{name}")
    (root / CONF).write_text(text, "utf-8")


@contextmanager
def _host(router: System, interface: str, router_address: str, address: str) -> Iterator[int]:
    """A host with a network of its own, connected to an interface of the router; yields the id of its process."""
    ip = require_tool("ip")
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as host:
        try:
            own = Path("/proc/self/ns/net").readlink()
            until(lambda: Path(f"/proc/{host.pid}/ns/net").readlink() != own, "a network of its own", STARTING)
            on_router, on_host = in_network_of(router.pid), in_network_of(host.pid)
            peer = ("type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
            ran(*on_router, ip, "link", "add", interface, *peer)
            ran(*on_router, ip, "address", "add", f"{router_address}/16", "dev", interface)
            ran(*on_router, ip, "link", "set", interface, "up")
            ran(*on_host, ip, "address", "add", f"{address}/16", "dev", "eth0")
            ran(*on_host, ip, "link", "set", "eth0", "up")
            ran(*on_host, ip, "route", "add", "default", "via", router_address)
            yield host.pid
        finally:
            host.kill()


def _answer(client: int, address: str) -> str:
    """Return what the server at an address tells a client, or the name of the error."""
    return ran(*in_network_of(client), sys.executable, "-c", CLIENT, address).strip()


def test_an_elastic_ip_is_routed_to_the_instance_and_back_by_the_examples(system: System) -> None:
    """In the service with its confinement; only the elastic IP is reachable, and only while it is associated."""
    system.run("systemctl", "start", SERVICE)
    system.run("sysctl", "--write", "net.ipv4.ip_forward=1")
    system.run("nft", "-f", "/etc/nftables.conf")
    in_its_network = (*in_network_of(system.pid), sys.executable, "-c")
    elastic, private = json.loads(ran(*in_its_network, ASSOCIATE, cwd=ROOT))
    with ExitStack() as stack:
        instance = stack.enter_context(_host(system, "inside", "10.0.0.1", private))
        outside = stack.enter_context(_host(system, "outside", "203.0.113.1", "203.0.113.200"))
        ran(*in_network_of(system.pid), require_tool("ip"), "address", "add", f"{elastic}/32", "dev", "outside")
        for host in (instance, outside):
            argv = [*in_network_of(host), sys.executable, "-u", "-c", SERVER]
            server = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
            stack.callback(server.kill)
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
        assert _answer(outside, elastic) == "203.0.113.200"
        assert _answer(instance, "203.0.113.200") == elastic
        assert _answer(outside, private) == "TimeoutError"
        ran(*in_its_network, DISASSOCIATE, elastic, cwd=ROOT)
        assert _answer(outside, elastic) != "203.0.113.200"
    assert "elements" not in system.run("nft", "list", "table", "ip", "econed")


def test_sudo_permits_the_scripts_and_nothing_else(system: System) -> None:
    """The account of econed gets no other command of root."""
    as_econed = ("runuser", "-u", "oneadmin", "--", "sudo", "-n")
    system.run("visudo", "--check", "--strict", "--file=/etc/sudoers.d/econed")
    assert "must be IPv4 addresses" in system.tried(*as_econed, f"{SCRIPTS}/associate", "x", "y", "z").stderr
    assert "password is required" in system.tried(*as_econed, "nft", "list", "ruleset").stderr
