"""Sessions: revocable, idle, absolute; every 401 of a cookie; another user's are out of reach."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.identity.session_tokens import encoded
from api.identity.settings import Key, KeyRing
from api.users import developer
from tests.api.identity.people import (
    COOKIE,
    SETTINGS,
    TELEGRAM_BOB,
    browser,
    fresh,
    payload,
    refusal,
    user_id,
    user_service,
    with_settings,
)
from tests.api.identity.sharing import ann, database, shared, url
from tests.api.service.market import CLIENT_S
from tests.postgres import execute, rows

__all__ = ["ann", "database", "shared", "url"]

ME = "/auth/current-user"


def copied(client: httpx.Client) -> httpx.Client:
    """Another client with the same cookie."""
    cookies = {COOKIE: client.cookies[COOKIE]}
    return httpx.Client(
        base_url=client.base_url, cookies=cookies, trust_env=False, timeout=CLIENT_S
    )


def token(ring: KeyRing = SETTINGS.jwt, **changes: Any) -> str:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "user_id": uuid4(),
        "session_id": uuid4(),
        "paid_level": "free",
        "issued_at": now,
        "expires_at": now + timedelta(days=1),
    }
    return encoded(ring, **{**values, **changes})


def test_logout_ends_the_session_and_every_copy_of_its_token(
    ann: httpx.Client, database: str
) -> None:
    with copied(ann) as thief:
        assert thief.get(ME).status_code == 200
        assert ann.post("/auth/logout").status_code == 204
        assert COOKIE not in ann.cookies
        assert refusal(thief.get(ME), 401) == "revoked_session"
    assert refusal(ann.get(ME), 401) == "missing_jwt_cookie"
    assert ann.post("/auth/logout").status_code == 204
    assert [row[0] for row in rows(database, "SELECT event FROM identity_audit ORDER BY at")] == [
        "login.succeeded",
        "session.ended",
    ]


def test_logging_out_everywhere(url: str, ann: httpx.Client) -> None:
    with browser(url, first_name="other") as elsewhere, browser(url, TELEGRAM_BOB) as bob:
        answer = ann.post("/auth/logout-everywhere")
        assert answer.status_code == 204
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert refusal(elsewhere.get(ME), 401) == "revoked_session"
        assert refusal(ann.get(ME), 401) == "missing_jwt_cookie"
        assert bob.get(ME).status_code == 200


def test_a_new_login_ends_the_session_it_replaces(ann: httpx.Client, database: str) -> None:
    with copied(ann) as before:
        ann.post("/auth/telegram/login", json=fresh(2))
        assert ann.get(ME).status_code == 200
        assert refusal(before.get(ME), 401) == "revoked_session"
    events = [str(event) for (event,) in rows(database, "SELECT event FROM identity_audit")]
    assert sorted(events) == ["login.succeeded", "login.succeeded", "session.ended"]


def test_a_login_does_not_end_the_session_of_another_user(url: str, ann: httpx.Client) -> None:
    with copied(ann) as shared:
        shared.post("/auth/telegram/login", json=payload(TELEGRAM_BOB))
        assert ann.get(ME).status_code == 200


def test_sessions_are_listed_and_ended_one_by_one(url: str, ann: httpx.Client) -> None:
    agent = {"User-Agent": "Browser\x01 7 " + "x" * 300}
    with browser(url, None) as phone, browser(url, TELEGRAM_BOB) as bob:
        phone.post("/auth/telegram/login", json=fresh(2), headers=agent)
        here, there = ann.get("/auth/sessions").json()["items"]
        assert here.keys() == {
            "session_id", "created_at", "last_seen_at", "expires_at", "user_agent", "network",
            "current",
        }  # fmt: skip
        assert (here["current"], there["current"]) == (True, False)
        assert there["user_agent"].startswith("Browser 7 x")
        assert len(there["user_agent"]) == 200
        assert there["network"] == "127.0.0.0/24"
        assert here["created_at"].endswith("Z")
        path = f"/auth/sessions/{there['session_id']}"
        assert refusal(bob.delete(path), 404) == "session_not_found"
        assert phone.get(ME).status_code == 200
        assert ann.delete(path).status_code == 204
        assert refusal(phone.get(ME), 401) == "revoked_session"
        assert refusal(ann.delete(path), 404) == "session_not_found"
        assert len(ann.get("/auth/sessions").json()["items"]) == 1
        assert ann.delete("/auth/sessions/mine").status_code == 422
        assert refusal(ann.delete(f"/auth/sessions/{uuid4()}"), 404) == "session_not_found"


def test_an_idle_session_ends_and_a_used_one_does_not(ann: httpx.Client, database: str) -> None:
    age = "UPDATE identity_sessions SET created_at = created_at - interval '3 d', last_seen_at = {}"
    execute(database, age.format("now() - interval '23 h 59 min'"))
    assert ann.get(ME).status_code == 200
    seen = "SELECT now() - last_seen_at < interval '10 s' FROM identity_sessions"
    assert rows(database, seen) == [(True,)]
    execute(database, age.format("now() - interval '24 h'"))
    assert refusal(ann.get(ME), 401) == "idle_session"
    assert refusal(ann.post("/auth/logout-everywhere"), 401) == "idle_session"


def test_a_session_in_use_is_written_once_a_minute(ann: httpx.Client, database: str) -> None:
    query = "SELECT last_seen_at FROM identity_sessions"
    before = rows(database, query)
    for _ in range(3):
        ann.get(ME)
    assert rows(database, query) == before


def test_an_absolute_end(ann: httpx.Client, database: str) -> None:
    execute(
        database,
        "UPDATE identity_sessions SET created_at = created_at - interval '8 d',"
        " expires_at = now() - interval '1 s'",
    )
    assert refusal(ann.get(ME), 401) == "expired_token"


def test_the_life_follows_the_setting(database: str) -> None:
    with (
        user_service(database, settings=with_settings(jwt_ttl_days=2)) as url,
        browser(url) as ann,
    ):
        (session,) = ann.get("/auth/sessions").json()["items"]
        times = [datetime.fromisoformat(session[f"{name}_at"]) for name in ("created", "expires")]
        assert timedelta(days=2) - timedelta(seconds=1) <= times[1] - times[0] <= timedelta(days=2)


@pytest.mark.parametrize("value", ["", "  ; other=1"])
def test_a_blank_cookie(url: str, value: str) -> None:
    answer = httpx.get(
        f"{url}{ME}", headers={"Cookie": f"{COOKIE}={value}"}, trust_env=False, timeout=CLIENT_S
    )
    assert refusal(answer, 401) == "missing_jwt_cookie"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("value", ["x", "a.b.c", b"\xff\xfe.a.b", "é.é.é".encode(), "a" * 5000])
def test_a_cookie_that_is_no_token(url: str, value: str | bytes) -> None:
    header = f"{COOKIE}=".encode() + (value if isinstance(value, bytes) else value.encode())
    answer = httpx.get(f"{url}{ME}", headers={b"Cookie": header}, trust_env=False, timeout=CLIENT_S)
    assert refusal(answer, 401) == "invalid_token_format"


def test_a_signed_token_without_a_session_is_nobody(url: str, ann: httpx.Client) -> None:
    mine = user_id(ann)
    with browser(url, TELEGRAM_BOB) as bob:
        theirs = UUID(bob.get("/auth/sessions").json()["items"][0]["session_id"])
    for made, code in (
        (token(), "unknown_user"),
        (token(user_id=mine), "revoked_session"),
        (token(user_id=mine, session_id=theirs), "revoked_session"),
        (token(KeyRing(Key(b"x" * 40)), user_id=mine), "invalid_signature"),
        (token(user_id=mine, expires_at=datetime.now(UTC)), "expired_token"),
    ):
        ann.cookies.clear()
        ann.cookies.set(COOKIE, made)
        assert refusal(ann.get(ME), 401) == code


def test_a_rotated_secret_keeps_sessions_until_it_is_dropped(database: str) -> None:
    new = Key(b"a new secret of more than 32 bytes...")
    with user_service(database) as url, browser(url) as ann:
        cookie = ann.cookies[COOKIE]
    for ring, status in ((KeyRing(new, SETTINGS.jwt.current), 200), (KeyRing(new), 401)):
        with user_service(database, settings=with_settings(jwt=ring)) as url:
            answer = httpx.get(
                f"{url}{ME}", headers={"Cookie": f"{COOKIE}={cookie}"}, timeout=CLIENT_S
            )
            assert answer.status_code == status


def test_without_a_database_nobody_is_let_in() -> None:
    with user_service("postgresql://roehub:planted@127.0.0.1:1/roehub", fallback=developer) as url:
        for headers in ({"Cookie": f"{COOKIE}={token()}"}, {"Authorization": "Bearer x"}):
            for path in (ME, "/backtests/runtime-defaults"):
                answer = httpx.get(
                    f"{url}{path}", headers=headers, trust_env=False, timeout=CLIENT_S
                )
                assert answer.status_code == 500
                assert answer.json()["error"]["details"].keys() == {"reason"}
                assert "planted" not in answer.text
        answer = httpx.post(
            f"{url}/auth/telegram/login", json=payload(), trust_env=False, timeout=CLIENT_S
        )
        assert answer.status_code == 500
        assert "set-cookie" not in answer.headers


def test_old_sessions_are_removed_by_a_login(ann: httpx.Client, database: str) -> None:
    execute(
        database,
        "UPDATE identity_sessions SET created_at = now() - interval '99 d',"
        " last_seen_at = now() - interval '98 d', expires_at = now() - interval '31 d'",
    )
    ann.post("/auth/telegram/login", json=fresh(2))
    assert rows(database, "SELECT count(*) FROM identity_sessions") == [(1,)]
