"""Commands of the pages that need no OpenNebula give the output that the pages show, or find the examples on them."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from econed.cli.sandbox_server import FORMS, sandbox_server
from tests.pages.scripts import ROOT, blocks
from tests.support.cloud_forms import furnished_cloud
from tests.support.running import LONG
from tests.support.tools import require_tool

README = ROOT / "README.md"
LOGS = ROOT / "docs/guide/logs.md"
LIMITS = ROOT / "docs/guide/limits.md"
TLS = ROOT / "docs/guide/tls.md"
PROXY = ROOT / "docs/guide/proxy.md"

pytestmark = pytest.mark.slow


@contextmanager
def served(home: Path) -> Iterator[Mapping[str, str]]:
    """Serve an OpenNebula in memory; yield the environment of its user, as `make serve` prints it."""
    with sandbox_server(FORMS[-1]) as server:
        yield {
            "HOME": str(home),
            "PATH": f"{Path(require_tool('aws')).parent}:{os.environ['PATH']}",
            "AWS_ACCESS_KEY_ID": server.access.access_key,
            "AWS_SECRET_ACCESS_KEY": server.access.secret_key,
            "AWS_DEFAULT_REGION": "OpenNebula",
            "AWS_ENDPOINT_URL": server.access.url,
            "NO_PROXY": "127.0.0.1",
        }


def test_the_sessions_of_the_readme_give_the_output_that_it_shows(tmp_path: Path) -> None:
    sessions = [session for block in blocks(README) for session in block.sessions()]
    assert len(sessions) == 7
    with served(tmp_path) as environment:
        outputs = [
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LONG,
                check=True,
            ).stdout
            for command, _ in sessions
        ]
    assert [output.strip() for output in outputs] == [output.strip() for _, output in sessions]


def test_the_queries_of_logs_find_the_lines_that_the_page_shows(tmp_path: Path) -> None:
    require_tool("jq")
    scripts = [block.script for block in blocks(LOGS) if block.first_word == "jq"]
    lines = [block.text.replace(", …]", "]") for block in blocks(LOGS) if block.text.startswith('{"time"')]
    for name, line in zip(("econe.log", "econe-audit.log"), lines, strict=True):
        (tmp_path / name).write_text(line, "utf-8")
    assert len(scripts) == 2
    for script in scripts:
        shell = ["bash", "-euo", "pipefail", "-c", script]
        assert "RunInstances" in subprocess.check_output(shell, cwd=tmp_path, text=True, timeout=LONG)


def test_the_sessions_of_limits_give_the_errors_that_the_page_shows(tmp_path: Path) -> None:
    require_tool("curl")
    sessions = [session for block in blocks(LIMITS) for session in block.sessions()]
    with furnished_cloud(FORMS[-1], tmp_path) as cloud:
        econed = cloud.econed(records_elements=False, settings={"header_timeout": 1, "failed_signatures": 2})
        slow, unsigned = (
            subprocess.check_output(["bash", "-c", command.replace("4567", str(econed.port))], text=True, timeout=LONG)
            for command, _ in sessions
        )
    shown = [line.strip() for line in sessions[0][1].replace("…", "\n").splitlines()]
    assert all(line in slow for line in shown), slow
    codes = re.findall("<Code>(.*?)</Code>", unsigned)
    assert codes == ["MissingAuthenticationToken", "MissingAuthenticationToken", "RequestLimitExceeded"]


@pytest.mark.parametrize("name", ["nginx.conf", "haproxy.cfg", "lighttpd.conf"])
def test_the_command_for_client_certificates_leaves_no_marked_line_in_the_file_of_a_proxy(
    tmp_path: Path, name: str
) -> None:
    (script,) = [block.script for block in blocks(PROXY) if block.first_word == "sed"]
    text = (ROOT / "etc/proxies" / name).read_text("utf-8")
    assert "#x509 " in text
    (tmp_path / "FILE").write_text(text, "utf-8")
    subprocess.check_call(["bash", "-c", script], cwd=tmp_path)
    changed = (tmp_path / "FILE").read_text("utf-8")
    assert "#x509 " not in changed
    assert "# remove for x509" not in changed
    assert set(changed.splitlines()) - set(text.replace("#x509 ", "").splitlines()) == set()


def test_the_hook_for_renewed_certificates_replaces_both_files_which_only_their_owner_can_read(tmp_path: Path) -> None:
    """The places and the account of the page are replaced."""
    renewed, used = tmp_path / "renewed", tmp_path / "used"
    for directory in (renewed, used):
        directory.mkdir()
    for name in ("privkey.pem", "fullchain.pem"):
        (renewed / name).write_text(f"renewed {name}", "ascii")
    (hook,) = [block.text for block in blocks(TLS) if block.text.startswith("#!/bin/sh")]
    hook = hook.replace("/etc/one/econe", str(used)).replace("oneadmin:", f"{pwd.getpwuid(os.geteuid()).pw_name}:")
    environment = {"PATH": os.environ["PATH"], "RENEWED_LINEAGE": str(renewed)}
    subprocess.check_call(["sh", "-c", hook], cwd=tmp_path, env=environment)
    files = {path.name: (path.read_text("ascii"), stat.S_IMODE(path.stat().st_mode)) for path in used.iterdir()}
    assert files == {"key.pem": ("renewed privkey.pem", 0o600), "cert.pem": ("renewed fullchain.pem", 0o600)}
