"""Access tokens: shown once, kept as a hash, held to their scopes, ended by time or by hand."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.identity.access_tokens import MAX_ENDED, MAX_TOKENS, PREFIX
from tests.api.identity.people import TELEGRAM_BOB, browser, refusal, user_id
from tests.api.identity.sharing import ann, database, shared, url
from tests.api.service.market import CLIENT_S
from tests.postgres import execute, rows

__all__ = ["ann", "database", "shared", "url"]

TOKENS, ME, DEFAULTS = "/access-tokens", "/auth/current-user", "/backtests/runtime-defaults"
RUNS = "/backtests"


def made(client: httpx.Client, *scopes: str, **changes: Any) -> dict[str, Any]:
    body = {"name": "notebook", "scopes": list(scopes) or ["read", "run"], **changes}
    answer = client.post(TOKENS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def program(url: object, token: str, scheme: str = "Bearer") -> httpx.Client:
    """A client that has nothing but a token."""
    headers = {"Authorization": f"{scheme} {token}"}
    return httpx.Client(base_url=str(url), headers=headers, trust_env=False, timeout=CLIENT_S)


def test_a_token_is_shown_once_and_kept_as_a_hash(ann: httpx.Client, database: str) -> None:
    new = made(ann, expires_in_days=30)
    token = new.pop("token")
    assert token.startswith(PREFIX)
    assert len(token) == len(PREFIX) + 43
    assert new.keys() == {
        "token_id", "name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at",
    }  # fmt: skip
    listed = ann.get(TOKENS)
    assert listed.json() == {"items": [new]}
    assert token not in listed.text
    ((kept, days),) = rows(
        database,
        "SELECT token_hash, expires_at - created_at = interval '30 d' FROM identity_access_tokens",
    )
    assert (kept, days) == (hashlib.sha256(token.encode()).digest(), True)
    whole = rows(database, "SELECT t::text FROM identity_access_tokens t")
    assert token not in str(whole)
    events = [row[0] for row in rows(database, "SELECT event FROM identity_audit ORDER BY at")]
    assert events == ["login.succeeded", "access_token.made"]


def test_a_token_is_its_user(ann: httpx.Client, database: str) -> None:
    token = made(ann, "read")["token"]
    for scheme in ("Bearer", "bearer"):
        with program(ann.base_url, token, scheme) as notebook:
            assert user_id(notebook) == user_id(ann)
            assert notebook.get(DEFAULTS).status_code == 200
    assert ann.get(TOKENS).json()["items"][0]["last_used_at"] is not None
    query = "SELECT last_used_at FROM identity_access_tokens"
    before = rows(database, query)
    with program(ann.base_url, token) as notebook:
        notebook.get(ME)
    assert rows(database, query) == before


def test_scopes(ann: httpx.Client) -> None:
    reader, runner = made(ann, "read")["token"], made(ann, "run")["token"]
    with program(ann.base_url, reader) as notebook:
        assert notebook.get(DEFAULTS).status_code == 200
        answer = notebook.post(RUNS, json={})
        assert refusal(answer, 403) == "insufficient_scope"
        assert answer.json()["error"]["details"]["scope"] == "run"
    with program(ann.base_url, runner) as notebook:
        assert refusal(notebook.get(DEFAULTS), 403) == "insufficient_scope"
        assert notebook.post(RUNS, json={}).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", TOKENS),
        ("POST", TOKENS),
        ("DELETE", f"{TOKENS}/{uuid4()}"),
        ("GET", "/auth/sessions"),
        ("DELETE", f"/auth/sessions/{uuid4()}"),
        ("POST", "/auth/logout-everywhere"),
        ("GET", "/account/export"),
        ("DELETE", "/account"),
    ],
    ids=lambda value: value.split("/")[1] if "/" in value else value,
)
def test_the_account_is_for_sessions_alone(ann: httpx.Client, method: str, path: str) -> None:
    token = made(ann)["token"]
    with program(ann.base_url, token) as notebook:
        answer = notebook.request(method, path)
        assert refusal(answer, 403) == "insufficient_scope"
        assert answer.json()["error"]["details"]["scope"] == "account"
    assert refusal(httpx.request(method, f"{ann.base_url}{path}", trust_env=False), 401) == (
        "missing_jwt_cookie"
    )


def test_what_is_refused_is_logged(ann: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with program(ann.base_url, made(ann, "read")["token"]) as notebook:
        notebook.post(RUNS, json={})
        notebook.get(TOKENS)
    with program(ann.base_url, f"{PREFIX}no") as notebook:
        notebook.get(ME)
    ann.post(TOKENS, json={}, headers={"Sec-Fetch-Site": "cross-site"})
    ann.get(ME, headers={"Cookie": "roehub_identity_jwt=a.b.c"})
    for said in (
        f"user {user_id(ann)} lacks the scope run",
        f"user {user_id(ann)} lacks the scope account",
        "refused GET: invalid_access_token, from 127.0.0.0/24",
        "refused POST: cross_site_request, from 127.0.0.0/24",
        "refused GET: invalid_token_format, from 127.0.0.0/24",
    ):
        assert said in caplog.text
    assert PREFIX not in "".join(line for line in caplog.messages if "refused" in line)


def test_a_revoked_token_stops_at_once(ann: httpx.Client, url: str) -> None:
    new = made(ann)
    path = f"{TOKENS}/{new['token_id']}"
    with program(url, new["token"]) as notebook, browser(url, TELEGRAM_BOB) as bob:
        assert refusal(bob.delete(path), 404) == "access_token_not_found"
        assert notebook.get(ME).status_code == 200
        assert ann.delete(path).status_code == 204
        assert refusal(notebook.get(ME), 401) == "revoked_access_token"
    assert refusal(ann.delete(path), 404) == "access_token_not_found"
    assert ann.delete(f"{TOKENS}/mine").status_code == 422
    assert ann.get(TOKENS).json()["items"][0]["revoked_at"] is not None


def test_an_expired_token(ann: httpx.Client, database: str) -> None:
    token = made(ann)["token"]
    execute(
        database,
        "UPDATE identity_access_tokens"
        " SET created_at = now() - interval '91 d', expires_at = now()",
    )
    with program(ann.base_url, token) as notebook:
        assert refusal(notebook.get(ME), 401) == "expired_access_token"


def test_a_token_of_a_deleted_user(ann: httpx.Client, database: str) -> None:
    token = made(ann)["token"]
    execute(database, "UPDATE identity_users SET is_deleted = TRUE")
    with program(ann.base_url, token) as notebook:
        assert refusal(notebook.get(ME), 401) == "deleted_user"


@pytest.mark.parametrize("token", ["", "x", PREFIX, f"{PREFIX}{'A' * 43}", "a.b.c", "é"])
def test_what_is_no_token_of_ours(ann: httpx.Client, token: str) -> None:
    """It goes before the cookie: a program is never somebody by accident."""
    header = b"Bearer " + token.encode() if token else b"Bearer x"
    answer = ann.get(ME, headers={b"Authorization": header})
    assert refusal(answer, 401) == "invalid_access_token"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_another_scheme_is_not_ours(ann: httpx.Client) -> None:
    assert ann.get(ME, headers={"Authorization": "Basic YTpi"}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"name": " "}, "body.name"),
        ({"name": "x" * 101}, "body.name"),
        ({"name": "a\0b"}, "body.name"),
        ({"name": "a\nb"}, "body.name"),
        ({"name": "a\x7f"}, "body.name"),
        ({"scopes": []}, "body.scopes"),
        ({"scopes": ["account"]}, "body.scopes.0"),
        ({"scopes": "read"}, "body.scopes"),
        ({"expires_in_days": 0}, "body.expires_in_days"),
        ({"expires_in_days": 366}, "body.expires_in_days"),
        ({"expires_in_days": "7"}, "body.expires_in_days"),
        ({"admin": True}, "body.admin"),
    ],
)
def test_bodies_that_cannot_be_meant(ann: httpx.Client, changes: Any, path: str) -> None:
    answer = ann.post(TOKENS, json={"name": "n", "scopes": ["read"], **changes})
    assert answer.status_code == 422
    assert [item["path"] for item in answer.json()["error"]["details"]["errors"]] == [path]


def test_there_are_not_endlessly_many(ann: httpx.Client) -> None:
    for _ in range(MAX_TOKENS - 2):
        made(ann)

    def one_more(_: int) -> int:
        cookies = dict(ann.cookies)
        body = {"name": "n", "scopes": ["read"]}
        with httpx.Client(
            base_url=ann.base_url, cookies=cookies, trust_env=False, timeout=CLIENT_S
        ) as client:
            return client.post(TOKENS, json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(one_more, range(6))) == [201, 201, 409, 409, 409, 409]
    answer = ann.post(TOKENS, json={"name": "n", "scopes": ["read"]})
    assert refusal(answer, 409) == "too_many_access_tokens"
    ann.delete(f"{TOKENS}/{ann.get(TOKENS).json()['items'][0]['token_id']}")
    made(ann)


def test_of_those_that_ended_the_last_ones_are_kept(ann: httpx.Client, database: str) -> None:
    for _ in range(2):
        made(ann)
    execute(
        database,
        "INSERT INTO identity_access_tokens SELECT gen_random_uuid(), user_id, 'ended', "
        "decode(lpad(to_hex(n), 64, '0'), 'hex'), scopes, created_at - n * interval '1 s', "
        "expires_at, NULL, now() FROM identity_access_tokens, generate_series(1, 150) n "
        "WHERE token_id = (SELECT min(token_id::text)::uuid FROM identity_access_tokens)",
    )
    made(ann)
    items = ann.get(TOKENS).json()["items"]
    assert len([one for one in items if one["revoked_at"]]) == MAX_ENDED
    assert len(items) == MAX_ENDED + 3
