"""Who may speak to oned, and what it remembers of him."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from econed.opennebula.tokens import CertificateKey, CipherForm, server_cipher_token, server_token
from econed.sandbox.oned import Oned
from econed.sandbox.sessions import SESSION_EXPIRATION_TIME, distinguished_name
from tests.sandbox.house import BEGIN, House
from tests.support.certificates import SUBJECT, server_certificate

AUTHENTICATION = 256
VERSIONS = ("5.12", "7.4")


def token(house: House, target: str, expires: int = BEGIN + 3600, *, zero_iv: bool = False) -> str:
    """Return a server token by the sandbox's serveradmin."""
    return server_cipher_token(house.oned.serveradmin.partition(":")[2], target, expires, zero_iv)


def code(oned: Oned, session: str) -> object:
    """Return the code with which oned answers a session, 0 where it takes it."""
    return oned.execute("one.user.info", session, -1, False)[2]


@pytest.mark.parametrize(("version", "zero_iv"), [("5.12", True), ("7.4", False)])
def test_each_version_takes_its_own_form_of_server_tokens_only(version: str, zero_iv: bool) -> None:
    house = House(version)
    assert code(house.oned, token(house, "alice", zero_iv=zero_iv)) == 0
    assert code(house.oned, token(house, "bob", zero_iv=not zero_iv)) == AUTHENTICATION


def test_a_thousand_calls_with_one_token_cost_one_authentication() -> None:
    house = House()
    before = house.oned.authentications["alice"]
    for _ in range(1000):
        assert code(house.oned, token(house, "alice")) == 0
    assert house.oned.authentications["alice"] == before + 1


def test_oned_remembers_one_token_of_a_user_so_that_two_in_turn_cost_each_time() -> None:
    house = House()
    before = house.oned.authentications["alice"]
    for _ in range(5):
        for expires in (BEGIN + 3600, BEGIN + 7200):
            assert code(house.oned, token(house, "alice", expires)) == 0
    assert house.oned.authentications["alice"] == before + 10


def test_a_remembered_token_is_taken_until_it_expires_and_no_longer() -> None:
    house = House()
    expiring = token(house, "alice", BEGIN + 100)
    assert code(house.oned, expiring) == 0
    house.clock.advance(100)
    assert code(house.oned, expiring) == AUTHENTICATION


def test_a_session_is_forgotten_after_its_expiration_time() -> None:
    house = House()
    before = house.oned.authentications["alice"]
    for _ in range(2):
        assert code(house.oned, token(house, "alice", BEGIN + 9999)) == 0
        house.clock.advance(SESSION_EXPIRATION_TIME)
    assert house.oned.authentications["alice"] == before + 2


@pytest.mark.parametrize("bad", ["", "alice", "serveradmin:alice:", "serveradmin:alice:bm8=", "serveradmin:nobody:x"])
def test_what_is_no_session_is_refused(bad: str) -> None:
    assert code(House().oned, bad) == AUTHENTICATION


def test_a_public_user_cannot_log_in_with_his_password_but_a_server_token_for_him_works() -> None:
    house = House()
    assert code(house.oned, "alice:alice's secret") == AUTHENTICATION
    assert code(house.oned, token(house, "alice")) == 0


def test_a_secret_that_looks_like_a_hash_is_kept_as_the_password_of_a_core_user() -> None:
    user = House().document("bob", "one.user.info", -1, False)
    assert (user.findtext("AUTH_DRIVER"), user.findtext("PASSWORD")) == ("core", "b" * 64)


def test_a_disabled_user_cannot_log_in_but_a_server_token_for_him_goes_on_working() -> None:
    house = House()
    carol = house.admin("one.user.allocate", "carol", "carolpw", "core", [100])[1]
    assert code(house.oned, "carol:carolpw") == 0
    assert house.admin("one.user.enable", carol, False)[0] is True
    assert code(house.oned, "carol:carolpw") == AUTHENTICATION
    assert code(house.oned, token(house, "carol")) == 0
    assert house.document("carol", "one.user.info", -1, False).findtext("ENABLED") == "0"


def test_a_changed_password_ends_the_remembered_session() -> None:
    house = House()
    carol = house.admin("one.user.allocate", "carol", "old", "core", [100])[1]
    assert code(house.oned, "carol:old") == 0
    house.admin("one.user.passwd", carol, "new")
    assert (code(house.oned, "carol:old"), code(house.oned, "carol:new")) == (AUTHENTICATION, 0)


def test_an_ordinary_user_sees_only_himself_among_the_users() -> None:
    names = [name.text for name in House().document("alice", "one.userpool.info").iterfind("USER/NAME")]
    assert names == ["alice"]


def test_minus_one_means_oneself_for_reading_but_not_for_changing() -> None:
    house = House()
    assert house.document("alice", "one.user.info", -1, False).findtext("NAME") == "alice"
    assert house.code("alice", "one.user.update", -1, 'A="1"', 1) == 512


def test_what_was_called_by_whom_and_how_it_went_stands_in_the_log() -> None:
    house = House()
    house.code("alice", "one.vm.info", 77, False)
    last = house.oned.calls[-1]
    assert (last.user, last.method, last.args, last.code, last.ok) == ("alice", "one.vm.info", (77, False), 1024, False)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_driver_server_x509_takes_what_the_certificates_key_signed_and_nothing_else(version: str) -> None:
    house = House(version)
    key, certificate = server_certificate()
    house.oned.trust(certificate)

    def signed(by: RSAPrivateKey, expires: int = BEGIN + 3600) -> str:
        return server_token(CertificateKey(by), "serveradmin", "alice", expires, CipherForm.KEY_IV)

    assert code(house.oned, signed(key)) == 0
    assert code(house.oned, signed(key, BEGIN - 1)) == AUTHENTICATION
    assert code(house.oned, signed(generate_private_key(65537, 2048))) == AUTHENTICATION
    assert code(house.oned, token(house, "bob", zero_iv=version == "5.12")) == AUTHENTICATION
    assert code(house.oned, "serveradmin:bob:rubbish") == AUTHENTICATION


def test_oned_keeps_the_name_in_a_certificate_with_its_blanks_in_hex() -> None:
    """As `X509Auth.escape_dn` writes it."""
    assert distinguished_name(server_certificate()[1]) == SUBJECT.replace(" ", "\\20")
