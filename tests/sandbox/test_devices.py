"""Disks, images, addresses, security groups."""

from __future__ import annotations

import pytest

from tests.sandbox.demo_cloud import DemoCloud

WRONG_STATE, INTERNAL = 2048, 8192
ELASTIC = 1


def volume(demo: DemoCloud, name: str = "vol", size: int = 100) -> int:
    """Make alice a persistent image that is READY."""
    text = f'NAME="{name}" TYPE="DATABLOCK" SIZE="{size}" PERSISTENT="YES" EBS_VOLUME="YES"'
    number = int(demo.call("alice", "one.image.allocate", text, 1))
    demo.wait()
    return number


def image_state(demo: DemoCloud, number: int) -> str:
    """Return an image's STATE."""
    return demo.document(None, "one.image.info", number, False).findtext("STATE", "")


def test_an_image_is_locked_until_it_has_been_copied() -> None:
    demo = DemoCloud()
    number = demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    assert image_state(demo, number) == "4"
    demo.wait()
    assert image_state(demo, number) == "1"


def test_an_image_that_cannot_be_read_ends_in_error_and_in_no_machine() -> None:
    demo = DemoCloud()
    demo.oned.fail_next_image()
    number = demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/no/such/file"', 1)
    demo.wait()
    assert image_state(demo, number) == "5"
    assert demo.code("alice", "one.template.instantiate", 0, "", False, f'DISK=[IMAGE_ID="{number}"]', False) == 16384


def test_a_name_is_unique_per_owner() -> None:
    demo = DemoCloud()
    volume(demo)
    text = 'NAME="vol" TYPE="DATABLOCK" SIZE="1"'
    assert demo.code("alice", "one.image.allocate", text, 1) == 16384
    assert demo.code("bob", "one.image.allocate", text, 1) == 0


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_another_users_private_image_is_used_by_its_number_when_a_template_is_instantiated_and_nowhere_else(
    version: str,
) -> None:
    demo = DemoCloud(version)
    disk = volume(demo)
    named, numbered = 'DISK=[IMAGE="vol",IMAGE_UNAME="alice"]', f'DISK=[IMAGE_ID="{disk}"]'
    assert demo.code("bob", "one.image.info", disk, False) == 512
    assert demo.code("bob", "one.template.instantiate", 0, "", True, named, False) == 512
    assert demo.code("bob", "one.vm.allocate", f'CPU="1"\nMEMORY="1"\n{numbered}', True) == 512
    assert demo.code("bob", "one.template.instantiate", 0, "", True, numbered, False) == 0


@pytest.mark.parametrize("name", ["", "a/b", "a$b", "a<b", "a\nb", "x" * 129])
def test_a_name_that_oned_does_not_take_is_refused(name: str) -> None:
    demo = DemoCloud()
    escaped = name.replace('"', '\\"')
    assert demo.code("alice", "one.image.allocate", f'NAME="{escaped}" TYPE="DATABLOCK" SIZE="1"', 1) == 16384
    if name:
        assert demo.code("alice", "one.template.instantiate", 0, name, True, "", False) == 16384


def test_attaching_and_detaching_a_volume() -> None:
    demo = DemoCloud()
    machine, disk = demo.running(), volume(demo)
    demo.call("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}",TARGET="sdh"]')
    assert demo.through(machine) == [(3, 17), (3, 3)]
    attached = demo.vm(machine).findall("TEMPLATE/DISK")[1]
    assert (attached.findtext("TARGET"), attached.findtext("DISK_ID")) == ("sdh", "2")
    assert image_state(demo, disk) == "8"
    assert demo.code("alice", "one.image.delete", disk, False) == WRONG_STATE
    demo.call("alice", "one.vm.detach", machine, 2)
    demo.wait()
    assert image_state(demo, disk) == "1"
    assert len(demo.vm(machine).findall("TEMPLATE/DISK")) == 1


def test_a_second_hotplug_while_one_is_on_its_way_is_refused() -> None:
    demo = DemoCloud()
    machine, first, second = demo.running(), volume(demo, "a"), volume(demo, "b")
    demo.call("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{first}"]')
    codes = [
        demo.code("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{second}"]'),
        demo.code("alice", "one.vm.detach", machine, 0),
        demo.code("alice", "one.vm.attachnic", machine, 'NIC=[NETWORK_ID="0"]'),
        demo.code("alice", "one.vm.action", "poweroff", machine),
    ]
    assert codes == [WRONG_STATE] * 4
    assert image_state(demo, second) == "1"


def test_a_persistent_image_is_in_one_machine_at_a_time() -> None:
    demo = DemoCloud()
    one, other, disk = demo.running(), demo.running(), volume(demo)
    demo.call("alice", "one.vm.attach", one, f'DISK=[IMAGE_ID="{disk}"]')
    assert demo.code("alice", "one.vm.attach", other, f'DISK=[IMAGE_ID="{disk}"]') == WRONG_STATE


@pytest.mark.parametrize(("version", "code"), [("5.12", -500), ("7.4", 512)])
def test_attaching_another_users_volume_is_refused_in_each_versions_way(version: str, code: int) -> None:
    demo = DemoCloud(version)
    disk, machine = volume(demo), demo.running(user="bob")
    assert demo.code("bob", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}"]') == code


def test_a_running_machine_does_not_wait_for_an_image_that_is_being_copied() -> None:
    demo = DemoCloud()
    machine = demo.running()
    image = demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    assert demo.code("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{image}"]') == WRONG_STATE
    waiting = demo.run(f'DISK=[IMAGE_ID="{image}"]')
    assert (image_state(demo, image), demo.state(waiting)) == ("9", (10, 0))
    demo.wait()
    assert (image_state(demo, image), demo.state(waiting)) == ("2", (3, 3))


def test_a_clone_takes_all_attributes_along_and_its_source_is_used_meanwhile() -> None:
    """USED, or CLONE if it is persistent (oned, ImageManager::set_clone_state): no machine can have it, but a clone."""
    demo = DemoCloud()
    disk, plain = volume(demo), demo.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    machine = demo.running()
    demo.wait()
    copy = demo.call("alice", "one.image.clone", disk, "copy", -1)
    demo.call("alice", "one.image.clone", disk, "another", -1)
    demo.call("alice", "one.image.clone", plain, "third", -1)
    assert (image_state(demo, disk), image_state(demo, plain), image_state(demo, copy)) == ("6", "2", "4")
    assert demo.code("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}"]') == WRONG_STATE
    assert demo.code("alice", "one.image.delete", disk) == WRONG_STATE
    demo.wait()
    assert (image_state(demo, disk), image_state(demo, copy)) == ("1", "1")
    assert demo.document("alice", "one.image.info", copy, False).findtext("TEMPLATE/EBS_VOLUME") == "YES"


def test_a_saved_disk_becomes_an_image() -> None:
    demo = DemoCloud()
    machine = demo.running()
    image = demo.call("alice", "one.vm.disksaveas", machine, 0, "mine", "OS", -1)
    assert demo.state(machine) == (3, 26)
    assert image_state(demo, image) == "4"
    demo.wait()
    assert (demo.state(machine), image_state(demo, image)) == ((3, 3), "1")


def test_a_disk_grows_but_does_not_shrink_and_its_image_keeps_the_size() -> None:
    demo = DemoCloud()
    machine, disk = demo.running(), volume(demo)
    demo.call("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}"]')
    demo.wait()
    assert demo.code("alice", "one.vm.diskresize", machine, 2, "50") == WRONG_STATE
    demo.call("alice", "one.vm.diskresize", machine, 2, "200")
    demo.wait()
    demo.call("alice", "one.vm.detach", machine, 2)
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
def test_disks_that_cannot_be_are_refused_and_leave_their_image_alone(extra: str, code: int) -> None:
    demo = DemoCloud()
    assert demo.code("alice", "one.template.instantiate", 0, "", True, extra, False) == code
    assert demo.document("alice", "one.image.info", 0, False).findtext("RUNNING_VMS") == "0"


@pytest.mark.parametrize(("action", "code"), [("suspend", 0), ("poweroff", 0), ("stop", 8192), ("undeploy", 8192)])
def test_a_disk_is_saved_of_a_machine_that_runs_is_off_or_suspended(action: str, code: int) -> None:
    demo = DemoCloud()
    machine = demo.running()
    demo.call("alice", "one.vm.action", action, machine)
    demo.wait()
    assert demo.code("alice", "one.vm.disksaveas", machine, 0, "mine", "", -1) == code


def test_an_image_is_copied_into_an_image_datastore_only() -> None:
    demo = DemoCloud()
    assert demo.code("alice", "one.image.clone", 0, "copy", 0) == WRONG_STATE


def test_snapshots_of_a_disk_are_made_listed_and_removed() -> None:
    demo = DemoCloud()
    machine = demo.running()
    assert demo.call("alice", "one.vm.disksnapshotcreate", machine, 0, "first") == 0
    demo.wait()
    assert demo.vm(machine).findtext("SNAPSHOTS/SNAPSHOT/NAME") == "first"
    assert demo.code("alice", "one.vm.disksnapshotrevert", machine, 0, 0) == WRONG_STATE
    demo.call("alice", "one.vm.disksnapshotdelete", machine, 0, 0)
    demo.wait()
    assert demo.vm(machine).find("SNAPSHOTS/SNAPSHOT") is None


class TestAddresses:
    """Leases, holds, ranges."""

    def test_holding_is_atomic_and_releasing_nothing_is_no_error(self) -> None:
        demo = DemoCloud()
        lease = 'LEASES=[IP="203.0.113.10"]'
        codes = [demo.code(None, "one.vn.hold", ELASTIC, lease) for _ in range(2)]
        assert codes == [0, INTERNAL]
        shown = demo.document(None, "one.vn.info", ELASTIC, False)
        assert shown.findtext("AR_POOL/AR/LEASES/LEASE/VM") == "-1"
        codes = [demo.code(None, "one.vn.release", ELASTIC, lease) for _ in range(2)]
        assert codes == [0, 0]
        assert demo.code("alice", "one.vn.hold", ELASTIC, lease) == 512

    @pytest.mark.parametrize("address", ["198.51.100.9", "notanip", "", "203.0.113.99"])
    def test_only_addresses_of_the_network_can_be_held(self, address: str) -> None:
        assert DemoCloud().code(None, "one.vn.hold", ELASTIC, f'LEASES=[IP="{address}"]') == INTERNAL

    def test_an_address_is_held_in_the_range_that_is_named(self) -> None:
        demo = DemoCloud()
        lease = 'LEASES=[IP="203.0.113.11",AR_ID="{}"]'
        assert demo.code(None, "one.vn.hold", ELASTIC, lease.format(0)) == INTERNAL
        assert demo.code(None, "one.vn.hold", ELASTIC, lease.format(1)) == 0
        assert demo.code(None, "one.vn.release", ELASTIC, 'LEASES=[IP=""]') == INTERNAL

    def test_a_range_does_not_shrink_below_its_leases(self) -> None:
        demo = DemoCloud()
        demo.running()
        demo.running()
        assert demo.code(None, "one.vn.update_ar", 0, 'AR=[AR_ID="0",SIZE="1"]') == INTERNAL
        assert demo.code(None, "one.vn.update_ar", 0, 'AR=[AR_ID="0",SIZE="2"]') == 0

    def test_a_release_does_not_take_a_machines_address(self) -> None:
        demo = DemoCloud()
        demo.running()
        demo.call(None, "one.vn.release", 0, 'LEASES=[IP="10.0.0.10"]')
        assert demo.document("alice", "one.vn.info", 0, False).findtext("AR_POOL/AR/LEASES/LEASE/VM") == "0"

    def test_updating_a_range_replaces_its_free_attributes(self) -> None:
        demo = DemoCloud()
        for text in ('AR=[AR_ID="0",A="1",B="2"]', 'AR=[AR_ID="0",C="3"]'):
            demo.call(None, "one.vn.update_ar", ELASTIC, text)
        span = demo.document(None, "one.vn.info", ELASTIC, False).find("AR_POOL/AR")
        assert span is not None
        assert (span.findtext("A"), span.findtext("B"), span.findtext("C")) == (None, None, "3")
        assert span.findtext("IP") == "203.0.113.10"

    def test_two_attributes_of_different_names_are_both_kept(self) -> None:
        demo = DemoCloud()
        for address in ("10", "11"):
            demo.call(None, "one.vn.update", ELASTIC, f'EC2_ADDRESS_{address}=[IP="203.0.113.{address}"]', 1)
        found = demo.document(None, "one.vn.info", ELASTIC, False).find("TEMPLATE")
        assert found is not None
        assert [e.tag for e in found if e.tag.startswith("EC2_")] == ["EC2_ADDRESS_10", "EC2_ADDRESS_11"]

    @pytest.mark.parametrize(("version", "address"), [("5.12", "10.0.0.10"), ("7.4", "10.0.0.11")])
    def test_5_12_gives_the_lowest_free_address_and_7_x_the_next(self, version: str, address: str) -> None:
        demo = DemoCloud(version)
        first = demo.run(hold=True)
        demo.call("alice", "one.vm.action", "terminate", first)
        assert demo.vm(demo.run(hold=True)).findtext("TEMPLATE/NIC/IP") == address

    def test_a_network_of_7_x_refuses_changes_until_it_is_ready(self) -> None:
        demo = DemoCloud()
        number = demo.admin("one.vn.allocate", 'NAME="n" VN_MAD="dummy" AR=[IP="10.9.0.1",SIZE="2"]', 0)[1]
        assert demo.code(None, "one.vn.hold", number, 'LEASES=[IP="10.9.0.1"]') == WRONG_STATE
        demo.wait()
        assert demo.code(None, "one.vn.hold", number, 'LEASES=[IP="10.9.0.1"]') == 0

    def test_plugging_a_nic_leases_an_address_and_unplugging_frees_it(self) -> None:
        demo = DemoCloud()
        machine = demo.running()
        demo.call("alice", "one.vm.attachnic", machine, 'NIC=[NETWORK_ID="0"]')
        demo.wait()
        assert demo.vm(machine).findtext("TEMPLATE/CONTEXT/ETH1_IP") == "10.0.0.11"
        demo.call("alice", "one.vm.detachnic", machine, 1)
        demo.wait()
        assert demo.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "1"
        assert demo.vm(machine).find("TEMPLATE/CONTEXT/ETH1_IP") is None


def test_a_security_group_in_use_cannot_be_removed() -> None:
    demo = DemoCloud()
    text = 'NAME="g" RULE=[PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="22"]'
    group = demo.call("alice", "one.secgroup.allocate", text)
    machine = demo.run(f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group}"]', hold=True)
    assert demo.vm(machine).findtext("TEMPLATE/NIC/SECURITY_GROUPS") == f"0,{group}"
    assert demo.code("alice", "one.secgroup.delete", group) == WRONG_STATE
    demo.call("alice", "one.vm.action", "terminate", machine)
    assert demo.code("alice", "one.secgroup.delete", group) == 0


def test_another_users_security_group_cannot_be_used() -> None:
    demo = DemoCloud()
    group = demo.call("alice", "one.secgroup.allocate", 'NAME="g" RULE=[PROTOCOL="ALL",RULE_TYPE="inbound"]')
    extra = f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group}"]'
    assert demo.code("bob", "one.template.instantiate", 0, "", True, extra, False) == 512
