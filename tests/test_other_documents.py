"""A document whose root is not that of the method is an invalid reply, and has no other effect."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger
from zope.interface import implementer

from econed.actions.images.chores import ORPHAN_AGE, upload_chore
from econed.auth.users import USER_MAX_AGE, UserDirectory
from econed.catalogue import all_chores
from econed.cli import check, doctor
from econed.cli.installation import Exit
from econed.config.credentials import Credentials
from econed.config.settings import Settings
from econed.configtest import LoadedConfiguration
from econed.errors import InvalidReply
from econed.interfaces import IUploadedFiles
from econed.opennebula.methods import ROOTS
from econed.opennebula.session import Session
from econed.reconciler import Reconciler
from econed.sandbox.backend import SandboxBackend
from tests.support.addresses import AddressCloud
from tests.support.altered_documents import OtherDocuments
from tests.support.cloud import NOW, SEALING_KEYS, Cloud

SOURCES = Path(__file__).parent.parent / "econed"
RUN: dict[str, Any] = {"ImageId": "ami-00000000", "MinCount": 1, "MaxCount": 1}
LISTS = (
    *("DescribeInstances", "DescribeInstanceStatus", "DescribeImages", "DescribeVolumes", "DescribeVolumeStatus"),
    *("DescribeSnapshots", "DescribeAddresses", "DescribeKeyPairs", "DescribeTags", "DescribeRegions"),
    "DescribeAvailabilityZones",
)


def other(cloud: Cloud, *wrong: str, document: str = "<FOO/>") -> None:
    """Make oned reply to these methods, or to all, with another document from now on."""
    cloud.backend = SandboxBackend(OtherDocuments(cloud.oned, wrong or ROOTS, document))  # type: ignore[arg-type]


def test_the_table_has_every_method_that_returns_a_document_to_econed() -> None:
    text = "".join(
        path.read_text("utf-8")
        for path in SOURCES.rglob("*.py")
        if "sandbox" not in path.parts and "cli" not in path.parts
    )
    methods = set(re.findall(r'"(one\.\w+\.(?:info\w*|accounting|monitoring|raftstatus))"', text))
    assert len(methods) > 15
    assert methods <= ROOTS.keys()


@pytest.mark.parametrize("action", LISTS)
def test_a_list_with_another_root_is_an_error_and_not_empty(action: str) -> None:
    cloud = AddressCloud()
    cloud.cached_users["alice"] = cloud.user("alice")
    other(cloud)
    refused = cloud.refusal("alice", action)
    assert (refused.code, refused.status) == ("InternalError", 500)


def test_a_launch_that_cannot_look_up_its_client_token_creates_no_machine() -> None:
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **RUN, ClientToken="once")
    other(cloud, "one.vmpool.infoextended", document="<VMPOOL/>")
    before = len(cloud.changes)
    assert cloud.refusal("alice", "RunInstances", **RUN, ClientToken="once").status == 500
    assert "one.template.instantiate" not in [call.method for call in cloud.changes[before:]]


def test_no_chore_makes_a_change_after_a_document_with_another_root() -> None:
    cloud = Cloud()
    cloud.run("alice", "RunInstances", **RUN, InstanceInitiatedShutdownBehavior="terminate")
    cloud.wait(10)
    cloud.oned.shut_down_inside(0)
    cloud.wait(10)
    cloud.clock.advance(10 * ORPHAN_AGE)
    before = len(cloud.changes)
    other(cloud, *(method for method in ROOTS if method != "one.userpool.info"))
    cloud.result(Reconciler(cloud.backend, cloud.clock, all_chores(), Logger("test")).round())
    assert cloud.changes[before:] == []


@implementer(IUploadedFiles)
class Files:
    """Uploads with one old file of each user."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    async def complete_files(self, owner: int | None) -> list[tuple[str, float]]:
        """Return the file (`IUploadedFiles`)."""
        return [("/var/tmp/econed/upload", 0.0)]

    async def remove(self, path: str) -> None:
        """Record the path (`IUploadedFiles`)."""
        self.removed.append(path)

    async def is_receiving(self, owner: int) -> bool:
        """Return False (`IUploadedFiles`)."""
        return False

    async def remove_abandoned(self, before: float) -> list[str]:
        """Return no files (`IUploadedFiles`)."""
        return []


def test_no_uploaded_file_is_removed_after_a_document_with_another_root() -> None:
    cloud, files = Cloud(), Files()
    cloud.run("alice", "RunInstances", **RUN, InstanceInitiatedShutdownBehavior="terminate")
    other(cloud, "one.imagepool.info")
    cloud.result(Reconciler(cloud.backend, cloud.clock, [upload_chore(files)], Logger("test")).round())
    assert files.removed == []


@pytest.mark.parametrize(
    "document", ["<FOO/>", "<GROUP_POOL/>", "<GROUP_POOL><FOO/></GROUP_POOL>", "<GROUP_POOL><GROUP/></GROUP_POOL>"]
)
def test_users_stay_cached_after_a_document_with_another_root(document: str) -> None:
    """They stay cached as long as without a reply; afterwards the error is about oned and not the signature."""
    cloud = Cloud()
    directory = UserDirectory(cloud.backend, cloud.clock, log=Logger(namespace="econed"))
    cloud.result(directory.refresh("alice"))
    alice = directory.cached("alice")
    assert alice is not None
    broken = OtherDocuments(cloud.oned, {"one.grouppool.info", "one.userpool.info", "one.user.info"}, document)
    directory._session = Session(SandboxBackend(broken), None)  # type: ignore[arg-type]
    with pytest.raises(InvalidReply):
        cloud.result(_after(cloud, 2.5, directory.refresh("nobody")))
    assert cloud.result(directory.confirm(alice)) == alice
    cloud.clock.advance(USER_MAX_AGE)
    with pytest.raises(InvalidReply):
        cloud.result(directory.confirm(alice))
    assert directory.cached("alice") == alice


@pytest.mark.parametrize("document", ["<FOO/>", "<USER_POOL/>", "<USER_POOL><FOO/></USER_POOL>"])
def test_a_user_pool_with_another_root_is_an_error_and_not_empty(document: str) -> None:
    cloud = Cloud()
    broken = OtherDocuments(cloud.oned, {"one.userpool.info"}, document)
    directory = UserDirectory(SandboxBackend(broken), cloud.clock, log=Logger(namespace="econed"))  # type: ignore[arg-type]
    with pytest.raises(InvalidReply):
        cloud.result(directory.refresh("alice"))


async def _after(cloud: Cloud, seconds: float, work: Any) -> Any:
    cloud.clock.advance(seconds)
    return await work


def test_a_document_with_another_root_is_not_passed_to_a_script() -> None:
    cloud = AddressCloud()
    instance, ip = cloud.run_instance(), cloud.allocate()
    store = Session(SandboxBackend(OtherDocuments(cloud.oned)), None)  # type: ignore[arg-type]
    with pytest.raises(InvalidReply):
        cloud.result(store.network_text(cloud.network))
    assert cloud.run("alice", "AssociateAddress", PublicIp=ip, InstanceId=instance)


@pytest.mark.parametrize("tool", ["check", "doctor"])
def test_check_and_doctor_report_a_document_with_another_root_as_an_error(tool: str) -> None:
    cloud, out = Cloud(), io.StringIO()
    other(cloud)
    ready = LoadedConfiguration(Settings(), Credentials("serveradmin", "serverpassword"), SEALING_KEYS, None, ())
    if tool == "check":
        exit_code = cloud.result(check.run(cloud.backend, ready, (), out, now=NOW))
    else:
        exit_code = cloud.result(doctor.run(cloud.backend, Settings(), cloud.clock, True, out))
    assert exit_code == Exit.NO_REPLY
    assert "root 'FOO'" in out.getvalue()
    assert cloud.changes == []
