"""The account in a browser: tokens, second factor, keys, sessions, chats, its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect
from pyotp.totp import TOTP

from tests.api.identity.people import COOKIE, TELEGRAM_BOB, browser, fresh
from tests.api.pages.conftest import html, site, too_wide, unsound, watched
from tests.api.service.market import CLIENT_S
from tests.api.service.strategy_service import made
from tests.postgres import execute, rows

HOSTILE = "<img src=x onerror=alert(1)>{{7*7}}"


@pytest.fixture
def url(database: str, tmp_path: Path) -> Iterator[str]:
    with site(None, database, tmp_path, development=False) as found:
        yield found


def kept_once(tab: Page) -> str:
    """What the page shows once; it is gone from it afterwards."""
    text = tab.locator("#secret-text").inner_text()
    tab.get_by_role("button", name="I have kept it").click()
    expect(tab.locator("#secret")).to_be_hidden()
    expect(tab.locator("#secret-text")).to_be_empty()
    assert text.split()[0] not in tab.content()
    return text


@pytest.mark.browser
def test_tokens_a_second_factor_keys_and_the_end_of_an_account(
    url: str, database: str, window: BrowserContext
) -> None:
    with browser(url) as ann, browser(url, None) as stranger, watched(window) as tab:
        window.add_cookies([{"name": COOKIE, "value": ann.cookies[COOKIE], "url": url}])
        tab.goto(f"{url}/account")
        expect(tab.locator("#title")).to_have_text("Account")
        assert unsound(tab) == []

        tab.get_by_role("textbox", name="Name").first.fill(HOSTILE)
        tab.get_by_role("button", name="Make a token").click()
        expect(tab.locator("#secret")).to_be_visible()
        assert unsound(tab) == []
        bearer = {"Authorization": f"Bearer {kept_once(tab)}"}
        assert stranger.get("/strategies", headers=bearer).status_code == 200
        expect(tab.locator("#tokens tbody tr")).to_contain_text(HOSTILE)
        tab.get_by_role("button", name="Revoke").click()
        tab.locator("#sure button[value=yes]").click()
        expect(tab.locator("#tokens tbody tr")).to_contain_text("revoked")
        assert stranger.get("/strategies", headers=bearer).status_code == 401

        tab.get_by_role("button", name="Set it up").click()
        expect(tab.locator(".factor img")).to_be_visible()
        assert tab.locator(".factor img").evaluate("one => one.naturalWidth") > 100
        secret = tab.locator("#factor-secret").inner_text().replace(" ", "")
        good = TOTP(secret)
        assert unsound(tab) == []
        code = tab.locator("[data-form=verify] [name=code]")
        code.fill(good.now())
        tab.get_by_role("button", name="Enable it").click()
        expect(tab.locator("#secret")).to_be_visible()
        assert secret not in tab.content()
        assert len(kept_once(tab).split()) == 10
        expect(tab.locator("#two-factor")).to_contain_text("10 recovery codes are left")

        # A key needs a fresh code: asked for, and then the key is stored.
        execute(database, "update identity_step_ups set at = at - interval '1 hour'")
        tab.get_by_text("Store a key").click()
        tab.get_by_role("textbox", name="API key").fill("PUBLIC1234")
        tab.get_by_role("textbox", name="Secret").fill("very secret")
        tab.get_by_role("button", name="Store it").click()
        tab.locator("#code [name=code]").fill(good.at(int(time.time()) + 30))
        tab.locator("#code button.first").click()
        expect(tab.locator("#keys tbody tr")).to_contain_text("****1234")
        assert "very secret" not in tab.content()
        tab.get_by_role("button", name="Delete ****1234").click()
        tab.locator("#sure button[value=yes]").click()
        expect(tab.locator("#keys")).to_contain_text("There is none.")

        tab.get_by_role("button", name="Switch it off").click()
        expect(tab.locator("#sure button")).to_have_text(["Keep it", "Switch it off"])
        tab.locator("#sure button[value=yes]").click()
        expect(tab.locator("#two-factor")).to_contain_text("There is none.")

        # Another login of hers is ended; a chat cannot be bound where no bot is.
        with browser(url, **{"first_name": fresh(2)["first_name"]}) as other:
            tab.reload()
            tab.locator("[data-act=end]").last.click()
            expect(tab.locator("#sessions tbody tr")).to_have_count(1)
            with httpx.Client(base_url=url, cookies=other.cookies, timeout=CLIENT_S) as ended:
                assert ended.get("/auth/current-user").status_code == 401
        tab.get_by_role("button", name="Bind a chat").click()
        expect(tab.locator("#chat-link")).to_contain_text("No live runner has served a bot yet")
        assert too_wide(tab) == 0
        assert unsound(tab) == []

        tab.get_by_role("button", name="Delete the account").click()
        sure = tab.locator("#erase [name=sure]")
        sure.fill("yes")
        tab.get_by_role("button", name="Delete it").click()
        expect(tab.locator("#erase")).to_be_visible()
        assert rows(database, "select 1 from identity_users")
        sure.fill("delete my account")
        tab.get_by_role("button", name="Delete it").click()
        expect(tab.get_by_role("link", name="Log in").first).to_be_visible()
    assert not rows(database, "select 1 from identity_users")


def test_everybody_sees_his_own_account(url: str, database: str) -> None:
    with browser(url) as ann, browser(url, TELEGRAM_BOB) as bob:
        ann.post("/access-tokens", json={"name": HOSTILE, "scopes": ["read"]})
        strategy = made(ann, {})["strategy_id"]
        execute(
            database,
            f"update identity_sessions set user_agent = $${HOSTILE}$$",
            "insert into identity_telegram_channels (user_id, chat_id, is_confirmed, confirmed_at)"
            " select user_id, 4242, true, clock_timestamp() from identity_users"
            " where telegram_user_id = 411001",
        )
        hers, his = (who.get("/account", headers=html()).text for who in (ann, bob))
        assert "&lt;img src=x onerror=alert(1)&gt;{{7*7}}" in hers
        assert "<img" not in hers + his
        assert "4242" in hers
        assert "4242" not in his
        assert 'name="scopes"' in his
        assert "There is none. A program" in his
        assert strategy not in bob.get("/strategies", headers=html()).text
        assert bob.get(f"/strategies/{strategy}", headers=html()).status_code == 403
        for section in ("sessions", "two-factor", "tokens", "keys", "chats"):
            part = ann.get(f"/_partial/account/{section}", headers=html())
            assert part.status_code == 200
            assert part.headers["cache-control"] == "no-store"
        assert ann.get("/_partial/account/nothing").status_code == 404


def test_a_secret_is_made_by_our_page_alone(url: str, database: str) -> None:
    with browser(url) as ann, browser(url, None) as stranger:
        path, asked = "/_partial/account/two-factor", {"hx-request": "true"}
        assert ann.post(path).status_code == 403
        other = asked | {"sec-fetch-site": "cross-site"}
        assert ann.post(path, headers=other).status_code == 403
        assert stranger.post(path, headers=asked).status_code == 401
        token = ann.post("/access-tokens", json={"name": "n", "scopes": ["read", "run"]}).json()
        program = asked | {"Authorization": f"Bearer {token['token']}"}
        assert stranger.post(path, headers=program).status_code == 403
        for section in ("tokens", "keys"):
            found = stranger.get(f"/_partial/account/{section}", headers=program)
            assert found.status_code == 403
        assert not rows(database, "select 1 from identity_2fa")
        assert "data:image/svg+xml" in ann.post(path, headers=asked).text
        assert stranger.get("/account", headers=html()).status_code == 303


def test_without_logins_the_page_says_so(database: str, tmp_path: Path) -> None:
    with (
        site(None, database, tmp_path) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
    ):
        shown = client.get("/account", headers=html()).text
        assert "Nobody is logged in" in shown
        assert "roehub login" in shown
        refused = client.get("/_partial/account/tokens", headers={"hx-request": "true"})
        assert refused.status_code == 403
        assert "Log in first" in refused.text
