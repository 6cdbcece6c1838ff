"""Telegram chats over HTTP: asked for with a link, listed and removed by their user alone."""

from __future__ import annotations

import hashlib
from datetime import datetime
from uuid import uuid4

import httpx
import pytest

from api.routes.chats import LINKS_BY_USER
from tests.api.identity.people import TELEGRAM_ANN, TELEGRAM_BOB, browser, refusal, user_id
from tests.api.identity.sharing import ann, database, shared, url
from tests.api.service.market import CLIENT_S
from tests.postgres import execute, rows

__all__ = ["ann", "database", "shared", "url"]

CHATS = "/account/telegram/chats"


def test_a_link_is_shown_once_and_kept_as_a_hash(ann: httpx.Client, database: str) -> None:
    execute(
        database,
        "DELETE FROM telegram_bots",
        "INSERT INTO telegram_bots (bot_id, username, owner, token, lease_until) VALUES"
        " (1, 'old_bot', 'one', 1, now() - interval '1 d'), (2, 'new_bot', 'one', 1, now())",
    )
    answer = ann.post(CHATS)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    token = found["token"]
    assert found["url"] == f"https://t.me/new_bot?start={token}"
    assert len(token) == 43  # Telegram takes 64 characters
    ((kept, minutes),) = rows(
        database,
        "SELECT token_hash, extract(epoch FROM expires_at - created_at)::int / 60"
        " FROM identity_telegram_links",
    )
    assert (kept, minutes) == (hashlib.sha256(token.encode()).digest(), 15)
    export = ann.get("/account/export")
    assert token not in export.text
    link = export.json()["telegram_link"]
    assert datetime.fromisoformat(link["expires_at"]) == datetime.fromisoformat(found["expires_at"])
    again = ann.post(CHATS).json()["token"]
    assert again != token
    assert rows(database, "SELECT token_hash FROM identity_telegram_links") == [
        (hashlib.sha256(again.encode()).digest(),)
    ]
    events = rows(database, "SELECT event FROM identity_audit WHERE event LIKE 'telegram%'")
    assert events == [("telegram_chat.asked",)] * 2


def test_without_a_bot_there_is_a_token_but_no_address(ann: httpx.Client, database: str) -> None:
    execute(database, "DELETE FROM telegram_bots")
    found = ann.post(CHATS).json()
    assert found["url"] is None
    assert found["token"]


def test_chats_are_their_users_alone(url: str, ann: httpx.Client, database: str) -> None:
    mine = user_id(ann)
    execute(
        database,
        f"INSERT INTO identity_telegram_channels VALUES ('{mine}', -77, FALSE, NULL),"
        f" ('{mine}', {TELEGRAM_ANN}, TRUE, now()), ('{mine}', 5, TRUE, now() - interval '1 d')",
    )
    listed = ann.get(CHATS).json()["items"]
    assert [one["chat_id"] for one in listed] == [TELEGRAM_ANN, 5, -77]
    assert listed[2] == {"chat_id": -77, "is_confirmed": False, "confirmed_at": None}
    with browser(url, TELEGRAM_BOB) as bob:
        assert bob.get(CHATS).json() == {"items": []}
        assert refusal(bob.delete(f"{CHATS}/5"), 404) == "telegram_chat_not_found"
    assert ann.delete(f"{CHATS}/-77").status_code == 204
    assert ann.delete(f"{CHATS}/5").status_code == 204
    assert refusal(ann.delete(f"{CHATS}/5"), 404) == "telegram_chat_not_found"
    assert [one["chat_id"] for one in ann.get(CHATS).json()["items"]] == [TELEGRAM_ANN]
    for wrong in ("x", "9" * 30, "1.5"):
        assert ann.delete(f"{CHATS}/{wrong}").status_code == 422


def test_links_are_limited(ann: httpx.Client) -> None:
    for _ in range(LINKS_BY_USER.free):
        assert ann.post(CHATS).status_code == 201
    answer = ann.post(CHATS)
    assert refusal(answer, 429) == "too_many_attempts"
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("method", "path"), [("GET", CHATS), ("POST", CHATS), ("DELETE", f"{CHATS}/5")]
)
def test_neither_tokens_nor_strangers_have_chats(ann: httpx.Client, method: str, path: str) -> None:
    body = {"name": str(uuid4()), "scopes": ["read", "run"]}
    token = ann.post("/access-tokens", json=body).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=ann.base_url, trust_env=False, timeout=CLIENT_S) as stranger:
        assert refusal(stranger.request(method, path), 401) == "missing_jwt_cookie"
        answer = stranger.request(method, path, headers=headers)
        assert refusal(answer, 403) == "insufficient_scope"


def test_a_page_of_another_site_binds_nothing(ann: httpx.Client, database: str) -> None:
    assert ann.post(CHATS, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert rows(database, "SELECT 1 FROM identity_telegram_links") == []
