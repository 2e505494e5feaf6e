"""Disks, images, addresses, security groups."""

from __future__ import annotations

import pytest

from tests.sandbox.house import House

WRONG_STATE, INTERNAL = 2048, 8192
ELASTIC = 1


def volume(house: House, name: str = "vol", size: int = 100) -> int:
    """Make alice a persistent image that is READY."""
    text = f'NAME="{name}" TYPE="DATABLOCK" SIZE="{size}" PERSISTENT="YES" EBS_VOLUME="YES"'
    number = int(house.call("alice", "one.image.allocate", text, 1))
    house.wait()
    return number


def image_state(house: House, number: int) -> str:
    """Return an image's STATE."""
    return house.document(None, "one.image.info", number, False).findtext("STATE", "")


def test_an_image_is_locked_until_it_has_been_copied() -> None:
    house = House()
    number = house.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    assert image_state(house, number) == "4"
    house.wait()
    assert image_state(house, number) == "1"


def test_an_image_that_cannot_be_read_ends_in_error_and_in_no_machine() -> None:
    house = House()
    house.oned.fail_next_image()
    number = house.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/no/such/file"', 1)
    house.wait()
    assert image_state(house, number) == "5"
    assert house.code("alice", "one.template.instantiate", 0, "", False, f'DISK=[IMAGE_ID="{number}"]', False) == 16384


def test_a_name_is_unique_per_owner() -> None:
    house = House()
    volume(house)
    text = 'NAME="vol" TYPE="DATABLOCK" SIZE="1"'
    assert house.code("alice", "one.image.allocate", text, 1) == 16384
    assert house.code("bob", "one.image.allocate", text, 1) == 0


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_another_users_private_image_is_used_by_its_number_when_a_template_is_instantiated_and_nowhere_else(
    version: str,
) -> None:
    house = House(version)
    disk = volume(house)
    named, numbered = 'DISK=[IMAGE="vol",IMAGE_UNAME="alice"]', f'DISK=[IMAGE_ID="{disk}"]'
    assert house.code("bob", "one.image.info", disk, False) == 512
    assert house.code("bob", "one.template.instantiate", 0, "", True, named, False) == 512
    assert house.code("bob", "one.vm.allocate", f'CPU="1"\nMEMORY="1"\n{numbered}', True) == 512
    assert house.code("bob", "one.template.instantiate", 0, "", True, numbered, False) == 0


@pytest.mark.parametrize("name", ["", "a/b", "a$b", "a<b", "a\nb", "x" * 129])
def test_a_name_that_oned_does_not_take_is_refused(name: str) -> None:
    house = House()
    escaped = name.replace('"', '\\"')
    assert house.code("alice", "one.image.allocate", f'NAME="{escaped}" TYPE="DATABLOCK" SIZE="1"', 1) == 16384
    if name:
        assert house.code("alice", "one.template.instantiate", 0, name, True, "", False) == 16384


def test_attaching_and_detaching_a_volume() -> None:
    house = House()
    machine, disk = house.running(), volume(house)
    house.call("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}",TARGET="sdh"]')
    assert house.through(machine) == [(3, 17), (3, 3)]
    attached = house.vm(machine).findall("TEMPLATE/DISK")[1]
    assert (attached.findtext("TARGET"), attached.findtext("DISK_ID")) == ("sdh", "2")
    assert image_state(house, disk) == "8"
    assert house.code("alice", "one.image.delete", disk, False) == WRONG_STATE
    house.call("alice", "one.vm.detach", machine, 2)
    house.wait()
    assert image_state(house, disk) == "1"
    assert len(house.vm(machine).findall("TEMPLATE/DISK")) == 1


def test_a_second_hotplug_while_one_is_on_its_way_is_refused() -> None:
    house = House()
    machine, first, second = house.running(), volume(house, "a"), volume(house, "b")
    house.call("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{first}"]')
    codes = [
        house.code("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{second}"]'),
        house.code("alice", "one.vm.detach", machine, 0),
        house.code("alice", "one.vm.attachnic", machine, 'NIC=[NETWORK_ID="0"]'),
        house.code("alice", "one.vm.action", "poweroff", machine),
    ]
    assert codes == [WRONG_STATE] * 4
    assert image_state(house, second) == "1"


def test_a_persistent_image_is_in_one_machine_at_a_time() -> None:
    house = House()
    one, other, disk = house.running(), house.running(), volume(house)
    house.call("alice", "one.vm.attach", one, f'DISK=[IMAGE_ID="{disk}"]')
    assert house.code("alice", "one.vm.attach", other, f'DISK=[IMAGE_ID="{disk}"]') == WRONG_STATE


@pytest.mark.parametrize(("version", "code"), [("5.12", -500), ("7.4", 512)])
def test_attaching_another_users_volume_is_refused_in_each_versions_way(version: str, code: int) -> None:
    house = House(version)
    disk, machine = volume(house), house.running(user="bob")
    assert house.code("bob", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}"]') == code


def test_a_running_machine_does_not_wait_for_an_image_that_is_being_copied() -> None:
    house = House()
    machine = house.running()
    image = house.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    assert house.code("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{image}"]') == WRONG_STATE
    waiting = house.run(f'DISK=[IMAGE_ID="{image}"]')
    assert (image_state(house, image), house.state(waiting)) == ("9", (10, 0))
    house.wait()
    assert (image_state(house, image), house.state(waiting)) == ("2", (3, 3))


def test_a_clone_takes_all_attributes_along_and_its_source_is_used_meanwhile() -> None:
    """USED, or CLONE if it is persistent (oned, ImageManager::set_clone_state): no machine can have it, but a clone."""
    house = House()
    disk, plain = volume(house), house.call("alice", "one.image.allocate", 'NAME="a" TYPE="OS" PATH="/x"', 1)
    machine = house.running()
    house.wait()
    copy = house.call("alice", "one.image.clone", disk, "copy", -1)
    house.call("alice", "one.image.clone", disk, "another", -1)
    house.call("alice", "one.image.clone", plain, "third", -1)
    assert (image_state(house, disk), image_state(house, plain), image_state(house, copy)) == ("6", "2", "4")
    assert house.code("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}"]') == WRONG_STATE
    assert house.code("alice", "one.image.delete", disk) == WRONG_STATE
    house.wait()
    assert (image_state(house, disk), image_state(house, copy)) == ("1", "1")
    assert house.document("alice", "one.image.info", copy, False).findtext("TEMPLATE/EBS_VOLUME") == "YES"


def test_a_saved_disk_becomes_an_image() -> None:
    house = House()
    machine = house.running()
    image = house.call("alice", "one.vm.disksaveas", machine, 0, "mine", "OS", -1)
    assert house.state(machine) == (3, 26)
    assert image_state(house, image) == "4"
    house.wait()
    assert (house.state(machine), image_state(house, image)) == ((3, 3), "1")


def test_a_disk_grows_but_does_not_shrink_and_its_image_keeps_the_size() -> None:
    house = House()
    machine, disk = house.running(), volume(house)
    house.call("alice", "one.vm.attach", machine, f'DISK=[IMAGE_ID="{disk}"]')
    house.wait()
    assert house.code("alice", "one.vm.diskresize", machine, 2, "50") == WRONG_STATE
    house.call("alice", "one.vm.diskresize", machine, 2, "200")
    house.wait()
    house.call("alice", "one.vm.detach", machine, 2)
    house.wait()
    assert house.document("alice", "one.image.info", disk, False).findtext("SIZE") == "200"


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
    house = House()
    assert house.code("alice", "one.template.instantiate", 0, "", True, extra, False) == code
    assert house.document("alice", "one.image.info", 0, False).findtext("RUNNING_VMS") == "0"


@pytest.mark.parametrize(("action", "code"), [("suspend", 0), ("poweroff", 0), ("stop", 8192), ("undeploy", 8192)])
def test_a_disk_is_saved_of_a_machine_that_runs_is_off_or_suspended(action: str, code: int) -> None:
    house = House()
    machine = house.running()
    house.call("alice", "one.vm.action", action, machine)
    house.wait()
    assert house.code("alice", "one.vm.disksaveas", machine, 0, "mine", "", -1) == code


def test_an_image_is_copied_into_an_image_datastore_only() -> None:
    house = House()
    assert house.code("alice", "one.image.clone", 0, "copy", 0) == WRONG_STATE


def test_snapshots_of_a_disk_are_made_listed_and_removed() -> None:
    house = House()
    machine = house.running()
    assert house.call("alice", "one.vm.disksnapshotcreate", machine, 0, "first") == 0
    house.wait()
    assert house.vm(machine).findtext("SNAPSHOTS/SNAPSHOT/NAME") == "first"
    assert house.code("alice", "one.vm.disksnapshotrevert", machine, 0, 0) == WRONG_STATE
    house.call("alice", "one.vm.disksnapshotdelete", machine, 0, 0)
    house.wait()
    assert house.vm(machine).find("SNAPSHOTS/SNAPSHOT") is None


class TestAddresses:
    """Leases, holds, ranges."""

    def test_holding_is_atomic_and_releasing_nothing_is_no_error(self) -> None:
        house = House()
        lease = 'LEASES=[IP="203.0.113.10"]'
        codes = [house.code(None, "one.vn.hold", ELASTIC, lease) for _ in range(2)]
        assert codes == [0, INTERNAL]
        shown = house.document(None, "one.vn.info", ELASTIC, False)
        assert shown.findtext("AR_POOL/AR/LEASES/LEASE/VM") == "-1"
        codes = [house.code(None, "one.vn.release", ELASTIC, lease) for _ in range(2)]
        assert codes == [0, 0]
        assert house.code("alice", "one.vn.hold", ELASTIC, lease) == 512

    @pytest.mark.parametrize("address", ["198.51.100.9", "notanip", "", "203.0.113.99"])
    def test_only_addresses_of_the_network_can_be_held(self, address: str) -> None:
        assert House().code(None, "one.vn.hold", ELASTIC, f'LEASES=[IP="{address}"]') == INTERNAL

    def test_an_address_is_held_in_the_range_that_is_named(self) -> None:
        house = House()
        lease = 'LEASES=[IP="203.0.113.11",AR_ID="{}"]'
        assert house.code(None, "one.vn.hold", ELASTIC, lease.format(0)) == INTERNAL
        assert house.code(None, "one.vn.hold", ELASTIC, lease.format(1)) == 0
        assert house.code(None, "one.vn.release", ELASTIC, 'LEASES=[IP=""]') == INTERNAL

    def test_a_range_does_not_shrink_below_its_leases(self) -> None:
        house = House()
        house.running()
        house.running()
        assert house.code(None, "one.vn.update_ar", 0, 'AR=[AR_ID="0",SIZE="1"]') == INTERNAL
        assert house.code(None, "one.vn.update_ar", 0, 'AR=[AR_ID="0",SIZE="2"]') == 0

    def test_a_release_does_not_take_a_machines_address(self) -> None:
        house = House()
        house.running()
        house.call(None, "one.vn.release", 0, 'LEASES=[IP="10.0.0.10"]')
        assert house.document("alice", "one.vn.info", 0, False).findtext("AR_POOL/AR/LEASES/LEASE/VM") == "0"

    def test_updating_a_range_replaces_its_free_attributes(self) -> None:
        house = House()
        for text in ('AR=[AR_ID="0",A="1",B="2"]', 'AR=[AR_ID="0",C="3"]'):
            house.call(None, "one.vn.update_ar", ELASTIC, text)
        span = house.document(None, "one.vn.info", ELASTIC, False).find("AR_POOL/AR")
        assert span is not None
        assert (span.findtext("A"), span.findtext("B"), span.findtext("C")) == (None, None, "3")
        assert span.findtext("IP") == "203.0.113.10"

    def test_two_attributes_of_different_names_are_both_kept(self) -> None:
        house = House()
        for address in ("10", "11"):
            house.call(None, "one.vn.update", ELASTIC, f'EC2_ADDRESS_{address}=[IP="203.0.113.{address}"]', 1)
        found = house.document(None, "one.vn.info", ELASTIC, False).find("TEMPLATE")
        assert found is not None
        assert [e.tag for e in found if e.tag.startswith("EC2_")] == ["EC2_ADDRESS_10", "EC2_ADDRESS_11"]

    @pytest.mark.parametrize(("version", "address"), [("5.12", "10.0.0.10"), ("7.4", "10.0.0.11")])
    def test_5_12_gives_the_lowest_free_address_and_7_x_the_next(self, version: str, address: str) -> None:
        house = House(version)
        first = house.run(hold=True)
        house.call("alice", "one.vm.action", "terminate", first)
        assert house.vm(house.run(hold=True)).findtext("TEMPLATE/NIC/IP") == address

    def test_a_network_of_7_x_refuses_changes_until_it_is_ready(self) -> None:
        house = House()
        number = house.admin("one.vn.allocate", 'NAME="n" VN_MAD="dummy" AR=[IP="10.9.0.1",SIZE="2"]', 0)[1]
        assert house.code(None, "one.vn.hold", number, 'LEASES=[IP="10.9.0.1"]') == WRONG_STATE
        house.wait()
        assert house.code(None, "one.vn.hold", number, 'LEASES=[IP="10.9.0.1"]') == 0

    def test_plugging_a_nic_leases_an_address_and_unplugging_frees_it(self) -> None:
        house = House()
        machine = house.running()
        house.call("alice", "one.vm.attachnic", machine, 'NIC=[NETWORK_ID="0"]')
        house.wait()
        assert house.vm(machine).findtext("TEMPLATE/CONTEXT/ETH1_IP") == "10.0.0.11"
        house.call("alice", "one.vm.detachnic", machine, 1)
        house.wait()
        assert house.document("alice", "one.vn.info", 0, False).findtext("USED_LEASES") == "1"
        assert house.vm(machine).find("TEMPLATE/CONTEXT/ETH1_IP") is None


def test_a_security_group_in_use_cannot_be_removed() -> None:
    house = House()
    text = 'NAME="g" RULE=[PROTOCOL="TCP",RULE_TYPE="inbound",RANGE="22"]'
    group = house.call("alice", "one.secgroup.allocate", text)
    machine = house.run(f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group}"]', hold=True)
    assert house.vm(machine).findtext("TEMPLATE/NIC/SECURITY_GROUPS") == f"0,{group}"
    assert house.code("alice", "one.secgroup.delete", group) == WRONG_STATE
    house.call("alice", "one.vm.action", "terminate", machine)
    assert house.code("alice", "one.secgroup.delete", group) == 0


def test_another_users_security_group_cannot_be_used() -> None:
    house = House()
    group = house.call("alice", "one.secgroup.allocate", 'NAME="g" RULE=[PROTOCOL="ALL",RULE_TYPE="inbound"]')
    extra = f'NIC=[NETWORK_ID="0",SECURITY_GROUPS="{group}"]'
    assert house.code("bob", "one.template.instantiate", 0, "", True, extra, False) == 512
