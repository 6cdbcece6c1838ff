"""Logins of the Telegram widget: the order of the checks, and what is signed."""

from __future__ import annotations

from typing import Any

import pytest

from api.errors import Unauthorized
from api.identity.telegram import signature, verified
from compute.errors import InvalidRequest

TOKEN, NOW = "123456:TEST", 1_700_000_000
VECTOR = {
    "id": 411001,
    "auth_date": NOW,
    "first_name": "Roe",
    "username": "roehub_test",
    "hash": "971ea6f409449faa4efde409a1aabaef2ebc9fa8b9497b20de3529cdfdbad913",
}


def signed(**fields: Any) -> dict[str, Any]:
    sent = {"id": 411001, "auth_date": NOW, **fields}
    text = {name: str(value) for name, value in sent.items() if value is not None}
    return {**sent, "hash": signature(text, TOKEN).hex()}


def test_the_vector_of_the_contract() -> None:
    login = verified(VECTOR, TOKEN, NOW)
    assert (login.telegram_user_id, login.auth_date) == (411001, NOW)
    assert login.signature.hex() == VECTOR["hash"]
    assert verified(VECTOR, f" {TOKEN}\n", NOW) == login
    assert verified({**VECTOR, "hash": f" {VECTOR['hash']}".upper()}, TOKEN, NOW) == login
    assert verified({**VECTOR, "id": "411001", "last_name": None}, TOKEN, NOW) == login


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hash": None}, "missing_hash"),
        ({"hash": " "}, "missing_hash"),
        ({"auth_date": None}, "missing_auth_date"),
        ({"auth_date": " "}, "missing_auth_date"),
        ({"auth_date": "soon"}, "invalid_auth_date"),
        ({"auth_date": "١٧"}, "invalid_auth_date"),
        ({"auth_date": NOW - 86_401, "id": "x"}, "stale_auth_date"),
        ({"auth_date": NOW + 61, "id": "x"}, "future_auth_date"),
        ({"id": None}, "missing_telegram_user_id"),
        ({"id": ""}, "missing_telegram_user_id"),
        ({"id": "me"}, "invalid_telegram_user_id"),
        ({"id": 0}, "invalid_telegram_user_id"),
        ({"id": -1}, "invalid_telegram_user_id"),
        ({"id": 2**63}, "invalid_telegram_user_id"),
        ({"id": 411002}, "invalid_hash"),
        ({"first_name": "Roè"}, "invalid_hash"),
        ({"username": None}, "invalid_hash"),
        ({"allows_write_to_pm": "true"}, "invalid_hash"),
        ({"hash": "0" * 64}, "invalid_hash"),
        ({"hash": "short"}, "invalid_hash"),
        ({"hash": "\u00e9" * 64}, "invalid_hash"),
    ],
)
def test_the_first_check_that_fails_is_told(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        verified({**VECTOR, **changes}, TOKEN, NOW)
    assert caught.value.details["error"] == code


@pytest.mark.parametrize(
    ("age", "good"), [(86_400, True), (86_401, False), (-60, True), (-61, False)]
)
def test_age_and_skew_to_the_second(age: int, good: bool) -> None:
    fields = signed(auth_date=NOW - age)
    if good:
        assert verified(fields, TOKEN, NOW).auth_date == NOW - age
    else:
        with pytest.raises(Unauthorized):
            verified(fields, TOKEN, NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"first_name": "  Roe "},
        {"first_name": "Ро 🚀"},
        {"a_field_of_tomorrow": "yes", "another": 7},
        {"username": None},
    ],
)
def test_what_was_received_is_signed_as_it_is(fields: dict[str, Any]) -> None:
    assert verified(signed(**fields), TOKEN, NOW).telegram_user_id == 411001


def test_an_empty_field_is_one_that_was_not_sent() -> None:
    assert verified({**VECTOR, "last_name": ""}, TOKEN, NOW).telegram_user_id == 411001


def test_a_line_break_does_not_make_two_fields_of_one() -> None:
    """Mallory, 666, calls himself what makes his signed text read like Ann's."""
    mine = {"auth_date": NOW, "first_name": "M\nid=411001", "id": 666}
    digest = signature({name: str(value) for name, value in mine.items()}, TOKEN).hex()
    forged = {"auth_date": NOW, "first_name": "M", "id": 411001, "id=666\nx": ""}
    for fields in (mine, forged, {"auth_date": NOW, "first_name": "M\nid=411001", "id": "666"}):
        with pytest.raises(InvalidRequest):
            verified({**fields, "hash": digest}, TOKEN, NOW)


@pytest.mark.parametrize("value", [True, 1.5, ["a"], {"a": 1}, "x" * 5000, "a\x00b"])
def test_a_value_that_is_no_text(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        verified({**VECTOR, "first_name": value}, TOKEN, NOW)
    (item,) = caught.value.details["errors"]
    assert item["path"] == "body.first_name"
    assert item["code"] == "invalid_telegram_payload"
