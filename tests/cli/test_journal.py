"""The priorities of lines that `econe-server` writes to the journal, when systemd runs it."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path

from econed.cli.installation import Exit
from econed.cli.journal import Priority, write_text
from econed.cli.server import main


def _output(tmp_path: Path, conf: str, *, to_journal: bool) -> tuple[int, str, str]:
    """Run configtest on a configuration, and return its exit code and what it has written to stdout and stderr."""
    credentials, conf_file = tmp_path / "auth", tmp_path / "econe.conf"
    credentials.write_text("serveradmin:secret\n", "utf-8")
    conf_file.write_text(conf, "utf-8")
    with (tmp_path / "journal").open("w+", encoding="utf-8") as journal:
        status = os.fstat(journal.fileno())
        environ = {"ONE_CIPHER_AUTH": str(credentials), "HOME": str(tmp_path)}
        if to_journal:
            environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        out = StringIO()
        account = ("--user", "root") if os.geteuid() == 0 else ()
        arguments = ["--config", str(conf_file), *account, "configtest", "--service"]
        code = main(arguments, environ, out, journal)
        journal.seek(0)
        return code, out.getvalue(), journal.read()


def test_each_line_of_an_error_in_the_journal_has_its_priority(tmp_path: Path) -> None:
    """The journal takes each line for a message of its own, so `journalctl -p warning` shows the reason too."""
    code, _, written = _output(tmp_path, ":workers: none\n", to_journal=True)
    assert code == Exit.BAD_CONFIGURATION
    heading, reason = written.splitlines()
    assert heading == "<3>econe-server: invalid configuration:"
    assert reason.startswith(f"<3>{tmp_path}/econe.conf:1: workers: ")


def test_elsewhere_an_error_has_no_priority(tmp_path: Path) -> None:
    """In a terminal, or where JOURNAL_STREAM was inherited and names another stream."""
    code, _, written = _output(tmp_path, ":workers: none\n", to_journal=False)
    assert code == Exit.BAD_CONFIGURATION
    assert written.startswith("econe-server: invalid configuration:\n")
    assert "<3>" not in written


def test_a_warning_has_a_priority_of_its_own(tmp_path: Path) -> None:
    """As the log of the daemon has."""
    with (tmp_path / "journal").open("w+", encoding="utf-8") as journal:
        status = os.fstat(journal.fileno())
        write_text("warning: a", journal, Priority.WARNING, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        journal.seek(0)
        assert journal.read() == "<4>warning: a\n"
