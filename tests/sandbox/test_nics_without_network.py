"""NICs on no network are kept as they were typed (recorded on 5.12 and 7.4; the hostile texts tried on 7.4)."""

from __future__ import annotations

import pytest
from lxml import etree

from tests.sandbox.demo_cloud import DemoCloud

NOT_ALLOCATED, WRONG_STATE = 16384, 2048
DISK = 'DISK=[IMAGE_ID="0"]'
TEXTS = ("10.0.0.99 } ; flush ruleset ; {", "--help $(id)", "10.0.0.99", "\u0661.2.3.4")


@pytest.fixture(params=["5.12", "7.4"])
def demo(request: pytest.FixtureRequest) -> DemoCloud:
    """The demo cloud on each version."""
    return DemoCloud(request.param)


def nics(demo: DemoCloud, machine: int) -> list[dict[str, str]]:
    """Return the NICs of a machine."""
    found = demo.vm(machine).findall("TEMPLATE/NIC")
    return [{str(each.tag): each.text or "" for each in nic} for nic in found]


def context(demo: DemoCloud, machine: int) -> dict[str, str]:
    """Return what CONTEXT says of the first NIC."""
    found = demo.vm(machine).find("TEMPLATE/CONTEXT")
    assert found is not None
    return {str(each.tag): each.text or "" for each in found if str(each.tag).startswith("ETH0_")}


def test_a_nic_that_names_no_network_has_a_number_a_name_and_what_was_typed(demo: DemoCloud) -> None:
    machine = demo.run(f'{DISK}\nNIC=[EC2_NOTE="no network"]', hold=True)
    assert nics(demo, machine) == [{"EC2_NOTE": "no network", "NAME": "NIC0", "NIC_ID": "0"}]
    assert set(context(demo, machine).values()) == {""}


def test_the_short_form_of_the_pool_shows_it_without_a_network(demo: DemoCloud) -> None:
    machine = demo.run(f'{DISK}\nNIC=[EC2_NOTE="no network"]', hold=True)
    pool = etree.fromstring(str(demo.call("alice", "one.vmpool.info", -2, machine, machine, -1, "")))
    (nic,) = pool.findall("VM/TEMPLATE/NIC")
    assert {str(each.tag): each.text or "" for each in nic} == {
        "MAC": "",
        "NETWORK": "",
        "NETWORK_ID": "",
        "NIC_ID": "0",
        "SECURITY_GROUPS": "",
    }


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("mode", ["", 'NETWORK_MODE="auto",'])
def test_its_ip_is_whatever_was_typed_by_instantiate_and_by_allocate(demo: DemoCloud, text: str, mode: str) -> None:
    nic = f'NIC=[{mode}IP="{text}"]'
    made = demo.run(f"{DISK}\n{nic}", hold=True)
    allocated = int(demo.call("alice", "one.vm.allocate", f'CPU="1"\nMEMORY="128"\n{DISK}\n{nic}', True))
    for machine in (made, allocated):
        (found,) = nics(demo, machine)
        assert found["IP"] == text
        assert not {"NETWORK_ID", "MAC", "AR_ID"} & found.keys()


def test_one_that_leaves_its_network_to_the_scheduler_keeps_what_was_typed_of_a_network_too(demo: DemoCloud) -> None:
    """NETWORK_ID and IP of another machine, without a lease, until it is placed; measured on 5.12 and 7.4."""
    taken = nics(demo, demo.run(DISK, hold=True))[0]["IP"]
    typed = f'NIC=[NETWORK_MODE="auto",NETWORK_ID="0",IP="{taken}"]'
    made = demo.run(f"{DISK}\n{typed}", hold=True)
    allocated = int(demo.call("alice", "one.vm.allocate", f'CPU="1"\nMEMORY="128"\n{DISK}\n{typed}', True))
    for machine in (made, allocated):
        assert nics(demo, machine) == [
            {
                "CLUSTER_ID": "0",
                "IP": taken,
                "NAME": "NIC0",
                "NETWORK_ID": "0",
                "NETWORK_MODE": "auto",
                "NIC_ID": "0",
            }
        ]
        leases = demo.document("oneadmin", "one.vn.info", 0, False).findall("AR_POOL/AR/LEASES/LEASE")
        assert str(machine) not in [each.findtext("VM") for each in leases]


def test_one_that_leaves_its_network_to_the_scheduler_gets_it_when_the_machine_is_placed(demo: DemoCloud) -> None:
    machine = demo.run(f'{DISK}\nNIC=[NETWORK_MODE="auto"]')
    assert nics(demo, machine) == [{"NAME": "NIC0", "NETWORK_MODE": "auto", "NIC_ID": "0"}]
    assert context(demo, machine) == {}
    demo.wait()
    (found,) = nics(demo, machine)
    assert (found["NETWORK_ID"], found["NETWORK_MODE"]) == ("0", "auto")
    assert found["IP"].startswith("10.0.0.")
    assert context(demo, machine)["ETH0_IP"] == found["IP"]


def test_it_is_on_a_network_that_it_asks_for(demo: DemoCloud) -> None:
    machine = demo.running(f'{DISK}\nNIC=[NETWORK_MODE="auto",SCHED_REQUIREMENTS="ID=1"]')
    assert nics(demo, machine)[0]["NETWORK_ID"] == "1"


def test_plugged_in_it_stays_without_a_network_and_can_be_plugged_out(demo: DemoCloud) -> None:
    machine = demo.running()
    for text in ('EC2_NOTE="no network"', 'NETWORK_MODE="auto"'):
        demo.call("alice", "one.vm.attachnic", machine, f"NIC=[{text}]")
        demo.wait()
    first, *others = nics(demo, machine)
    assert first["NETWORK_ID"] == "0"
    assert others == [
        {"EC2_NOTE": "no network", "NAME": "NIC1", "NIC_ID": "1"},
        {"NETWORK_MODE": "auto", "NAME": "NIC2", "NIC_ID": "2"},
    ]
    demo.call("alice", "one.vm.detachnic", machine, 1)
    demo.wait()
    assert [each["NIC_ID"] for each in nics(demo, machine)] == ["0", "2"]
    demo.call("alice", "one.vm.action", "terminate-hard", machine)
    demo.wait()
    assert demo.state(machine)[0] == 6


def test_a_network_that_does_not_exist_is_refused_as_before(demo: DemoCloud) -> None:
    assert demo.code("alice", "one.template.instantiate", 0, "", True, 'NIC=[NETWORK_ID="99"]', False) == NOT_ALLOCATED
    assert demo.code("alice", "one.template.instantiate", 0, "", True, 'NIC=[NETWORK="none"]', False) == NOT_ALLOCATED
    assert demo.code("alice", "one.vm.attachnic", demo.running(), 'NIC=[NETWORK_ID="99"]') == WRONG_STATE
