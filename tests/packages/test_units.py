"""The systemd units, their hardening and tmpfiles.d, checked with systemd's own tools."""

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
"""The version of systemd that measured the figures in the guide."""

NEEDS_NO_NEW_PRIVILEGES = (
    *("DynamicUser", "LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges", "PrivateDevices", "ProtectClock"),
    *("ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
    *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
    *("SystemCallArchitectures", "SystemCallFilter", "SystemCallLog"),
)
"""Directives that imply NoNewPrivileges for a service that does not run as root (systemd.exec(5)); sudo then fails."""


class Unit(configparser.RawConfigParser):
    """A unit file; keys keep their case, and the values of a repeated key are joined by newlines."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None)
        self.read(path)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of the units in which the program that they start exists."""
    for name in ("econe.service", "econe.socket"):
        text = (UNITS / name).read_text("utf-8")
        (tmp_path / name).write_text(re.sub(r"/opt/econed/bin/[\w-]+", sys.executable, text), "utf-8")
    return tmp_path


def _verified(path: Path) -> str:
    """Return systemd's complaints about a unit; empty if there are none."""
    completed = subprocess.run(
        [require_tool("systemd-analyze"), "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    return (
        completed.stdout + completed.stderr + ("" if completed.returncode == 0 else f"exit code {completed.returncode}")
    )


def _add_drop_ins(units: Path, *drop_ins: str) -> None:
    (units / "econe.service.d").mkdir()
    for name in drop_ins:
        shutil.copy(UNITS / "drop-ins" / name, units / "econe.service.d")


def _exposure(units: Path, threshold: float) -> float:
    """Return systemd's exposure level of the service, 0 to 10; fails if it exceeds the threshold."""
    threshold_option = f"--threshold={round(threshold * 10)}"
    tool = require_tool("systemd-analyze")
    output = ran(tool, "security", "--offline=true", "--no-pager", threshold_option, units / "econe.service")
    level = re.search(r"Overall exposure level for econe.service: ([0-9.]+)", output)
    assert level, output
    return float(level[1])


@pytest.mark.parametrize("name", ["econe.service", "econe.socket"])
def test_systemd_accepts_the_units(units: Path, name: str) -> None:
    """They contain no unknown directives and no invalid values."""
    assert _verified(units / name) == ""


def test_systemd_accepts_the_service_with_the_drop_in_without_scripts(units: Path) -> None:
    _add_drop_ins(units, WITHOUT_SCRIPTS)
    assert _verified(units / "econe.service") == ""


def test_the_verification_detects_an_unknown_directive(units: Path) -> None:
    (units / "econe.service").write_text((units / "econe.service").read_text("utf-8") + "\n[Service]\nNoSuch=1\n")
    assert "NoSuch" in _verified(units / "econe.service")


def test_the_exposure_of_the_service_is_limited(units: Path) -> None:
    """With scripts that may use sudo, and without; `_exposure` fails above its threshold."""
    default = _exposure(units, 6.5)
    _add_drop_ins(units, WITHOUT_SCRIPTS)
    assert _exposure(units, 1.6) < default


def test_the_exposure_is_the_one_in_the_guide(units: Path) -> None:
    """Checked only with the systemd version that measured it."""
    version = ran(require_tool("systemd-analyze"), "--version").split()[1]
    if version != MEASURED_BY:
        pytest.skip(f"the figures in the guide are those of systemd {MEASURED_BY}; {version} may rate differently")
    guide = (ROOT / "docs/guide/install.md").read_text("utf-8")
    default = _exposure(units, 6.5)
    _add_drop_ins(units, WITHOUT_SCRIPTS)
    with_drop_in = _exposure(units, 1.6)
    assert f"| `econe.service` | {default} |" in guide
    assert f"| `econe.service` with `{WITHOUT_SCRIPTS}` | {with_drop_in} |" in guide


def test_no_directive_of_the_service_disables_sudo_in_scripts() -> None:
    """Many directives do so implicitly; the drop-in has all of them except for those that econed cannot work with."""
    service = Unit(UNITS / "econe.service")["Service"]
    assert set(service) & set(NEEDS_NO_NEW_PRIVILEGES) == set()
    assert {"CAP_SETUID", "CAP_SETGID", "CAP_AUDIT_WRITE"} <= set(service["CapabilityBoundingSet"].split())
    drop_in = Unit(UNITS / "drop-ins" / WITHOUT_SCRIPTS)["Service"]
    not_set = {"DynamicUser", "MemoryDenyWriteExecute", "SystemCallLog"}
    assert set(NEEDS_NO_NEW_PRIVILEGES) - set(drop_in) == not_set


def test_oned_can_read_the_directory_of_uploads() -> None:
    """They are services with the same account, so econed must not have a private /tmp."""
    for path in (UNITS / "econe.service", UNITS / "drop-ins" / WITHOUT_SCRIPTS):
        service = Unit(path)["Service"]
        assert {"PrivateTmp", "DynamicUser", "PrivateUsers", "RemoveIPC", "InaccessiblePaths"} & set(service) == set()
    assert Settings().tmpdir in Unit(UNITS / "drop-ins" / WITHOUT_SCRIPTS)["Service"]["ReadWritePaths"].split()


def test_systemd_waits_longer_for_a_stop_than_drain_timeout() -> None:
    """Requests that drain_timeout permits to complete must not be killed."""
    service = Unit(UNITS / "econe.service")["Service"]
    assert float(service["TimeoutStopSec"]) > Settings().drain_timeout
    assert service["KillMode"] == "mixed"


def test_the_configuration_is_tested_before_a_start_and_before_a_reload() -> None:
    """The reload is given up if the first of its commands fails (systemd.service(5), ExecReload)."""
    service = Unit(UNITS / "econe.service")["Service"]
    text = (UNITS / "econe.service").read_text("utf-8")
    test = "/opt/econed/bin/econe-server --config /etc/one/econe.conf configtest --service"
    assert service["ExecStartPre"] == test
    assert re.findall("(?m)^ExecReload=(.*)$", text) == [test, "/bin/kill -HUP $MAINPID"]
    assert service["ExecStart"].endswith("--config /etc/one/econe.conf")


def test_core_dumps_which_would_contain_keys_are_disabled() -> None:
    assert Unit(UNITS / "econe.service")["Service"]["LimitCORE"] == "0"


def test_memory_is_limited_and_sufficient_for_the_defaults() -> None:
    """With the figures of the guide, for eight workers; only the worker that takes too much is killed."""
    service = Unit(UNITS / "econe.service")["Service"]
    assert service["MemoryMax"].endswith("G")
    limit = int(service["MemoryMax"].removesuffix("G")) * GIB
    supervisor, worker, reply = 70 * MIB, 150 * MIB, 6.5 * Settings().one_max_reply
    assert supervisor + 8 * worker + reply < limit
    assert service["OOMPolicy"] == "continue"


def test_the_socket_unit_and_the_default_configuration_have_the_same_port() -> None:
    assert Unit(UNITS / "econe.socket")["Socket"]["ListenStream"] == f"127.0.0.1:{Settings().port}"


def test_the_units_conflict_with_the_server_of_opennebula() -> None:
    """Both use the same port."""
    for name in ("econe.service", "econe.socket"):
        assert Unit(UNITS / name)["Unit"]["Conflicts"] == "opennebula-econe.service"


def test_econed_serves_only_on_the_socket_passed_by_systemd(tmp_path: Path) -> None:
    """systemd-socket-activate does the same as the socket unit."""
    activated, configured = free_port(), free_port()
    (tmp_path / "auth").write_text("serveradmin:secret\n", "utf-8")
    (tmp_path / "auth").chmod(0o600)
    (tmp_path / "econe.conf").write_text(f":port: {configured}\n", "utf-8")
    passed_on = {"PYTHONPATH": str(ROOT), "ONE_CIPHER_AUTH": str(tmp_path / "auth")}
    econed = (require_tool("twistd"), "--nodaemon", "--pidfile=", "econe", "--config", str(tmp_path / "econe.conf"))
    argv = [require_tool("systemd-socket-activate"), f"--listen=127.0.0.1:{activated}"]
    argv += (f"--setenv={name}={value}" for name, value in passed_on.items())
    with serving([*argv, *econed], activated, tmp_path):
        response = send(f"http://127.0.0.1:{activated}/", "GET", "Action=DescribeRegions")
        assert ec2_error(response) == "MissingAuthenticationToken"
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", configured)) == errno.ECONNREFUSED


def test_missing_directories_are_created_for_the_account_and_existing_ones_are_kept(tmp_path: Path) -> None:
    """The real systemd-tmpfiles is run; the account that runs the test takes the place of oneadmin."""
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


def test_apparmor_accepts_the_profile_of_the_service() -> None:
    """It is compiled, not loaded. It applies to the program that the unit of the packages starts."""
    parser = shutil.which("apparmor_parser", path=DEBIAN_PATH) or require_tool("apparmor_parser")
    ran(parser, "--skip-kernel-load", "--skip-cache", ROOT / "etc/apparmor.d/econed")
    (program,) = re.findall(r"(?m)^profile econed (\S+)", (ROOT / "etc/apparmor.d/econed").read_text("utf-8"))
    assert Unit(UNITS / "econe.service")["Service"]["ExecStart"].split()[0] == program.replace("/usr/lib/", "/opt/")
