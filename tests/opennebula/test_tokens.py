"""Server tokens: oned's form, and the same string from every process."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from econed.opennebula.tokens import (
    DEFAULT_WINDOW,
    CertificateKey,
    CipherForm,
    PasswordKey,
    UnusableName,
    server_cipher_token,
    session_token,
    window_end,
)

NOW = 1_795_337_859.5


def opened(token: str, password: str, zero_iv: bool) -> str:
    """Decrypt as oned's driver does, by openssl rather than by the library that encrypted."""
    key = hashlib.sha256(password.encode()).hexdigest()[:32].encode()
    vector = bytes(16) if zero_iv else key[:16]
    command = ["openssl", "enc", "-d", "-aes-256-cbc", "-K", key.hex(), "-iv", vector.hex()]
    sealed = base64.b64decode(token.rsplit(":", 1)[1], validate=True)
    return subprocess.run(command, input=sealed, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("zero_iv", [True, False])
@pytest.mark.parametrize("target", ["alice", "serveradmin", "ünï code", "a" * 120])
def test_oneds_driver_reads_server_target_and_expiry(zero_iv: bool, target: str) -> None:
    token = server_cipher_token("secret", target, 1795341482, zero_iv)
    assert token.startswith(f"serveradmin:{target}:")
    assert "\n" not in token
    assert opened(token, "secret", zero_iv) == f"serveradmin:{target}:1795341482"


def test_the_two_forms_differ_so_that_oned_can_refuse_one() -> None:
    assert server_cipher_token("s", "alice", 1, True) != server_cipher_token("s", "alice", 1, False)
    assert CipherForm.KEY_IV.other is CipherForm.ZERO_IV
    assert CipherForm.ZERO_IV.other is CipherForm.KEY_IV


@pytest.mark.parametrize("target", ["", "alice:x", ":"])
def test_a_name_that_would_shift_the_parts_of_a_token_is_refused(target: str) -> None:
    with pytest.raises(UnusableName):
        server_cipher_token("secret", target, 1, False)


@given(now=st.floats(0, 4e9), window=st.integers(1, 10_000), phase=st.integers(0, 10_000))
def test_a_token_is_good_for_more_than_one_window_and_at_most_two(now: float, window: int, phase: int) -> None:
    assert window <= window_end(now, window, phase) - now <= 2 * window


def test_all_moments_of_a_window_share_one_expiry() -> None:
    assert {window_end(moment, 1800) for moment in (3600, 3600.1, 4000, 5399.9)} == {7200}
    assert window_end(5400, 1800) == 9000


def test_in_the_time_of_one_window_a_users_token_changes_once_at_most() -> None:
    tokens = [
        session_token("serveradmin", PasswordKey("secret"), "alice", NOW + second, CipherForm.KEY_IV)
        for second in range(DEFAULT_WINDOW)
    ]
    assert sum(before != after for before, after in pairwise(tokens)) <= 1


def test_users_windows_do_not_begin_all_at_once() -> None:
    def expiry(user: str) -> str:
        return opened(session_token("serveradmin", PasswordKey("s"), user, NOW, CipherForm.KEY_IV), "s", False).rsplit(
            ":", 1
        )[1]

    assert len({expiry(f"user-{number}") for number in range(20)}) > 10


def test_without_a_target_the_server_user_speaks_for_himself() -> None:
    token = session_token("oneserver", PasswordKey("secret"), None, NOW, CipherForm.ZERO_IV)
    assert opened(token, "secret", True).startswith("oneserver:oneserver:")


# The driver server_x509


def test_oneds_driver_reads_what_a_certificates_key_signed(tmp_path: Path) -> None:
    """By openssl with the public key, after base64 twice, as server_x509_auth.rb does."""
    private = rsa.generate_private_key(65537, 2048)
    public = tmp_path / "public.pem"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    token = session_token("serveradmin", CertificateKey(private), "alice", NOW, CipherForm.KEY_IV)
    server, target, sealed = token.split(":")
    command = ["openssl", "pkeyutl", "-verifyrecover", "-pubin", "-inkey", str(public)]
    signed = base64.b64decode(base64.b64decode(sealed, validate=True), validate=True)
    opened = subprocess.run(command, input=signed, capture_output=True, check=True).stdout.decode()
    assert opened == f"serveradmin:alice:{opened.rsplit(':', 1)[1]}"
    assert (server, target) == ("serveradmin", "alice")
    again = session_token("serveradmin", CertificateKey(private), "alice", NOW, CipherForm.KEY_IV)
    assert again == token, "every process sends oned the same string"


def test_a_name_too_long_for_the_key_is_refused() -> None:
    key = CertificateKey(rsa.generate_private_key(65537, 1024))
    with pytest.raises(UnusableName):
        session_token("serveradmin", key, "a" * 120, NOW, CipherForm.KEY_IV)


def test_a_key_is_never_shown() -> None:
    assert "secret" not in repr(PasswordKey("secret"))
    assert "RSA" not in repr(CertificateKey(rsa.generate_private_key(65537, 1024)))
