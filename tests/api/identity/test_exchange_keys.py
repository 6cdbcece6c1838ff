"""Exchange keys over HTTP: the gate before everything, what is shown, what is stored."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.identity.access_tokens import make_token
from api.identity.envelope import EXCHANGE_KEYS, PEPPER, Vault, exchange_binding
from api.identity.exchange_keys import MAX_KEYS
from api.identity.scopes import ALL_SCOPES
from tests.api.identity.database import with_engine
from tests.api.identity.secret_service import Person, Users, refused, service, users
from tests.postgres import rows

__all__ = ["service", "users"]
NO_KEY = UUID("00000000-0000-4000-8000-00000000dead")

GATE = {
    "error": {
        "code": "forbidden",
        "message": "Two-factor authentication must be enabled.",
        "details": {"error": "two_factor_required"},
    }
}


def body(**members: Any) -> dict[str, Any]:
    """A request; None leaves a member out."""
    made = {
        "exchange_name": "binance",
        "market_type": "spot",
        "permissions": "read",
        "label": "my key",
        "api_key": "public-part-ABCD",
        "api_secret": "secret-part",
        "passphrase": "pass-phrase",
        **members,
    }
    return {name: value for name, value in made.items() if value is not None}


def added(person: Person, **members: Any) -> dict[str, Any]:
    response = person.post("/exchange-keys", body(**members))
    assert response.status_code == 201, response.text
    return response.json()


@pytest.fixture
def ann(users: Users) -> Person:
    """Somebody with a second factor, proved a moment ago."""
    person = users.person()
    person.enable()
    return person


def stored(person: Person, key_id: str, columns: str) -> tuple[Any, ...]:
    query = f"SELECT {columns} FROM identity_exchange_keys WHERE key_id = $1"
    (row,) = rows(person.users.database, query, UUID(key_id))
    return row


# The gate


@pytest.mark.parametrize("state", ["absent", "pending"])
@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "", body()),
        ("POST", "", {}),
        ("POST", "", []),
        ("GET", "", None),
        ("DELETE", f"/{NO_KEY}", None),
        ("DELETE", "/no-uuid", None),
    ],
    ids=["add", "add nothing", "add a list", "list", "delete", "delete a name"],
)
def test_the_gate_comes_before_body_and_path(
    users: Users, state: str, method: str, path: str, sent: object
) -> None:
    person = users.person()
    if state == "pending":
        person.set_up()
    found = person.client.request(method, f"/exchange-keys{path}", json=sent)
    assert (found.status_code, found.json()) == (403, GATE)


def test_authentication_comes_before_the_gate(users: Users) -> None:
    nobody = users.client()
    for method, path in (("POST", ""), ("GET", ""), ("DELETE", "/no-uuid")):
        found = nobody.request(method, f"/exchange-keys{path}", json={})
        assert found.status_code == 401, found.text


def test_the_gate_comes_before_a_broken_body(users: Users) -> None:
    headers = {"content-type": "application/json"}
    person = users.person()
    found = person.client.post("/exchange-keys", content=b"{", headers=headers)
    assert (found.status_code, found.json()) == (403, GATE)
    person.enable()
    assert person.client.post("/exchange-keys", content=b"{", headers=headers).status_code == 422


def test_adding_and_deleting_need_a_fresh_code_and_listing_does_not(ann: Person) -> None:
    item = added(ann)
    ann.forget_step_up()
    refused(ann.post("/exchange-keys", {}), 403, "step_up_required")
    refused(ann.delete(f"/exchange-keys/{item['key_id']}"), 403, "step_up_required")
    refused(ann.delete("/exchange-keys/no-uuid"), 403, "step_up_required")
    assert ann.get("/exchange-keys").json() == [item]
    ann.step_up()
    assert ann.delete(f"/exchange-keys/{item['key_id']}").status_code == 204


def test_a_fresh_code_of_another_session_is_none_of_this_one(ann: Person) -> None:
    elsewhere = ann.users.person(ann)
    found = refused(elsewhere.post("/exchange-keys", body()), 403, "step_up_required")
    assert found["message"] == "A fresh code is needed: POST /2fa/step-up."


def test_an_access_token_reaches_no_keys(ann: Person) -> None:
    added(ann)
    made = ann.post("/access-tokens", {"name": "notebook", "scopes": ["read", "run"]})
    assert made.status_code == 201, made.text
    program = ann.users.client({"Authorization": f"Bearer {made.json()['token']}"})
    for method, path in (
        ("GET", "/exchange-keys"),
        ("POST", "/exchange-keys"),
        ("DELETE", "/exchange-keys/no-uuid"),
        ("GET", "/2fa"),
        ("POST", "/2fa/setup"),
        ("POST", "/2fa/step-up"),
        ("POST", "/2fa/reset"),
        ("POST", "/2fa/recovery-codes"),
    ):
        refused(program.request(method, path, json={}), 403, "insufficient_scope")


def test_a_token_of_the_whole_account_has_no_session_to_step_up(ann: Person) -> None:
    async def work(engine: AsyncEngine) -> str:
        async with engine.begin() as connection:
            return (await make_token(connection, ann.user_id, "up", ALL_SCOPES, 1))[1]

    token = with_engine(ann.users.database, work)
    program = ann.users.client({"Authorization": f"Bearer {token}"})
    for method, path in (
        ("GET", "/exchange-keys"),
        ("POST", "/exchange-keys"),
        ("DELETE", "/exchange-keys/no-uuid"),
        ("POST", "/2fa/setup"),
        ("POST", "/2fa/step-up"),
        ("DELETE", "/account"),
    ):
        refused(program.request(method, path, json={}), 403, "session_required")


# What is shown and stored


def test_an_item_shows_the_last_four_characters_and_nothing_else_of_the_key(ann: Person) -> None:
    item = added(ann)
    assert [*item] == [
        "key_id", "exchange_name", "market_type", "label", "permissions", "api_key", "created_at",
        "updated_at",
    ]  # fmt: skip
    assert item["api_key"] == "****ABCD"
    assert (item["exchange_name"], item["market_type"]) == ("binance", "spot")
    assert (item["label"], item["permissions"]) == ("my key", "read")
    assert item["created_at"] == item["updated_at"]
    assert item["created_at"].endswith("Z")
    assert ann.get("/exchange-keys").json() == [item]
    assert ann.events()[-1] == "exchange_key.added"


@pytest.mark.parametrize(
    ("key", "masked"),
    [("A", "****"), ("ABCD", "****"), (" ABCD ", "****"), ("ABCDE", "****BCDE"), ("ключ", "****")],
)
def test_a_short_key_is_not_shown_at_all(ann: Person, key: str, masked: str) -> None:
    assert added(ann, api_key=key)["api_key"] == masked


def test_texts_are_trimmed_and_blank_ones_are_none(ann: Person) -> None:
    item = added(ann, label=" \t ", passphrase="  ", api_key="\n trimmed-key \n")
    assert item["label"] is None
    assert item["api_key"] == "****-key"
    assert stored(ann, item["key_id"], "passphrase_enc") == (None,)
    refused(
        ann.post("/exchange-keys", body(api_key="trimmed-key")), 409, "exchange_key_already_exists"
    )
    assert added(ann, label=" x ", api_key="other-key")["label"] == "x"


def test_the_least_that_a_key_needs(ann: Person) -> None:
    assert added(ann, label=None, passphrase=None)["label"] is None


def test_all_three_secrets_are_encrypted_under_the_keys_binding(ann: Person) -> None:
    item = added(ann)
    vault = Vault(EXCHANGE_KEYS, ann.users.settings.exchange_keys)
    key_id = UUID(item["key_id"])
    blobs = stored(ann, item["key_id"], "api_key_enc, api_secret_enc, passphrase_enc")
    names = ("api_key", "api_secret", "passphrase")
    opened = [
        vault.open(blob, exchange_binding(ann.user_id, key_id, name))  # type: ignore[arg-type]
        for blob, name in zip(blobs, names, strict=True)
    ]
    assert opened == ["public-part-ABCD", "secret-part", "pass-phrase"]


def test_the_hash_is_keyed_by_a_pepper_that_is_sealed(ann: Person) -> None:
    item = added(ann)
    (found,) = stored(ann, item["key_id"], "api_key_hash")
    assert found != hashlib.sha256(b"public-part-ABCD").digest()
    ((blob,),) = rows(ann.users.database, "SELECT pepper_enc FROM identity_peppers")
    vault = Vault(EXCHANGE_KEYS, ann.users.settings.exchange_keys)
    pepper = bytes.fromhex(vault.open(blob, PEPPER))  # type: ignore[arg-type]
    assert found == hmac.digest(pepper, b"public-part-ABCD", "sha256")


def test_keys_are_listed_oldest_first_and_always_the_same(ann: Person) -> None:
    items = [added(ann, api_key=f"key-number-{number}") for number in range(5)]
    same = f"UPDATE identity_exchange_keys SET created_at = '{items[0]['created_at']}'"
    assert ann.get("/exchange-keys").json() == items
    ann.users.execute(f"{same} WHERE user_id = '{ann.user_id}'")
    found = [ann.get("/exchange-keys").content for _ in range(3)]
    assert len({*found}) == 1
    ids = [item["key_id"] for item in ann.get("/exchange-keys").json()]
    assert ids == sorted(ids)


# Refusals


def test_there_are_not_endlessly_many(ann: Person) -> None:
    first = added(ann)
    ann.users.execute(
        "INSERT INTO identity_exchange_keys SELECT gen_random_uuid(), user_id, exchange_name, "
        "market_type, label, permissions, api_key_enc, decode(lpad(to_hex(n), 64, '0'), 'hex'), "
        "api_key_last4, api_secret_enc, passphrase_enc, created_at, updated_at, is_deleted, "
        f"deleted_at FROM identity_exchange_keys, generate_series(2, {MAX_KEYS}) n "
        f"WHERE key_id = '{first['key_id']}'"
    )
    refused(ann.post("/exchange-keys", body(api_key="other")), 409, "too_many_exchange_keys")
    assert ann.delete(f"/exchange-keys/{first['key_id']}").status_code == 204
    added(ann, api_key="other")


def test_the_same_key_again_is_a_conflict_in_the_same_market_alone(ann: Person) -> None:
    added(ann)
    found = refused(
        ann.post("/exchange-keys", body(label="another")), 409, "exchange_key_already_exists"
    )
    assert found["message"] == "Exchange API key already exists."
    assert ann.events()[-1] == "exchange_key.refused"
    added(ann, market_type="futures")
    added(ann, exchange_name="bybit")
    bob = ann.users.person()
    bob.enable()
    added(bob)
    assert len(ann.get("/exchange-keys").json()) == 3


def test_the_same_key_several_times_at_once_is_stored_once(ann: Person) -> None:
    for number in range(3):
        sent = body(api_key=f"the-key-{number}")
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(ann.post, "/exchange-keys", sent) for _ in range(4)]
            statuses = sorted(future.result().status_code for future in futures)
        assert statuses == [201, 409, 409, 409]
    assert len(ann.get("/exchange-keys").json()) == 3


@pytest.mark.parametrize(
    ("members", "path", "code"),
    [
        ({"api_key": " "}, "body.api_key", "invalid_exchange_key_payload"),
        ({"api_key": ""}, "body.api_key", "invalid_exchange_key_payload"),
        ({"api_secret": "\t\n"}, "body.api_secret", "invalid_exchange_key_payload"),
        ({"api_key": "a\x00b"}, "body.api_key", "invalid_exchange_key_payload"),
        ({"label": "a\nb"}, "body.label", "invalid_exchange_key_payload"),
    ],
)
def test_a_payload_that_cannot_be_a_key(
    ann: Person, members: dict[str, Any], path: str, code: str
) -> None:
    found = refused(ann.post("/exchange-keys", body(**members)), 422, code)
    assert [(item["path"], item["code"]) for item in found["details"]["errors"]] == [(path, code)]
    assert ann.get("/exchange-keys").json() == []


@pytest.mark.parametrize(
    ("members", "path", "code"),
    [
        ({"api_key": None}, "body.api_key", "required"),
        ({"api_secret": None}, "body.api_secret", "required"),
        ({"exchange_name": None}, "body.exchange_name", "required"),
        ({"market_type": None}, "body.market_type", "required"),
        ({"permissions": None}, "body.permissions", "required"),
        ({"exchange_name": "Binance"}, "body.exchange_name", "literal_error"),
        ({"market_type": "SPOT"}, "body.market_type", "literal_error"),
        ({"permissions": "withdraw"}, "body.permissions", "literal_error"),
        ({"api_key": 7}, "body.api_key", "string_type"),
        ({"api_key": "k" * 257}, "body.api_key", "too_long"),
        ({"api_secret": "s" * 4097}, "body.api_secret", "too_long"),
        ({"passphrase": "p" * 257}, "body.passphrase", "too_long"),
        ({"label": "l" * 101}, "body.label", "string_too_long"),
        ({"is_deleted": True}, "body.is_deleted", "extra_forbidden"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_body_of_another_shape(
    ann: Person, members: dict[str, Any], path: str, code: str
) -> None:
    first = ann.post("/exchange-keys", body(**members))
    assert first.status_code == 422, first.text
    error = first.json()["error"]
    assert (error["code"], error["message"]) == ("validation_error", "Validation failed")
    assert [(item["path"], item["code"]) for item in error["details"]["errors"]] == [(path, code)]
    assert ann.post("/exchange-keys", body(**members)).content == first.content
    for secret in ("secret-part", "public-part", "pass-phrase", "kkkk", "ssss", "pppp"):
        assert secret not in first.text


def test_the_longest_texts_are_taken(ann: Person) -> None:
    added(ann, api_key="k" * 256, api_secret="s" * 4096, passphrase="p" * 256, label="l" * 100)


# Deletion


def test_a_deleted_key_is_wiped_and_may_be_added_again(ann: Person) -> None:
    item = added(ann)
    response = ann.delete(f"/exchange-keys/{item['key_id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert ann.events()[-1] == "exchange_key.deleted"
    assert ann.get("/exchange-keys").json() == []
    columns = "is_deleted, api_key_enc, api_secret_enc, passphrase_enc, deleted_at = updated_at"
    assert stored(ann, item["key_id"], columns) == (True, None, None, None, True)
    again = added(ann)
    assert again["key_id"] != item["key_id"]
    assert ann.get("/exchange-keys").json() == [again]


def test_missing_foreign_and_deleted_keys_are_the_same_404(ann: Person) -> None:
    item = added(ann)
    bob = ann.users.person()
    bob.enable()
    own = added(bob)
    bob.delete(f"/exchange-keys/{own['key_id']}")
    found: list[httpx.Response] = [
        bob.delete(f"/exchange-keys/{key_id}")
        for key_id in (item["key_id"], own["key_id"], str(NO_KEY))
    ]
    for response in found:
        refused(response, 404, "exchange_key_not_found")
    assert len({response.content for response in found}) == 1
    assert ann.get("/exchange-keys").json() == [item]
    assert bob.get("/exchange-keys").json() == []


def test_a_path_that_is_no_uuid(ann: Person) -> None:
    found = ann.delete("/exchange-keys/no-uuid")
    assert found.status_code == 422
    (fault,) = found.json()["error"]["details"]["errors"]
    assert fault["path"] == "path.key_id"


def test_a_key_deleted_twice_at_once_is_deleted_once(ann: Person) -> None:
    path = f"/exchange-keys/{added(ann)['key_id']}"
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ann.delete, path) for _ in range(4)]
        statuses = sorted(future.result().status_code for future in futures)
    assert statuses == [204, 404, 404, 404]
    assert ann.events().count("exchange_key.deleted") == 1


@pytest.mark.parametrize("path", ["/exchange-keys", f"/exchange-keys/{NO_KEY}"])
def test_there_is_no_way_to_change_or_read_one(ann: Person, path: str) -> None:
    for method in ("PUT", "PATCH"):
        assert ann.client.request(method, path, json={}).status_code == 405
    assert ann.get(f"/exchange-keys/{NO_KEY}").status_code == 405


# The account


def test_the_export_has_the_second_factor_and_masked_keys(ann: Person) -> None:
    item, gone = added(ann), added(ann, api_key="another-WXYZ")
    ann.delete(f"/exchange-keys/{gone['key_id']}")
    answer = ann.get("/account/export")
    found = answer.json()
    assert found["two_factor"]["enabled"] is True
    assert found["two_factor"]["recovery_codes_left"] == 10
    keys = found["exchange_keys"]
    assert [key["api_key"] for key in keys] == ["****ABCD", "****WXYZ"]
    assert [key["key_id"] for key in keys] == [item["key_id"], gone["key_id"]]
    assert [key["deleted_at"] is None for key in keys] == [True, False]
    for secret in (ann.secret, "public-part", "secret-part", "pass-phrase", "_enc", "_hash"):
        assert secret not in answer.text


def test_an_account_with_a_second_factor_is_erased_with_a_fresh_code_alone(ann: Person) -> None:
    added(ann)
    ann.forget_step_up()
    refused(ann.delete("/account"), 403, "step_up_required")
    assert len(ann.get("/exchange-keys").json()) == 1
    ann.step_up()
    assert ann.delete("/account").status_code == 204
    query = "SELECT count(*) FROM identity_exchange_keys WHERE user_id = $1"
    assert rows(ann.users.database, query, ann.user_id) == [(0,)]
    assert ann.row() is None
