"""No action changes a document of oned, which another request may be reading."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree
from zope.interface import implementer

from econed.actions.action import Action
from econed.catalogue import all_actions
from econed.interfaces import IOpenNebula
from econed.opennebula.unchanged_machines import MachineReply
from econed.user import Login
from tests.support.addresses import AddressCloud

LISTS = sorted((action for action in all_actions() if "Filters" in action.accepts.of), key=lambda action: action.name)


@implementer(IOpenNebula)
class RememberedDocuments:
    """oned, and the documents that it has returned: with their text at that time."""

    def __init__(self, oned: IOpenNebula) -> None:
        self._oned = oned
        self.documents: list[tuple[Any, bytes]] = []

    async def call(self, user: Login, method: str, *args: object) -> str | int | bool:
        """Make a call (`IOpenNebula.call`)."""
        return await self._oned.call(user, method, *args)

    async def document(self, user: Login, method: str, *args: object, **options: Any) -> Any:
        """Make a call (`IOpenNebula.document`)."""
        result = await self._oned.document(user, method, *args, **options)
        roots = [element for element, _ in result.others] if isinstance(result, MachineReply) else [result]
        self.documents += [(root, etree.tostring(root)) for root in roots]
        return result


@pytest.fixture(scope="module")
def cloud() -> AddressCloud:
    """A cloud in which alice has an instance with an elastic IP, a volume and a snapshot."""
    cloud = AddressCloud()
    cloud.associate()
    volume = cloud.run("alice", "CreateVolume", AvailabilityZone="default", Size=1)["VolumeId"]
    cloud.wait(5)
    cloud.run("alice", "CreateSnapshot", VolumeId=volume)
    cloud.run("alice", "CreateKeyPair", KeyName="laptop")
    cloud.run("alice", "CreateTags", Resources=[volume], Tags=[{"Key": "env", "Value": "test"}])
    cloud.wait(5)
    return cloud


@pytest.mark.parametrize("action", LISTS, ids=[action.name for action in LISTS])
def test_a_list_leaves_the_documents_that_it_reads_unchanged(cloud: AddressCloud, action: Action) -> None:
    backend, remembered = cloud.backend, RememberedDocuments(cloud.backend)
    cloud.backend = remembered
    try:
        cloud.run("alice", action.name)
    finally:
        cloud.backend = backend
    assert remembered.documents
    assert all(etree.tostring(root) == text for root, text in remembered.documents)


def test_an_action_that_changes_objects_leaves_the_documents_unchanged(cloud: AddressCloud) -> None:
    backend, remembered = cloud.backend, RememberedDocuments(cloud.backend)
    cloud.backend = remembered
    try:
        instance = cloud.run_instance()
        cloud.run("alice", "CreateTags", Resources=[instance], Tags=[{"Key": "env", "Value": "test"}])
        cloud.run("alice", "TerminateInstances", InstanceIds=[instance])
    finally:
        cloud.backend = backend
    assert remembered.documents
    assert all(etree.tostring(root) == text for root, text in remembered.documents)
