"""While credentials of all kinds are used and misused, their secrets are in no log, metric, error or command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from econed.user import OWN_TOKEN_PREFIX
from tests.e2e.every_credential import role_arn, with_access_key, with_role, with_session, with_token
from tests.e2e.waiting import QUICK, known
from tests.support.clients import boto, send, v2, v2_form
from tests.support.econed_process import Econed, Person
from tests.support.furnished_cloud import MAX_WAIT, FurnishedCloud
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.sought_secrets import Secrets


@dataclass
class Scene:
    """An econed with the most verbose log and an audit log, its clients, and what came out of it."""

    cloud: FurnishedCloud
    econed: Econed
    audit: Path
    admin_port: int
    failing: Path
    signers: dict[str, Person]
    secrets: Secrets = field(default_factory=Secrets)
    errors: str = ""
    command_lines: str = ""

    @property
    def url(self) -> str:
        """The URL of econed."""
        return self.econed.url

    def refused(self, call: Callable[[], Any]) -> None:
        """Make a call that must fail, and record the error that the client gets."""
        with pytest.raises(ClientError) as raised:
            call()
        self.errors += f"{raised.value} {raised.value.response}\n"

    def metrics(self) -> str:
        """Return the metrics."""
        with urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=MAX_WAIT) as response:
            return str(response.read().decode())


@pytest.fixture(scope="module", params=["text", "json"])
def scene(
    request: pytest.FixtureRequest, cloud: FurnishedCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """All kinds of credentials, used and misused."""
    directory, port = tmp_path_factory.mktemp("secrets"), free_port()
    audit, failing = directory / "audit.log", directory / "message"
    settings = {
        "debug_level": 3,
        "log_format": request.param,
        "audit_log": str(audit),
        "admin_port": port,
        "failed_signatures": False,
    }
    econed = cloud.econed(settings=settings, interval=QUICK, fails_with=failing)
    user, group = cloud.member("secretive")
    known(boto(user, econed.url))
    signers = {
        "password": user,
        "login token": with_token(user),
        "access key": with_access_key(user, econed.url),
        "temporary": with_session(user, econed.url),
        "role": with_role(user, econed.url, group),
    }
    new_scene = Scene(cloud, econed, audit, port, failing, signers)
    _record(new_scene)
    for signer in signers.values():
        known(boto(signer, econed.url))
        _use(new_scene, signer, group)
        _misuse(new_scene, signer)
    _mix(new_scene)
    _fail(new_scene)
    new_scene.command_lines = _command_lines()
    _end(new_scene)
    yield new_scene
    econed.process.stop()


def _record(scene: Scene) -> None:
    """Record the secrets: those of the clients, and what econed has written on the user in OpenNebula."""
    for kind, signer in scene.signers.items():
        scene.secrets.add(f"secret of {kind}", signer.secret)
        if signer.session_token is not None:
            scene.secrets.add(f"session token of {kind}", signer.session_token)
    document = scene.cloud.admin.document("one.user.info", scene.signers["password"].id)
    tokens = [str(token.findtext("TOKEN")) for token in document.findall("LOGIN_TOKEN")]
    own = [token for token in tokens if token.startswith(OWN_TOKEN_PREFIX)]
    assert len(own) == 2, "one for all groups, one for the group of the role"
    scene.secrets.add("econed's own login token", *own)
    sealed = [str(element.text) for element in document.findall("TEMPLATE/*/SEALED")]
    assert len(sealed) == 1
    scene.secrets.add("sealed text", *sealed)


def _use(scene: Scene, signer: Person, group: str) -> None:
    """Sign in all ways, and make calls of all three services."""
    ec2, sts, iam = (boto(signer, scene.url, service=service) for service in ("ec2", "sts", "iam"))
    ec2.describe_instances()
    url = ec2.generate_presigned_url("describe_images", HttpMethod="GET")
    scene.secrets.add("signature of a URL", parse_qs(urlsplit(url).query)["X-Amz-Signature"][0])
    with urlopen(url, timeout=MAX_WAIT) as response:
        assert response.status == 200
    assert v2(signer, scene.url, "DescribeKeyPairs").status == 200
    sts.get_caller_identity()
    for request in (
        partial(sts.assume_role, RoleArn=role_arn(signer, group), RoleSessionName="secrets"),
        sts.get_session_token,
    ):
        with suppress(ClientError):  # not every kind may
            made = request()["Credentials"]
            scene.secrets.add("secret of more temporary credentials", made["SecretAccessKey"])
            scene.secrets.add("session token of more temporary credentials", made["SessionToken"])
    with suppress(ClientError):  # not every kind may
        key = iam.create_access_key()["AccessKey"]
        scene.secrets.add("secret of another access key", key["SecretAccessKey"])
        iam.update_access_key(AccessKeyId=key["AccessKeyId"], Status="Inactive")
        iam.delete_access_key(AccessKeyId=key["AccessKeyId"])


def _misuse(scene: Scene, signer: Person) -> None:
    """Sign wrongly, and send secrets where they do not belong."""
    wrong = replace(signer, secret=signer.secret[:-1] + ("A" if signer.secret[-1] != "A" else "B"))
    for service, call in (("ec2", "describe_instances"), ("sts", "get_caller_identity"), ("iam", "get_user")):
        scene.refused(getattr(boto(wrong, scene.url, service=service), call))
    scene.errors += v2(wrong, scene.url, "DescribeInstances").body.decode()
    scene.refused(lambda: boto(signer, scene.url).describe_instances(InstanceIds=["i-0000000g"]))
    as_key = replace(signer, name=signer.secret, secret=signer.name)
    with pytest.raises(ClientError):
        boto(as_key, scene.url).describe_instances()
    for text in filter(None, (signer.secret, signer.session_token)):
        for parameters in (
            {"Action": "DescribeInstances", "InstanceId.1": text},
            {"Action": "CreateKeyPair", "KeyName": text},
            {"Action": text},
            {"Action": "DescribeInstances", text: "1"},
        ):
            send(scene.url, "GET", v2_form(signer, scene.url, parameters, session_token=signer.session_token))
        with pytest.raises(ClientError):
            boto(signer, scene.url, service="sts").assume_role(RoleArn=text[:2048].ljust(20), RoleSessionName="secrets")
        with suppress(HTTPError):
            urlopen(f"{scene.url}?AWSAccessKeyId={text}&SecurityToken={text}", timeout=MAX_WAIT)


def _mix(scene: Scene) -> None:
    """Sign with parts of different credentials."""
    signers = scene.signers
    for mixed in (
        replace(signers["temporary"], session_token=signers["role"].session_token),
        replace(signers["temporary"], session_token=None),
        replace(signers["temporary"], secret=signers["access key"].secret),
        replace(signers["access key"], session_token=signers["temporary"].session_token),
        replace(signers["access key"], secret=signers["login token"].secret),
        replace(signers["login token"], session_token=signers["temporary"].session_token),
    ):
        scene.refused(boto(mixed, scene.url).describe_instances)


def _fail(scene: Scene) -> None:
    """Have econed raise an unexpected exception whose message has all the secrets."""
    scene.failing.write_text("\n".join(scene.secrets.by_description.values()), "utf-8")
    scene.refused(boto(scene.signers["password"], scene.url).describe_images)
    until(lambda: "reconciling failed" in scene.econed.process.text, "the reconciler to fail too", MAX_WAIT)
    scene.failing.unlink()


def _end(scene: Scene) -> None:
    """End the credentials one after the other, and sign with them once more."""
    user = scene.signers["password"]
    boto(user, scene.url, service="iam").delete_access_key(AccessKeyId=scene.signers["access key"].name)
    user.oned("one.user.login", user.name, "", 0, -1)
    for kind in ("login token", "access key", "temporary", "role"):
        until(lambda kind=kind: _is_refused(scene, scene.signers[kind]), f"the {kind} to be refused", MAX_WAIT)  # type: ignore[misc]


def _is_refused(scene: Scene, signer: Person) -> bool:
    try:
        boto(signer, scene.url).describe_instances()
    except ClientError as error:
        scene.errors += f"{error} {error.response}\n"
        return True
    return False


def _command_lines() -> str:
    """Return the command lines of all processes of this machine, as `ps` shows them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # a process that has ended
            lines.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    "output",
    [
        lambda scene: scene.econed.process.text,
        lambda scene: scene.audit.read_text("utf-8"),
        Scene.metrics,
        lambda scene: scene.errors,
        lambda scene: scene.command_lines,
    ],
    ids=["log", "audit log", "metrics", "errors", "command lines"],
)
def test_no_secret_of_credentials_is_in(scene: Scene, output: Callable[[Scene], str]) -> None:
    assert len(scene.secrets.by_description) > 30
    text = output(scene)
    found = scene.secrets.seen_in(text)
    assert not found, (found, [line for line in text.splitlines() if scene.secrets.seen_in(line)])


def test_the_outputs_have_what_was_done_with_the_credentials(scene: Scene) -> None:
    """The absence of secrets would prove nothing in empty outputs."""
    name = scene.signers["password"].name
    for text in (name, "GetSessionToken", "AssumeRole", "CreateAccessKey", "AuthFailure", "InvalidClientTokenId"):
        assert text in scene.econed.process.text, text
    audit = scene.audit.read_text("utf-8")
    for text in ("CreateAccessKey", "AssumeRole", "AuthFailure", scene.signers["access key"].name):
        assert text in audit, text
    assert "econed_requests_total" in scene.metrics()
    assert scene.errors.count("AuthFailure") > 10
    assert "elements_read.tac" in scene.command_lines


def test_the_search_finds_secrets_of_every_kind(scene: Scene) -> None:
    for description, secret in scene.secrets.by_description.items():
        assert scene.secrets.seen_in(f"[econed#info] {secret[:25]}…") != [], description
