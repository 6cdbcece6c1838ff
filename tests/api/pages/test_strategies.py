"""Strategies in a browser: listed, cloned, run, watched, checked, stopped by their owners."""

from __future__ import annotations

import html as markup
import json
import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import quote, unquote

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect

from ingest.stores.clickhouse import ClickHouse
from tests.api.pages.conftest import html, site, too_wide, unsound, watched
from tests.api.service.market import CLIENT_S
from tests.api.service.strategy_service import V1, V2, made, own_database, user
from tests.api.service.test_run_events import Started
from tests.postgres import execute

HOSTILE = "<img src=x onerror=\"document.title='gone'\">'&{{7*7}}</script>"


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with own_database(postgres, "test_strategy_pages") as found:
        yield found


@pytest.fixture(scope="module")
def url(store: ClickHouse, dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site(store, dsn, tmp_path_factory.mktemp("results")) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=CLIENT_S) as found:
        yield found


def trades_on(started: Started, bars: int) -> None:
    """What a runner writes of some bars and two trades; the report of a check, too."""
    run = started.run_id
    account = {"balance": {"available": 9000.0, "safe": 0.0}, "trades": 2, "vote": 1}
    account["position"] = {
        "side": 1, "bar_ms": 60000, "fill": 41250.5, "quantity": 0.02, "quote": 825.0, "fee": 0.6,
    }  # fmt: skip
    report = {
        "run_id": run, "badge": "different", "until": "2026-01-01T03:00:00Z", "bars": bars,
        "trades": 2, "differing": 1, "differences": [
            {"kind": "trade", "ts": "2026-01-01T00:05:00Z", "live": {"net": 9.0},
             "backtest": {"net": 8.0}, "cause": "changed candle", "detail": HOSTILE}],
    }  # fmt: skip
    execute(
        started.dsn,
        f"insert into live_accounts values ('{run}', $${json.dumps(account)}$$, 10250.5,"
        " '2026-01-01T03:00:00Z')",
        f"insert into live_trades select '{run}', i, -1, '2026-01-01T00:00:00Z',"
        " '2026-01-01T00:05:00Z', 'sl', 101, 99, 3, 300, 297, .1, .1, 6, 5.8, 0"
        " from generate_series(1, 2) i",
        f"insert into live_bars select '{run}', timestamptz '2026-01-01T00:00:00Z'"
        " + i * interval '1 minute', 100 + i, 0, 10000 + 10 * (i % 7), clock_timestamp()"
        f" from generate_series(0, {bars - 1}) i",
        f"insert into live_reconciliations values ('{run}', clock_timestamp(),"
        f" '2026-01-01T03:00:00Z', {bars}, 2, 1, $${json.dumps(report)}$$)",
    )


def moves(started: Started, state: str, kind: str) -> None:
    execute(
        started.dsn,
        f"update strategy_runs set state = '{state}', updated_at = clock_timestamp(),"
        " checkpoint_ts_open = date_trunc('minute', clock_timestamp()) - interval '1 minute'"
        f" where run_id = '{started.run_id}'",
    )
    started.tells(kind, json.dumps({"state": state}))


@pytest.mark.browser
def test_a_run_is_started_watched_checked_and_stopped(
    client: httpx.Client, url: str, dsn: str, window: BrowserContext
) -> None:
    who = user()
    window.set_extra_http_headers(who)
    strategy = made(client, who)
    with watched(window) as tab:
        tab.goto(f"{url}/strategies")
        expect(tab.locator("tbody tr")).to_contain_text("never ran")
        assert unsound(tab) == []
        tab.get_by_role("link", name="BTCUSDT · 1h").click()
        expect(tab.locator(".spec")).to_contain_text("momentum.rsi")
        expect(tab.locator("#as-json")).to_contain_text('"sl_pct": 2.0')
        tab.wait_for_load_state()
        tab.locator("#start").click()
        expect(tab.locator("#run .state")).to_have_text("starting")
        expect(tab.locator("#live")).to_have_text("as it happens")
        expect(tab.locator("#run")).to_contain_text("No live runner is there")
        run_id = client.get(f"/strategies/{strategy['strategy_id']}/runs", headers=who).json()
        started = Started.__new__(Started)
        started.dsn, started.run_id = dsn, run_id["items"][0]["run_id"]

        # What a runner writes comes in by itself.
        trades_on(started, 180)
        moves(started, "running", "run_state_changed")
        expect(tab.locator("#run .state")).to_have_text("running")
        expect(tab.locator("#equity canvas")).to_be_visible()
        expect(tab.locator("#equity-words")).to_contain_text("Holding the instrument: +179.0")
        expect(tab.locator("#run .tiles")).to_contain_text("+2.51")
        expect(tab.locator("#badge")).to_have_text("different")
        signal = json.dumps({"signal": HOSTILE, "price": 0.0001234567})
        started.tells("signal", signal.replace("'", "''"))
        expect(tab.locator("tr[data-kind=signal]")).to_contain_text(
            f"Signal {HOSTILE} at 0.0001234"
        )
        expect(tab.locator("#equity canvas")).to_be_visible()  # the picture outlives the swap
        expect(tab.locator("#run")).to_contain_text(f"changed candle: {HOSTILE}")
        assert unsound(tab) == []
        home = unescape(client.get("/", headers=html(**who)).text)
        assert f'href="/strategies/{strategy["strategy_id"]}"' in home
        assert '<span class="state running">running</span>' in home
        tab.locator("#check").click()
        expect(tab.locator("#said")).to_have_text("Checked.")
        expect(tab.locator("#check")).to_be_enabled()

        tab.locator("#stop").click()
        tab.locator("#sure button[value=yes]").click()
        expect(tab.locator("#run .state")).to_have_text("stopping")
        started.ends()
        expect(tab.locator("#start-title")).to_have_text("Run it again")
        expect(tab.locator("#run .state")).to_have_text("stopped")
        expect(tab.locator("tr[data-kind=run_stopped]")).to_be_visible()

        # A clone is another strategy; both may be deleted now.
        tab.locator("[data-clone]").click()
        tab.locator("#clone select[name=timeframe]").select_option("4h")
        tab.locator("#clone button.first").click()
        expect(tab.locator("#title")).to_have_text("BTCUSDT 4h")
        tab.get_by_role("link", name="See it").click()
        expect(tab.locator("#title")).to_have_text("BTCUSDT 1h")
        expect(tab.locator("#equity canvas")).to_be_visible()  # nothing of it is asked for any more
        assert too_wide(tab) == 0
        tab.locator("[data-delete]").click()
        tab.locator("#sure button[value=yes]").click()
        expect(tab.locator("tbody tr")).to_have_count(1)


@pytest.mark.browser
def test_without_a_stream_the_page_asks(
    client: httpx.Client, url: str, dsn: str, window: BrowserContext
) -> None:
    started = Started(client, dsn)
    window.set_extra_http_headers(started.who)
    tab = window.new_page()
    tab.route("**/events?**", lambda route: route.fulfill(status=502))
    tab.clock.install()
    tab.goto(url + started.path.rpartition("/runs/")[0])
    for _ in range(3):
        tab.clock.run_for(2100)
    expect(tab.locator("#live")).to_have_text("asking every two seconds")
    moves(started, "warming_up", "run_state_changed")
    tab.clock.run_for(2100)
    expect(tab.locator("#run .state")).to_have_text("warming up")
    # A service that is in trouble for a while says so, and is asked again.
    trades_on(started, 3)
    tab.route("**/_partial/**", lambda route: route.fulfill(status=500, body="<p>away</p>"))
    tab.clock.run_for(2500)
    expect(tab.locator("#run")).to_have_text("away")
    tab.unroute("**/_partial/**")
    tab.clock.run_for(2500)
    expect(tab.locator("#run .state")).to_have_text("warming up")
    expect(tab.locator("#equity canvas")).to_be_visible()
    tab.close()


@pytest.mark.browser
def test_a_page_that_nobody_sees_holds_no_stream(
    client: httpx.Client, url: str, dsn: str, window: BrowserContext
) -> None:
    started = Started(client, dsn)
    window.set_extra_http_headers(started.who)
    window.add_init_script(
        "Object.defineProperty(document, 'visibilityState', {get: () => window.seen ?? 'visible'})"
    )
    page = url + started.path.rpartition("/runs/")[0]

    def turned(tab: Page, state: str) -> None:
        tab.evaluate(
            "(state) => { window.seen = state;"
            " document.dispatchEvent(new Event('visibilitychange')); }",
            state,
        )

    def is_stream(request: Request) -> bool:
        return "/events" in request.url

    # A browser has six connections to a host: these would take all of them.
    hidden = [window.new_page() for _ in range(6)]
    for tab in hidden:
        tab.goto(page)
        expect(tab.locator("#live")).to_have_text("as it happens")
        with tab.expect_event("requestfailed", is_stream):
            turned(tab, "hidden")
    with watched(window) as tab:
        tab.goto(page)
        expect(tab.locator("#live")).to_have_text("as it happens")
    first = hidden[0]
    seen = next(started.events())[0]
    asked: list[str] = []
    first.on("request", lambda request: asked.append(request.url))
    moves(started, "running", "run_state_changed")
    assert asked == []
    with first.expect_event("request", is_stream) as again:
        turned(first, "visible")
    expect(first.locator("#run .state")).to_have_text("running")
    expect(first.locator("#live")).to_have_text("as it happens")
    assert unquote(again.value.url.partition("cursor=")[2]) == seen  # it goes on where it was
    first.close()
    for tab in hidden[1:]:
        tab.close()


@pytest.mark.browser
def test_a_strategy_that_runs_is_not_deleted_and_the_page_says_so_before_it_asks(
    client: httpx.Client, url: str, dsn: str, window: BrowserContext
) -> None:
    started = Started(client, dsn)
    window.set_extra_http_headers(started.who)
    with watched(window) as tab:
        tab.goto(f"{url}/strategies")
        tab.locator("[data-delete]").press("Enter")
        expect(tab.locator("#said")).to_contain_text("Not deleted: a run of it is starting.")
        assert not tab.locator("#sure").is_visible()
        started.ends()  # in another tab
        tab.locator("[data-delete]").press("Enter")
        tab.locator("#sure button[value=yes]").click()
        expect(tab.locator("tbody tr")).to_have_count(0)


def test_a_run_without_candles_says_why_before_the_start_and_after_it(
    client: httpx.Client, dsn: str
) -> None:
    who = user()

    def shown(symbol: str) -> tuple[str, str, str, str]:
        """(the page before the start, after it, of a run that trades; what the API says)."""
        instrument = {"market_id": 1, "symbol": symbol}
        strategy = made(client, who, V2 | {"instrument_id": instrument})["strategy_id"]
        there = f"/strategies/{strategy}"
        before = client.get(there, headers=html(**who)).text
        run = client.post(f"{there}/run", headers=who).json()["run_id"]
        after = client.get(there, headers=html(**who)).text
        told = client.get(f"{there}/runs/{run}", headers=who).json()["waits_for"]
        execute(
            dsn,
            "update strategy_runs set state = 'running', updated_at = clock_timestamp(),"
            " checkpoint_ts_open = clock_timestamp() - interval '1 minute'"
            f" where run_id = '{run}'",
        )
        place = f"/_partial/strategies/{strategy}/run?run={run}"
        part = client.get(place, headers=html(**who))
        ended = "state = 'stopped', stopped_at = clock_timestamp()"
        execute(dsn, f"update strategy_runs set {ended} where run_id = '{run}'")
        stopped = client.get(place, headers=html(**who)).text
        assert "It was stopped. An open position" in stopped
        assert re.search(r"on paper, started \S+ \S+, ended ", stopped)
        return before, after, part.text, told

    before, after, later, told = shown("XYZUSDT")
    assert "No candles of binance:spot:XYZUSDT are stored" in told
    for page in (before, after):
        assert "No candles of binance:spot:XYZUSDT are stored. Nobody fetches candles here." in page
        assert 'href="/backtests?market_id=1&amp;symbol=XYZUSDT">See what is stored' in page
        assert "<code>roehub up --ingest --live</code>" in page
    assert "It would wait for candles." in before
    assert "It waits for candles." in after
    assert "takes it up within seconds" not in after
    assert "waits for candles" not in later
    before, after, later, told = shown("SYNTHUSDT")
    for text in (before, after, later, told):
        assert "SYNTHUSDT is a made-up market that does not go on by itself" in text


def test_nobody_sees_what_is_of_others(client: httpx.Client, dsn: str) -> None:
    ann, bob = Started(client, dsn), user()
    strategy = ann.path.split("/")[2]
    assert "There is no strategy yet." in client.get("/strategies", headers=html(**bob)).text
    assert strategy in client.get("/strategies", headers=html(**ann.who)).text
    pages = (
        f"/strategies/{strategy}",
        f"/strategies/{strategy}?run={ann.run_id}",
        f"/_partial/strategies/{strategy}/run?run={ann.run_id}",
    )
    for path in pages:
        assert client.get(path, headers=html(**ann.who)).status_code == 200
        refused = client.get(path, headers=html(**bob))
        assert refused.status_code == 403
        assert 'aria-label="Main"' in refused.text or path.startswith("/_partial/")
        assert "BTCUSDT" not in refused.text
    curve = ann.path.replace("/events", "/equity")
    assert client.get(curve, headers=bob).status_code == 403
    # Nor a run of his own under the strategy of somebody else.
    own = Started(client, dsn)
    mixed = f"/strategies/{own.path.split('/')[2]}?run={ann.run_id}"
    assert client.get(mixed, headers=html(**own.who)).status_code == 404
    assert client.get("/strategies/nothing", headers=html(**bob)).status_code == 404


def test_hostile_texts_are_texts(client: httpx.Client, dsn: str) -> None:
    who = user()
    symbol = HOSTILE.replace(":", "")
    body = V1 | {
        "instrument_id": {"market_id": 1, "symbol": symbol},
        "instrument_key": f"binance:spot:{symbol.upper()}",
        "indicators": [{"name": HOSTILE, "params": {HOSTILE: HOSTILE}}],
    }
    strategy = made(client, who, body)["strategy_id"]
    run = client.post(f"/strategies/{strategy}/run", headers=who).json()["run_id"]
    execute(
        dsn,
        f"update strategy_runs set state = 'failed', last_error = $${HOSTILE}$$, stopped_at ="
        f" clock_timestamp(), updated_at = clock_timestamp() where run_id = '{run}'",
    )
    for path in ("/strategies", f"/strategies/{strategy}"):
        shown = client.get(path, headers=html(**who))
        assert shown.status_code == 200
        assert "<img" not in shown.text.lower()
        assert "&lt;img src=x onerror=" in shown.text.lower()
        assert "{{7*7}}" in shown.text
    for text in (HOSTILE, "x", "a" * 300):
        found = client.get(f"/_partial/strategies?cursor={quote(text)}", headers=html(**who))
        assert found.status_code == 422 or found.status_code == 404
        assert "<img" not in found.text


def test_the_list_goes_on_and_starts_with_where_strategies_come_from(client: httpx.Client) -> None:
    who = user()
    empty = client.get("/strategies", headers=html(**who)).text
    assert 'href="/backtests/jobs"' in empty.split("There is no strategy yet.")[1]
    for window in range(2, 24):
        made(client, who, V1 | {"indicators": [{"name": "MA", "params": {"window": window}}]})
    first = client.get("/strategies", headers=html(**who)).text
    assert first.count('<th scope="row">') == 20
    more = first.split('hx-get="')[1].split('"')[0]
    rest = client.get(more, headers=html(**who)).text
    assert rest.count('<th scope="row">') == 2
    assert "Show more" not in rest


def test_the_list_is_newest_first_and_filtered(client: httpx.Client) -> None:
    who = user()
    ids = [made(client, who)["strategy_id"]]
    for frame, symbol in (("4h", "ETHUSDT"), ("1h", "ETHBTC")):
        changed = {"timeframe": frame, "instrument_id": {"market_id": 1, "symbol": symbol},
                   "instrument_key": f"binance:spot:{symbol}"}  # fmt: skip
        ids.append(made(client, who, V1 | changed)["strategy_id"])

    def shown(query: str) -> list[str]:
        found = client.get(f"/strategies?{query}", headers=html(**who))
        assert found.status_code == 200
        return re.findall(r'<th scope="row"><a href="/strategies/([^"]+)"', found.text)

    assert shown("") == shown("symbol=&market_type=&timeframe=") == ids[::-1]
    assert shown("symbol=eth") == [ids[2], ids[1]]
    assert shown("symbol=usdt&timeframe=1h&market_type=spot") == [ids[0]]
    assert shown("market_type=futures") == shown("symbol=%25") == shown("symbol=E_H") == []
    none = client.get("/strategies?symbol=nothing", headers=html(**who)).text
    assert "There is no such strategy." in none
    assert 'value="NOTHING"' in none
    for wrong in ("timeframe=7m", "market_type=x", "symbol=%00"):
        assert client.get(f"/strategies?{wrong}", headers=html(**who)).status_code == 422
    # What goes on goes on with the filters.
    for window in range(2, 24):
        made(client, who, V1 | {"indicators": [{"name": "MA", "params": {"window": window}}]})
    first = client.get("/strategies?timeframe=1m&symbol=btcusdt", headers=html(**who)).text
    more = markup.unescape(first.split('hx-get="')[1].split('"')[0])
    rest = client.get(more, headers=html(**who)).text
    assert "ETHUSDT" not in rest
    assert rest.count('<th scope="row">') == 2


def test_an_equity_curve_is_few_points_and_loses_no_dip(client: httpx.Client, dsn: str) -> None:
    started = Started(client, dsn)
    path = started.path.replace("/events", "/equity")
    empty = client.get(path, headers=started.who).json()
    assert (empty["bars"], empty["ts"]) == (0, [])
    execute(
        dsn,
        f"insert into live_bars select '{started.run_id}', to_timestamp(60 * i), 100 + i, 0,"
        " case when i = 1234 then 1 else 10000 + i end, clock_timestamp()"
        " from generate_series(0, 2500) i",
    )
    found = client.get(path, headers=started.who).json()
    assert (found["bars"], found["bars_per_point"], len(found["ts"])) == (2501, 3, 834)
    assert found["ts"][:2] == [120_000, 300_000]
    assert (found["ts"][-1], found["equity"][-1]) == (2500 * 60_000, 12_500)
    assert (found["equity"][0], found["low"][0], found["high"][0]) == (10_002, 10_000, 10_002)
    assert min(found["low"]) == 1
    assert found["close"][0] == 102
    wrong = client.get(f"{started.path}?cursor=x", headers=started.who)
    assert wrong.status_code == 422
