"""One address for people and programs, and what every page carries."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import Request, Response
from playwright.sync_api import BrowserContext, expect

from api.envelope import envelope
from api.pages.front import Front
from api.pages.visitor import forget_place, keep_place, kept_place, own_path
from tests.api.identity.people import SETTINGS, browser
from tests.api.pages.conftest import html, site, too_wide, unsound, watched
from tests.api.service.market import CLIENT_S

WITH_BOT = replace(SETTINGS, bot_name="roehub_test_bot")


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
    assert "There are no jobs yet." in shown.text
    # With the prefix it is the API for everybody.
    assert visitor.get("/api/backtests/jobs", headers=html()).json()["items"] == []
    # A path that has no page is the API's, whoever asks; a change is always the API's.
    assert visitor.get("/health", headers=html()).json() == {"status": "ok"}
    # Whoever keeps copies is told that an address has two answers.
    assert visitor.get("/backtests/jobs").headers["vary"] == "Accept"
    assert "Accept" in shown.headers["vary"].split(", ")
    assert "vary" not in visitor.get("/api/backtests/jobs").headers
    refused = visitor.post("/backtests/jobs", headers=html(), json={})
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "validation_error"


def test_an_error_is_told_on_a_page_that_knows_its_reader(visitor: httpx.Client) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    for path in ("/nope", f"/backtests/jobs/{nobody}", f"/backtests/jobs/{nobody}/report"):
        found = visitor.get(path, headers=html())
        assert found.status_code == 404
        assert found.headers["content-security-policy"].startswith("default-src 'none'")
        assert 'aria-label="Main"' in found.text
        assert "no login" in found.text
        assert "Go to the first page" in found.text
        assert visitor.get(path).json()["error"]["code"] == "not_found"
        assert visitor.get(f"/api{path}", headers=html()).json()["error"]["code"] == "not_found"
    refused = visitor.get("/backtests/jobs?state=lost", headers=html())
    assert refused.status_code == 422
    assert "<h1>" in refused.text
    # What is no error of ours goes through as it is.
    not_ready = visitor.get("/ready", headers=html())
    assert not_ready.headers["content-type"] == "application/json"


def test_the_page_of_an_error_has_the_headers_of_the_error() -> None:
    headers = {
        "retry-after": "7",
        "set-cookie": "gone=; Max-Age=0",
        "cache-control": "private",
        "content-disposition": "inline",
    }

    async def told(request: Request, status: int, error: dict[str, object]) -> Response:
        answer = Response(str(error["message"]), status, {"cache-control": "no-store"}, "text/html")
        answer.set_cookie("own", "1")
        return answer

    refusing = envelope("too_many_requests", "later", {}, 429, headers)
    front = Front(refusing, Response(status_code=404), lambda path: False, told)
    shown = asyncio.run(_answer(front, "/x"))
    assert (shown.status_code, shown.text) == (429, "later")
    assert shown.headers["retry-after"] == "7"
    assert [one.partition("=")[0] for one in shown.headers.get_list("set-cookie")] == [
        "own", "gone",
    ]  # fmt: skip
    assert shown.headers.get_list("cache-control") == ["no-store"]
    assert shown.headers["content-length"] == "5"
    assert "content-disposition" not in shown.headers


async def _answer(app: Front, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return await client.get(path, headers=html())


def test_pages_carry_what_keeps_them_to_themselves(visitor: httpx.Client) -> None:
    for path in ("/", "/backtests/jobs"):
        found = visitor.get(path, headers=html())
        policy = found.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cache-control"] == "no-store"


@pytest.mark.browser
def test_the_reference_of_the_api_is_ours(visitor: httpx.Client, window: BrowserContext) -> None:
    shown = visitor.get("/docs")  # whoever asks
    assert "unsafe" not in shown.headers["content-security-policy"]
    document = visitor.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        assert f"<code>{path}</code>" in shown.text
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in shown.text
    create = document["paths"]["/backtests/jobs"]["post"]["operationId"]
    named = {*re.findall(r'href="#(schema-[^"]+)"', shown.text)}
    assert named
    assert named <= {*re.findall(r'id="(schema-[^"]+)"', shown.text)}
    assert "X-Roehub-User" in shown.text
    assert f"curl -X POST '{visitor.base_url}/api/backtests/jobs'" in unescape(shown.text)
    other = visitor.get("/docs", headers={"host": "elsewhere"}).text
    assert "http://elsewhere/api/backtests/jobs" in other
    assert "here.invalid" not in shown.text + other
    asked: list[str] = []
    window.on("request", lambda request: asked.append(request.url))
    with watched(window) as tab:
        tab.set_viewport_size({"width": 360, "height": 740})
        tab.goto(f"{visitor.base_url}/docs")
        tab.locator("summary", has_text="Create a job").first.click()
        expect(tab.locator(f"#{create} pre").first).to_contain_text("curl -X POST")
        tab.get_by_role("link", name="BacktestRequest").first.click()
        expect(tab.locator("#schema-BacktestRequest")).to_be_visible()
        assert unsound(tab) == []
        assert too_wide(tab) == 0
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(str(visitor.base_url)).netloc}


def test_assets_are_sent_once(visitor: httpx.Client) -> None:
    found = visitor.get("/assets/page.js")
    assert found.status_code == 200
    again = visitor.get("/assets/page.js", headers={"if-none-match": found.headers["etag"]})
    assert again.status_code == 304
    assert visitor.get("/assets/../app.py").status_code == 404
    assert visitor.get("/assets/%2e%2e/app.py").status_code == 404


def test_a_stranger_is_led_to_the_login_and_back(database: str, tmp_path: Path) -> None:
    with (
        site(None, database, tmp_path, development=False, settings=WITH_BOT) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as stranger,
    ):
        reference = stranger.get("/docs").text
        assert "curl" in reference
        assert "roehub-user" not in reference.lower()  # a header of development
        found = stranger.get("/backtests/jobs?state=failed", headers=html())
        assert found.status_code == 303
        assert found.headers["location"] == "/login?next=/backtests/jobs%3Fstate%3Dfailed"
        asked = {"hx-request": "true", "hx-current-url": f"{url}/backtests/jobs?state=failed"}
        found = stranger.get("/_partial/jobs", headers=asked)
        assert found.status_code == 401
        place = found.headers["hx-redirect"]
        assert place == "/login?next=/backtests/jobs%3Fstate%3Dfailed&ended=true"
        assert "Your login has ended." in stranger.get(place, headers=html()).text
        assert "ended" not in stranger.get("/login", headers=html()).text
        stranger.cookies.set("roehub_identity_jwt", "of a dead session")
        assert "Your login has ended." in stranger.get("/login", headers=html()).text
        assert "Log in" in stranger.get("/", headers=html()).text
        login = stranger.get("/login", headers=html())
        assert 'data-bot="roehub_test_bot"' in login.text
        assert "https://telegram.org" in login.headers["content-security-policy"]
        assert "Secure" not in login.headers["set-cookie"]  # nor is the cookie of a login here
        for place in ("/%E2%82%AC", "/" + "a" * 5000):
            found = stranger.get(f"/login?next={place}", headers=html())
            assert found.status_code == 200
            assert 'data-back="/"' in found.text
        # A link that was used, opened by a stranger and by who is logged in already.
        used = stranger.get("/auth/links/x", headers=html())
        assert used.status_code == 401
        assert "This link was used" in used.text
        assert 'href="/login"' in used.text
        assert used.headers["www-authenticate"] == "Bearer"
        assert used.headers["vary"] == "Cookie, Accept"
        with browser(url) as ann:
            found = ann.get("/login?next=/%E2%82%AC", headers=html())
            assert (found.status_code, found.headers["location"]) == (303, "/")
            assert found.headers["vary"] == "Accept"
            again = ann.get("/auth/links/x", headers=html())
            assert 'aria-label="Main"' in again.text
            assert 'href="/login"' not in again.text


@pytest.mark.browser
def test_anybody_can_use_the_login_of_a_bot(
    database: str, tmp_path: Path, window: BrowserContext
) -> None:
    window.route("https://telegram.org/**", lambda route: route.fulfill(body=""))
    with (
        site(None, database, tmp_path, development=False, settings=WITH_BOT) as url,
        watched(window) as tab,
    ):
        tab.goto(f"{url}/login?next=/strategies")
        widget = tab.locator("#widget script")
        expect(widget).to_have_attribute("data-telegram-login", "roehub_test_bot")
        assert unsound(tab) == []


def test_a_place_is_kept_for_a_login_that_begins_elsewhere() -> None:
    def request(cookie: str) -> Request:
        return Request({"type": "http", "headers": [(b"cookie", cookie.encode())]})

    response = Response()
    keep_place(response, "/backtests/jobs?state=a;b", replace(SETTINGS, cookie_secure=True))
    cookie, _, attributes = response.headers["set-cookie"].partition("; ")
    assert kept_place(request(cookie)) == "/backtests/jobs?state=a;b"
    assert {"HttpOnly", "Secure", "SameSite=lax"} <= set(attributes.split("; "))
    assert kept_place(request("roehub_place=https%3A//evil")) == "/"
    assert kept_place(request("roehub_place=/%E2%82%AC")) == "/"
    assert kept_place(request("")) == "/"
    response = Response()
    forget_place(response, replace(SETTINGS, cookie_secure=True))
    assert kept_place(request(response.headers["set-cookie"].partition("; ")[0])) == "/"
    assert {"Max-Age=0", "HttpOnly", "Secure"} <= {*response.headers["set-cookie"].split("; ")}


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
        "/€",
        "/strategies?q=\u00e9",
        "/a" * 501,
    ],
)
def test_nobody_is_led_elsewhere(raw: str | None) -> None:
    assert own_path(raw) == "/"


def test_a_path_of_ours_is_kept() -> None:
    assert own_path("/strategies/1?a=b%20c") == "/strategies/1?a=b%20c"
