"""The daemon as run by twistd, in real processes with real sockets."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.support.ports import free_port
from tests.support.running import LONG, Running, finished, running, twistd

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SANDBOX = ("econe", "--sandbox", "--listen", "tcp:0:interface=127.0.0.1")


def client(port: int, access_key: str, secret_key: str) -> Any:
    """Return an EC2 client of this user."""
    session = boto3.session.Session(access_key, secret_key, region_name="opennebula")
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    return session.client("ec2", endpoint_url=f"http://127.0.0.1:{port}", config=config)


def port_of(server: Running) -> int:
    """Return the port on which a server listens, from its output."""
    match = re.search(r"starting on (\d+)", server.lines_until("starting on ")[-1])
    assert match
    return int(match[1])


def environment(**changes: str) -> dict[str, str]:
    """Return this environment without the variables of OpenNebula and econed, and with these changes."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("ONE_", "ECONE_"))}
    return {**variables, **changes}


def test_twistd_lists_the_daemon_and_the_sandbox(tmp_path: Path) -> None:
    """Each is listed with its description."""
    output = finished([*twistd("--help")], tmp_path, environment(COLUMNS="200")).stdout
    assert re.search(r"^ +econe +The Amazon EC2 API of an OpenNebula cloud\.$", output, re.MULTILINE)
    assert re.search(r"^ +econe-sandbox +An embedded oned to try econed on", output, re.MULTILINE)


# Errors that end the start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "4567", "--listen", "tcp:4568"], "--port and --listen exclude each other"),
        (["--port", "70000"], "70000 is not a port"),
        (["--sandbox-user", "alice:secret"], "require --sandbox"),
        (["--sandbox-vms", "3"], "require --sandbox"),
        (["--sandbox-form", "5.12"], "require --sandbox"),
        (["--sandbox", "--sandbox-form", "6.0"], "--sandbox-form is 5.12 or 7.4"),
        (["--sandbox", "--sandbox-vms", "-1"], "-1 is less than 0"),
        (["--sandbox", "--sandbox-user", "alice"], "--sandbox-user takes NAME:SECRET"),
        (["--sandbox", "--sandbox-user", ":secret"], "--sandbox-user takes NAME:SECRET"),
        (["--sandbox", "--sandbox-user", "alice:"], "--sandbox-user takes NAME:SECRET"),
        (["--sandbox", "--sandbox-user", "oneadmin:secret"], "has a user 'oneadmin' already"),
        (["--sandbox", "--listen", "carrier-pigeon:1"], "nothing can listen on 'carrier-pigeon:1'"),
        (["--sandbox", "--listen", "tcp:x"], "nothing can listen on 'tcp:x'"),
    ],
)
def test_an_invalid_option_is_refused(options: list[str], message: str, tmp_path: Path) -> None:
    """The output has a message and no traceback."""
    completed = finished(twistd("econe", *options), tmp_path, environment())
    assert completed.returncode == 1
    output = completed.stdout + completed.stderr
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize("how", ["plugin", "tac"])
def test_all_errors_of_the_configuration_are_listed_and_the_daemon_does_not_start(how: str, tmp_path: Path) -> None:
    """Each has its file and line; errors of the credentials are listed, too."""
    conf = tmp_path / "econe.conf"
    conf.write_text(":port: 99999\n:auth: basic\n:one_timeout: soon\n", "utf-8")
    argv = twistd("econe", "--config", str(conf)) if how == "plugin" else twistd("-y", str(ROOT / "econe.tac"))
    completed = finished(argv, tmp_path, environment(ECONE_CONF=str(conf), ONE_CIPHER_AUTH=str(tmp_path / "none")))
    assert completed.returncode == 1
    for line, key in enumerate(("port", "auth", "one_timeout"), start=1):
        assert f"{conf}:{line}: {key}: " in completed.stderr
    assert str(tmp_path / "none") in completed.stderr
    assert "Traceback" not in completed.stderr
    assert "starting" not in completed.stdout


def test_the_tac_requires_a_configuration(tmp_path: Path) -> None:
    """Without ECONE_CONF the daemon does not start."""
    completed = finished(twistd("-y", str(ROOT / "econe.tac")), tmp_path, environment())
    assert completed.returncode == 1
    assert "econe.tac: set ECONE_CONF to the path of econe.conf" in completed.stderr


def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    """The daemon does not run without listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        completed = finished(twistd("econe", "--sandbox", "--listen", f"tcp:{port}:interface=127.0.0.1"), tmp_path)
    assert completed.returncode == 1
    assert f"Couldn't listen on 127.0.0.1:{port}" in completed.stdout + completed.stderr


# The running daemon


@pytest.mark.parametrize("form", ["5.12", "7.4"])
def test_without_users_the_sandbox_creates_one_and_logs_their_keys(form: str, tmp_path: Path) -> None:
    """The keys can be used, and the machines are the user's."""
    argv = twistd(*SANDBOX, "--sandbox-form", form, "--sandbox-vms", "3")
    with running(argv, tmp_path, environment()) as server:
        line = server.lines_until("sandbox user: ")[-1]
        keys = re.search(r"access key (\S+), secret key (\S+)$", line)
        assert keys
        reservations = client(port_of(server), keys[1], keys[2]).describe_instances()["Reservations"]
    states = [instance["State"]["Name"] for reservation in reservations for instance in reservation["Instances"]]
    assert states == ["running"] * 3


def test_listen_and_sandbox_user_may_be_repeated(tmp_path: Path) -> None:
    """The daemon listens on every endpoint, and every user exists."""
    users = ("--sandbox-user", "alice:one", "--sandbox-user", "bob:two")
    with running(twistd(*SANDBOX, "--listen", "tcp:0:interface=127.0.0.1", *users), tmp_path) as server:
        ports = [port_of(server), port_of(server)]
        for port in ports:
            for name, secret in (("alice", "one"), ("bob", "two")):
                assert client(port, name, secret).describe_key_pairs()["KeyPairs"] == []
    assert len({*ports}) == 2


def test_the_option_port_replaces_the_configured_port(tmp_path: Path) -> None:
    """With 0 it listens on any free port."""
    with running(twistd("econe", "--sandbox", "--port", "0", "--sandbox-user", "alice:one"), tmp_path) as server:
        assert client(port_of(server), "alice", "one").describe_regions()["Regions"]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_shuts_the_daemon_down(signal_number: signal.Signals, tmp_path: Path) -> None:
    """Its exit status is 0 or the signal, as twistd sets it, which systemd counts as success."""
    with running(twistd(*SANDBOX, "--sandbox-user", "alice:one"), tmp_path) as server:
        client(port_of(server), "alice", "one").describe_regions()  # after the first response it handles signals, too
        server.process.send_signal(signal_number)
        lines = server.lines_until("Server Shut Down.")
        assert server.process.wait(LONG) in (0, -signal_number)
    assert not [line for line in lines if "Traceback" in line or "Unhandled" in line]


def test_the_tac_serves_the_cloud_of_econe_conf(tmp_path: Path) -> None:
    """It uses XML-RPC with serveradmin's credentials, and logs the warnings of the configuration."""
    with running(twistd("econe-sandbox", "--port", "0", "--user", "alice:secret"), tmp_path) as oned:
        port = free_port()
        conf = tmp_path / "econe.conf"
        conf.write_text(
            f":one_xmlrpc: http://127.0.0.1:{port_of(oned)}/RPC2\n:host: 127.0.0.1\n:port: {port}\n:colour: blue\n",
            "utf-8",
        )
        auth = tmp_path / "one_auth"
        auth.write_text("serveradmin:serverpassword\n", "utf-8")
        auth.chmod(stat.S_IRUSR | stat.S_IROTH)
        environ = environment(ECONE_CONF=str(conf), ONE_CIPHER_AUTH=str(auth))
        with running(twistd("-y", str(ROOT / "econe.tac")), tmp_path, environ) as server:
            output = "\n".join(server.lines_until(f"starting on {port}"))
            images = client(port, "alice", "secret").describe_images()["Images"]
    assert [image["Name"] for image in images] == ["ubuntu-24.04"]
    assert f"{conf}:4: colour: unknown key" in output
    assert f"{auth}: is open to every user" in output
    assert "serverpassword" not in output
