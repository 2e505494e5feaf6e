"""Even at the highest level the log contains no secret key, signature, user data or private key."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from econed.opennebula.tokens import CipherForm, PasswordKey, session_token
from tests.support.clients import EC2Response, boto, exchange, send, upload_form, v2_form
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.processes import until
from tests.support.sought_secrets import Secrets

USER_DATA = "#!/bin/sh\necho hunter2-in-the-user-data > /etc/password-of-the-machine\n"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJaTttRaXbZqQ+XP0KMNAglZTHmWCYi/rPR7zO6tHUQ5 alice"
FILE = b"x-contents-of-a-disk-77-" * 20


@dataclass
class Scenario:
    """An econed with the most verbose log, and the secrets that its clients have sent."""

    cloud: FurnishedCloud
    econed: Econed
    secrets: Secrets
    failing: Path

    @property
    def alice(self) -> Person:
        """A user."""
        return self.cloud.alice

    @cached_property
    def by_token(self) -> Person:
        """The same user with a login token as the secret key."""
        token = self.alice.oned("one.user.login", self.alice.name, "", 3600, -1)
        return replace(self.alice, secret=str(token))

    @property
    def log(self) -> str:
        """The whole output of the process."""
        return self.econed.process.text

    def client(self, person: Person | None = None) -> Any:
        """Return a boto3 client whose signatures are recorded."""
        client = boto(person or self.alice, self.econed.url)
        client.meta.events.register("before-send.ec2", self._record_signature)
        return client

    def get(self, query: str) -> EC2Response:
        """Send a query, and record the signature in it."""
        self.secrets.add("signature in a query", *parse_qs(query).get("Signature", ()))
        return send(self.econed.url, "GET", query)

    def _record_signature(self, request: Any, **_: Any) -> None:
        authorization = request.headers["Authorization"]
        header = authorization.decode() if isinstance(authorization, bytes) else authorization
        self.secrets.add("Authorization header", header.partition(f"{self.alice.name}/")[2])
        self.secrets.add("signature in a header", header.rpartition("Signature=")[2])


@pytest.fixture(scope="module", params=["text", "json"])
def scenario(
    request: pytest.FixtureRequest, cloud: FurnishedCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scenario]:
    """An econed with the most verbose log, after calls of all kinds."""
    failing = tmp_path_factory.mktemp("failing") / "message"
    econed = cloud.econed(settings={"debug_level": 3, "log_format": request.param}, interval=1.0, fails_with=failing)
    new_scenario = Scenario(cloud, econed, Secrets(), failing)
    credentials = cloud.auth_file.read_text("ascii").strip()
    server, _, password = credentials.partition(":")
    new_scenario.secrets.add("serveradmin's password", password)
    new_scenario.secrets.add("secret key", cloud.alice.secret, cloud.bob.secret)
    new_scenario.secrets.add("login token", new_scenario.by_token.secret)
    _tokens(new_scenario, server, password)
    _make_calls(new_scenario)
    _tokens(new_scenario, server, password)
    yield new_scenario
    econed.process.stop()


def _tokens(scenario: Scenario, server: str, password: str) -> None:
    """Record the current session tokens, which are the same for half an hour."""
    for name in (None, scenario.alice.name, scenario.cloud.bob.name):
        for form in CipherForm:
            token = session_token(server, PasswordKey(password), name, time.time(), form)
            scenario.secrets.add("session token", token.rpartition(":")[2])


def _make_calls(scenario: Scenario) -> None:
    """Make valid and invalid calls of all kinds."""
    _right(scenario)
    _wrong(scenario)
    _raise_unexpectedly(scenario)


def _right(scenario: Scenario) -> None:
    ec2, name = scenario.client(), f"key-{scenario.cloud.prefix}-{scenario.econed.port}"
    key_pair = ec2.create_key_pair(KeyName=name)
    for line in key_pair["KeyMaterial"].splitlines():
        scenario.secrets.add("private key", line)
    ec2.import_key_pair(KeyName=f"{name}-2", PublicKeyMaterial=PUBLIC_KEY.encode())
    scenario.secrets.add("user data", USER_DATA, base64.b64encode(USER_DATA.encode()).decode())
    launched = ec2.run_instances(
        ImageId=f"ami-{scenario.cloud.ami:08d}",
        InstanceType=scenario.cloud.instance_type,
        MinCount=1,
        MaxCount=1,
        KeyName=name,
        UserData=USER_DATA,
    )
    instance = launched["Instances"][0]["InstanceId"]
    ec2.describe_instances(InstanceIds=[instance])
    ec2.terminate_instances(InstanceIds=[instance])
    ec2.delete_key_pair(KeyName=name)
    address = ec2.allocate_address()["PublicIp"]
    ec2.release_address(PublicIp=address)
    scenario.client(scenario.by_token).describe_instances()
    url = ec2.generate_presigned_url("describe_images", HttpMethod="GET")
    scenario.secrets.add("signature of a URL", parse_qs(urlsplit(url).query)["X-Amz-Signature"][0])
    with urlopen(url, timeout=MAX_WAIT) as response:
        assert response.status == 200
    assert scenario.get(v2_form(scenario.alice, scenario.econed.url, {"Action": "DescribeKeyPairs"})).status == 200
    content_type, body = upload_form(scenario.alice, scenario.econed.url, FILE)
    signature = body.partition(b'name="Signature"\r\n\r\n')[2].partition(b"\r\n")[0].decode()
    scenario.secrets.add("signature in a form", signature)
    scenario.secrets.add("uploaded file", FILE.decode())
    assert send(scenario.econed.url, "POST", body, {"Content-Type": content_type}).status == 200


def _wrong(scenario: Scenario) -> None:
    url = scenario.econed.url
    stranger = Person(
        scenario.alice.name, scenario.alice.id, "a-secret-that-is-not-alices-but-anothers", scenario.alice.oned
    )
    scenario.secrets.add("another's secret", stranger.secret)
    for client in (scenario.client(stranger),):
        with pytest.raises(ClientError):
            client.describe_instances()
    assert scenario.get(v2_form(stranger, url, {"Action": "DescribeInstances"})).status == 401
    assert scenario.get(v2_form(scenario.alice, url, {"Action": "NoSuchAction"})).status == 400
    twice = v2_form(scenario.alice, url, {"Action": "DescribeInstances"})
    assert scenario.get(f"{twice}&Signature=another").status == 400
    bad_data = {"Action": "RunInstances", "ImageId": "ami-00000001", "MinCount": "1", "MaxCount": "1"}
    assert scenario.get(v2_form(scenario.alice, url, {**bad_data, "UserData": USER_DATA})).status == 400
    swapped = Person(scenario.alice.secret, scenario.alice.id, scenario.alice.name, scenario.alice.oned)
    assert scenario.get(v2_form(swapped, url, {"Action": "DescribeInstances"})).status in (401, 403)
    swapped = replace(swapped, name=scenario.by_token.secret)
    assert scenario.get(v2_form(swapped, url, {"Action": "DescribeInstances"})).status in (401, 403)
    as_id = {"Action": "DescribeInstances", "InstanceId.1": scenario.alice.secret}
    assert scenario.get(v2_form(scenario.alice, url, as_id)).status == 400
    good = v2_form(scenario.alice, url, {"Action": "DescribeInstances"})
    scenario.secrets.add("signature in a query", *parse_qs(good)["Signature"])
    host = urlsplit(url).netloc.encode()
    for raw in (
        b"GET /?" + good.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\nNo colon\r\n\r\n",
        b"BREW /?" + good.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: text/xml\r\nContent-Length: 9\r\n\r\n" + b"<bad xml>",
        b"GET /?" + good.encode() + b"%zz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
    ):
        with contextlib.suppress(OSError, http.client.HTTPException):
            exchange(scenario.econed.port, raw)


def _raise_unexpectedly(scenario: Scenario) -> None:
    """Make econed raise an unexpected exception whose message contains all the secrets."""
    scenario.failing.write_text("\n".join(scenario.secrets.by_description.values()), "utf-8")
    with pytest.raises(ClientError) as failed:
        scenario.client().describe_images()
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    until(lambda: "reconciling failed" in scenario.log, "the reconciler to fail too", MAX_WAIT)
    scenario.failing.unlink()
    scenario.client().describe_images()


def test_no_secret_is_in_the_log(scenario: Scenario) -> None:
    """Nor is any part of a secret, in any encoding."""
    assert len(scenario.secrets.by_description) > 60
    assert scenario.secrets.seen_in(scenario.log) == []


def test_the_log_has_the_lines_of_the_calls_and_of_the_exception(scenario: Scenario) -> None:
    """The absence of secrets would prove nothing in an empty log."""
    for text in (
        "CreateKeyPair",
        "ImportKeyPair",
        "RunInstances",
        "UploadImage",
        "NoSuchAction",
        "AuthFailure",
        "InternalError",
        "one.vm.allocate" if "one.vm.allocate" in scenario.log else "one.template.instantiate",
        "one.userpool.info",
        "reconciling failed",
        "Traceback (most recent call last):",
        "its message is not shown",
        "elements_read.tac",
        scenario.alice.name,
    ):
        assert text in scenario.log, text


@pytest.mark.parametrize(
    "description", ["secret key", "login token", "user data", "signature in a query", "session token", "private key"]
)
def test_a_line_with_a_secret_would_be_found(scenario: Scenario, description: str) -> None:
    """The search finds a secret in a line of the log, in a truncated line, and in JSON."""
    secret = next(
        secret
        for name, secret in scenario.secrets.by_description.items()
        if name.startswith(description) and len(secret) > 30
    )
    for line in (f"[econed#info] it is {secret}\n", f"[econed#info] {secret[:26]}…\n", json.dumps({"x": secret})):
        assert scenario.secrets.seen_in(scenario.log + line) != []


def test_every_line_has_the_configured_format(scenario: Scenario) -> None:
    """This includes lines of Twisted and of tracebacks."""
    lines = scenario.log.splitlines()
    if lines[0].startswith("{"):
        records = [json.loads(line) for line in lines]
        assert all({"time", "level", "logger", "message", "pid"} <= record.keys() for record in records)
        requests = [record for record in records if "oned_calls" in record]
        (launch,) = [
            request for request in requests if request["action"] == "RunInstances" and request["status"] == 200
        ]
        assert launch["user"] == scenario.alice.name
        assert launch["source"] == "127.0.0.1"
        assert launch["oned_calls"] > 3
        calls = [record for record in records if record["logger"] == "econed" and record.get("outcome")]
        assert sum(call["request_id"] == launch["request_id"] for call in calls) == launch["oned_calls"]
    else:
        assert all(line.startswith(("20", "\t")) for line in lines)
        assert any(" by " + scenario.alice.name + " from 127.0.0.1: 200 ok, " in line for line in lines)
