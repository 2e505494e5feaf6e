"""The command line of `econe-server`."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from econed import __version__


def parse(arguments: Sequence[str]) -> Namespace:
    """Return the command and its options; exits (`SystemExit`) with a message if they are invalid."""
    return make_parser().parse_args(arguments)


def make_parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(prog="econe-server", description="Manage the EC2 API daemon for OpenNebula.")
    parser.add_argument("--version", action="version", version=f"econed {__version__}")
    _add_common(parser, None)
    # After the command as well: there they have no default, which would replace what is before the command.
    common = ArgumentParser(add_help=False)
    _add_common(common, SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", parents=[common])

    add("start", "start in the background and wait until the daemon listens")
    for name, text in (("stop", "stop the daemon and wait until it has exited"), ("restart", "stop and start")):
        add(name, text).add_argument("--timeout", type=float, metavar="SECONDS", help="how long to wait for the exit")
    add("reload", "reload the configuration")
    add("reopen", "reopen the log, for logrotate")
    add("status", "report whether the daemon runs and listens")
    add("run", "run in the foreground")
    configtest = add("configtest", "report what would keep the daemon from starting, without oned")
    configtest.add_argument(
        "--service", action="store_true", help="for units of systemd: before a start, or with MAINPID before a reload"
    )
    check = add("check", "check the configuration against the running oned")
    check.add_argument("--group", action="append", default=[], metavar="NAME", help="a group of EC2 users")
    add("doctor", "list inconsistencies in OpenNebula").add_argument("--fix", action="store_true", help="repair them")
    _add_keys(add("keys", "list, disable and delete access keys of users, and renew the sealing keys"), common)
    return parser


def _add_keys(parser: ArgumentParser, common: ArgumentParser) -> None:
    """Add the commands for access keys."""
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", parents=[common])

    of = "all that this user has made until now"
    add("list", "list access keys").add_argument("--of", metavar="NAME", help="those of this user only")
    for name, text in (
        ("disable", "disable an access key or temporary credentials, whatever their user does"),
        ("enable", "end what disable has done"),
        ("delete", "delete an access key, also if a copy is written back"),
    ):
        which = add(name, text).add_mutually_exclusive_group(required=True)
        which.add_argument("id", nargs="?", metavar="ID", help="the id of the access key")
        which.add_argument("--of", metavar="NAME", help=of)
    renew = add("renew", "put a new key before the sealing keys in use, in the file sealing_keys")
    renew.add_argument("--file", type=Path, metavar="FILE", help="the file to create, if econe.conf names none yet")
    add("reseal", "seal all access keys again with the first sealing key")
    add("retire", "remove all sealing keys but the first from the file")


def _add_common(parser: ArgumentParser, default: str | None) -> None:
    """Add the options of all commands."""
    files = (
        (("--config", "-c"), "path of econe.conf"),
        (("--pidfile",), "path of the daemon's pid file"),
        (("--logfile",), "path of the daemon's log, if log_file is not set"),
    )
    for names, text in files:
        parser.add_argument(*names, type=Path, default=default, metavar="FILE", help=text)
    text = "the account that root's commands run as (default: oneadmin)"
    parser.add_argument("--user", default=default, metavar="NAME", help=text)
