"""`econe-server check`: the rows of its table."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zope.interface import implementer

from econed.actions.instances.file_types import read_file_types
from econed.cli import check
from econed.cli.installation import Exit
from econed.cli.survey import Row, Verdict
from econed.config.credentials import Credentials
from econed.config.settings import Settings
from econed.configtest import LoadedConfiguration
from econed.errors import OpenNebulaUnavailable
from econed.interfaces import IOpenNebula
from econed.opennebula.access import Operation, Resource
from econed.opennebula.file_templates import FileTemplate
from econed.opennebula.raft import RaftState, RaftStatus
from econed.user import Login
from econed.xmlrpc.leader import ServerStatus
from econed.xmlrpc.proxy import OnedProxy
from tests.support.cloud import NOW, SEALING_KEYS, Cloud

FILES = Path(__file__).parent.parent / "data/ec2query_templates"
ONED_ON_OTHER_HOST = {"one_xmlrpc": ("http://192.0.2.1:2633/RPC2",)}


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """A new cloud of each form of oned."""
    return Cloud(request.param)


def loaded_configuration(**settings: Any) -> LoadedConfiguration:
    """Return a configuration with these settings, as the daemon loads it."""
    server = Credentials("serveradmin", "serverpassword")
    return LoadedConfiguration(Settings(**settings), server, SEALING_KEYS, None, ())


def rows(cloud: Cloud, loaded: LoadedConfiguration | None = None, *groups: str) -> list[Row]:
    """Return the rows of the table."""

    async def all_rows() -> list[Row]:
        return [row async for row in check.cloud_rows(cloud.backend, loaded or loaded_configuration(), groups, NOW)]

    return cloud.result(all_rows())


def bad_rows(cloud: Cloud, loaded: LoadedConfiguration | None = None, *groups: str) -> dict[str, str]:
    """Return the texts of the BAD rows, by subject."""
    return {row.subject: row.text for row in rows(cloud, loaded, *groups) if row.verdict is Verdict.BAD}


def test_a_correct_cloud_has_no_bad_rows(cloud: Cloud) -> None:
    assert bad_rows(cloud, loaded_configuration(elasticips_vnet_id=1)) == {}
    texts = {row.subject: row.text for row in rows(cloud)}
    assert texts["version"] == cloud.oned.version
    assert texts["token"] == "server_cipher, accepted by oned"
    assert texts["type m1.small"] == "template 0, usable by ec2"
    assert texts["group ec2"] == "has the rights that EC2 needs"
    assert cloud.changes == [], "check changes nothing"


def test_the_exit_code_is_0_if_no_row_is_bad(cloud: Cloud) -> None:
    def code(loaded: LoadedConfiguration) -> Exit:
        return cloud.result(check.run(cloud.backend, loaded, (), io.StringIO(), now=NOW))

    assert code(loaded_configuration()) is Exit.OK
    assert code(loaded_configuration(cluster_id=77)) is Exit.FAILED


def test_each_missing_right_of_a_group_is_listed_with_the_command_that_grants_it(cloud: Cloud) -> None:
    """A group created by the raw API lacks the rights that `onegroup create` adds."""
    group = cloud.oneadmin("one.group.allocate", "raw")
    missing = [row.text for row in rows(cloud, None, "raw") if row.subject == "group raw"]
    for resource in ("VM", "IMAGE", "TEMPLATE"):
        assert any(f'oneacl create "@{group} {resource}/* CREATE"' in text for text in missing), resource
    granted = 0x1000000000 | 0x8000000000 | 0x20000000000
    cloud.oneadmin("one.acl.addrule", hex(0x200000000 + group), hex(granted | 0x400000000), "8")
    found = [row for row in rows(cloud, None, "raw") if row.subject == "group raw"]
    assert not any("CREATE" in row.text for row in found if row.verdict is Verdict.BAD)
    notes = {row.text for row in found if row.verdict is Verdict.NOTE}
    assert notes == {
        f'cannot create security groups: oneacl create "@{group} SECGROUP/* CREATE"',
        f'cannot create placement groups: oneacl create "@{group} VMGROUP/* CREATE"',
    }
    cloud.oneadmin("one.acl.addrule", hex(0x200000000 + group), hex(0x21000000000000 | 0x400000000), "8")
    found = [row for row in rows(cloud, None, "raw") if row.subject == "group raw"]
    assert not any("CREATE" in row.text for row in found)


def test_a_group_without_a_usable_network_is_reported(cloud: Cloud) -> None:
    group = cloud.oneadmin("one.group.allocate", "raw")
    for rule in list(cloud.oned.cloud.rights.rules()):
        if rule.resource & 0x4000000000:
            cloud.oneadmin("one.acl.delrule", rule.id)
    network = cloud.oned.cloud.networks.get(0)
    cloud.oneadmin("one.vn.chmod", network.id, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert any("cannot use any network" in row.text for row in rows(cloud, None, "raw"))
    cloud.oneadmin("one.vn.chown", network.id, -1, group)
    cloud.oneadmin("one.vn.chmod", network.id, 1, 1, 0, 1, 0, 0, 0, 0, 0)
    assert not any("cannot use any network" in row.text for row in rows(cloud, None, "raw"))


def test_the_network_of_the_elastic_ips_is_not_one_that_a_group_should_use(cloud: Cloud) -> None:
    """The row of a group without a network names another one, and no command that grants all of them."""
    group = cloud.oneadmin("one.group.allocate", "raw")
    without_rules_for(cloud, Resource.NET)
    for network_id in (0, 1):
        cloud.oneadmin("one.vn.chmod", network_id, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    cloud.oneadmin("one.acl.addrule", hex(0x200000000 + group), hex(Resource.NET | 0x100000001), hex(Operation.USE))
    configuration = loaded_configuration(elasticips_vnet_id=1)
    found = [row.text for row in rows(cloud, configuration, "raw") if "any network" in row.text]
    assert found == [f'cannot use any network: oneacl create "@{group} NET/#0 USE"']


def test_a_network_in_which_security_groups_do_not_protect_is_noted(cloud: Cloud) -> None:
    """With the command that takes the groups off that OpenNebula gives to every network, where that is enough."""
    loaded = loaded_configuration(filtering_drivers=("dummy",), elasticips_vnet_id=1)

    def notes(loaded: LoadedConfiguration) -> dict[str, str]:
        return {row.subject: row.text for row in rows(cloud, loaded) if row.subject.startswith("network ")}

    added = "OpenNebula adds its own security groups sg-00000000 to those of each interface"
    command = "echo 'SECURITY_GROUPS=\"\"' >none.txt && onevnet update 0 none.txt --append"
    start = "private: EC2's security groups do not protect instances, since"
    assert notes(loaded) == {"network 0": f"{start} {added}: {command}"}
    cloud.oneadmin("one.vn.update", 0, 'SECURITY_GROUPS=""', 1)
    assert notes(loaded) == {}
    filters = "its driver 'dummy' does not filter traffic (filtering_drivers)"
    assert notes(loaded_configuration(elasticips_vnet_id=1)) == {"network 0": f"{start} {filters}"}


def test_an_instance_type_not_usable_by_any_group_is_bad(cloud: Cloud) -> None:
    """With one group the row has the command that grants the right."""
    command = f'oneacl create "@{group_id(cloud)} TEMPLATE/#0 USE"'
    cloud.oneadmin("one.template.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert bad_rows(cloud) == {"type m1.small": f"template 0, not usable by any group of EC2 users: {command}"}
    assert bad_rows(cloud, None, "ec2") == {"type m1.small": f"template 0, not usable by ec2: {command}"}


def test_without_any_instance_type_no_instance_can_be_run(cloud: Cloud) -> None:
    for template in list(cloud.oned.cloud.templates):
        cloud.oneadmin("one.template.delete", template.id)
    assert "no template has EC2_INSTANCE_TYPE" in bad_rows(cloud)["instance types"]
    with_files = replace(loaded_configuration(), file_types=read_file_types(FILES, {"m1.small": "m1.small.erb"}))
    assert bad_rows(cloud, with_files) == {}
    assert {row.subject: row.text for row in rows(cloud, with_files)}["instance types"] == "files: m1.small"


def test_a_default_instance_type_that_does_not_exist_is_noted(cloud: Cloud) -> None:
    """RunInstances then needs a type."""
    loaded = loaded_configuration(default_instance_type="m1.huge")
    (row,) = (row for row in rows(cloud, loaded) if row.subject == "default_instance_type")
    assert (row.verdict, row.text) == (
        Verdict.NOTE,
        "there is no instance type m1.huge: RunInstances is refused without a type",
    )
    assert "default_instance_type" not in {row.subject for row in rows(cloud)}


def test_a_missing_cluster_and_a_missing_datastore_are_bad(cloud: Cloud) -> None:
    subjects = {"cluster_id", "datastore_id", "datastores"}
    assert set(bad_rows(cloud, loaded_configuration(cluster_id=77, datastore_id=88))) == subjects
    assert bad_rows(cloud, loaded_configuration(datastore_id=0)) == {
        "datastore_id": "0 (system) is not an image datastore"
    }


def test_elastic_ips_are_counted_and_their_address_ranges_must_have_size_1(cloud: Cloud) -> None:
    cloud.oneadmin("one.vn.hold", 1, f'LEASES=[IP="{_first_address(cloud)}"]')
    texts = {row.subject: row.text for row in rows(cloud, loaded_configuration(elasticips_vnet_id=1))}
    assert texts["elastic IPs"].startswith("network 1 (ElasticIPs): ")
    assert "1 held" in texts["elastic IPs"]
    assert "not of size 1" in bad_rows(cloud, loaded_configuration(elasticips_vnet_id=0))["elastic IPs"]


def test_a_missing_network_of_elastic_ips_is_bad(cloud: Cloud) -> None:
    assert bad_rows(cloud, loaded_configuration(elasticips_vnet_id=99)) == {
        "elasticips_vnet_id": "there is no network 99"
    }


# What the groups may use


def group_id(cloud: Cloud) -> int:
    """Return the id of the group ec2."""
    return next(group.id for group in cloud.oned.cloud.groups if group.name == "ec2")


def without_rules_for(cloud: Cloud, kind: Resource) -> None:
    """Delete all ACL rules for objects of a kind."""
    for rule in list(cloud.oned.cloud.rights.rules()):
        if rule.resource & kind:
            cloud.oneadmin("one.acl.delrule", rule.id)


def grant_use(cloud: Cloud, resource: int) -> None:
    """Grant the group ec2 USE on what the RESOURCE of a rule covers."""
    cloud.oneadmin("one.acl.addrule", hex(0x200000000 + group_id(cloud)), hex(resource), hex(Operation.USE))


def change_type(cloud: Cloud, nic: str) -> None:
    """Replace the NIC of the type m1.small."""
    cloud.oneadmin("one.template.update", 0, f"NIC=[{nic}]", 1)


def test_an_ami_that_no_user_of_the_groups_can_use_is_bad(cloud: Cloud) -> None:
    cloud.oneadmin("one.image.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    assert bad_rows(cloud) == {
        "AMI 0": "image 0 (ubuntu-24.04), not usable by any group of EC2 users: "
        f'oneacl create "@{group_id(cloud)} IMAGE/#0 USE"',
        "group ec2": "cannot use any AMI: oneimage chgrp, oneimage chmod 640",
    }
    grant_use(cloud, Resource.IMAGE | 0x100000000)
    assert bad_rows(cloud) == {}


def test_the_private_amis_of_users_are_not_reported(cloud: Cloud) -> None:
    """As on Amazon, they are private until they are shared."""
    image = cloud.as_user("alice", "one.image.allocate", 'NAME="own" TYPE="DATABLOCK" SIZE="1" EC2_AMI="YES"', 1)
    cloud.oned.images.copied(cloud.oned.cloud.images.get(image))
    texts = {row.subject: row.text for row in rows(cloud)}
    assert texts["AMIs"] == "2 images marked EC2_AMI, 2 of them ready"
    assert bad_rows(cloud) == {}


def test_the_network_of_an_instance_type_must_be_usable(cloud: Cloud) -> None:
    """Another network that the group can use is not enough, nor is a rule for another network."""
    without_rules_for(cloud, Resource.NET)
    cloud.oneadmin("one.vn.chmod", 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)
    grant_use(cloud, Resource.NET | 0x100000000 | 1)
    command = f'oneacl create "@{group_id(cloud)} NET/#0 USE"'
    text = f"ec2 cannot use its network 0 (private): {command}"
    assert bad_rows(cloud) == {"type m1.small": text, "type m1.large": text}
    grant_use(cloud, Resource.NET | 0x100000000)
    assert bad_rows(cloud) == {}


@pytest.mark.parametrize(
    ("nic", "text"),
    [
        ('NETWORK="private",NETWORK_UNAME="oneadmin"', None),
        ('NETWORK="private",NETWORK_UID="0"', None),
        ('NETWORK_MODE="auto"', None),
        ('NETWORK="private"', 'NETWORK = "private" is looked up among the user\'s own networks: add NETWORK_UNAME'),
        ('NETWORK="private",NETWORK_UNAME="alice"', "there is no network private of alice"),
        ('NETWORK="private",NETWORK_UID="77"', "there is no network private of user 77"),
        ('NETWORK_ID="77"', "there is no network 77"),
    ],
)
def test_the_network_of_an_instance_type_must_exist(cloud: Cloud, nic: str, text: str | None) -> None:
    """OpenNebula looks for a name without owner among the networks of the user."""
    change_type(cloud, nic)
    assert bad_rows(cloud) == ({} if text is None else {"type m1.small": text})


def test_the_networks_of_instance_types_that_are_files_are_checked(cloud: Cloud) -> None:
    text = 'NIC=[NETWORK_ID="77"]\nCONTEXT=[PUBLIC_KEY="<%= erb_vm_info[:public_key] %>"]\n'
    loaded = replace(loaded_configuration(), file_types={"m1.small": FileTemplate.parse(text)})
    assert bad_rows(cloud, loaded) == {"type m1.small": "there is no network 77"}


def test_a_group_without_a_usable_system_datastore_is_bad(cloud: Cloud) -> None:
    """The scheduler places its machines in none."""
    without_rules_for(cloud, Resource.DATASTORE)
    cloud.oneadmin("one.datastore.chown", 1, -1, group_id(cloud))
    cloud.oneadmin("one.datastore.chmod", 1, 1, 1, 0, 1, 0, 0, 0, 0, 0)
    command = f'oneacl create "@{group_id(cloud)} DATASTORE/#0 USE"'
    assert bad_rows(cloud) == {
        "group ec2": f"cannot use any system datastore, so its instances stay pending: {command}"
    }
    in_cluster = loaded_configuration(cluster_id=0)
    assert "any system datastore in cluster 0, " in bad_rows(cloud, in_cluster)["group ec2"]
    grant_use(cloud, Resource.DATASTORE | 0x800000000)
    assert bad_rows(cloud) == bad_rows(cloud, in_cluster) == {}


def test_a_cluster_without_a_system_datastore_is_bad(cloud: Cloud) -> None:
    cluster = cloud.oneadmin("one.cluster.allocate", "empty")
    assert bad_rows(cloud, loaded_configuration(cluster_id=cluster)) == {
        "datastores": f"there is no enabled system datastore in cluster {cluster}: instances stay pending",
    }


def test_a_named_group_that_does_not_exist_has_only_its_own_row(cloud: Cloud) -> None:
    """No row speaks of other users, or of what no group can use."""
    assert bad_rows(cloud, None, "nope") == {"group nope": "there is no such group"}
    texts = {row.subject: row.text for row in rows(cloud, None, "nope")}
    assert "groups" not in texts
    assert texts["type m1.small"] == "template 0, not checked for any group"


def test_scripts_must_exist_and_be_executable(cloud: Cloud, tmp_path: Path) -> None:
    script = tmp_path / "associate"
    script.write_text("#!/bin/sh\n")
    loaded = loaded_configuration(associate_script=(str(script),), disassociate_script=(str(tmp_path / "none"),))
    assert set(bad_rows(cloud, loaded)) == {"associate_script", "disassociate_script"}
    script.chmod(0o755)
    assert set(bad_rows(cloud, loaded)) == {"disassociate_script"}


def test_a_missing_directory_for_uploads_is_bad(cloud: Cloud, tmp_path: Path) -> None:
    """It is not used if oned cannot read it."""
    assert set(bad_rows(cloud, loaded_configuration(tmpdir=str(tmp_path / "none")))) == {"tmpdir"}
    on_other_host = loaded_configuration(tmpdir=str(tmp_path / "none"), **ONED_ON_OTHER_HOST)
    assert set(bad_rows(cloud, on_other_host)) == set()


@pytest.mark.parametrize(
    ("settings", "verdict", "text"),
    [
        ({}, Verdict.GOOD, "downloaded by econed"),
        ({"image_url_hosts": ("a.example", "*.b.example")}, Verdict.GOOD, "a.example, *.b.example: by oned; others"),
        ({**ONED_ON_OTHER_HOST, "image_url_hosts": ("a.example",)}, Verdict.GOOD, "a.example: by oned; no others"),
        (ONED_ON_OTHER_HOST, Verdict.NOTE, "images can be neither uploaded nor registered from a URL"),
    ],
)
def test_the_table_says_whether_oned_or_econed_downloads_images(
    cloud: Cloud, settings: dict[str, Any], verdict: Verdict, text: str
) -> None:
    """Neither can if oned runs on another host and image_url_hosts is empty."""
    (row,) = [row for row in rows(cloud, loaded_configuration(**settings)) if row.subject == "image URLs"]
    assert (row.verdict, text in row.text) == (verdict, True), row


def _status(name: str, state: RaftState | None, term: int = 4, trouble: str = "") -> ServerStatus:
    server = OnedProxy(None, f"http://{name}/RPC2", None, 1)  # type: ignore[arg-type]
    return ServerStatus(server, None if state is None else RaftStatus(state, term), trouble)


def _server_rows(*statuses: ServerStatus) -> list[tuple[Verdict, str]]:
    return [(row.verdict, row.text) for row in check.server_rows(statuses)]


def test_each_of_several_oneds_has_a_row_with_its_role() -> None:
    servers = (_status("a", RaftState.FOLLOWER), _status("b", RaftState.LEADER), _status("c", None, 0, "refused"))
    assert _server_rows(*servers) == [
        (Verdict.GOOD, "http://a/RPC2: follower (term 4)"),
        (Verdict.GOOD, "http://b/RPC2: leader (term 4)"),
        (Verdict.BAD, "http://c/RPC2: refused"),
    ]


def test_servers_without_a_leader_and_standalone_servers_are_bad() -> None:
    assert _server_rows(_status("a", RaftState.CANDIDATE), _status("b", RaftState.FOLLOWER)) == [
        (Verdict.NOTE, "http://a/RPC2: candidate (term 4)"),
        (Verdict.GOOD, "http://b/RPC2: follower (term 4)"),
        (Verdict.BAD, "no leader: nothing can be changed, requests wait"),
    ]
    assert {verdict for verdict, _ in _server_rows(_status("a", RaftState.SOLO), _status("b", RaftState.SOLO))} == {
        Verdict.BAD
    }
    stale, leader = _status("a", RaftState.LEADER, 4), _status("b", RaftState.LEADER, 5)
    assert _server_rows(stale, leader)[0] == (
        Verdict.NOTE,
        "http://a/RPC2: leader (term 4), but another server has a newer term",
    )


def test_a_single_oned_has_a_row_only_if_it_is_part_of_an_ha_zone() -> None:
    assert (
        _server_rows()
        == _server_rows(_status("a", RaftState.SOLO))
        == _server_rows(_status("a", None, 0, "refused"))
        == []
    )
    ((verdict, text),) = _server_rows(_status("a", RaftState.FOLLOWER))
    assert verdict is Verdict.NOTE
    assert "one_xmlrpc should name all its servers" in text


def test_the_servers_are_listed_even_if_oned_is_unavailable(cloud: Cloud) -> None:
    out = io.StringIO()
    statuses = [_status("a", RaftState.LEADER)] * 2
    code = cloud.result(check.run(Unreachable(), loaded_configuration(), (), out, statuses, now=NOW))
    assert code is Exit.NO_REPLY
    assert out.getvalue().startswith("ok    server  http://a/RPC2: leader")
    assert "BAD   oned    http://localhost:2633/RPC2: one.user.info: unreachable" in out.getvalue()


@implementer(IOpenNebula)
class Unreachable:
    """An oned that is down."""

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Raise `OpenNebulaUnavailable`."""
        raise OpenNebulaUnavailable(method, "unreachable")

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Raise `OpenNebulaUnavailable`."""
        raise OpenNebulaUnavailable(method, "unreachable")


def _first_address(cloud: Cloud) -> str:
    call = cloud.call_as("alice")
    return str(cloud.result(call.serveradmin.network(1)).address_ranges[0].ip)


def test_a_group_whose_vpcs_would_not_be_private_is_bad_with_the_rule_and_the_way_out(cloud: Cloud) -> None:
    """Only where there is a template for VPCs that the group may use."""
    text = 'NAME="vpc"\nVN_MAD="vxlan"\nPHYDEV="eth0"\nEC2_VPC="YES"'
    template_id = cloud.oneadmin("one.vntemplate.allocate", text)
    assert bad_rows(cloud) == {}
    cloud.oneadmin("one.vntemplate.chmod", template_id, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert "cannot create VPCs" in bad_rows(cloud)["group ec2"]
    for rule in cloud.oned.cloud.rights.rules():
        if rule.resource & Resource.NET:
            cloud.oneadmin("one.acl.delrule", rule.id)
    cloud.oneadmin("one.vn.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1)
    assert bad_rows(cloud) == {}
