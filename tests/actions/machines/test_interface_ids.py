"""The ids of network interfaces: each means one NIC, for as long as it exists."""

from __future__ import annotations

import pytest
from lxml import etree

from econed.actions.machines.interfaces import interface_id
from econed.opennebula.documents import Nic
from tests.support.cloud import Cloud


@pytest.fixture(params=["5.12", "7.4"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    return Cloud(version=request.param)


def instantiate(cloud: Cloud, *nics: str) -> int:
    """Instantiate the template with these NICs and return the id of the machine when it runs."""
    extra = "\n".join(f'NIC=[NETWORK_ID="0"{nic}]' for nic in nics)
    machine_id = cloud.as_user("alice", "one.template.instantiate", 0, "", False, extra, False)
    cloud.wait(10)
    assert isinstance(machine_id, int)
    return machine_id


def interface_ids(cloud: Cloud, machine_id: int) -> list[str]:
    """Return the ids of the interfaces of an instance, which those of the attachments agree with."""
    (reservation,) = cloud.run("alice", "DescribeInstances", InstanceIds=[f"i-{machine_id:08d}"])["Reservations"]
    interfaces = reservation["Instances"][0]["NetworkInterfaces"]
    for interface in interfaces:
        attachment = interface["Attachment"]["AttachmentId"]
        assert attachment == interface["NetworkInterfaceId"].replace("eni-", "eni-attach-")
    return [interface["NetworkInterfaceId"] for interface in interfaces]


def test_the_id_has_amazons_form_and_begins_with_the_machine(cloud: Cloud) -> None:
    machine_id = instantiate(cloud, "", "")
    ids = interface_ids(cloud, machine_id)
    assert len(set(ids)) == 2
    for text in ids:
        assert len(text) == len("eni-") + 17
        assert int(text[4:12], 16) == machine_id
    assert ids == interface_ids(cloud, machine_id)


@pytest.mark.parametrize("nic", ["", ',EC2_ENI="copied"'])
def test_interfaces_with_the_same_text_on_other_machines_have_other_ids(cloud: Cloud, nic: str) -> None:
    machines = [instantiate(cloud, nic, nic) for _ in range(2)]
    assert len({text for machine_id in machines for text in interface_ids(cloud, machine_id)}) == 4


def test_a_nic_that_gets_the_number_and_the_address_of_an_earlier_one_has_another_id() -> None:
    """Oned gives both again after a NIC was detached; the text that econed puts into a NIC makes the difference."""
    texts = ("one", "two", "")
    documents = [
        f"<NIC><NIC_ID>0</NIC_ID><MAC>02:00:0a:00:00:01</MAC><EC2_ENI>{text}</EC2_ENI></NIC>" for text in texts
    ]
    ids = [interface_id(7, Nic(etree.fromstring(document))) for document in documents]
    assert len(set(ids)) == len(texts)
    assert {text[:12] for text in ids} == {"eni-00000007"}
