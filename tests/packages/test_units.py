"""The unit files of systemd, its tmpfiles.d and how they are hardened, by systemd's own tools."""

from __future__ import annotations

import configparser
import errno
import grp
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from econed.config.settings import Settings
from tests.packages.serving import serving
from tests.support.clients import ec2_error, send
from tests.support.packages import DEBIAN_PATH, ROOT, ran
from tests.support.ports import free_port
from tests.support.tools import require_tool

UNITS = ROOT / "etc/systemd"
MIB, GIB = 2**20, 2**30
WITHOUT_SCRIPTS = "without-scripts.conf"
MEASURED_BY = "252"
"""The version of systemd that the guide has its figures from."""

NEEDS_NO_NEW_PRIVILEGES = (
    *("DynamicUser", "LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges", "PrivateDevices", "ProtectClock"),
    *("ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
    *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
    *("SystemCallArchitectures", "SystemCallFilter", "SystemCallLog"),
)
"""What makes systemd set NoNewPrivileges for a service that is not root's (systemd.exec(5)): there is no sudo then."""


class Unit(configparser.RawConfigParser):
    """A unit file; keys keep their case, and one that is there several times has all its values, a line each."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None)
        self.read(path)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are on a machine where econed is installed: the program that they start is there."""
    for name in ("econe.service", "econe.socket"):
        text = (UNITS / name).read_text("utf-8")
        (tmp_path / name).write_text(text.replace("/opt/econed/bin/twistd", sys.executable), "utf-8")
    return tmp_path


def _verified(path: Path) -> str:
    """Return what systemd finds in a unit: nothing, if it is as it should be."""
    done = subprocess.run(
        [require_tool("systemd-analyze"), "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit code {done.returncode}")


def _with(units: Path, *drop_ins: str) -> None:
    (units / "econe.service.d").mkdir()
    for name in drop_ins:
        shutil.copy(UNITS / "drop-ins" / name, units / "econe.service.d")


def _exposure(units: Path, threshold: float) -> float:
    """Return how exposed systemd finds the service, 0 to 10, and hold it against a threshold by systemd's own means."""
    highest = f"--threshold={round(threshold * 10)}"
    tool = require_tool("systemd-analyze")
    said = ran(tool, "security", "--offline=true", "--no-pager", highest, units / "econe.service")
    found = re.search(r"Overall exposure level for econe.service: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


@pytest.mark.parametrize("name", ["econe.service", "econe.socket"])
def test_systemd_finds_nothing_wrong_with_the_units(units: Path, name: str) -> None:
    """Neither an unknown directive nor a value that it cannot read."""
    assert _verified(units / name) == ""


def test_systemd_finds_nothing_wrong_with_the_tighter_service(units: Path) -> None:
    """The drop-in for those whose econed runs no scripts."""
    _with(units, WITHOUT_SCRIPTS)
    assert _verified(units / "econe.service") == ""


def test_the_verification_finds_what_is_wrong(units: Path) -> None:
    """So that the silence above says something."""
    (units / "econe.service").write_text((units / "econe.service").read_text("utf-8") + "\n[Service]\nNoSuch=1\n")
    assert "NoSuch" in _verified(units / "econe.service")


def test_the_service_is_exposed_no_more_than_scripts_need(units: Path) -> None:
    """With scripts that may use sudo, and without; `_exposure` fails above its threshold."""
    as_it_is = _exposure(units, 6.5)
    _with(units, WITHOUT_SCRIPTS)
    assert _exposure(units, 1.6) < as_it_is


def test_the_service_is_as_little_exposed_as_the_guide_says(units: Path) -> None:
    """To the digit, where the figures were measured."""
    version = ran(require_tool("systemd-analyze"), "--version").split()[1]
    if version != MEASURED_BY:
        pytest.skip(f"the figures of the guide are systemd {MEASURED_BY}'s; {version} may weigh differently")
    guide = (ROOT / "docs/guide/install.md").read_text("utf-8")
    as_it_is = _exposure(units, 6.5)
    _with(units, WITHOUT_SCRIPTS)
    tighter = _exposure(units, 1.6)
    assert f"| `econe.service` | {as_it_is} |" in guide
    assert f"| `econe.service` with `{WITHOUT_SCRIPTS}` | {tighter} |" in guide


def test_nothing_in_the_service_keeps_a_script_from_sudo() -> None:
    """Many directives forbid it unsaid; the drop-in has them all but the one that TLS does not work with."""
    service = Unit(UNITS / "econe.service")["Service"]
    assert set(service) & set(NEEDS_NO_NEW_PRIVILEGES) == set()
    assert {"CAP_SETUID", "CAP_SETGID", "CAP_AUDIT_WRITE"} <= set(service["CapabilityBoundingSet"].split())
    tighter = Unit(UNITS / "drop-ins" / WITHOUT_SCRIPTS)["Service"]
    left_out = {"DynamicUser", "MemoryDenyWriteExecute", "SystemCallLog"}
    assert set(NEEDS_NO_NEW_PRIVILEGES) - set(tighter) == left_out


def test_uploads_are_written_where_oned_reads_them() -> None:
    """To oned, another service of the same account, a private /tmp would not be there."""
    for path in (UNITS / "econe.service", UNITS / "drop-ins" / WITHOUT_SCRIPTS):
        service = Unit(path)["Service"]
        assert {"PrivateTmp", "DynamicUser", "PrivateUsers", "RemoveIPC", "InaccessiblePaths"} & set(service) == set()
    assert Settings().tmpdir in Unit(UNITS / "drop-ins" / WITHOUT_SCRIPTS)["Service"]["ReadWritePaths"].split()


def test_requests_have_longer_to_finish_than_the_service_to_stop() -> None:
    """What drain_timeout still gives time to must not be killed."""
    service = Unit(UNITS / "econe.service")["Service"]
    assert float(service["TimeoutStopSec"]) > Settings().drain_timeout
    assert service["KillMode"] == "mixed"


def test_a_process_that_dies_leaves_no_core_with_the_keys_in_it() -> None:
    """Neither does one that somebody makes dump its core on purpose."""
    assert Unit(UNITS / "econe.service")["Service"]["LimitCORE"] == "0"


def test_memory_is_bounded_and_what_the_defaults_take_fits_in() -> None:
    """By the figures of the guide, for eight workers; only the worker that takes too much ends."""
    service = Unit(UNITS / "econe.service")["Service"]
    assert service["MemoryMax"].endswith("G")
    most = int(service["MemoryMax"].removesuffix("G")) * GIB
    supervisor, worker, reply = 70 * MIB, 150 * MIB, 6.5 * Settings().one_max_reply
    assert supervisor + 8 * worker + reply < most
    assert service["OOMPolicy"] == "continue"


def test_the_socket_is_the_configured_one() -> None:
    """So that with the configuration as it is delivered, socket and daemon mean the same port."""
    assert Unit(UNITS / "econe.socket")["Socket"]["ListenStream"] == f"127.0.0.1:{Settings().port}"


def test_the_server_that_opennebula_had_is_stopped_where_econed_starts() -> None:
    """Both want the port."""
    for name in ("econe.service", "econe.socket"):
        assert Unit(UNITS / name)["Unit"]["Conflicts"] == "opennebula-econe.service"


def test_econed_serves_on_the_socket_that_systemd_hands_over_and_on_no_other(tmp_path: Path) -> None:
    """By systemd's own tool, which does for a terminal what the socket unit does."""
    handed_over, configured = free_port(), free_port()
    (tmp_path / "auth").write_text("serveradmin:secret\n", "utf-8")
    (tmp_path / "auth").chmod(0o600)
    (tmp_path / "econe.conf").write_text(f":port: {configured}\n", "utf-8")
    passed_on = {"PYTHONPATH": str(ROOT), "ONE_CIPHER_AUTH": str(tmp_path / "auth")}
    econed = (require_tool("twistd"), "--nodaemon", "--pidfile=", "econe", "--config", str(tmp_path / "econe.conf"))
    argv = [require_tool("systemd-socket-activate"), f"--listen=127.0.0.1:{handed_over}"]
    argv += (f"--setenv={name}={value}" for name, value in passed_on.items())
    with serving([*argv, *econed], handed_over, tmp_path):
        answer = send(f"http://127.0.0.1:{handed_over}/", "GET", "Action=DescribeRegions")
        assert ec2_error(answer) == "MissingAuthenticationToken"
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", configured)) == errno.ECONNREFUSED


def test_directories_are_made_for_the_account_and_left_alone_where_they_are(tmp_path: Path) -> None:
    """By the real systemd-tmpfiles; the account that runs this stands in for oneadmin."""
    (tmp_path / "etc").mkdir()
    me, group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    (tmp_path / "etc/passwd").write_text(f"oneadmin:x:{me.pw_uid}:{group.gr_gid}::/var/lib/one:/bin/sh\n", "utf-8")
    (tmp_path / "etc/group").write_text(f"oneadmin:x:{group.gr_gid}:\n", "utf-8")
    (tmp_path / "var/log/one").mkdir(parents=True)
    (tmp_path / "var/log/one").chmod(0o700)
    tool = shutil.which("systemd-tmpfiles", path=DEBIAN_PATH) or require_tool("systemd-tmpfiles")
    ran(tool, "--create", f"--root={tmp_path}", ROOT / "etc/tmpfiles.d/econed.conf")
    assert stat.S_IMODE((tmp_path / "run/one").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "var/log/one").stat().st_mode) == 0o700
