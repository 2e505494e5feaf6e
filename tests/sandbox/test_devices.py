"""Disks, images, addresses and security groups."""

from __future__ import annotations

import pytest

from tests.sandbox.demo_cloud import DemoCloud

WRONG_STATE, INTERNAL = 2048, 8192
ELASTIC_NETWORK = 1


def volume(demo: DemoCloud, name: str = "vol", size: int = 100) -> int:
    """Create a READY persistent image of alice and return its id."""
    text = f'NAME="{name}" TYPE="DATABLOCK" SIZE="{size}" PERSISTENT="YES" EBS_VOLUME="YES"'
    image_id = int(demo.call("alice", "one.image.allocate", text, 1))
    demo.wait()
    return image_id


def image_state(demo: DemoCloud, image_id: int) -> str:
    """Return the STATE of an image."""
    return demo.document(None, "one.image.info", image_id, False).findtext("STATE", "")


def test_a_new_image_is_locked_until_it_has_been_copied() -> None:
    demo = DemoCloud()
    image_id = demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    assert image_state(demo, image_id) == "4"
    demo.wait()
    assert image_state(demo, image_id) == "1"


def test_an_image_that_cannot_be_copied_is_in_error_and_unusable() -> None:
    demo = DemoCloud()
    demo.oned.fail_next_image()
    image_id = demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/no/such/file"', 1)
    demo.wait()
    assert image_state(demo, image_id) == "5"
    assert demo.code("alice", "one.template.instantiate", 0, "", False, f'DISK=[IMAGE_ID="{image_id}"]', False) == 16384


def test_names_of_images_are_unique_per_owner() -> None:
    demo = DemoCloud()
    volume(demo)
    text = 'NAME="vol" TYPE="DATABLOCK" SIZE="1"'
    assert demo.code("alice", "one.image.allocate", text, 1) == 16384
    assert demo.code("bob", "one.image.allocate", text, 1) == 0


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_another_users_private_image_is_usable_only_by_id_in_an_instantiation(version: str) -> None:
    demo = DemoCloud(version)
    disk = volume(demo)
    by_name, by_id = 'DISK=[IMAGE="vol",IMAGE_UNAME="alice"]', f'DISK=[IMAGE_ID="{disk}"]'
    assert demo.code("bob", "one.image.info", disk, False) == 512
    assert demo.code("bob", "one.template.instantiate", 0, "", True, by_name, False) == 512
    assert demo.code("bob", "one.vm.allocate", f'CPU="1"\nMEMORY="1"\n{by_id}', True) == 512
    assert demo.code("bob", "one.template.instantiate", 0, "", True, by_id, False) == 0


@pytest.mark.parametrize("name", ["", "a/b", "a$b", "a<b", "a\nb", "x" * 129])
def test_an_invalid_name_is_refused(name: str) -> None:
    demo = DemoCloud()
    escaped = name.replace('"', '\\"')
    assert demo.code("alice", "one.image.allocate", f'NAME="{escaped}" TYPE="DATABLOCK" SIZE="1"', 1) == 16384
    if name:
        assert demo.code("alice", "one.template.instantiate", 0, name, True, "", False) == 16384


def test_a_volume_is_attached_and_detached() -> None:
    demo = DemoCloud()
    vm_id, disk = demo.run_machine(), volume(demo)
    demo.call("alice", "one.vm.attach", vm_id, f'DISK=[IMAGE_ID="{disk}",TARGET="sdh"]')
    assert demo.states_until_rest(vm_id) == [(3, 17), (3, 3)]
    attached = demo.vm(vm_id).findall("TEMPLATE/DISK")[1]
    assert (attached.findtext("TARGET"), attached.findtext("DISK_ID")) == ("sdh", "2")
    assert image_state(demo, disk) == "8"
    assert demo.code("alice", "one.image.delete", disk, False) == WRONG_STATE
    demo.call("alice", "one.vm.detach", vm_id, 2)
    demo.wait()
    assert image_state(demo, disk) == "1"
    assert len(demo.vm(vm_id).findall("TEMPLATE/DISK")) == 1


def test_a_second_hotplug_operation_is_refused_while_the_first_is_in_progress() -> None:
    demo = DemoCloud()
    vm_id, first, second = demo.run_machine(), volume(demo, "a"), volume(demo, "b")
    demo.call("alice", "one.vm.attach", vm_id, f'DISK=[IMAGE_ID="{first}"]')
    codes = [
        demo.code("alice", "one.vm.attach", vm_id, f'DISK=[IMAGE_ID="{second}"]'),
        demo.code("alice", "one.vm.detach", vm_id, 0),
        demo.code("alice", "one.vm.attachnic", vm_id, 'NIC=[NETWORK_ID="0"]'),
        demo.code("alice", "one.vm.action", "poweroff", vm_id),
    ]
    assert codes == [WRONG_STATE] * 4
    assert image_state(demo, second) == "1"


def test_a_persistent_image_is_used_by_one_machine_at_a_time() -> None:
    demo = DemoCloud()
    first, second, disk = demo.run_machine(), demo.run_machine(), volume(demo)
    demo.call("alice", "one.vm.attach", first, f'DISK=[IMAGE_ID="{disk}"]')
    assert demo.code("alice", "one.vm.attach", second, f'DISK=[IMAGE_ID="{disk}"]') == WRONG_STATE


@pytest.mark.parametrize(("version", "code"), [("5.12", -500), ("7.4", 512)])
def test_attaching_another_users_volume_is_refused_with_the_code_of_each_version(version: str, code: int) -> None:
    demo = DemoCloud(version)
    disk, vm_id = volume(demo), demo.run_machine(user="bob")
    assert demo.code("bob", "one.vm.attach", vm_id, f'DISK=[IMAGE_ID="{disk}"]') == code


def test_a_running_machine_does_not_wait_for_an_image_that_is_being_copied() -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    image = demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    assert demo.code("alice", "one.vm.attach", vm_id, f'DISK=[IMAGE_ID="{image}"]') == WRONG_STATE
    waiting = demo.create_machine(f'DISK=[IMAGE_ID="{image}"]')
    assert (image_state(demo, image), demo.state(waiting)) == ("9", (10, 0))
    demo.wait()
    assert (image_state(demo, image), demo.state(waiting)) == ("2", (3, 3))


def test_a_clone_has_all_attributes_and_its_source_is_in_use_meanwhile() -> None:
    """USED, or CLONE if it is persistent (oned, ImageManager::set_clone_state): usable by other clones only."""
    demo = DemoCloud()
    disk, plain = volume(demo), demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    vm_id = demo.run_machine()
    demo.wait()
    copy = demo.call("alice", "one.image.clone", disk, "copy", -1)
    demo.call("alice", "one.image.clone", disk, "another", -1)
    demo.call("alice", "one.image.clone", plain, "third", -1)
    assert (image_state(demo, disk), image_state(demo, plain), image_state(demo, copy)) == ("6", "2", "4")
    assert demo.code("alice", "one.vm.attach", vm_id, f'DISK=[IMAGE_ID="{disk}"]') == WRONG_STATE
    assert demo.code("alice", "one.image.delete", disk) == WRONG_STATE
    demo.wait()
    assert (image_state(demo, disk), image_state(demo, copy)) == ("1", "1")
    assert demo.document("alice", "one.image.info", copy, False).findtext("TEMPLATE/EBS_VOLUME") == "YES"


def test_a_saved_disk_becomes_an_image() -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    image = demo.call("alice", "one.vm.disksaveas", vm_id, 0, "mine", "OS", -1)
    assert demo.state(vm_id) == (3, 26)
    assert image_state(demo, image) == "4"
    demo.wait()
    assert (demo.state(vm_id), image_state(demo, image)) == ((3, 3), "1")


def test_a_disk_can_grow_but_not_shrink_and_its_image_gets_the_new_size() -> None:
    demo = DemoCloud()
    vm_id, disk = demo.run_machine(), volume(demo)
    demo.call("alice", "one.vm.attach", vm_id, f'DISK=[IMAGE_ID="{disk}"]')
    demo.wait()
    assert demo.code("alice", "one.vm.diskresize", vm_id, 2, "50") == WRONG_STATE
    demo.call("alice", "one.vm.diskresize", vm_id, 2, "200")
    demo.wait()
    demo.call("alice", "one.vm.detach", vm_id, 2)
    demo.wait()
    assert demo.document("alice", "one.image.info", disk, False).findtext("SIZE") == "200"


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ('DISK=[IMAGE_ID="0",SIZE="2"]', 16384),
        ('DISK=[IMAGE_ID="0",TARGET="sda"]\nDISK=[IMAGE_ID="0",TARGET="sda"]', 16384),
        ('DISK=[IMAGE_ID="ami"]', 512),
        ('NIC=[NETWORK_ID="private"]', 512),
        ("DISK=[]", 0),
    ],
)
def test_invalid_disks_are_refused_and_their_image_stays_unused(extra: str, code: int) -> None:
    demo = DemoCloud()
    assert demo.code("alice", "one.template.instantiate", 0, "", True, extra, False) == code
    assert demo.document("alice", "one.image.info", 0, False).findtext("RUNNING_VMS") == "0"


@pytest.mark.parametrize(("action", "code"), [("suspend", 0), ("poweroff", 0), ("stop", 8192), ("undeploy", 8192)])
def test_a_disk_can_be_saved_only_if_the_machine_is_running_powered_off_or_suspended(action: str, code: int) -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    demo.call("alice", "one.vm.action", action, vm_id)
    demo.wait()
    assert demo.code("alice", "one.vm.disksaveas", vm_id, 0, "mine", "", -1) == code


def test_an_image_can_be_cloned_only_into_an_image_datastore() -> None:
    demo = DemoCloud()
    assert demo.code("alice", "one.image.clone", 0, "copy", 0) == WRONG_STATE


def test_snapshots_of_a_disk_are_created_listed_and_deleted() -> None:
    demo = DemoCloud()
    vm_id = demo.run_machine()
    assert demo.call("alice", "one.vm.disksnapshotcreate", vm_id, 0, "first") == 0
    demo.wait()
    assert demo.vm(vm_id).findtext("SNAPSHOTS/SNAPSHOT/NAME") == "first"
    assert demo.code("alice", "one.vm.disksnapshotrevert", vm_id, 0, 0) == WRONG_STATE
    demo.call("alice", "one.vm.disksnapshotdelete", vm_id, 0, 0)
    demo.wait()
    assert demo.vm(vm_id).find("SNAPSHOTS/SNAPSHOT") is None


class TestAddresses:
    """Leases, held addresses and address ranges."""

    def test_holding_is_exclusive_and_releasing_a_free_address_is_not_an_error(self) -> None:
        demo = DemoCloud()
        lease = 'LEASES=[IP="203.0.113.10"]'
        codes = [demo.code(None, "one.vn.hold", ELASTIC_NETWORK, lease) for _ in range(2)]
        assert codes == [0, INTERNAL]
        document = demo.document(None, "one.vn.info", ELASTIC_NETWORK, False)
        assert document.findtext("AR_POOL/AR/LEASES/LEASE/VM") == "-1"
        codes = [demo.code(None, "one.vn.release", ELASTIC_NETWORK, lease) for _ in range(2)]
        assert codes == [0, 0]
        assert demo.code("alice", "one.vn.hold", ELASTIC_NETWORK, lease) == 512

    @pytest.mark.parametrize("address", ["198.51.100.9", "notanip", "", "203.0.113.99"])
    def test_only_addresses_of_the_network_can_be_held(self, address: str) -> None:
        assert DemoCloud().code(None, "one.vn.hold", ELASTIC_NETWORK, f'LEASES=[IP="{address}"]') == INTERNAL

    def test_an_address_is_held_only_in_the_given_range(self) -> None:
        demo = DemoCloud()
        lease = 'LEASES=[IP="203.0.113.11",AR_ID="{}"]'
        assert demo.code(None, "one.vn.hold", ELASTIC_NETWORK, lease.format(0)) == INTERNAL
        assert demo.code(None, "one.vn.hold", ELASTIC_NETWORK, lease.format(1)) == 0
        assert demo.code(None, "one.vn.release", ELASTIC_NETWORK, 'LEASES=[IP=""]') == INTERNAL

    def test_a_range_cannot_shrink_below_its_leases(self) -> None:
        demo = DemoCloud()
        demo.run_machine()
        demo.run_machine()
        assert demo.code(None, "one.vn.update_ar", 0, 'AR=[AR_ID="0",SIZE="1"]') == INTERNAL
        assert demo.code(None, "one.vn.update_ar", 0, 'AR=[AR_ID="0",SIZE="2"]') == 0

    def test_releasing_the_address_of_a_machine_has_no_effect(self) -> None:
        demo = DemoCloud()
        demo.run_machine()
        demo.call(None, "one.vn.release", 0, 'LEASES=[IP="10.0.0.10"]')
        assert demo.document("alice", "one.vn.info", 0, False).findtext("AR_POOL/AR/LEASES/LEASE/VM") == "0"

    def test_updating_a_range_replaces_its_free_attributes(self) -> None:
        demo = DemoCloud()
        for text in ('AR=[AR_ID="0",A="1",B="2"]', 'AR=[AR_ID="0",C="3"]'):
            demo.call(None, "one.vn.update_ar", ELASTIC_NETWORK, text)
        address_range = demo.document(None, "one.vn.info", ELASTIC_NETWORK, False).find("AR_POOL/AR")
        assert address_range is not None
        assert (address_range.findtext("A"), address_range.findtext("B"), address_range.findtext("C")) == (
            None,
            None,
            "3",
        )
        assert address_range.findtext("IP") == "203.0.113.10"

    def test_appending_keeps_attributes_with_other_names(self) -> None:
        demo = DemoCloud()
        for address in ("10", "11"):
            demo.call(None, "one.vn.update", ELASTIC_NETWORK, f'EC2_ADDRESS_{address}=[IP="203.0.113.{address}"]', 1)
        template = demo.document(None, "one.vn.info", ELASTIC_NETWORK, False).find("TEMPLATE")
        assert template is not None
        assert [e.tag for e in template if e.tag.startswith("EC2_")] == ["EC2_ADDRESS_10", "EC2_ADDRESS_11"]

    @pytest.mark.parametrize(("version", "address"), [("5.12", "10.0.0.10"), ("7.4", "10.0.0.11")])
    def test_5_12_leases_the_lowest_free_address_and_7_x_the_next(self, version: str, address: str) -> None:
        demo = DemoCloud(version)
        first = demo.create_machine(hold=True)
        demo.call("alice", "one.vm.action", "terminate", first)
        assert demo.vm(demo.create_machine(hold=True)).findtext("TEMPLATE/NIC/IP") == address

    def test_a_network_of_7_x_refuses_changes_until_it_is_ready(self) -> None:
        demo = DemoCloud()
        text = 'NAME="n" VN_MAD="dummy" AR=[TYPE="IP4",IP="10.9.0.1",SIZE="2"]'
        network_id = demo.admin("one.vn.allocate", text, 0)[1]
        assert demo.code(None, "one.vn.hold", network_id, 'LEASES=[IP="10.9.0.1"]') == WRONG_STATE
        demo.wait()
        assert demo.code(None, "one.vn.hold", network_id, 'LEASES=[IP="10.9.0.1"]') == 0

    def test_attaching_a_nic_leases_an_address_and_detaching_releases_it(self) -> None:
        demo = DemoCloud()
        vm_id = demo.run_machine()
        demo.call("alice", "one.vm.attachnic", vm_id, 'NIC=[NETWORK_ID="0"]')
        demo.wait()
        assert demo.vm(vm_id).findtext("TEMPLATE/CONTEXT/ETH1_IP") == "10.0.0.11"
        demo.call("alice", "one.vm.detachnic", vm_id, 1)
        demo.wait()
        assert demo.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "1"
        assert demo.vm(vm_id).find("TEMPLATE/CONTEXT/ETH1_IP") is None


def test_a_security_group_in_use_cannot_be_deleted() -> None:
    demo = DemoCloud()
    text = 'NAME="g" RULE=[PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="22"]'
    group = demo.call("alice", "one.secgroup.allocate", text)
    vm_id = demo.create_machine(f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group}"]', hold=True)
    assert demo.vm(vm_id).findtext("TEMPLATE/NIC/SECURITY_GROUPS") == f"0,{group}"
    assert demo.code("alice", "one.secgroup.delete", group) == WRONG_STATE
    demo.call("alice", "one.vm.action", "terminate", vm_id)
    assert demo.code("alice", "one.secgroup.delete", group) == 0


def test_another_users_security_group_cannot_be_used() -> None:
    demo = DemoCloud()
    group = demo.call("alice", "one.secgroup.allocate", 'NAME="g" RULE=[PROTOCOL="ALL",RULE_TYPE="inbound"]')
    extra = f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group}"]'
    assert demo.code("bob", "one.template.instantiate", 0, "", True, extra, False) == 512
