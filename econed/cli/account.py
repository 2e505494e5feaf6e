"""The account of the daemon: commands that root has typed run as that account, which is OpenNebula's own."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import Final

ACCOUNT: Final = "oneadmin"
"""OpenNebula's account, as in econe.service: it owns serveradmin's credentials, and oned reads uploads with it."""


class AccountError(Exception):
    """The process cannot run as the account; the message says why."""


def become(name: str | None, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Give up root's rights for those of an account, by default `ACCOUNT`; return the environment to continue with.

    It has the variables that systemd sets for `User=`. Other users than root stay what they are. Raises `AccountError`.
    """
    try:
        account = pwd.getpwnam(name or ACCOUNT)
    except KeyError:
        if name is None and os.geteuid() != 0:
            return environ
        text = "" if name else "; --user names the account of OpenNebula on this machine"
        raise AccountError(f"there is no account {name or ACCOUNT} to run as{text}") from None
    if os.geteuid() != 0:
        if name is not None and account.pw_uid != os.geteuid():
            raise AccountError(f"only root can run as {name}")
        return environ
    if account.pw_uid == 0:
        return environ
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    return {**environ, "HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
