"""Codes of an authenticator, against the vectors of RFC 6238."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from api.identity.totp import code_of, new_secret, otpauth_uri, step_of
from compute.errors import InvalidRequest

RFC = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
"""The secret of the vectors: the ASCII digits 12345678901234567890."""


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_the_vectors(now: int, code: str) -> None:
    assert step_of(RFC, code, now) == now // 30


def test_a_code_is_taken_one_step_early_and_late() -> None:
    made = 1111111111 // 30
    for step in (made - 1, made, made + 1):
        assert step_of(RFC, "050471", step * 30) == made
        assert step_of(RFC, "050471", step * 30 + 29.9) == made
    assert step_of(RFC, "050471", (made - 1) * 30 - 1) is None
    assert step_of(RFC, "050471", (made + 2) * 30) is None


@pytest.mark.parametrize(
    "text",
    ["", "12345", "1234567", "12345a", "１２３４５６", "١٢٣٤٥٦", "12 456", "+12345", "12345²"],
)
def test_a_code_is_six_ascii_digits(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        code_of(text)
    assert caught.value.details["error"] == "invalid_two_factor_code"
    assert "１" not in caught.value.message


def test_outer_white_space_of_a_code_is_nothing() -> None:
    assert code_of(" 012345\n") == "012345"


def test_secrets_have_160_bits_and_differ() -> None:
    found = {new_secret() for _ in range(50)}
    assert len(found) == 50
    assert all(
        len(one) == 32 and set(one) <= {*"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"} for one in found
    )


def test_the_uri_names_issuer_user_and_secret_and_no_defaults() -> None:
    user = UUID(int=5)
    uri = otpauth_uri(RFC, user)
    assert uri == f"otpauth://totp/Roehub:{user}?secret={RFC}&issuer=Roehub"
    assert {*parse_qs(urlsplit(uri).query)} == {"secret", "issuer"}
