"""Who may speak to oned, and what it remembers of him."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from econed.opennebula.tokens import CertificateKey, CipherForm, server_cipher_token, server_token
from econed.sandbox.oned import Oned
from econed.sandbox.sessions import SESSION_EXPIRATION_TIME, distinguished_name
from tests.sandbox.demo_cloud import BEGIN, DemoCloud
from tests.support.certificates import SUBJECT, server_certificate

AUTHENTICATION = 256
VERSIONS = ("5.12", "7.4")


def token(demo: DemoCloud, target: str, expires: int = BEGIN + 3600, *, zero_iv: bool = False) -> str:
    """Return a server token by the sandbox's serveradmin."""
    return server_cipher_token(demo.oned.serveradmin.partition(":")[2], target, expires, zero_iv)


def code(oned: Oned, session: str) -> object:
    """Return the code with which oned answers a session, 0 where it takes it."""
    return oned.execute("one.user.info", session, -1, False)[2]


@pytest.mark.parametrize(("version", "zero_iv"), [("5.12", True), ("7.4", False)])
def test_each_version_takes_its_own_form_of_server_tokens_only(version: str, zero_iv: bool) -> None:
    demo = DemoCloud(version)
    assert code(demo.oned, token(demo, "alice", zero_iv=zero_iv)) == 0
    assert code(demo.oned, token(demo, "bob", zero_iv=not zero_iv)) == AUTHENTICATION


def test_a_thousand_calls_with_one_token_cost_one_authentication() -> None:
    demo = DemoCloud()
    before = demo.oned.authentications["alice"]
    for _ in range(1000):
        assert code(demo.oned, token(demo, "alice")) == 0
    assert demo.oned.authentications["alice"] == before + 1


def test_oned_remembers_one_token_of_a_user_so_that_two_in_turn_cost_each_time() -> None:
    demo = DemoCloud()
    before = demo.oned.authentications["alice"]
    for _ in range(5):
        for expires in (BEGIN + 3600, BEGIN + 7200):
            assert code(demo.oned, token(demo, "alice", expires)) == 0
    assert demo.oned.authentications["alice"] == before + 10


def test_a_remembered_token_is_taken_until_it_expires_and_no_longer() -> None:
    demo = DemoCloud()
    expiring = token(demo, "alice", BEGIN + 100)
    assert code(demo.oned, expiring) == 0
    demo.clock.advance(100)
    assert code(demo.oned, expiring) == AUTHENTICATION


def test_a_session_is_forgotten_after_its_expiration_time() -> None:
    demo = DemoCloud()
    before = demo.oned.authentications["alice"]
    for _ in range(2):
        assert code(demo.oned, token(demo, "alice", BEGIN + 9999)) == 0
        demo.clock.advance(SESSION_EXPIRATION_TIME)
    assert demo.oned.authentications["alice"] == before + 2


@pytest.mark.parametrize("bad", ["", "alice", "serveradmin:alice:", "serveradmin:alice:bm8=", "serveradmin:nobody:x"])
def test_what_is_no_session_is_refused(bad: str) -> None:
    assert code(DemoCloud().oned, bad) == AUTHENTICATION


def test_a_public_user_cannot_log_in_with_his_password_but_a_server_token_for_him_works() -> None:
    demo = DemoCloud()
    assert code(demo.oned, "alice:alice's secret") == AUTHENTICATION
    assert code(demo.oned, token(demo, "alice")) == 0


def test_a_secret_that_looks_like_a_hash_is_kept_as_the_password_of_a_core_user() -> None:
    user = DemoCloud().document("bob", "one.user.info", -1, False)
    assert (user.findtext("AUTH_DRIVER"), user.findtext("PASSWORD")) == ("core", "b" * 64)


def test_a_disabled_user_cannot_log_in_but_a_server_token_for_him_goes_on_working() -> None:
    demo = DemoCloud()
    carol = demo.admin("one.user.allocate", "carol", "carolpw", "core", [100])[1]
    assert code(demo.oned, "carol:carolpw") == 0
    assert demo.admin("one.user.enable", carol, False)[0] is True
    assert code(demo.oned, "carol:carolpw") == AUTHENTICATION
    assert code(demo.oned, token(demo, "carol")) == 0
    assert demo.document("carol", "one.user.info", -1, False).findtext("ENABLED") == "0"


def test_a_changed_password_ends_the_remembered_session() -> None:
    demo = DemoCloud()
    carol = demo.admin("one.user.allocate", "carol", "old", "core", [100])[1]
    assert code(demo.oned, "carol:old") == 0
    demo.admin("one.user.passwd", carol, "new")
    assert (code(demo.oned, "carol:old"), code(demo.oned, "carol:new")) == (AUTHENTICATION, 0)


def test_an_ordinary_user_sees_only_himself_among_the_users() -> None:
    names = [name.text for name in DemoCloud().document("alice", "one.userpool.info").iterfind("USER/NAME")]
    assert names == ["alice"]


def test_minus_one_means_oneself_for_reading_but_not_for_changing() -> None:
    demo = DemoCloud()
    assert demo.document("alice", "one.user.info", -1, False).findtext("NAME") == "alice"
    assert demo.code("alice", "one.user.update", -1, 'A="1"', 1) == 512


def test_what_was_called_by_whom_and_how_it_went_stands_in_the_log() -> None:
    demo = DemoCloud()
    demo.code("alice", "one.vm.info", 77, False)
    last = demo.oned.calls[-1]
    assert (last.user, last.method, last.args, last.code, last.ok) == ("alice", "one.vm.info", (77, False), 1024, False)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_driver_server_x509_takes_what_the_certificates_key_signed_and_nothing_else(version: str) -> None:
    demo = DemoCloud(version)
    key, certificate = server_certificate()
    demo.oned.trust(certificate)

    def signed(by: RSAPrivateKey, expires: int = BEGIN + 3600) -> str:
        return server_token(CertificateKey(by), "serveradmin", "alice", expires, CipherForm.KEY_IV)

    assert code(demo.oned, signed(key)) == 0
    assert code(demo.oned, signed(key, BEGIN - 1)) == AUTHENTICATION
    assert code(demo.oned, signed(generate_private_key(65537, 2048))) == AUTHENTICATION
    assert code(demo.oned, token(demo, "bob", zero_iv=version == "5.12")) == AUTHENTICATION
    assert code(demo.oned, "serveradmin:bob:rubbish") == AUTHENTICATION


def test_oned_keeps_the_name_in_a_certificate_with_its_blanks_in_hex() -> None:
    """As `X509Auth.escape_dn` writes it."""
    assert distinguished_name(server_certificate()[1]) == SUBJECT.replace(" ", "\\20")
