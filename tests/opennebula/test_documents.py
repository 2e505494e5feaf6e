"""Views of documents that real oned 5.12 and 7.4 returned; expectations come from the recorded calls, not the views."""

from __future__ import annotations

import inspect
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from lxml import etree

from econed.errors import InvalidReply
from econed.opennebula.access import Group
from econed.opennebula.attributes import Attributes
from econed.opennebula.documents import (
    HELD,
    Cluster,
    Datastore,
    Image,
    Right,
    UserDocument,
    View,
    VirtualMachine,
    VirtualNetwork,
    VMTemplate,
    Zone,
)
from econed.opennebula.states import DatastoreType, ImageState, ImageType, LcmState, LockLevel, NetworkState, VmState
from tests.opennebula.reading import VERSIONS, recorded
from tests.support.counted_elements import counted

every_version = pytest.mark.parametrize("version", VERSIONS)


def machine(version: str, vm_id: int, state: VmState, lcm_state: int = 0) -> VirtualMachine:
    """Return the last recorded document of a machine in this state."""
    documents = [
        document
        for document in recorded(version, "one.vm.info")
        if (document.findtext("ID"), document.findtext("STATE"), document.findtext("LCM_STATE"))
        == (str(vm_id), str(int(state)), str(lcm_state))
    ]
    return VirtualMachine(documents[-1])


def element(text: str) -> etree._Element:
    """Return the root of a document written for a test."""
    return etree.fromstring(text)


@every_version
def test_a_running_machine_has_its_owner_state_disks_and_interfaces(version: str) -> None:
    vm = machine(version, 0, VmState.ACTIVE, LcmState.RUNNING)
    assert (vm.id, vm.uname, vm.uid, vm.gname, vm.gid) == (0, "alice", 2, "ec2", 100)
    assert (vm.state, vm.lcm_state, vm.state_name) == (VmState.ACTIVE, LcmState.RUNNING, "RUNNING")
    assert vm.stime > 1_700_000_000
    assert vm.etime == 0
    assert vm.template_id == 0
    assert vm.hostname in ("h0", "h1", "h2")
    assert vm.hid in (0, 1, 2)
    assert vm.cluster_id == 0
    assert vm.template_text("MEMORY") == "256"
    root = vm.disks[0]
    assert (root.disk_id, root.image_id, root.image, root.target, root.size) == (0, 0, "ubuntu", "sda", 1024)
    assert (root.is_persistent, root.is_cloned, root.is_read_only, root.datastore_id) == (False, True, False, 1)
    nic = vm.nics[0]
    assert (nic.nic_id, nic.ip, nic.mac, nic.network_id, nic.network) == (
        0,
        IPv4Address("10.0.0.10"),
        "02:00:0a:00:00:0a",
        0,
        "private",
    )
    assert 0 in nic.security_group_ids
    assert vm.context_text("ETH0_IP") == vm.context["ETH0_IP"] == "10.0.0.10"
    assert vm.user_template.text("EC2_INSTANCE_TYPE") == "m1.small"


@every_version
def test_an_attached_volume_is_a_persistent_disk_of_its_image(version: str) -> None:
    vms = [VirtualMachine(document) for document in recorded(version, "one.vm.info")]
    volumes = [disk for vm in vms for disk in vm.disks if disk.image_id == 2]
    assert any(disk.is_attaching for disk in volumes)
    assert all(disk.is_persistent and not disk.is_cloned and disk.target == "sdh" for disk in volumes)


@every_version
def test_a_volatile_disk_has_no_image(version: str) -> None:
    vms = [VirtualMachine(document) for document in recorded(version, "one.vm.info")]
    volatile = [disk for vm in vms for disk in vm.disks if disk.type == "fs"]
    assert volatile
    assert {disk.image_id for disk in volatile} == {None}


@every_version
def test_a_machine_on_hold_has_no_host_and_no_cluster(version: str) -> None:
    vm = machine(version, 3, VmState.HOLD)
    assert (vm.hostname, vm.hid, vm.cluster_id, vm.deploy_id) == ("", None, None, "")


@every_version
def test_a_terminated_machine_has_the_time_it_ended(version: str) -> None:
    machines = [VirtualMachine(document) for document in recorded(version, "one.vm.info")]
    ended = [vm for vm in machines if vm.state is VmState.DONE]
    assert ended
    assert all(vm.etime >= vm.stime for vm in ended)


@every_version
def test_a_lock_has_its_level_and_its_owner(version: str) -> None:
    locks = [lock for document in recorded(version, "one.vm.info") if (lock := VirtualMachine(document).lock)]
    assert {LockLevel.USE, LockLevel.MANAGE} <= {lock.level for lock in locks}
    assert {lock.owner for lock in locks} == {2}
    assert machine(version, 0, VmState.ACTIVE, LcmState.RUNNING).lock is None


@every_version
def test_a_machine_that_fits_on_no_host_has_the_schedulers_message(version: str) -> None:
    messages = [VirtualMachine(document).sched_message for document in recorded(version, "one.vm.info")]
    assert any("Not enough" in message for message in messages)


@every_version
def test_the_short_form_of_a_pool_has_ids_and_states_only(version: str) -> None:
    [pool, *_] = recorded(version, "one.vmpool.info")
    vms = [VirtualMachine(vm) for vm in pool]
    assert vms
    assert all(isinstance(vm.state, VmState) and len(vm.user_template) == 0 for vm in vms)


@every_version
def test_an_image_is_read_in_the_form_of_each_version(version: str) -> None:
    ebs = next(image for image in map(Image, recorded(version, "one.image.info")) if image.id == 4)
    assert (ebs.name, ebs.uname, ebs.size, ebs.is_persistent) == ("ec2-snap-1", "alice", 2048, True)
    assert (ebs.state, ebs.type, ebs.datastore_id, ebs.datastore) == (
        ImageState.READY,
        ImageType.DATABLOCK,
        1,
        "default",
    )
    assert ebs.template.text("EBS_VOLUME") == "YES"
    assert ebs.template.vector("EBS")["DEVICE"] == "/dev/sdh"
    assert (ebs.vm_ids, ebs.running_vms) == ((), 0)
    assert ebs.regtime > 1_700_000_000


def test_the_format_is_read_from_fstype_in_5_12_and_from_format_later() -> None:
    old = Image(element("<IMAGE><FSTYPE>ext3</FSTYPE></IMAGE>"))
    new = Image(element("<IMAGE><FORMAT>qcow2</FORMAT><FS>ext4</FS></IMAGE>"))
    assert (old.format, old.file_system) == ("ext3", "ext3")
    assert (new.format, new.file_system) == ("qcow2", "ext4")


@every_version
def test_an_image_in_use_has_the_ids_of_its_machines(version: str) -> None:
    used = [image for image in map(Image, recorded(version, "one.image.info")) if image.vm_ids]
    assert {ImageState.USED_PERS, ImageState.USED} >= {image.state for image in used}
    assert any(image.vm_ids == (0,) for image in used)


@every_version
def test_a_template_has_the_attributes_of_its_machines(version: str) -> None:
    restricted = next(t for t in map(VMTemplate, recorded(version, "one.template.info")) if t.id == 5)
    assert (restricted.name, restricted.uid, restricted.gid) == ("restricted", 0, 100)
    assert restricted.template.vectors("NIC") == ({"INBOUND_AVG_BW": "1000", "NETWORK_ID": "0"},)
    assert restricted.template.text("SCHED_REQUIREMENTS") == "CLUSTER_ID=0"
    assert restricted.template.names()[0] == "CONTEXT"


@every_version
def test_users_have_drivers_passwords_and_groups(version: str) -> None:
    pools = recorded(version, "one.userpool.info")
    users = {user.name: user for pool in pools for user in map(UserDocument, pool.iterchildren("USER"))}
    alice = users["alice"]
    assert (alice.id, alice.gid, alice.gname, alice.driver, alice.is_enabled) == (2, 100, "ec2", "core", True)
    assert alice.group_ids == {100}
    assert (users["carol"].driver, users["carol"].password) == ("public", "carolpw")
    assert users["dave"].password == "/C=ES/O=ONE/CN=dave|/C=US/CN=dave2"
    assert alice.template.text("LABELS") == "a,b"


@every_version
def test_the_members_of_all_groups_are_all_the_users(version: str) -> None:
    """Users are read by these ids where the user pool is too long."""
    pools = recorded(version, "one.grouppool.info")
    groups = [Group(group) for pool in pools for group in pool.iterchildren("GROUP")]
    user_pool = recorded(version, "one.userpool.info")[-1]
    assert {user_id for group in groups for user_id in group.user_ids} == {
        user.id for user in map(UserDocument, user_pool.iterchildren("USER"))
    }
    assert len(groups) > 2


def test_a_disabled_user_is_not_enabled() -> None:
    assert UserDocument(element("<USER><ENABLED>1</ENABLED></USER>")).is_enabled
    assert not UserDocument(element("<USER><ENABLED>0</ENABLED></USER>")).is_enabled


@every_version
def test_a_network_has_its_address_ranges_and_leases(version: str) -> None:
    networks = [VirtualNetwork(document) for document in recorded(version, "one.vn.info")]
    private = networks[0] if networks[0].name == "private" else next(n for n in networks if n.name == "private")
    assert (private.id, private.cluster_ids, private.parent_network_id) == (0, (0,), None)
    assert private.template_text("GATEWAY") == "10.0.0.1"
    (address_range,) = private.address_ranges
    assert (address_range.ar_id, address_range.ip, address_range.size, address_range.type) == (
        0,
        IPv4Address("10.0.0.10"),
        20000,
        "IP4",
    )
    held = [lease for n in networks if n.name == "ElasticIPs" for ar in n.address_ranges for lease in ar.leases]
    assert any(lease.ip == IPv4Address("203.0.113.1") and lease.is_held and lease.vm_id == HELD for lease in held)
    attributes = [ar.attributes for n in networks for ar in n.address_ranges]
    assert any(vector.get("EC2_UID") == "2" for vector in attributes)


def test_a_network_of_5_12_has_no_state_and_counts_as_ready() -> None:
    assert {network.state for network in map(VirtualNetwork, recorded("5.12", "one.vn.info"))} == {NetworkState.READY}
    states = {network.state for network in map(VirtualNetwork, recorded("7.4", "one.vn.info"))}
    assert states <= set(NetworkState)
    assert NetworkState.READY in states


@every_version
def test_datastores_zones_and_clusters_are_read(version: str) -> None:
    stores = {store.name: store for store in map(Datastore, recorded(version, "one.datastorepool.info")[-1])}
    assert {name: store.type for name, store in stores.items()} == {
        "system": DatastoreType.SYSTEM_DS,
        "default": DatastoreType.IMAGE_DS,
        "files": DatastoreType.FILE_DS,
    }
    assert all(store.cluster_ids == (0,) and store.is_usable for store in stores.values())
    [zone] = map(Zone, recorded(version, "one.zonepool.info")[-1])
    assert (zone.id, zone.name) == (0, "OpenNebula")
    assert zone.endpoint.endswith("/RPC2")
    [cluster] = map(Cluster, recorded(version, "one.clusterpool.info")[0])
    assert (cluster.id, cluster.name, cluster.datastore_ids) == (0, "default", (0, 1, 2))


# Rights

OWNED = """<IMAGE><ID>1</ID><UID>2</UID><GID>100</GID><PERMISSIONS><OWNER_U>{}</OWNER_U><OWNER_M>{}</OWNER_M>
<OWNER_A>{}</OWNER_A><GROUP_U>{}</GROUP_U><GROUP_M>{}</GROUP_M><GROUP_A>{}</GROUP_A><OTHER_U>{}</OTHER_U>
<OTHER_M>{}</OTHER_M><OTHER_A>{}</OTHER_A></PERMISSIONS></IMAGE>"""


@pytest.mark.parametrize(
    ("bits", "user", "groups", "rights"),
    [
        ("110000000", 2, {100}, "UM"),
        ("110000000", 3, {100}, ""),
        ("110100000", 3, {100}, "U"),
        ("110100000", 3, {101}, ""),
        ("110100000", 3, {101, 100}, "U"),
        ("110000100", 3, {101}, "U"),
        ("001000000", 2, {100}, "A"),
        ("000010000", 2, {100}, "M"),
        ("000000111", 9, set(), "UMA"),
        ("000000000", 0, {1}, "UMA"),
        ("000000000", 7, {0}, "UMA"),
        ("000000000", 2, {100}, ""),
    ],
)
def test_permission_bits_grant_rights_to_owner_group_and_others(
    bits: str, user: int, groups: set[int], rights: str
) -> None:
    image = Image(element(OWNED.format(*bits)))
    assert "".join(right.value for right in Right if image.allows(user, groups, right)) == rights


# Reading


def test_every_read_of_an_element_is_reported_also_by_the_views_of_parts() -> None:
    paths: list[str] = []
    [vm_document, *_] = recorded("7.4", "one.vm.info")
    vm = VirtualMachine(vm_document, paths.append)
    assert paths == []
    _ = (vm.state, vm.disks[0].target, vm.user_template, vm.context_text("EC2_KEYNAME"), vm.hostname)
    assert paths[:5] == [
        "VM/STATE",
        "VM/TEMPLATE/DISK",
        "VM/TEMPLATE/DISK/TARGET",
        "VM/USER_TEMPLATE/*",
        "VM/TEMPLATE/CONTEXT/EC2_KEYNAME",
    ]
    assert paths[-1].startswith("VM/HISTORY_RECORDS/HISTORY")


@pytest.mark.parametrize("name", ["A/B", "*", ".", "a", "A[1]", "", "../NAME"])
def test_an_invalid_attribute_name_is_refused_and_never_used_as_a_path(name: str) -> None:
    vm = VirtualMachine(element("<VM><NAME>x</NAME><TEMPLATE><A>1</A></TEMPLATE></VM>"))
    with pytest.raises(ValueError, match="not an attribute name"):
        vm.template_text(name)


@pytest.mark.parametrize("document", ["<VM/>", "<VM><ID/></VM>", "<VM><ID>seven</ID></VM>"])
def test_a_document_with_a_missing_or_invalid_number_is_an_invalid_reply(document: str) -> None:
    with pytest.raises(InvalidReply, match="ID is not a number"):
        _ = VirtualMachine(element(document)).id


def test_a_list_of_ids_with_anything_else_in_it_is_an_invalid_reply() -> None:
    with pytest.raises(InvalidReply, match="not an id"):
        _ = Image(element("<IMAGE><VMS><ID>1</ID><ID/></VMS></IMAGE>")).vm_ids


def properties_of(view: View) -> list[str]:
    """Return the names of the properties of a view."""
    return [name for name, member in inspect.getmembers(type(view)) if isinstance(member, property | cached_property)]


@every_version
def test_the_children_of_an_element_are_walked_once_however_many_are_read(version: str) -> None:
    [document, *_] = recorded(version, "one.vm.info")
    root, steps = counted(etree.tostring(document, encoding="unicode"))
    vm, walks = VirtualMachine(root), steps.walks
    assert not walks
    _ = vm.id
    assert walks == {"VM": 1}
    for view in (vm, *vm.disks, *vm.nics, *vm.history):
        names = properties_of(view)
        assert len(names) > 5
        for name in names:
            if name not in ("context", "attributes", "user_template"):  # all attributes at once
                getattr(view, name)
    assert walks["DISK"] == len(vm.disks)
    assert walks["NIC"] == len(vm.nics)
    assert walks["HISTORY"] == len(vm.history)
    assert walks["VM"] == walks["TEMPLATE"] == 1


def test_an_attribute_of_a_user_is_read_without_the_others() -> None:
    """Their document may be megabytes long."""
    paths: list[str] = []
    user = UserDocument(element("<USER><TEMPLATE><A>1</A><B>2</B></TEMPLATE></USER>"), paths.append)
    assert (user.attribute("A"), user.attribute("B"), user.attribute("C")) == ("1", "2", "")
    assert paths == ["USER/TEMPLATE/A", "USER/TEMPLATE/B", "USER/TEMPLATE/C"]


# Attributes

ATTRIBUTES = Attributes([("DISK", {"A": "1"}), ("CPU", "2"), ("DISK", {"A": "3"}), ("CPU", "4")])


def test_attributes_with_the_same_name_keep_their_order() -> None:
    assert ATTRIBUTES.vectors("DISK") == ({"A": "1"}, {"A": "3"})
    assert ATTRIBUTES.all("CPU") == ("2", "4")
    assert ATTRIBUTES.names() == ("DISK", "CPU")
    assert [name for name, _ in ATTRIBUTES] == ["DISK", "CPU", "DISK", "CPU"]


def test_text_and_vector_return_the_first_attribute_of_their_type() -> None:
    assert ATTRIBUTES.text("CPU") == "2"
    assert ATTRIBUTES.vector("DISK") == {"A": "1"}
    assert ATTRIBUTES.text("DISK", "none") == "none"
    assert ATTRIBUTES.vector("CPU") == {}


def test_attributes_cannot_be_changed_through_their_source_or_their_values() -> None:
    members = {"A": "1"}
    attributes = Attributes([("V", members)])
    members["A"] = "2"
    assert attributes.vector("V") == {"A": "1"}
    with pytest.raises(TypeError):
        attributes.vector("V")["A"] = "3"  # type: ignore[index]


def test_no_module_of_the_package_mentions_ec2() -> None:
    """Apart from the docstring that says so."""
    package = Path(__file__).parent.parent.parent / "econed" / "opennebula"
    mentioning = [path.name for path in package.glob("*.py") if "EC2" in path.read_text(encoding="utf-8")]
    assert mentioning == ["__init__.py"]
