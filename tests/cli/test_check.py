"""`econe-server check`: what it says of a cloud, line by line."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zope.interface import implementer

from econed.actions.instance_types import read_file_types
from econed.cli import check
from econed.cli.check import Row, Verdict
from econed.cli.installation import Exit
from econed.cli.reaching import Prepared
from econed.config.credentials import Credentials
from econed.config.settings import Settings
from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.opennebula.raft import RaftState, RaftStatus
from econed.xmlrpc.leader import Standing
from econed.xmlrpc.proxy import OnedProxy
from tests.support.cloud import Cloud

FILES = Path(__file__).parent.parent / "data/ec2query_templates"
ELSEWHERE = {"one_xmlrpc": ("http://192.0.2.1:2633/RPC2",)}


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A fresh cloud of each form of oned."""
    return Cloud(request.param)


def prepared(**settings: Any) -> Prepared:
    """Return what the daemon has read, with these settings."""
    return Prepared(Settings(**settings), Credentials("serveradmin", "serverpassword"), None, ())


def rows(cloud: Cloud, ready: Prepared | None = None, *groups: str) -> list[Row]:
    """Return the table."""

    async def all_rows() -> list[Row]:
        return [row async for row in check.checked(cloud.one, ready or prepared(), groups)]

    return cloud.result(all_rows())


def bad(cloud: Cloud, ready: Prepared | None = None, *groups: str) -> dict[str, str]:
    """Return what is bad, by subject."""
    return {row.subject: row.text for row in rows(cloud, ready, *groups) if row.verdict is Verdict.BAD}


def test_a_cloud_in_order_is_good_throughout(cloud: Cloud) -> None:
    assert bad(cloud, prepared(elasticips_vnet_id=1)) == {}
    said = {row.subject: row.text for row in rows(cloud)}
    assert said["version"] == cloud.oned.version
    assert said["token"] == "server_cipher, taken by oned"
    assert said["type m1.small"] == "template 0, for ec2"
    assert said["group ec2"] == "has the rights that EC2 needs"
    assert cloud.changes == [], "it only looks"


def test_the_exit_code_says_whether_all_is_well(cloud: Cloud) -> None:
    def code(ready: Prepared) -> Exit:
        return cloud.result(check.run(cloud.one, ready, (), io.StringIO()))

    assert code(prepared()) is Exit.OK
    assert code(prepared(cluster_id=77)) is Exit.FAILED


def test_each_right_that_a_group_lacks_is_named_with_the_command_that_grants_it(cloud: Cloud) -> None:
    """A group of the raw API has none of those that `onegroup create` gives it."""
    group = cloud.oneadmin("one.group.allocate", "raw")
    missing = [row.text for row in rows(cloud, None, "raw") if row.subject == "group raw"]
    for resource in ("VM", "IMAGE", "TEMPLATE"):
        assert any(f'oneacl create "@{group} {resource}/* CREATE"' in text for text in missing), resource
    granted = 0x1000000000 | 0x8000000000 | 0x20000000000
    cloud.oneadmin("one.acl.addrule", hex(0x200000000 + group), hex(granted | 0x400000000), "8")
    missing = [row.text for row in rows(cloud, None, "raw") if row.subject == "group raw"]
    assert not any("CREATE" in text for text in missing)


def test_a_group_that_can_use_no_network_is_told_unless_one_is_open_to_it(cloud: Cloud) -> None:
    group = cloud.oneadmin("one.group.allocate", "raw")
    for rule in list(cloud.oned.cloud.rights.rules()):
        if rule.resource & 0x4000000000:
            cloud.oneadmin("one.acl.delrule", rule.id)
    network = cloud.oned.cloud.networks.get(0)
    cloud.oneadmin("one.vn.chmod", network.id, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert any("can use no network" in row.text for row in rows(cloud, None, "raw"))
    cloud.oneadmin("one.vn.chown", network.id, -1, group)
    cloud.oneadmin("one.vn.chmod", network.id, 1, 1, 0, 1, 0, 0, 0, 0, 0)
    assert not any("can use no network" in row.text for row in rows(cloud, None, "raw"))


def test_an_instance_type_that_no_group_can_use_is_bad(cloud: Cloud) -> None:
    cloud.oneadmin("one.template.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert bad(cloud) == {"type m1.small": "template 0, which no group of EC2's users can use"}


def test_without_any_instance_type_no_instance_can_be_run(cloud: Cloud) -> None:
    for template in list(cloud.oned.cloud.templates):
        cloud.oneadmin("one.template.delete", template.id)
    assert "no template has EC2_INSTANCE_TYPE" in bad(cloud)["instance types"]
    files = replace(prepared(), file_types=read_file_types(FILES, {"m1.small": "m1.small.erb"}))
    assert bad(cloud, files) == {}
    assert {row.subject: row.text for row in rows(cloud, files)}["instance types"] == "files: m1.small"


def test_a_cluster_and_a_datastore_that_are_not_there_are_bad(cloud: Cloud) -> None:
    assert set(bad(cloud, prepared(cluster_id=77, datastore_id=88))) == {"cluster_id", "datastore_id"}
    assert bad(cloud, prepared(datastore_id=0)) == {"datastore_id": "0 (system) is not for images"}


def test_a_pool_of_elastic_ips_is_counted_and_its_ranges_have_to_be_of_size_1(cloud: Cloud) -> None:
    cloud.oneadmin("one.vn.hold", 1, f'LEASES=[IP="{_first_address(cloud)}"]')
    said = {row.subject: row.text for row in rows(cloud, prepared(elasticips_vnet_id=1))}
    assert said["elastic IPs"].startswith("network 1 (ElasticIPs): ")
    assert "1 held" in said["elastic IPs"]
    assert "not of size 1" in bad(cloud, prepared(elasticips_vnet_id=0))["elastic IPs"]


def test_a_pool_that_is_not_there_is_bad(cloud: Cloud) -> None:
    assert any("one.vn.info" in text for text in bad(cloud, prepared(elasticips_vnet_id=99)).values())


def test_scripts_have_to_be_there_and_executable(cloud: Cloud, tmp_path: Path) -> None:
    script = tmp_path / "associate"
    script.write_text("#!/bin/sh\n")
    ready = prepared(associate_script=(str(script),), disassociate_script=(str(tmp_path / "none"),))
    assert set(bad(cloud, ready)) == {"associate_script", "disassociate_script"}
    script.chmod(0o755)
    assert set(bad(cloud, ready)) == {"disassociate_script"}


def test_a_directory_for_uploads_that_is_not_there_is_bad(cloud: Cloud, tmp_path: Path) -> None:
    assert set(bad(cloud, prepared(tmpdir=str(tmp_path / "none")))) == {"tmpdir"}


@pytest.mark.parametrize(
    ("settings", "verdict", "text"),
    [
        ({}, Verdict.GOOD, "fetched by econed"),
        ({"image_url_hosts": ("a.example", "*.b.example")}, Verdict.GOOD, "a.example, *.b.example: by oned; others"),
        ({**ELSEWHERE, "image_url_hosts": ("a.example",)}, Verdict.GOOD, "a.example: by oned; no others"),
        (ELSEWHERE, Verdict.NOTE, "images can be neither uploaded nor registered from a URL"),
    ],
)
def test_who_fetches_images_from_urls_is_said(
    cloud: Cloud, settings: dict[str, Any], verdict: Verdict, text: str
) -> None:
    """Nobody does where oned is on another machine and no host is named."""
    (row,) = [row for row in rows(cloud, prepared(**settings)) if row.subject == "image URLs"]
    assert (row.verdict, text in row.text) == (verdict, True), row


def _standing(name: str, state: RaftState | None, term: int = 4, trouble: str = "") -> Standing:
    server = OnedProxy(None, f"http://{name}/RPC2", None, 1)  # type: ignore[arg-type]
    return Standing(server, None if state is None else RaftStatus(state, term), trouble)


def _said(*standings: Standing) -> list[tuple[Verdict, str]]:
    return [(row.verdict, row.text) for row in check.of_servers(standings)]


def test_of_several_oneds_each_is_told_how_it_stands() -> None:
    servers = (_standing("a", RaftState.FOLLOWER), _standing("b", RaftState.LEADER), _standing("c", None, 0, "refused"))
    assert _said(*servers) == [
        (Verdict.GOOD, "http://a/RPC2: follows (term 4)"),
        (Verdict.GOOD, "http://b/RPC2: leads (term 4)"),
        (Verdict.BAD, "http://c/RPC2: refused"),
    ]


def test_servers_without_a_leader_are_bad_and_so_are_those_that_are_no_zone() -> None:
    assert _said(_standing("a", RaftState.CANDIDATE), _standing("b", RaftState.FOLLOWER)) == [
        (Verdict.NOTE, "http://a/RPC2: stands for election (term 4)"),
        (Verdict.GOOD, "http://b/RPC2: follows (term 4)"),
        (Verdict.BAD, "none leads: nothing can be changed, requests wait"),
    ]
    assert {verdict for verdict, _ in _said(_standing("a", RaftState.SOLO), _standing("b", RaftState.SOLO))} == {
        Verdict.BAD
    }
    old, new = _standing("a", RaftState.LEADER, 4), _standing("b", RaftState.LEADER, 5)
    assert _said(old, new)[0] == (Verdict.NOTE, "http://a/RPC2: leads (term 4), and others know better")


def test_one_oned_is_worth_a_word_only_if_it_has_others_beside_it() -> None:
    assert _said() == _said(_standing("a", RaftState.SOLO)) == _said(_standing("a", None, 0, "refused")) == []
    ((verdict, text),) = _said(_standing("a", RaftState.FOLLOWER))
    assert verdict is Verdict.NOTE
    assert "one_xmlrpc should name every server" in text


def test_the_servers_are_shown_also_where_oned_cannot_be_asked(cloud: Cloud) -> None:
    """That is when it matters."""
    out = io.StringIO()
    one = Unreachable()
    assert cloud.result(check.run(one, prepared(), (), out, [_standing("a", RaftState.LEADER)] * 2)) is Exit.NO_ANSWER
    assert out.getvalue().startswith("ok    server  http://a/RPC2: leads")
    assert "BAD   oned    http://localhost:2633/RPC2: one.user.info: away" in out.getvalue()


@implementer(IOpenNebula)
class Unreachable:
    """An oned that is away."""

    async def call(self, user: str | None, method: str, *args: object) -> str | int | bool:
        """Fail."""
        raise OpenNebulaUnavailable(method, "away")

    async def document(self, user: str | None, method: str, *args: object) -> Any:
        """Fail."""
        raise OpenNebulaUnavailable(method, "away")


def _first_address(cloud: Cloud) -> str:
    call = cloud.call_as("alice")
    return str(cloud.result(call.serveradmin.network(1)).address_ranges[0].ip)
