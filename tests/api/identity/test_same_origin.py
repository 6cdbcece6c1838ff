"""What a page of another site can make a browser do: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from api.users import developer
from tests.api.identity.people import (
    TELEGRAM_BOB,
    browser,
    payload,
    refusal,
    user_service,
    with_settings,
)
from tests.api.identity.sharing import shared

__all__ = ["shared"]
OURS = "https://app.example.com"
EVIL = "https://evil.example.com"
TOKEN = {"name": "n", "scopes": ["read"]}


@pytest.fixture(scope="module")
def ann(shared: tuple[str, str]) -> Iterator[httpx.Client]:
    settings = with_settings(trusted_origins=(OURS,))
    with user_service(shared[0], settings=settings) as url, browser(url) as client:
        yield client


def own(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


@pytest.mark.parametrize(
    ("origin", "site", "good"),
    [
        (None, None, True),
        (None, "same-origin", True),
        (None, "none", True),
        (None, "same-site", False),
        (None, "cross-site", False),
        (None, "new-kind", False),
        ("own", None, True),
        ("own", "same-origin", True),
        ("own", "cross-site", False),
        (EVIL, None, False),
        (EVIL, "cross-site", False),
        (EVIL, "same-origin", True),
        ("null", None, False),
        ("null", "cross-site", False),
        ("http://127.0.0.1:1", None, False),
        ("http://127.0.0.1:1", "same-site", False),
        (OURS, "cross-site", True),
        (OURS, None, True),
        (f"{OURS}.evil.com", None, False),
    ],
)
def test_a_mutating_request_with_a_cookie(
    ann: httpx.Client, origin: str | None, site: str | None, good: bool
) -> None:
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    if origin is not None:
        headers["Origin"] = own(ann) if origin == "own" else origin
    answer = ann.post("/access-tokens", json={**TOKEN, "scopes": []}, headers=headers)
    if good:
        assert answer.status_code == 422
    else:
        assert refusal(answer, 403) == "cross_site_request"
        assert answer.json()["error"]["code"] == "forbidden"
    assert ann.get("/auth/current-user", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/auth/logout"),
        ("POST", "/auth/logout-everywhere"),
        ("POST", "/auth/telegram/login"),
        ("POST", "/access-tokens"),
        ("DELETE", "/access-tokens/00000000-0000-0000-0000-000000000000"),
        ("DELETE", "/auth/sessions/00000000-0000-0000-0000-000000000000"),
        ("DELETE", "/account"),
        ("POST", "/backtests"),
    ],
)
def test_every_path_that_changes_something(ann: httpx.Client, method: str, path: str) -> None:
    body = payload(TELEGRAM_BOB) if "login" in path else None
    answer = ann.request(method, path, headers={"Origin": EVIL}, json=body)
    assert refusal(answer, 403) == "cross_site_request"
    assert ann.get("/auth/current-user").status_code == 200


def test_the_development_login_needs_a_page_of_ours_too(shared: tuple[str, str]) -> None:
    with user_service(shared[0], fallback=developer) as url, browser(url, None) as client:
        answer = client.post("/backtests", headers={"Origin": EVIL}, json={})
        assert refusal(answer, 403) == "cross_site_request"
        assert client.post("/backtests", headers={"Origin": url}, json={}).status_code == 422
        assert client.post("/backtests", json={}).status_code == 422


def test_a_token_needs_no_page(ann: httpx.Client) -> None:
    token = ann.post("/access-tokens", json=TOKEN).json()["token"]
    headers = {"Authorization": f"Bearer {token}", "Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    answer = ann.post("/backtests", json={}, headers=headers)
    assert refusal(answer, 403) == "insufficient_scope"


def test_no_other_site_may_read_answers(ann: httpx.Client) -> None:
    answer = ann.options(
        "/access-tokens", headers={"Origin": EVIL, "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 405
    read = ann.get("/auth/current-user", headers={"Origin": EVIL})
    assert not [name for name in read.headers if name.startswith("access-control")]
