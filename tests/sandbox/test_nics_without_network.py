"""NICs without a network are stored as sent (recorded on 5.12 and 7.4; hostile texts measured on 7.4)."""

from __future__ import annotations

import pytest
from lxml import etree

from tests.sandbox.demo_cloud import DemoCloud

NOT_ALLOCATED, WRONG_STATE = 16384, 2048
DISK = 'DISK=[IMAGE_ID="0"]'
TEXTS = ("10.0.0.99 } ; flush ruleset ; {", "--help $(id)", "10.0.0.99", "\u0661.2.3.4")


@pytest.fixture(params=["5.12", "7.4"])
def demo(request: pytest.FixtureRequest) -> DemoCloud:
    """The demo cloud in each version."""
    return DemoCloud(request.param)


def nics(demo: DemoCloud, vm_id: int) -> list[dict[str, str]]:
    """Return the members of each NIC of a machine."""
    return [members(nic) for nic in demo.vm(vm_id).findall("TEMPLATE/NIC")]


def members(vector: etree._Element) -> dict[str, str]:
    return {str(member.tag): member.text or "" for member in vector}


def context(demo: DemoCloud, vm_id: int) -> dict[str, str]:
    """Return the members of CONTEXT for the first NIC."""
    vector = demo.vm(vm_id).find("TEMPLATE/CONTEXT")
    assert vector is not None
    return {name: text for name, text in members(vector).items() if name.startswith("ETH0_")}


def test_a_nic_without_a_network_has_an_id_a_name_and_the_sent_attributes(demo: DemoCloud) -> None:
    vm_id = demo.create_machine(f'{DISK}\nNIC=[EC2_NOTE="no network"]', hold=True)
    assert nics(demo, vm_id) == [{"EC2_NOTE": "no network", "NAME": "NIC0", "NIC_ID": "0"}]
    assert set(context(demo, vm_id).values()) == {""}


def test_a_nic_without_a_network_has_empty_attributes_in_the_short_form(demo: DemoCloud) -> None:
    vm_id = demo.create_machine(f'{DISK}\nNIC=[EC2_NOTE="no network"]', hold=True)
    pool = etree.fromstring(str(demo.call("alice", "one.vmpool.info", -2, vm_id, vm_id, -1, "")))
    (nic,) = pool.findall("VM/TEMPLATE/NIC")
    assert members(nic) == {
        "MAC": "",
        "NETWORK": "",
        "NETWORK_ID": "",
        "NIC_ID": "0",
        "SECURITY_GROUPS": "",
    }


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("mode", ["", 'NETWORK_MODE="auto",'])
def test_the_ip_of_a_nic_without_a_network_is_any_text_that_was_sent(demo: DemoCloud, text: str, mode: str) -> None:
    nic = f'NIC=[{mode}IP="{text}"]'
    instantiated = demo.create_machine(f"{DISK}\n{nic}", hold=True)
    allocated = int(demo.call("alice", "one.vm.allocate", f'CPU="1"\nMEMORY="128"\n{DISK}\n{nic}', True))
    for vm_id in (instantiated, allocated):
        (stored,) = nics(demo, vm_id)
        assert stored["IP"] == text
        assert not {"NETWORK_ID", "MAC", "AR_ID"} & stored.keys()


def test_a_nic_with_an_automatic_network_keeps_the_sent_network_and_address(demo: DemoCloud) -> None:
    """Also NETWORK_ID and IP of another machine, without a lease, until deployment; measured on 5.12 and 7.4."""
    leased_ip = nics(demo, demo.create_machine(DISK, hold=True))[0]["IP"]
    nic = f'NIC=[NETWORK_MODE="auto",NETWORK_ID="0",IP="{leased_ip}"]'
    instantiated = demo.create_machine(f"{DISK}\n{nic}", hold=True)
    allocated = int(demo.call("alice", "one.vm.allocate", f'CPU="1"\nMEMORY="128"\n{DISK}\n{nic}', True))
    for vm_id in (instantiated, allocated):
        assert nics(demo, vm_id) == [
            {
                "CLUSTER_ID": "0",
                "IP": leased_ip,
                "NAME": "NIC0",
                "NETWORK_ID": "0",
                "NETWORK_MODE": "auto",
                "NIC_ID": "0",
            }
        ]
        leases = demo.document("oneadmin", "one.vn.info", 0, False).findall("AR_POOL/AR/LEASES/LEASE")
        assert str(vm_id) not in [lease.findtext("VM") for lease in leases]


def test_a_nic_with_an_automatic_network_gets_it_when_the_machine_is_deployed(demo: DemoCloud) -> None:
    vm_id = demo.create_machine(f'{DISK}\nNIC=[NETWORK_MODE="auto"]')
    assert nics(demo, vm_id) == [{"NAME": "NIC0", "NETWORK_MODE": "auto", "NIC_ID": "0"}]
    assert context(demo, vm_id) == {}
    demo.wait()
    (nic,) = nics(demo, vm_id)
    assert (nic["NETWORK_ID"], nic["NETWORK_MODE"]) == ("0", "auto")
    assert nic["IP"].startswith("10.0.0.")
    assert context(demo, vm_id)["ETH0_IP"] == nic["IP"]


def test_a_nic_with_an_automatic_network_gets_one_that_meets_its_requirements(demo: DemoCloud) -> None:
    vm_id = demo.run_machine(f'{DISK}\nNIC=[NETWORK_MODE="auto",SCHED_REQUIREMENTS="ID=1"]')
    assert nics(demo, vm_id)[0]["NETWORK_ID"] == "1"


def test_an_attached_nic_stays_without_a_network_and_can_be_detached(demo: DemoCloud) -> None:
    vm_id = demo.run_machine()
    for text in ('EC2_NOTE="no network"', 'NETWORK_MODE="auto"'):
        demo.call("alice", "one.vm.attachnic", vm_id, f"NIC=[{text}]")
        demo.wait()
    first, *others = nics(demo, vm_id)
    assert first["NETWORK_ID"] == "0"
    assert others == [
        {"EC2_NOTE": "no network", "NAME": "NIC1", "NIC_ID": "1"},
        {"NETWORK_MODE": "auto", "NAME": "NIC2", "NIC_ID": "2"},
    ]
    demo.call("alice", "one.vm.detachnic", vm_id, 1)
    demo.wait()
    assert [nic["NIC_ID"] for nic in nics(demo, vm_id)] == ["0", "2"]
    demo.call("alice", "one.vm.action", "terminate-hard", vm_id)
    demo.wait()
    assert demo.state(vm_id)[0] == 6


def test_a_network_that_does_not_exist_is_refused(demo: DemoCloud) -> None:
    assert demo.code("alice", "one.template.instantiate", 0, "", True, 'NIC=[NETWORK_ID="99"]', False) == NOT_ALLOCATED
    assert demo.code("alice", "one.template.instantiate", 0, "", True, 'NIC=[NETWORK="none"]', False) == NOT_ALLOCATED
    assert demo.code("alice", "one.vm.attachnic", demo.run_machine(), 'NIC=[NETWORK_ID="99"]') == WRONG_STATE
