"""From a fresh install to a job in two clicks, and what else a browser does with the form."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from api.pages.form import Fields, request_of
from cluster.demo import REQUEST
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.api.pages.conftest import html, site, unsound, watched
from tests.api.pages.forms import post, sent
from tests.api.pages.test_form import meaning
from tests.api.service.market import CLIENT_S
from tests.postgres import TEMPLATE, execute, of_database

EVIL = "<img src=x onerror=alert(1)>"
PATIENCE_MS = 120_000
"""Of whoever waits for the first picture: its worker may have to compile kernels."""


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A store without a candle."""
    path = tmp_path_factory.mktemp("fresh") / "clickhouse"
    with open_clickhouse(ClickHouseSettings(path=path), "the tests") as db:
        migrate(db)
        yield db


@pytest.fixture(scope="module")
def url(
    empty: ClickHouse, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    execute(postgres, f"CREATE DATABASE test_first_steps TEMPLATE {TEMPLATE}")
    dsn = of_database(postgres, "test_first_steps")
    with site(empty, dsn, tmp_path_factory.mktemp("results")) as found:
        yield found
    execute(postgres, "DROP DATABASE test_first_steps WITH (FORCE)")


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=CLIENT_S) as found:
        yield found


def jobs(client: httpx.Client) -> list[dict[str, object]]:
    return client.get("/backtests/jobs").json()["items"]


@pytest.mark.browser
def test_two_clicks_from_nothing_to_a_job(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    assert "Load sample data" in client.get("/backtests", headers=html()).text
    with watched(window) as tab:
        tab.goto(f"{url}/")
        assert unsound(tab) == []
        tab.get_by_role("button", name="Load sample data").click()
        start = tab.get_by_role("button", name="Start the job")
        expect(start).to_be_enabled(timeout=PATIENCE_MS)
        expect(tab.get_by_text("244 800").first).to_be_visible()
        start.dblclick()
        tab.wait_for_url("**/backtests/jobs/*")
    assert len(jobs(client)) == 1


def test_the_sample_is_stored_once_and_fills_the_form(client: httpx.Client) -> None:
    found = post(client, "/_partial/sample", [("x", "")])
    assert found.headers["hx-redirect"] == "/backtests?sample=true"
    again = client.post("/market-data/sample").json()
    assert again["written"] == 0
    assert again["minutes"] > 520_000
    (stored,) = client.get("/market-data/coverage").json()["items"]
    assert (stored["symbol"], stored["minutes"]) == ("SYNTHUSDT", again["minutes"])
    assert "Load sample data" not in client.get("/", headers=html()).text
    pairs = sent(client.get("/backtests?sample=true", headers=html()).text)
    assert meaning(request_of(Fields(pairs))) == meaning(REQUEST)
    assert "synthetic" in post(client, "/_partial/build/coverage", pairs).text


@pytest.mark.browser
def test_indicators_are_chosen_drawn_moved_and_taken_away(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    client.post("/market-data/sample")
    with watched(window) as tab:
        tab.goto(f"{url}/backtests")
        drawn = tab.locator(".look-chart.drawn")
        expect(drawn).to_have_count(2, timeout=PATIENCE_MS)
        blocks = tab.locator("[data-block]")
        tab.get_by_text("Add an indicator").click()
        tab.get_by_label("Search").fill("donch")
        tab.get_by_role("button", name="Donchian Channel").click()
        expect(blocks).to_have_count(3)
        expect(drawn).to_have_count(3, timeout=PATIENCE_MS)
        assert unsound(tab) == []
        donchian = blocks.nth(2)
        donchian.get_by_label("output").select_option("donchian_upper")
        expect(donchian).to_contain_text("Votes LONG while the price")
        tab.get_by_role("button", name="Move Donchian Channel up").click()
        expect(blocks.nth(1)).to_have_attribute("data-block", "trend.donchian")
        tab.get_by_role("button", name="Remove Simple Moving Average").click()
        expect(blocks).to_have_count(2)
        expect(tab.locator("#as-json")).to_contain_text("donchian_upper")
        assert "ma.sma" not in tab.locator("#as-json").inner_text()


@pytest.mark.browser
def test_what_is_wrong_is_shown_where_it_is_and_json_opens(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    client.post("/market-data/sample")
    with watched(window) as tab:
        tab.goto(f"{url}/backtests")
        start = tab.get_by_role("button", name="Start the job")
        expect(start).to_be_enabled()
        top_k = tab.get_by_label("Rows of the answer")
        top_k.fill("9999")
        expect(start).to_be_disabled()
        expect(top_k).to_have_attribute("aria-invalid", "true")
        tab.get_by_role("link", name="Rows of the answer").click()
        expect(top_k).to_be_focused()
        top_k.press("Enter")  # not a way to start
        top_k.fill("20")
        expect(start).to_be_enabled()
        tab.get_by_role("button", name="30 days").click()
        expect(tab.get_by_label("From (UTC)")).to_have_value("2024-12-02T00:00")
        symbol = tab.get_by_label("Symbol")
        symbol.fill(EVIL)
        expect(tab.locator("#why-not")).to_contain_text("no candle of")
        expect(tab.locator("#coverage")).to_contain_text(EVIL.upper())
        tab.get_by_text("Open a request from JSON").click()
        box = tab.get_by_label("Request, as it is posted")
        box.fill('{"template": "' + EVIL.replace('"', "") + '"}')
        tab.get_by_role("button", name="Open it").click()
        expect(tab.locator("#opened")).to_contain_text("Validation failed")
        text = client.get("/openapi.json").json()["paths"]["/backtests"]["post"]["requestBody"]
        example = text["content"]["application/json"]["examples"]["two indicators with stops"]
        box.fill(httpx.Response(200, json=example["value"]).text)
        tab.get_by_role("button", name="Open it").click()
        expect(tab.get_by_label("Symbol")).to_have_value("BTCUSDT")
        expect(tab.locator("#as-json")).to_contain_text('"stop_incl": 15')
        tab.set_viewport_size({"width": 360, "height": 740})
        assert tab.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0
