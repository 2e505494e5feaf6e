"""Aliases of NICs in CONTEXT and at allocation (measured on 5.12 and 7.4; the rest is in the recordings)."""

from __future__ import annotations

import pytest

from tests.sandbox.demo_cloud import DemoCloud

NOT_ALLOCATED = 16384


@pytest.mark.parametrize("version", ["5.12", "7.4"])
def test_the_context_has_an_alias_as_long_as_it_is_attached(version: str) -> None:
    demo = DemoCloud(version)
    alias = 'NIC_ALIAS=[NETWORK_ID="0",PARENT="NIC0"]'
    vm_id = demo.run_machine(f'NIC=[NETWORK_ID="0"]\n{alias}')
    assert demo.vm(vm_id).findtext("TEMPLATE/CONTEXT/ETH0_ALIAS0_IP") == "10.0.0.11"
    demo.call("alice", "one.vm.attachnic", vm_id, alias)
    demo.wait()
    demo.call("alice", "one.vm.detachnic", vm_id, 1)
    demo.wait()
    template = demo.vm(vm_id).find("TEMPLATE")
    assert template is not None
    assert template.find("CONTEXT/ETH0_ALIAS0_IP") is None
    assert template.findtext("CONTEXT/ETH0_ALIAS1_IP") == "10.0.0.12"
    demo.call("alice", "one.vm.detachnic", vm_id, 2)
    demo.wait()
    nic = demo.vm(vm_id).find("TEMPLATE/NIC")
    assert nic is not None
    assert nic.findtext("ALIAS_IDS") == ""


@pytest.mark.parametrize(
    "nics",
    [
        'NIC_ALIAS=[NETWORK_ID="0",PARENT="NIC9"]',
        'NIC_ALIAS=[NETWORK_ID="0"]',
        'NIC_ALIAS=[NETWORK_MODE="auto",PARENT="NIC0"]',
        'NIC=[NETWORK_MODE="auto"]\nNIC_ALIAS=[NETWORK_ID="0",PARENT="NIC0"]',
    ],
)
def test_an_alias_needs_a_network_and_a_nic_that_has_one(nics: str) -> None:
    demo = DemoCloud()
    assert demo.code("alice", "one.template.instantiate", 0, "", True, nics, False) == NOT_ALLOCATED
    assert demo.document(None, "one.vn.info", 0, False).findtext("USED_LEASES") == "0"
