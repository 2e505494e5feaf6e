"""Whether oned can read the uploaded files: only on this machine, or in a shared directory."""

from __future__ import annotations

import os

import pytest

from econed.config.settings import Settings
from econed.fetching.own_host import can_oned_read_tmpdir, is_own_url


@pytest.mark.parametrize("url", ["http://localhost:2633/RPC2", "http://127.0.0.1/RPC2", "https://[::1]:2634/RPC2"])
def test_loopback_is_this_machine(url: str) -> None:
    if "[" in url and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("a machine without IPv6")
    assert is_own_url(url)


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:2633/RPC2", "http://no-such-host.invalid/RPC2", "nonsense", "http://"]
)
def test_other_hosts_are_not_this_machine(url: str) -> None:
    assert not is_own_url(url)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(), True),
        (Settings(one_xmlrpc=("http://192.0.2.1/RPC2",)), False),
        (Settings(one_xmlrpc=("http://127.0.0.1/RPC2", "http://192.0.2.1/RPC2")), False),
        (Settings(one_xmlrpc=("http://127.0.0.1:1/RPC2", "http://127.0.0.1:2/RPC2")), True),
        (Settings(one_xmlrpc=("http://192.0.2.1/RPC2", "http://192.0.2.2/RPC2"), tmpdir_is_shared=True), True),
    ],
)
def test_every_one_of_several_oneds_must_be_able_to_read_the_files(settings: Settings, expected: bool) -> None:
    """Any of them may be the leader that copies the image."""
    assert can_oned_read_tmpdir(settings) is expected
