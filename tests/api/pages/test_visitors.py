"""Who comes to the pages: strangers, two users side by side, somebody whose login has ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ingest.stores.clickhouse import ClickHouse
from tests.api.identity.people import COOKIE, SETTINGS, TELEGRAM_BOB, browser, payload
from tests.api.pages.conftest import Held, html, site, unsound, visiting, watched
from tests.api.service.job_service import request
from tests.api.service.strategy_service import V1, own_database

SEEN = "BTCUSDT"
TYPED = """(field) => {
  field.value = "99999";
  setInterval(() => field.dispatchEvent(new Event("input", { bubbles: true })), 1000);
}"""
OWN = "main :is(a[href^='/backtests/jobs/'], a[href^='/strategies/'])"
"""Links to jobs and strategies."""


@pytest.fixture(scope="module")
def url(
    store: ClickHouse, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with (
        own_database(postgres, "test_visitors") as dsn,
        site(store, dsn, tmp_path_factory.mktemp("results"), development=False) as found,
    ):
        yield found


def enters(window: BrowserContext, url: str, client: httpx.Client) -> None:
    """Gives a browser the login of a client."""
    window.add_cookies([{"name": COOKIE, "value": client.cookies[COOKIE], "url": url}])


def kept(client: httpx.Client) -> list[str]:
    """Addresses of what a user has then: a job, a strategy, its run."""
    job = client.post("/backtests/jobs", json=request()).json()["job_id"]
    strategy = client.post("/strategies", json=V1).json()["strategy_id"]
    run = client.post(f"/strategies/{strategy}/run").json()["run_id"]
    return [
        f"/backtests/jobs/{job}",
        f"/strategies/{strategy}",
        f"/strategies/{strategy}?run={run}",
    ]


@pytest.mark.browser
def test_two_users_see_nothing_of_each_other(url: str, chromium: Browser) -> None:
    with (
        browser(url) as ann, browser(url, TELEGRAM_BOB) as bob,
        visiting(chromium) as one, visiting(chromium) as other,
        watched(one) as hers, watched(other) as his,
    ):  # fmt: skip
        enters(one, url, ann)
        enters(other, url, bob)
        places = kept(ann)
        for path, words in (
            ("/", "Find strategy parameters"),
            ("/backtests/jobs", "There are no jobs yet."),
            ("/strategies", "There is no strategy yet."),
        ):
            hers.goto(url + path)
            his.goto(url + path)
            expect(hers.locator(OWN).first).to_contain_text(SEEN)
            expect(his.locator("main")).to_contain_text(words)
            expect(his.locator(OWN)).to_have_count(0)
            assert unsound(his) == []
        for path in places:
            assert bob.get(path, headers=html()).status_code == 403
            hers.goto(url + path)
            expect(hers.locator("h1")).to_contain_text(SEEN)
    refused = chromium.new_page()
    refused.context.add_cookies([{"name": COOKIE, "value": bob.cookies[COOKIE], "url": url}])
    refused.goto(url + places[0])
    expect(refused.locator("h1")).to_contain_text("belongs to another user")
    assert unsound(refused) == []
    refused.locator("main a.button").first.click()
    expect(refused.locator("main")).not_to_contain_text("belongs to")
    refused.close()


@pytest.mark.browser
def test_a_login_that_ends_while_a_page_is_open(url: str, window: BrowserContext) -> None:
    tab = window.new_page()

    def ended(path: str) -> None:
        """A page is open, and its login has ended."""
        with browser(url, first_name=f"before {path}") as ann:
            enters(window, url, ann)
            tab.goto(url + path)
            expect(tab.locator("#live")).to_have_text("as it happens")
            assert ann.post("/auth/logout", headers={"origin": url}).status_code == 204

    def told(path: str) -> None:
        """The page said so, and a login leads back to it."""
        expect(tab.locator("main")).to_contain_text("Your login has ended.")
        assert unsound(tab) == []
        with browser(url, first_name=f"after {path}") as ann:
            enters(window, url, ann)
            tab.reload()
        expect(tab).to_have_url(url + path)

    with browser(url, first_name="elsewhere") as elsewhere:
        job, strategy, _ = kept(elsewhere)
        ended(job)  # the page asks because something happens
        elsewhere.post(f"{job}/cancel")
        told(job)
        ended(strategy)  # it asks because something is pressed
        tab.get_by_role("button", name="Stop").click()
        tab.get_by_role("button", name="Stop the run").click()
        told(strategy)
    tab.close()


@pytest.mark.browser
def test_a_tab_at_the_login_goes_on_when_it_is_looked_at(url: str, window: BrowserContext) -> None:
    with browser(url, TELEGRAM_BOB) as bob, watched(window) as tab:
        tab.goto(f"{url}/login?next=/strategies")
        with tab.expect_response("**/login?next=*"):
            tab.evaluate("() => window.dispatchEvent(new Event('focus'))")
        tab.wait_for_timeout(200)  # it is read, and the next look may ask again
        expect(tab.get_by_role("heading", name="Log in")).to_be_visible()  # nobody has logged in
        enters(window, url, bob)
        tab.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        expect(tab).to_have_url(f"{url}/strategies")


@pytest.mark.browser
def test_what_was_typed_outlives_a_login_that_ends(url: str, window: BrowserContext) -> None:
    """In the tab, for the same user at the same address, once, whatever it is."""
    tab = window.new_page()
    rows = tab.get_by_label("Rows in the result")

    def lost(ann: httpx.Client) -> None:
        """Something was typed when a login had ended, and the page has led to the next one."""
        enters(window, url, ann)
        tab.goto(f"{url}/backtests")
        expect(tab.get_by_role("button", name="Start the job")).to_be_enabled()
        tab.get_by_text("Add an indicator").click()
        tab.get_by_role("button", name="Donchian Channel").click()
        expect(tab.locator("[data-block='trend.donchian']")).to_be_visible()
        rows.evaluate(TYPED)  # the page may ask for more at any time, and hear that it has ended
        assert ann.post("/auth/logout", headers={"origin": url}).status_code == 204
        expect(tab.locator("main")).to_contain_text("Your login has ended.")
        tab.wait_for_load_state()  # it listens

    with browser(url, first_name="1") as ann, browser(url, first_name="2") as again:
        lost(ann)
        enters(window, url, again)
        elsewhere = window.new_page()
        elsewhere.goto(url)  # the tab that waits at the login hears of it
        elsewhere.close()
        expect(rows).to_have_value("99999")
        expect(tab.locator("#said")).to_have_text("The form is as you left it.")
        expect(rows).to_have_attribute("aria-invalid", "true")
        expect(tab.locator("[data-block]")).to_have_count(3)
        tab.reload()  # it is kept no longer
        expect(tab.get_by_role("button", name="Start the job")).to_be_enabled()
        expect(tab.locator("[data-block]")).to_have_count(2)
        lost(again)

    def plain(client: httpx.Client, path: str) -> None:
        """The form of a page is its own, and nothing is kept any longer."""
        enters(window, url, client)
        tab.goto(url + path)
        expect(tab.get_by_role("button", name="Start the job")).to_be_enabled()
        expect(tab.locator("[data-block]")).to_have_count(2)
        assert tab.evaluate("() => sessionStorage.getItem('build')") is None

    with browser(url, first_name="3") as ann, browser(url, TELEGRAM_BOB) as bob:
        plain(ann, "/backtests?sample=false")
        lost(ann)
        plain(bob, "/backtests")
    tab.close()


@pytest.mark.browser
def test_a_press_before_the_scripts_are_there_is_kept(url: str, window: BrowserContext) -> None:
    with browser(url, first_name="7") as ann, watched(window) as tab:
        enters(window, url, ann)
        strategy = kept(ann)[1]
        held = Held(tab, "**/assets/strategy.js")
        tab.goto(url + strategy, wait_until="commit")
        tab.get_by_role("button", name="Stop").click()
        expect(tab.locator("#sure")).to_be_hidden()
        held.route().continue_()
        expect(tab.locator("#sure")).to_be_visible()
        tab.get_by_role("button", name="Let it run").click()


@pytest.mark.browser
def test_a_tab_logs_in_with_the_answer_that_it_asked_for(
    database: str, tmp_path: Path, window: BrowserContext
) -> None:
    window.route("https://telegram.org/**", lambda route: route.fulfill(body=""))
    settings = replace(SETTINGS, bot_name="roehub_test_bot")

    def asked(tab: Page) -> str:
        """Where Telegram is told to lead back to, with what it has signed."""
        found = tab.locator("#widget script").get_attribute("data-auth-url")
        assert found is not None
        return found

    with (
        site(None, database, tmp_path, development=False, settings=settings) as url,
        watched(window) as tab,
    ):
        tab.goto(f"{url}/login?next=/strategies")
        first = asked(tab)
        signed = urlencode(payload(TELEGRAM_BOB))
        # A link that somebody sends, with a login of his own.
        for place in (f"{url}/login?{signed}", f"{first[:-1]}x&{signed}"):
            tab.goto(place)
            expect(tab.locator("#refused")).to_contain_text("did not begin in this tab")
            assert "hash" not in tab.url
            assert not [one for one in window.cookies() if one.get("name") == COOKIE]
        own = asked(tab)
        assert own != first
        tab.goto(f"{own}&{urlencode(payload())}")
        tab.wait_for_url("**/strategies")
        expect(tab.locator("h1")).to_have_text("Strategies")


@pytest.mark.browser
def test_strangers_can_use_the_login(url: str, window: BrowserContext) -> None:
    with watched(window) as tab:
        tab.goto(f"{url}/login?next=/strategies")
        expect(tab.locator("h1")).to_have_text("Log in")
        assert unsound(tab) == []
