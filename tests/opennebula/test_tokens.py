"""Server tokens have oned's form and are the same string in every process."""

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


def decrypted(token: str, password: str, zero_iv: bool) -> str:
    """Decrypt a token as oned's driver does, with openssl instead of the library that encrypted it."""
    key = hashlib.sha256(password.encode()).hexdigest()[:32].encode()
    vector = bytes(16) if zero_iv else key[:16]
    command = ["openssl", "enc", "-d", "-aes-256-cbc", "-K", key.hex(), "-iv", vector.hex()]
    ciphertext = base64.b64decode(token.rsplit(":", 1)[1], validate=True)
    return subprocess.run(command, input=ciphertext, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("zero_iv", [True, False])
@pytest.mark.parametrize("target", ["alice", "serveradmin", "ünï code", "a" * 120])
def test_a_token_decrypts_to_server_target_and_expiry(zero_iv: bool, target: str) -> None:
    token = server_cipher_token("secret", target, 1795341482, zero_iv)
    assert token.startswith(f"serveradmin:{target}:")
    assert "\n" not in token
    assert decrypted(token, "secret", zero_iv) == f"serveradmin:{target}:1795341482"


def test_the_two_cipher_forms_make_different_tokens() -> None:
    assert server_cipher_token("s", "alice", 1, True) != server_cipher_token("s", "alice", 1, False)
    assert CipherForm.KEY_IV.other is CipherForm.ZERO_IV
    assert CipherForm.ZERO_IV.other is CipherForm.KEY_IV


@pytest.mark.parametrize("target", ["", "alice:x", ":"])
def test_an_empty_name_or_one_with_a_colon_is_refused(target: str) -> None:
    with pytest.raises(UnusableName):
        server_cipher_token("secret", target, 1, False)


@given(now=st.floats(0, 4e9), window=st.integers(1, 10_000), phase=st.integers(0, 10_000))
def test_a_token_is_valid_for_one_to_two_windows(now: float, window: int, phase: int) -> None:
    assert window <= window_end(now, window, phase) - now <= 2 * window


def test_all_times_in_a_window_have_the_same_expiry() -> None:
    assert {window_end(now, 1800) for now in (3600, 3600.1, 4000, 5399.9)} == {7200}
    assert window_end(5400, 1800) == 9000


def test_a_users_token_changes_at_most_once_in_the_length_of_a_window() -> None:
    tokens = [
        session_token("serveradmin", PasswordKey("secret"), "alice", NOW + second, CipherForm.KEY_IV)
        for second in range(DEFAULT_WINDOW)
    ]
    assert sum(before != after for before, after in pairwise(tokens)) <= 1


def test_the_windows_of_different_users_begin_at_different_times() -> None:
    def expiry(user: str) -> str:
        return decrypted(
            session_token("serveradmin", PasswordKey("s"), user, NOW, CipherForm.KEY_IV), "s", False
        ).rsplit(":", 1)[1]

    assert len({expiry(f"user-{number}") for number in range(20)}) > 10


def test_without_a_target_the_token_is_for_the_server_user_itself() -> None:
    token = session_token("oneserver", PasswordKey("secret"), None, NOW, CipherForm.ZERO_IV)
    assert decrypted(token, "secret", True).startswith("oneserver:oneserver:")


# The driver server_x509


def test_a_token_signed_with_the_certificates_key_verifies(tmp_path: Path) -> None:
    """With openssl and the public key after decoding base64 twice, as server_x509_auth.rb does."""
    private = rsa.generate_private_key(65537, 2048)
    public = tmp_path / "public.pem"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    token = session_token("serveradmin", CertificateKey(private), "alice", NOW, CipherForm.KEY_IV)
    server, target, encoded = token.split(":")
    command = ["openssl", "pkeyutl", "-verifyrecover", "-pubin", "-inkey", str(public)]
    signature = base64.b64decode(base64.b64decode(encoded, validate=True), validate=True)
    text = subprocess.run(command, input=signature, capture_output=True, check=True).stdout.decode()
    assert text == f"serveradmin:alice:{text.rsplit(':', 1)[1]}"
    assert (server, target) == ("serveradmin", "alice")
    same = session_token("serveradmin", CertificateKey(private), "alice", NOW, CipherForm.KEY_IV)
    assert same == token, "every process sends oned the same string"


def test_a_name_too_long_for_the_key_is_refused() -> None:
    key = CertificateKey(rsa.generate_private_key(65537, 1024))
    with pytest.raises(UnusableName):
        session_token("serveradmin", key, "a" * 120, NOW, CipherForm.KEY_IV)


def test_the_repr_of_a_key_does_not_contain_it() -> None:
    assert "secret" not in repr(PasswordKey("secret"))
    assert "RSA" not in repr(CertificateKey(rsa.generate_private_key(65537, 1024)))
