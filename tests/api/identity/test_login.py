"""Logins over HTTP: the user, the cookie, the refusals, replays and lock-outs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from api.identity.service import LOGINS_BY_ADDRESS, LOGINS_BY_USER
from api.users import developer
from tests.api.identity.people import (
    COOKIE,
    TELEGRAM_ANN,
    TELEGRAM_BOB,
    browser,
    fresh,
    payload,
    refusal,
    user_id,
    user_service,
    with_settings,
)
from tests.api.identity.sharing import database, shared, url
from tests.postgres import execute, rows

__all__ = ["database", "shared", "url"]

LOGIN = "/auth/telegram/login"
DAY = 86_400


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with browser(url, None) as found:
        yield found


def cookie_of(answer: httpx.Response) -> Any:
    (header,) = answer.headers.get_list("set-cookie")
    return SimpleCookie(header)[COOKIE]


def events(database: str) -> list[Any]:
    return [row[0] for row in rows(database, "SELECT event FROM identity_audit ORDER BY event_id")]


def test_a_first_login_makes_a_user_and_later_ones_find_it(
    client: httpx.Client, database: str
) -> None:
    first = client.post(LOGIN, json=payload())
    assert first.status_code == 200
    assert first.json().keys() == {"user_id", "paid_level"}
    assert first.json()["paid_level"] == "free"
    assert first.headers["cache-control"] == "no-store"
    assert client.get("/auth/current-user").json() == first.json()
    execute(database, "UPDATE identity_users SET paid_level = 'pro'")
    again = client.post(LOGIN, json=fresh(2))
    assert again.json() == {**first.json(), "paid_level": "pro"}
    assert client.get("/auth/current-user").json() == again.json()
    other = client.post(LOGIN, json=payload(TELEGRAM_BOB))
    assert other.json()["user_id"] != first.json()["user_id"]
    found = rows(
        database,
        "SELECT telegram_user_id, created_at <= last_login_at FROM identity_users ORDER BY 1",
    )
    assert found == [(TELEGRAM_ANN, True), (TELEGRAM_BOB, True)]
    assert events(database) == [
        "login.succeeded", "session.ended", "login.succeeded", "login.succeeded",
    ]  # fmt: skip


def test_the_level_comes_from_storage_at_once(client: httpx.Client, database: str) -> None:
    client.post(LOGIN, json=payload())
    execute(database, "UPDATE identity_users SET paid_level = 'ultra'")
    assert client.get("/auth/current-user").json()["paid_level"] == "ultra"


def test_logins_at_the_same_time_make_one_user(url: str, database: str) -> None:
    def login(number: int) -> Any:
        with browser(url, None) as client:
            return client.post(LOGIN, json=fresh(number)).json()["user_id"]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(login, range(6)))) == 1
    assert rows(database, "SELECT count(*) FROM identity_users") == [(1,)]


@pytest.mark.parametrize("secure", [False, True])
def test_the_cookie(database: str, secure: bool) -> None:
    settings = with_settings(cookie_secure=secure, cookie_samesite="strict" if secure else "lax")
    with user_service(database, settings=settings) as url, browser(url, None) as client:
        before = time.time()
        answer = client.post(LOGIN, json=payload())
        cookie = cookie_of(answer)
        assert cookie["httponly"]
        assert bool(cookie["secure"]) is secure
        assert cookie["samesite"] == ("strict" if secure else "lax")
        assert (cookie["path"], cookie["domain"]) == ("/", "")
        assert 604_790 <= int(cookie["max-age"]) <= 604_800
        expires = parsedate_to_datetime(cookie["expires"]).timestamp()
        assert abs(expires - before - 604_800) < 15
        gone = client.post("/auth/logout", headers={"Cookie": f"{COOKIE}={cookie.value}"})
        assert gone.status_code == 204
        taken = cookie_of(gone)
        assert (taken.value, taken["max-age"], taken["path"]) == ("", "0", "/")
        assert parsedate_to_datetime(taken["expires"]).timestamp() < before
        assert bool(taken["secure"]) is secure
        assert taken["httponly"]


def test_a_soft_deleted_user_is_active_again_after_a_login(
    client: httpx.Client, database: str
) -> None:
    first = client.post(LOGIN, json=payload())
    execute(database, "UPDATE identity_users SET is_deleted = TRUE, paid_level = 'base'")
    assert refusal(client.get("/auth/current-user"), 401) == "deleted_user"
    again = client.post(LOGIN, json=fresh(2))
    assert again.json() == {"user_id": first.json()["user_id"], "paid_level": "base"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"hash": " "}, "missing_hash"),
        ({"auth_date": int(time.time()) - DAY - 100}, "stale_auth_date"),
        ({"auth_date": int(time.time()) + 3600}, "future_auth_date"),
        ({"id": 0}, "invalid_telegram_user_id"),
        ({"first_name": "Mallory"}, "invalid_hash"),
    ],
)
def test_refusals(client: httpx.Client, database: str, changes: dict[str, Any], code: str) -> None:
    answer = client.post(LOGIN, json={**payload(), **changes})
    assert refusal(answer, 401) == code
    assert answer.json()["error"]["code"] == "unauthorized"
    assert "set-cookie" not in answer.headers
    assert events(database) == ["login.failed"]
    assert rows(database, "SELECT count(*) FROM identity_users") == [(0,)]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["body.auth_date", "body.hash", "body.id"]),
        ([], ["body"]),
        ({**payload(), "id": "me"}, ["body.id"]),
        ({**payload(), "username": 7}, ["body.username"]),
        ({**payload(), "extra": ["x"]}, ["body.extra"]),
        ({**payload(), "first_name": "a\nb"}, ["body.first_name"]),
    ],
)
def test_bodies_of_another_form(client: httpx.Client, body: Any, paths: list[str]) -> None:
    answer = client.post(LOGIN, json=body)
    assert answer.status_code == 422
    assert [item["path"] for item in answer.json()["error"]["details"]["errors"]] == paths


def test_a_replayed_login_logs_in_once(url: str, database: str) -> None:
    sent = payload()

    def login(_: int) -> httpx.Response:
        with browser(url, None) as client:
            return client.post(LOGIN, json=sent)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(login, range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
    assert {refusal(a, 401) for a in answers if a.status_code == 401} == {"used_login"}
    upper = {**sent, "hash": sent["hash"].upper()}
    with browser(url, None) as client:
        assert refusal(client.post(LOGIN, json=upper), 401) == "used_login"
    assert rows(database, "SELECT count(*) FROM identity_sessions") == [(1,)]
    left = "SELECT extract(epoch FROM expires_at - now())::int FROM identity_used_logins"
    assert abs(rows(database, left)[0][0] - DAY - 60) < 15  # type: ignore[operator]
    execute(database, "UPDATE identity_used_logins SET expires_at = now() - interval '1 s'")
    with browser(url, None) as client:
        client.post(LOGIN, json=payload(TELEGRAM_BOB))
    assert rows(database, "SELECT count(*) FROM identity_used_logins") == [(1,)]


def test_an_address_that_keeps_failing_has_to_wait(url: str, database: str) -> None:
    wrong = {**payload(), "hash": "0" * 64}
    with browser(url, None) as client:
        for _ in range(LOGINS_BY_ADDRESS.free):
            assert refusal(client.post(LOGIN, json=wrong), 401) == "invalid_hash"
        execute(
            database,
            "UPDATE identity_limits SET blocked_until = clock_timestamp() + interval '1 min'",
        )
        answer = client.post(LOGIN, json=payload())
        assert refusal(answer, 429) == "too_many_attempts"
        assert 50 < int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"]["code"] == "too_many_requests"
        execute(database, "UPDATE identity_limits SET blocked_until = clock_timestamp()")
        assert client.post(LOGIN, json=fresh(2)).status_code == 200
    assert rows(database, "SELECT rule, subject FROM identity_limits ORDER BY 1") == [
        ("login_address", "127.0.0.1"),
        ("login_user", str(TELEGRAM_ANN)),
    ]


def test_a_user_who_logs_in_too_often_has_to_wait_and_no_copy_locks_him_out(url: str) -> None:
    sent = fresh(0)
    with browser(url, None) as client:
        assert client.post(LOGIN, json=sent).status_code == 200
        for _ in range(LOGINS_BY_USER.free):
            assert refusal(client.post(LOGIN, json=sent), 401) == "used_login"
        for number in range(1, LOGINS_BY_USER.free):
            assert client.post(LOGIN, json=fresh(number)).status_code == 200
        answer = client.post(LOGIN, json=fresh(99))
        assert refusal(answer, 429) == "too_many_attempts"
        assert answer.json()["error"]["details"]["limit"] == "login_user"
        assert client.post(LOGIN, json=payload(TELEGRAM_BOB)).status_code == 200


def test_the_development_login_is_nobody_where_a_proof_is_needed(database: str) -> None:
    with user_service(database, fallback=developer) as url, browser(url, None) as client:
        assert client.get("/backtests/runtime-defaults").status_code == 200
        for path in ("/auth/current-user", "/auth/sessions", "/access-tokens", "/account/export"):
            assert refusal(client.get(path), 401) == "missing_jwt_cookie"
        client.post(LOGIN, json=payload())
        assert user_id(client)
        assert client.get("/backtests/runtime-defaults").status_code == 200
        client.cookies.set(COOKIE, "a.b.c")
        answer = client.get("/backtests/runtime-defaults")
        assert refusal(answer, 401) == "invalid_token_format"
