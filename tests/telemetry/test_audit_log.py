"""The lines of the audit log: who asked for what, on which resources, with which outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from econed.errors import OpenNebulaRefusal
from econed.telemetry.audit_log import AuditLog, CallAudit
from econed.user import Credential, CredentialKind, Sender
from tests.auth.support import ALICE

ID = "0b9ae2a4-3c34-4f8c-8a4e-9b4a6b5b8f0e"


class Audit:
    """An audit log in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        clock = Clock()
        clock.rightNow = 1795795200.25
        self.log = AuditLog(str(path), clock)

    def call(self, action: str = "TerminateInstances", *parameters: tuple[str, str], key: str = "alice") -> CallAudit:
        """Return the audit of a call of alice's."""
        audit = CallAudit(self.log, "10.0.0.7", ID)
        audit.begin(Sender(ALICE, Credential(CredentialKind.PASSWORD, key, "password:0")), action)
        audit.name(parameters)
        return audit

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The parsed lines."""
        return [json.loads(line) for line in self.path.read_text("ascii").splitlines()]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Return an empty audit log."""
    return Audit(tmp_path / "audit.log")


def test_the_line_of_a_change_has_who_what_where_and_the_outcome(audit: Audit) -> None:
    audit.call("TerminateInstances", ("InstanceId.1", "i-00000007"), ("InstanceId.2", "i-00000008")).succeeded(
        {"TerminatingInstances": [{"InstanceId": "i-00000007"}, {"InstanceId": "i-00000008"}]}
    )
    assert audit.lines == [
        {
            "time": "2026-11-27T16:00:00.250Z",
            "user": "alice",
            "user_id": 2,
            "key": "alice",
            "credential": "password",
            "role": "",
            "session_name": "",
            "source": "10.0.0.7",
            "action": "TerminateInstances",
            "outcome": "ok",
            "reason": "",
            "request_id": ID,
            "ids": ["i-00000007", "i-00000008"],
            "result_ids": [],
        }
    ]


@pytest.mark.parametrize("kind", CredentialKind)
def test_the_line_has_the_kind_of_credential_that_authenticated_the_request(audit: Audit, kind: CredentialKind) -> None:
    """So that an administrator sees what was done with tokens that are to end."""
    call = CallAudit(audit.log, "10.0.0.7", ID)
    call.begin(Sender(ALICE, Credential(kind, "alice", "")), "StopInstances")
    call.succeeded(None)
    assert audit.lines[0]["credential"] == kind.value


def test_the_result_adds_the_ids_of_what_was_created(audit: Audit) -> None:
    result = {
        "ReservationId": "r-00000003",
        "Instances": [{"InstanceId": "i-00000003", "ImageId": "ami-00000001", "PrivateIpAddress": "10.0.0.3"}],
    }
    audit.call("RunInstances", ("ImageId", "ami-00000001"), ("MinCount", "1")).succeeded(result)
    audit.call("AllocateAddress").succeeded({"PublicIp": "203.0.113.10", "Domain": "vpc"})
    audit.call("DeleteTags", ("ResourceId.1", "vol-00000004")).succeeded(None)
    assert [(line["ids"], line["result_ids"]) for line in audit.lines] == [
        (["ami-00000001"], ["r-00000003", "i-00000003"]),
        ([], ["203.0.113.10"]),
        (["vol-00000004"], []),
    ]


def test_no_other_parameter_is_in_the_line(audit: Audit) -> None:
    """Parameters hold passwords and keys; secret keys are sent in the place of ids by mistake."""
    secrets = ("IyEvYmluL3NoCg==hunter2", "0123456789abcdef" * 4, "i-like-secrets", "10.0.0.9")
    parameters = (
        ("UserData", secrets[0]),
        ("InstanceId.1", secrets[1]),
        ("InstanceId.2", secrets[2]),
        ("PrivateIpAddress", secrets[3]),
        ("KeyName", secrets[1]),
        ("KeyName.1", "laptop"),
        ("PublicIp", "203.0.113.10"),
    )
    audit.call("RunInstances", *parameters, key=secrets[1][:2]).succeeded({"KeyMaterial": secrets[0]})
    assert audit.lines[0]["ids"] == ["[redacted]", "laptop", "203.0.113.10"]
    assert not any(secret in audit.path.read_text("ascii") for secret in secrets)


def test_a_failure_has_ec2s_code_and_the_text_of_oned(audit: Audit) -> None:
    refusal = OpenNebulaRefusal("one.vm.action", 512, "Not authorized to perform MANAGE VM [7].")
    audit.call("StopInstances", ("InstanceId.1", "i-00000007")).failed("UnauthorizedOperation", refusal)
    audit.call("StopInstances").failed("MissingParameter", None)
    assert [(line["outcome"], line["reason"]) for line in audit.lines] == [
        ("UnauthorizedOperation", "one.vm.action: Not authorized to perform MANAGE VM [7]. (512)"),
        ("MissingParameter", ""),
    ]


def test_a_call_has_only_one_line(audit: Audit) -> None:
    """The response to a change may fail after the change was audited."""
    call = audit.call()
    call.succeeded(None)
    call.failed("InternalError", None)
    call.succeeded(None)
    assert [line["outcome"] for line in audit.lines] == ["ok"]


def test_a_sender_who_is_not_authenticated_is_audited_with_the_key_that_they_claim(audit: Audit) -> None:
    CallAudit(audit.log, "10.0.0.7", ID).not_authenticated("RunInstances", "bob", "AuthFailure", "wrong secret key")
    (line,) = audit.lines
    assert (line["user"], line["user_id"], line["key"]) == ("", None, "bob")
    assert (line["action"], line["outcome"], line["reason"]) == ("RunInstances", "AuthFailure", "wrong secret key")


def test_requests_without_a_key_are_not_audited(audit: Audit) -> None:
    """They are health checks and scans; the log has them."""
    call = CallAudit(audit.log, "10.0.0.7", ID)
    call.not_authenticated("", "", "AuthFailure", "the certificate cannot be parsed")
    call.failed("MissingAuthenticationToken", None)
    assert audit.lines == []


def test_strangers_cannot_write_long_lines_or_forge_one(audit: Audit) -> None:
    hostile = '"}\n{"user": "alice' + "\u202e\x00" * 9999
    CallAudit(audit.log, "10.0.0.7", ID).not_authenticated(hostile, hostile, "AuthFailure", "wrong secret key")
    (line,) = audit.path.read_text("ascii").splitlines()
    assert len(line) < 1500
    assert json.loads(line)["user"] == ""


def test_a_user_cannot_write_lines_as_long_as_their_requests(audit: Audit) -> None:
    names = [(f"KeyName.{number}", f"{number}" + "\0" * 1000) for number in range(1000)]
    ids = [("KeyPairId.1", "key-0123456789abcdef0")]
    audit.call("DescribeKeyPairs", *names, *ids).failed("InvalidParameterValue", None)
    assert len(audit.path.read_bytes()) < 40_000
    assert audit.lines[0]["ids"][-1] == ids[0][1]


def test_without_a_log_nothing_is_written() -> None:
    call = CallAudit(None, "10.0.0.7", ID)
    call.begin(Sender(ALICE, Credential(CredentialKind.PASSWORD, "alice", "password:0")), "StopInstances")
    call.name([("InstanceId.1", "i-00000001")])
    call.succeeded(None)
    call.failed("InternalError", None)
    call.not_authenticated("", "bob", "AuthFailure", "")


def test_a_renamed_file_is_replaced_on_reopen(audit: Audit) -> None:
    audit.call("StartInstances").succeeded(None)
    renamed = audit.path.rename(audit.path.with_suffix(".1"))
    audit.log.reopen()
    audit.call("StopInstances").succeeded(None)
    assert json.loads(renamed.read_text("ascii"))["action"] == "StartInstances"
    assert [line["action"] for line in audit.lines] == ["StopInstances"]


def test_a_file_that_cannot_be_opened_is_reported_and_its_lines_go_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The daemon keeps running; when the directory exists, the file says how many lines are missing."""
    audit = Audit(tmp_path / "absent/audit.log")
    audit.call("StopInstances").succeeded(None)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert lines[0]["audit_log"].startswith("the log cannot be opened: [Errno 2]")
    assert [line["action"] for line in lines if "action" in line] == ["StopInstances"]
    audit.path.parent.mkdir()
    audit.call("StartInstances").succeeded(None)
    assert [line.get("action", line.get("audit_log")) for line in audit.lines] == [
        "StartInstances",
        "the log can be written again; 2 events are not in it",
    ]


def test_who_has_assumed_a_role_is_recorded_by_the_name_of_the_session(audit: Audit) -> None:
    """When they get its credentials, and with each request that they sign with these."""
    arn = "arn:aws:sts::000000000002:assumed-role/web/nightly"
    audit.call("AssumeRole").succeeded({"AssumedRoleUser": {"AssumedRoleId": "AROA:nightly", "Arn": arn}})
    credential = Credential(CredentialKind.TEMPORARY, "ASIA", "key:AKIA", session_name="nightly", role="web")
    call = CallAudit(audit.log, "10.0.0.7", ID)
    call.begin(Sender(ALICE, credential), "StopInstances")
    call.succeeded({})
    assert [(line["role"], line["session_name"], line["result_ids"]) for line in audit.lines] == [
        ("", "", [arn]),
        ("web", "nightly", []),
    ]


def test_a_secret_key_as_the_name_of_a_session_is_not_recorded(audit: Audit) -> None:
    secret = "0123456789abcdef" * 4
    audit.call("AssumeRole").succeeded({"AssumedRoleUser": {"Arn": f"arn:aws:sts::2:assumed-role/web/{secret}"}})
    call = CallAudit(audit.log, "10.0.0.7", ID)
    credential = Credential(CredentialKind.TEMPORARY, "ASIA", "key:AKIA", session_name=secret, role="web")
    call.begin(Sender(ALICE, credential), "StopInstances")
    call.succeeded({})
    assert len(audit.lines) == 2
    assert secret[:32] not in audit.path.read_text("ascii")


def test_the_ids_of_access_keys_are_recorded_without_their_secrets(audit: Audit) -> None:
    """Also those of temporary credentials."""
    created = {"AccessKeyId": "AKIAABAAAAAAAAAAAAA7", "SecretAccessKey": "s" * 40, "UserName": "bob"}
    audit.call("CreateAccessKey", ("UserName", "bob")).succeeded({"AccessKey": created})
    audit.call("DeleteAccessKey", ("AccessKeyId", "AKIAABAAAAAAAAAAAAA7")).succeeded({})
    audit.call("GetSessionToken").succeeded(
        {"Credentials": {"AccessKeyId": "ASIAABAAAAAAAAAAAAA7", "SessionToken": "t"}}
    )
    ids = [(line["ids"], line["result_ids"]) for line in audit.lines]
    assert ids == [([], [created["AccessKeyId"]]), ([created["AccessKeyId"]], []), ([], ["ASIAABAAAAAAAAAAAAA7"])]
    assert "ssss" not in audit.path.read_text("ascii")
