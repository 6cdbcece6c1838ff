"""One address for people and programs, and what every page carries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.pages.visitor import own_path
from tests.api.pages.conftest import html, site
from tests.api.service.market import CLIENT_S


@pytest.fixture
def visitor(database: str, tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        site(None, database, tmp_path) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
    ):
        yield client


def test_a_path_is_a_page_for_people_and_json_for_programs(visitor: httpx.Client) -> None:
    for path in ("/backtests/jobs", "/api/backtests/jobs"):
        found = visitor.get(path)
        assert found.json() == {"items": [], "next_cursor": None}
    shown = visitor.get("/backtests/jobs", headers=html())
    assert shown.headers["content-type"].startswith("text/html")
    assert "There is no job yet." in shown.text
    # With the prefix it is the API for everybody.
    assert visitor.get("/api/backtests/jobs", headers=html()).json()["items"] == []
    # A path that has no page is the API's, whoever asks; a change is always the API's.
    assert visitor.get("/health", headers=html()).json() == {"status": "ok"}
    refused = visitor.post("/backtests/jobs", headers=html(), json={})
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "validation_error"


def test_pages_carry_what_keeps_them_to_themselves(visitor: httpx.Client) -> None:
    for path in ("/", "/backtests/jobs"):
        found = visitor.get(path, headers=html())
        policy = found.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cache-control"] == "no-store"


def test_assets_are_sent_once(visitor: httpx.Client) -> None:
    found = visitor.get("/assets/page.js")
    assert found.status_code == 200
    again = visitor.get("/assets/page.js", headers={"if-none-match": found.headers["etag"]})
    assert again.status_code == 304
    assert visitor.get("/assets/../app.py").status_code == 404
    assert visitor.get("/assets/%2e%2e/app.py").status_code == 404


def test_a_stranger_is_led_to_the_login_and_back(database: str, tmp_path: Path) -> None:
    with (
        site(None, database, tmp_path, development=False) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as stranger,
    ):
        found = stranger.get("/backtests/jobs?state=failed", headers=html())
        assert found.status_code == 303
        assert found.headers["location"] == "/login?next=/backtests/jobs%3Fstate%3Dfailed"
        asked = {"hx-request": "true", "hx-current-url": f"{url}/backtests/jobs?state=failed"}
        found = stranger.get("/_partial/jobs", headers=asked)
        assert found.status_code == 401
        assert found.headers["hx-redirect"] == "/login?next=/backtests/jobs%3Fstate%3Dfailed"
        assert "Log in" in stranger.get("/", headers=html()).text


@pytest.mark.parametrize(
    "raw",
    [
        "//evil",
        "/\\evil",
        "https://evil",
        "",
        None,
        "evil",
        "/a\\b",
        "/\t/evil",
        "/a\nb",
        "\\\\evil",
    ],
)
def test_nobody_is_led_elsewhere(raw: str | None) -> None:
    assert own_path(raw) == "/"


def test_a_path_of_ours_is_kept() -> None:
    assert own_path("/strategies/1?a=b%20c") == "/strategies/1?a=b%20c"
