"""Authentication, and the sessions that oned caches."""

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
    """Return a server token of the sandbox's serveradmin."""
    return server_cipher_token(demo.oned.serveradmin.partition(":")[2], target, expires, zero_iv)


def code(oned: Oned, session: str) -> object:
    """Return oned's code for a call with this session, 0 for success."""
    return oned.execute("one.user.info", session, -1, False)[2]


@pytest.mark.parametrize(("version", "zero_iv"), [("5.12", True), ("7.4", False)])
def test_each_version_accepts_only_its_own_form_of_server_tokens(version: str, zero_iv: bool) -> None:
    demo = DemoCloud(version)
    assert code(demo.oned, token(demo, "alice", zero_iv=zero_iv)) == 0
    assert code(demo.oned, token(demo, "bob", zero_iv=not zero_iv)) == AUTHENTICATION


def test_a_thousand_calls_with_the_same_token_take_one_authentication() -> None:
    demo = DemoCloud()
    before = demo.oned.authentications["alice"]
    for _ in range(1000):
        assert code(demo.oned, token(demo, "alice")) == 0
    assert demo.oned.authentications["alice"] == before + 1


def test_oned_caches_one_token_per_user_so_that_alternating_tokens_are_authenticated_again() -> None:
    demo = DemoCloud()
    before = demo.oned.authentications["alice"]
    for _ in range(5):
        for expires in (BEGIN + 3600, BEGIN + 7200):
            assert code(demo.oned, token(demo, "alice", expires)) == 0
    assert demo.oned.authentications["alice"] == before + 10


def test_a_cached_token_is_accepted_until_it_expires() -> None:
    demo = DemoCloud()
    expiring = token(demo, "alice", BEGIN + 100)
    assert code(demo.oned, expiring) == 0
    demo.clock.advance(100)
    assert code(demo.oned, expiring) == AUTHENTICATION


def test_a_cached_session_expires() -> None:
    demo = DemoCloud()
    before = demo.oned.authentications["alice"]
    for _ in range(2):
        assert code(demo.oned, token(demo, "alice", BEGIN + 9999)) == 0
        demo.clock.advance(SESSION_EXPIRATION_TIME)
    assert demo.oned.authentications["alice"] == before + 2


@pytest.mark.parametrize("bad", ["", "alice", "serveradmin:alice:", "serveradmin:alice:bm8=", "serveradmin:nobody:x"])
def test_an_invalid_session_is_refused(bad: str) -> None:
    assert code(DemoCloud().oned, bad) == AUTHENTICATION


def test_a_public_user_cannot_log_in_with_their_password_but_a_server_token_for_them_works() -> None:
    demo = DemoCloud()
    assert code(demo.oned, "alice:alice's secret") == AUTHENTICATION
    assert code(demo.oned, token(demo, "alice")) == 0


def test_a_secret_that_looks_like_a_hash_is_the_password_of_a_core_user() -> None:
    user = DemoCloud().document("bob", "one.user.info", -1, False)
    assert (user.findtext("AUTH_DRIVER"), user.findtext("PASSWORD")) == ("core", "b" * 64)


def test_a_disabled_user_cannot_log_in_but_a_server_token_for_them_still_works() -> None:
    demo = DemoCloud()
    carol = demo.admin("one.user.allocate", "carol", "carolpw", "core", [100])[1]
    assert code(demo.oned, "carol:carolpw") == 0
    assert demo.admin("one.user.enable", carol, False)[0] is True
    assert code(demo.oned, "carol:carolpw") == AUTHENTICATION
    assert code(demo.oned, token(demo, "carol")) == 0
    assert demo.document("carol", "one.user.info", -1, False).findtext("ENABLED") == "0"


def test_a_changed_password_invalidates_the_cached_session() -> None:
    demo = DemoCloud()
    carol = demo.admin("one.user.allocate", "carol", "old", "core", [100])[1]
    assert code(demo.oned, "carol:old") == 0
    demo.admin("one.user.passwd", carol, "new")
    assert (code(demo.oned, "carol:old"), code(demo.oned, "carol:new")) == (AUTHENTICATION, 0)


def test_an_ordinary_user_lists_only_themselves_among_the_users() -> None:
    names = [name.text for name in DemoCloud().document("alice", "one.userpool.info").iterfind("USER/NAME")]
    assert names == ["alice"]


def test_minus_one_is_the_caller_in_reads_but_not_in_changes() -> None:
    demo = DemoCloud()
    assert demo.document("alice", "one.user.info", -1, False).findtext("NAME") == "alice"
    assert demo.code("alice", "one.user.update", -1, 'A="1"', 1) == 512


def test_calls_are_logged_with_user_arguments_and_outcome() -> None:
    demo = DemoCloud()
    demo.code("alice", "one.vm.info", 77, False)
    call = demo.oned.calls[-1]
    assert (call.user, call.method, call.args, call.code, call.ok) == ("alice", "one.vm.info", (77, False), 1024, False)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_driver_server_x509_accepts_only_tokens_signed_with_the_certificates_key(version: str) -> None:
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


def test_oned_stores_the_name_in_a_certificate_with_blanks_escaped_in_hex() -> None:
    """As `X509Auth.escape_dn` does."""
    assert distinguished_name(server_certificate()[1]) == SUBJECT.replace(" ", "\\20")
