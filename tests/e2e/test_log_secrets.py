"""At the highest level the log shows no secret, no signature, no user data and no private key, whatever is asked."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from econed.opennebula.tokens import CipherForm, PasswordKey, session_token
from tests.support.clients import EC2Response, boto, exchange, send, upload_form, v2_form
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import PATIENCE, FurnishedCloud
from tests.support.processes import until

USER_DATA = "#!/bin/sh\necho hunter2-in-the-user-data > /etc/password-of-the-machine\n"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJaTttRaXbZqQ+XP0KMNAglZTHmWCYi/rPR7zO6tHUQ5 alice"
FILE = b"x-contents-of-a-disk-77-" * 20
LONGEST_SHOWN = 12
"""Characters of a secret of which no more than these may appear in a row."""


@dataclass
class Told:
    """What may be in no log, by what it is."""

    secrets: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, *values: str) -> None:
        """Take note of something, in all the ways in which it may be written."""
        for value in values:
            for form in {value, quote(value), unquote(value), json.dumps(value)[1:-1], repr(value)[1:-1]}:
                self.secrets[f"{what} ({len(self.secrets)})"] = form

    def seen_in(self, text: str) -> list[str]:
        """Return what of it is in a text, in part at least."""
        return [what for what, secret in self.secrets.items() if _parts(secret) and _is_in(secret, text)]


def _parts(secret: str) -> Iterable[str]:
    """Yield the pieces of a secret that are long enough not to be there by chance."""
    for start in range(0, len(secret) - LONGEST_SHOWN + 1, LONGEST_SHOWN):
        yield secret[start : start + LONGEST_SHOWN]


def _is_in(secret: str, text: str) -> bool:
    return any(part in text for part in _parts(secret))


@dataclass
class Scene:
    """An econed that says all it can, and what its clients have told it."""

    cloud: FurnishedCloud
    econed: Econed
    told: Told
    failing: Path

    @property
    def alice(self) -> Person:
        """A user."""
        return self.cloud.alice

    @property
    def log(self) -> str:
        """Everything that the process has written."""
        return self.econed.process.text

    def client(self, person: Person | None = None) -> Any:
        """Return a boto3 client whose signatures are noted."""
        client = boto(person or self.alice, self.econed.url)
        client.meta.events.register("before-send.ec2", self._sent)
        return client

    def get(self, query: str) -> EC2Response:
        """Send a query, and take note of the signature in it."""
        self.told.add("signature in a query", *parse_qs(query).get("Signature", ()))
        return send(self.econed.url, "GET", query)

    def _sent(self, request: Any, **_: Any) -> None:
        authorization = request.headers["Authorization"]
        header = authorization.decode() if isinstance(authorization, bytes) else authorization
        self.told.add("Authorization header", header.partition(f"{self.alice.name}/")[2])
        self.told.add("signature in a header", header.rpartition("Signature=")[2])


@pytest.fixture(scope="module", params=["text", "json"])
def scene(
    request: pytest.FixtureRequest, cloud: FurnishedCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """An econed at the highest level, asked for all kinds of things in all kinds of ways."""
    failing = tmp_path_factory.mktemp("failing") / "message"
    econed = cloud.econed(settings={"debug_level": 3, "log_format": request.param}, interval=1.0, fails_with=failing)
    made = Scene(cloud, econed, Told(), failing)
    credentials = cloud.auth_file.read_text("ascii").strip()
    server, _, password = credentials.partition(":")
    made.told.add("serveradmin's password", password)
    made.told.add("secret key", cloud.alice.secret, cloud.bob.secret)
    _tokens(made, server, password)
    _play(made)
    _tokens(made, server, password)
    yield made
    econed.process.stop()


def _tokens(scene: Scene, server: str, password: str) -> None:
    """Take note of the session tokens of now: they are the same for half an hour."""
    for name in (None, scene.alice.name, scene.cloud.bob.name):
        for form in CipherForm:
            token = session_token(server, PasswordKey(password), name, time.time(), form)
            scene.told.add("session token", token.rpartition(":")[2])


def _play(scene: Scene) -> None:
    """Do what clients do, right and wrong."""
    _right(scene)
    _wrong(scene)
    _unforeseen(scene)


def _right(scene: Scene) -> None:
    ec2, name = scene.client(), f"key-{scene.cloud.prefix}-{scene.econed.port}"
    made = ec2.create_key_pair(KeyName=name)
    for line in made["KeyMaterial"].splitlines():
        scene.told.add("private key", line)
    ec2.import_key_pair(KeyName=f"{name}-2", PublicKeyMaterial=PUBLIC_KEY.encode())
    scene.told.add("user data", USER_DATA, base64.b64encode(USER_DATA.encode()).decode())
    launched = ec2.run_instances(
        ImageId=f"ami-{scene.cloud.ami:08d}",
        InstanceType=scene.cloud.instance_type,
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
    url = ec2.generate_presigned_url("describe_images", HttpMethod="GET")
    scene.told.add("signature of a URL", parse_qs(urlsplit(url).query)["X-Amz-Signature"][0])
    with urlopen(url, timeout=PATIENCE) as answer:
        assert answer.status == 200
    assert scene.get(v2_form(scene.alice, scene.econed.url, {"Action": "DescribeKeyPairs"})).status == 200
    content_type, body = upload_form(scene.alice, scene.econed.url, FILE)
    signature = body.partition(b'name="Signature"\r\n\r\n')[2].partition(b"\r\n")[0].decode()
    scene.told.add("signature in a form", signature)
    scene.told.add("uploaded file", FILE.decode())
    assert send(scene.econed.url, "POST", body, {"Content-Type": content_type}).status == 200


def _wrong(scene: Scene) -> None:
    url = scene.econed.url
    stranger = Person(scene.alice.name, scene.alice.id, "a-secret-that-is-not-his-but-somebodys", scene.alice.oned)
    scene.told.add("another's secret", stranger.secret)
    for client in (scene.client(stranger),):
        with pytest.raises(ClientError):
            client.describe_instances()
    assert scene.get(v2_form(stranger, url, {"Action": "DescribeInstances"})).status == 401
    assert scene.get(v2_form(scene.alice, url, {"Action": "NoSuchAction"})).status == 400
    twice = v2_form(scene.alice, url, {"Action": "DescribeInstances"})
    assert scene.get(f"{twice}&Signature=another").status == 400
    bad_data = {"Action": "RunInstances", "ImageId": "ami-00000001", "MinCount": "1", "MaxCount": "1"}
    assert scene.get(v2_form(scene.alice, url, {**bad_data, "UserData": USER_DATA})).status == 400
    swapped = Person(scene.alice.secret, scene.alice.id, scene.alice.name, scene.alice.oned)
    assert scene.get(v2_form(swapped, url, {"Action": "DescribeInstances"})).status in (401, 403)
    as_id = {"Action": "DescribeInstances", "InstanceId.1": scene.alice.secret}
    assert scene.get(v2_form(scene.alice, url, as_id)).status == 400
    good = v2_form(scene.alice, url, {"Action": "DescribeInstances"})
    scene.told.add("signature in a query", *parse_qs(good)["Signature"])
    host = urlsplit(url).netloc.encode()
    for raw in (
        b"GET /?" + good.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\nNo colon\r\n\r\n",
        b"BREW /?" + good.encode() + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: text/xml\r\nContent-Length: 9\r\n\r\n" + b"<bad xml>",
        b"GET /?" + good.encode() + b"%zz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n",
    ):
        with contextlib.suppress(OSError, http.client.HTTPException):
            exchange(scene.econed.port, raw)


def _unforeseen(scene: Scene) -> None:
    """Have an exception with all the secrets in its message come from somewhere in the middle."""
    scene.failing.write_text("\n".join(scene.told.secrets.values()), "utf-8")
    with pytest.raises(ClientError) as failed:
        scene.client().describe_images()
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    until(lambda: "a round failed" in scene.log, "the reconciler to fail too", PATIENCE)
    scene.failing.unlink()
    scene.client().describe_images()


def test_nothing_that_is_secret_is_in_the_log(scene: Scene) -> None:
    """Nor is a piece of it, however it may be written."""
    assert len(scene.told.secrets) > 60
    assert scene.told.seen_in(scene.log) == []


def test_what_should_be_in_the_log_is(scene: Scene) -> None:
    """An empty log would show no secrets either."""
    for said in (
        "CreateKeyPair",
        "ImportKeyPair",
        "RunInstances",
        "UploadImage",
        "NoSuchAction",
        "AuthFailure",
        "InternalError",
        "one.vm.allocate" if "one.vm.allocate" in scene.log else "one.template.instantiate",
        "one.userpool.info",
        "a round failed",
        "Traceback (most recent call last):",
        "its message is not shown",
        "elements_read.tac",
        scene.alice.name,
    ):
        assert said in scene.log, said


@pytest.mark.parametrize("what", ["secret key", "user data", "signature in a query", "session token", "private key"])
def test_a_line_with_a_secret_would_be_found(scene: Scene, what: str) -> None:
    """The search itself works: in a line as econed writes it, or cut off in the middle."""
    secret = next(each for name, each in scene.told.secrets.items() if name.startswith(what) and len(each) > 30)
    for line in (f"[econed#info] it is {secret}\n", f"[econed#info] {secret[:26]}…\n", json.dumps({"x": secret})):
        assert scene.told.seen_in(scene.log + line) != []


def test_every_line_has_the_form_that_was_asked_for(scene: Scene) -> None:
    """Also those of Twisted and of tracebacks."""
    lines = scene.log.splitlines()
    if lines[0].startswith("{"):
        said = [json.loads(line) for line in lines]
        assert all({"time", "level", "logger", "message", "pid"} <= each.keys() for each in said)
        requests = [each for each in said if "oned_calls" in each]
        (launch,) = [each for each in requests if each["action"] == "RunInstances" and each["status"] == 200]
        assert launch["user"] == scene.alice.name
        assert launch["source"] == "127.0.0.1"
        assert launch["oned_calls"] > 3
        made_for_it = [each for each in said if each["logger"] == "econed" and each.get("outcome")]
        assert sum(each["request_id"] == launch["request_id"] for each in made_for_it) == launch["oned_calls"]
    else:
        assert all(line.startswith(("20", "\t")) for line in lines)
        assert any(" by " + scene.alice.name + " from 127.0.0.1: 200 ok, " in line for line in lines)
