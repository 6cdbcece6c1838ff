"""From a fresh install to a job in two clicks, and what else a browser does with the form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from api.pages.form import Fields, request_of
from cluster.demo import REQUEST
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.api.pages.conftest import Held, html, site, too_wide, unsound, watched
from tests.api.pages.forms import post, sent
from tests.api.pages.test_form import meaning
from tests.api.service.market import CLIENT_S
from tests.postgres import TEMPLATE, execute, of_database

EVIL = "<img src=x onerror=alert(1)>"
# An answer of the measured time has begun when its text waits to be let on, or breaks off.
HALF_WAY = """
const whole = window.fetch;
window.waiting = [];
let begun = 0;
window.fetch = async (path, options) => {
  const answer = await whole(path, options);
  if (!path.includes("timed") || window.isWhole) return answer;
  if (window.breaks) return new Response(new ReadableStream({ start: (body) => body.error() }));
  const waits = new Promise((goOn) => { window.waiting.push(goOn); });
  document.documentElement.dataset.begun = begun += 1;
  await waits;
  return answer;
};
"""


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
    first = client.get("/backtests", headers=html()).text
    assert "Load sample data" in first
    assert "For real ones end <code>roehub up</code> with Ctrl-C first." in first
    with watched(window) as tab:
        tab.goto(f"{url}/")
        assert unsound(tab) == []
        load = tab.get_by_role("button", name="Load sample data")
        assert too_wide(tab) == 0
        tab.locator(".strip").evaluate("one => one.remove()")  # only of the development login
        expect(load).to_be_in_viewport(ratio=1)
        expect(tab.locator(".first")).to_have_count(1)
        tab.set_viewport_size({"width": 1280, "height": 900})
        load.click()
        start = tab.get_by_role("button", name="Start the job")
        expect(start).to_be_enabled()
        expect(tab.get_by_text("244 800").first).to_be_visible()
        start.dblclick()
        tab.wait_for_url("**/backtests/jobs/*")
    assert len(jobs(client)) == 1


def test_the_sample_is_stored_once_and_fills_the_form(client: httpx.Client) -> None:
    client.post("/market-data/sample")
    followed = client.get("/_partial/sample")
    assert 'href="/backtests?sample=true">Open the example' in followed.text
    assert "data-goes" not in followed.text  # it was not asked for by whoever looks
    assert "data-goes" in client.get("/_partial/sample?here=true").text
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
        expect(drawn).to_have_count(2)
        blocks = tab.locator("[data-block]")
        tab.get_by_text("Add an indicator").click()
        search = tab.get_by_label("Search")
        search.press("Enter")  # of nothing, nothing is taken
        expect(blocks).to_have_count(2)
        search.fill("donch")
        search.press("Enter")
        expect(search).to_have_value("")
        search.press("Tab")
        expect(tab.locator("#catalogue button").first).to_be_focused()
        expect(blocks).to_have_count(3)
        expect(drawn).to_have_count(3)
        assert unsound(tab) == []
        donchian = blocks.nth(2)
        donchian.get_by_label("output").select_option("donchian_upper")
        expect(donchian).to_contain_text("Votes LONG while the price")
        tab.get_by_role("button", name="Move Donchian Channel up").click()
        expect(blocks.nth(1)).to_have_attribute("data-block", "trend.donchian")
        tab.get_by_role("button", name="Remove Simple Moving Average").click()
        expect(blocks).to_have_count(2)
        expect(tab.locator("#as-json")).not_to_contain_text("ma.sma")
        expect(tab.locator("#as-json")).to_contain_text("donchian_upper")


@pytest.mark.browser
def test_an_edit_has_a_time_before_it_is_measured(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    client.post("/market-data/sample")
    with watched(window) as tab:
        tab.goto(f"{url}/backtests")
        time = tab.locator("#seconds")
        expect(time).to_contain_text("measured on a small part")
        held = Held(tab, "**/estimate?timed=true")
        tab.get_by_label("Rows in the result").fill("21")
        expect(time).to_contain_text("A first guess")
        expect(time.locator(".figure")).to_have_text(re.compile("^(about .+|under a second)$"))
        held.route().continue_()
        expect(time).to_contain_text("An estimate for")


@pytest.mark.browser
def test_the_latest_days_wait_for_what_is_stored_of_the_instrument(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    client.post("/market-data/sample")
    with window.new_page() as tab:
        tab.route("**/api/**", lambda route: route.abort())  # no times, no pictures
        held = Held(tab, "**/build/coverage")
        tab.goto(f"{url}/backtests")
        held.route()
        start, symbol = tab.get_by_label("From (UTC)"), tab.get_by_label("Symbol")
        before = start.input_value()
        press = tab.get_by_role("button", name="30 days")
        press.click()
        expect(tab.locator("#said")).to_be_empty()
        expect(start).to_have_value(before)
        held.route().continue_()
        expect(start).to_have_value("2024-12-02T00:00")

        # Nor does an instrument that was left say it of the one that was chosen.
        symbol.fill("OTHERUSDT")
        press.click()
        expect(tab.locator("#said")).to_have_text("Choose a symbol that has candles first.")
        expect(start).to_have_value("2024-12-02T00:00")


@pytest.mark.browser
@pytest.mark.parametrize("meanwhile", ["typed", "opened", "failed"])
def test_days_that_are_not_wanted_any_longer_are_not_set(
    url: str, client: httpx.Client, window: BrowserContext, meanwhile: str
) -> None:
    client.post("/market-data/sample")
    with window.new_page() as tab:
        tab.route("**/api/**", lambda route: route.abort())  # no times, no pictures
        held = Held(tab, "**/build/coverage")
        tab.goto(f"{url}/backtests")
        held.route()
        start = tab.get_by_label("From (UTC)")
        wanted = start.input_value()
        tab.get_by_role("button", name="90 days").click()
        match meanwhile:
            case "typed":
                wanted = "2024-12-03T00:00"
                start.fill(wanted)
                held.route().continue_()
            case "opened":
                wanted = "2024-11-05T00:00"
                period = REQUEST["time_range"] | {"start": f"{wanted}:00Z"}
                tab.get_by_text("Open a request from JSON").click()
                tab.get_by_label("A request, as for").fill(
                    json.dumps(REQUEST | {"time_range": period})
                )
                tab.get_by_role("button", name="Open it").click()
                expect(start).to_have_value(wanted)
                held.route().continue_()
            case _:
                held.route().abort()
                expect(tab.locator("#said")).to_have_text("The service does not answer.")
                tab.get_by_label("Timeframe").select_option("4h")
        expect(tab.locator("#coverage [data-of]:not(.htmx-settling)")).to_be_attached()
        expect(start).to_have_value(wanted)


@pytest.mark.browser
def test_an_answer_that_came_half_is_none(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    client.post("/market-data/sample")
    window.add_init_script(HALF_WAY)
    with watched(window) as tab:
        tab.goto(f"{url}/backtests")
        page, time = tab.locator("html"), tab.locator("#seconds")
        top_k = tab.get_by_label("Rows in the result")
        expect(page).to_have_attribute("data-begun", "1")
        top_k.fill("21")  # lets the first one go
        expect(page).to_have_attribute("data-begun", "2")
        tab.evaluate("window.isWhole = true; for (const goOn of window.waiting) goOn()")
        expect(time).to_contain_text("An estimate for")
        tab.evaluate("window.isWhole = false; window.breaks = true")
        top_k.fill("22")
        expect(time).to_contain_text("The service does not answer.")


@pytest.mark.browser
def test_what_is_wrong_is_shown_where_it_is_and_json_opens(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    client.post("/market-data/sample")
    with watched(window) as tab:
        held = Held(tab, "**/vendor/echarts.js")
        tab.goto(f"{url}/backtests")
        start = tab.get_by_role("button", name="Start the job")
        expect(start).to_be_enabled()
        top_k = tab.get_by_label("Rows in the result")
        top_k.fill("9999")
        expect(start).to_be_disabled()
        expect(top_k).to_have_attribute("aria-invalid", "true")  # without waiting for charts
        held.route().continue_()
        tab.get_by_role("link", name="Rows in the result").click()
        expect(top_k).to_be_focused()
        top_k.press("Enter")  # not a way to start
        top_k.fill("20")
        expect(start).to_be_enabled()
        levels = tab.locator("[name='template.risk_grid.sl.values']")
        before = levels.input_value()
        levels.fill("a, b")
        told = tab.get_by_role("link", name="Stop loss percent")
        expect(told).to_be_visible()
        expect(levels).to_have_attribute("aria-describedby", "fault-1")
        told.click()
        expect(levels).to_be_focused()
        levels.fill(before)
        expect(start).to_be_enabled()
        expect(levels).not_to_have_attribute("aria-describedby", re.compile(""))
        tab.get_by_role("button", name="30 days").click()
        expect(tab.get_by_label("From (UTC)")).to_have_value("2024-12-02T00:00")
        symbol = tab.get_by_label("Symbol")
        symbol.fill(EVIL)
        symbol.blur()  # what is stored of it is asked for when it is left
        expect(tab.locator("#why-not")).to_contain_text("No candle of")
        expect(tab.locator("#coverage")).to_contain_text(EVIL.upper())
        tab.get_by_text("Open a request from JSON").click()
        box = tab.get_by_label("A request, as for")
        box.fill('{"template": "' + EVIL.replace('"', "") + '"}')
        tab.get_by_role("button", name="Open it").click()
        expect(tab.locator("#opened")).to_contain_text("Validation failed")
        text = client.get("/openapi.json").json()["paths"]["/backtests"]["post"]["requestBody"]
        example = text["content"]["application/json"]["examples"]["two indicators with stops"]
        box.fill(httpx.Response(200, json=example["value"]).text)
        tab.get_by_role("button", name="Open it").click()
        expect(tab.get_by_label("Symbol")).to_have_value("BTCUSDT")
        expect(tab.locator("#as-json")).to_contain_text('"stop_incl": 15')
        assert too_wide(tab) == 0


@pytest.mark.browser
def test_what_refuses_to_open_does_not_take_the_place_of_the_form(
    url: str, client: httpx.Client, window: BrowserContext
) -> None:
    client.post("/market-data/sample")
    with window.new_page() as tab:
        tab.route("**/api/**", lambda route: route.abort())  # no times, no pictures
        tab.goto(f"{url}/backtests")
        top_k = tab.get_by_label("Rows in the result")
        top_k.fill("21")
        tab.get_by_text("Open a request from JSON").click()
        box, opens = (
            tab.get_by_label("A request, as for"),
            tab.get_by_role("button", name="Open it"),
        )
        box.fill(f'{{"template": "{"x" * 1_100_000}"}}')
        opens.click()
        expect(tab.locator("#said")).to_contain_text("bytes")
        expect(top_k).to_have_value("21")
        part = '<div class="notice bad" role="alert"><p>The store is away.</p></div>'
        tab.route("**/build/open", lambda route: route.fulfill(status=503, body=part))
        box.fill("{}")
        opens.click()
        expect(tab.locator("#opened")).to_have_text("The store is away.")
        expect(top_k).to_have_value("21")
