"""A service with users over a real database, and people who log in to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx

from api.app import create_app
from api.context import AppContext
from api.identity.service import Identity
from api.identity.settings import IdentitySettings
from api.identity.telegram import signature
from api.users import Login, nobody
from cluster.postgres.engine import engine
from tests.api.service.market import context_of
from tests.api.service.serving import served

BOT_TOKEN = "123456:TEST"
COOKIE = "roehub_identity_jwt"
TELEGRAM_ANN, TELEGRAM_BOB = 411001, 411002
SETTINGS = IdentitySettings.from_environment({"TELEGRAM_BOT_TOKEN": BOT_TOKEN}, "test")


@contextmanager
def user_service(
    dsn: str,
    *,
    settings: IdentitySettings = SETTINGS,
    fallback: Login = nobody,
    parts: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Iterator[str]:
    """URL of a service that has users, and no candles unless they are given."""

    def context() -> AppContext:
        found = context_of(changes.pop("store", None), engine=engine(dsn), login=nobody, **changes)
        assert found.engine is not None
        found.use_identity(Identity(found.engine, settings, found.now_ms, fallback=fallback))
        found.account_parts.update(parts or {})
        return found

    with served(lambda: create_app(context())) as url:
        yield url


def payload(telegram_user_id: int = TELEGRAM_ANN, **fields: Any) -> dict[str, Any]:
    """What the widget gives a page now: signed fields; None leaves one out."""
    made = {
        "id": telegram_user_id,
        "auth_date": int(time.time()),
        "first_name": "Roe",
        "username": "roehub_test",
        **fields,
    }
    sent = {name: value for name, value in made.items() if value is not None}
    signed = signature({name: str(value) for name, value in sent.items()}, BOT_TOKEN)
    return {**sent, "hash": signed.hex()}


def fresh(number: int) -> dict[str, Any]:
    """The payload of one of several logins of Ann in the same second."""
    return payload(first_name=f"Roe {number}")


@contextmanager
def browser(
    url: str, telegram_user_id: int | None = TELEGRAM_ANN, **fields: Any
) -> Iterator[httpx.Client]:
    """A client with a cookie jar; logged in unless the user is None."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        if telegram_user_id is not None:
            answer = client.post("/auth/telegram/login", json=payload(telegram_user_id, **fields))
            assert answer.status_code == 200, answer.text
        yield client


def user_id(client: httpx.Client) -> UUID:
    return UUID(client.get("/auth/current-user").json()["user_id"])


def refusal(answer: httpx.Response, status: int) -> str:
    """The specific code of an answer that is an error of this status."""
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    return answer.json()["error"]["details"]["error"]


def with_settings(**changes: Any) -> IdentitySettings:
    return replace(SETTINGS, **changes)
