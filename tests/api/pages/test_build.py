"""The page where a back-test is made, without a browser: its parts over a real store."""

from __future__ import annotations

import copy
import html as markup
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pyarrow as pa
import pytest

from api.pages.coverage import cells, level, marked, stored
from api.pages.form import Fields, fields_of, request_of
from api.pages.rendering import templates
from api.schemas.examples import BACKTESTS
from cluster.demo import REQUEST
from compute.axes import Scalar, axis_spec, materialised
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.settings import Defaults
from ingest.file_rows import ROW_SCHEMA, stamped
from ingest.rows import DAY_MS, MINUTE_MS, Origin
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import GapLedger
from tests.api.pages.conftest import database, html, site, store, store_directory
from tests.api.pages.forms import post, sent
from tests.api.pages.test_form import meaning
from tests.api.service.market import CLIENT_S, NOW_MS, START_MS
from tests.api.service.strategy_service import V2
from tests.ingest.candle_tables import candle_table
from tests.postgres import TEMPLATE, execute, of_database

__all__ = ["database", "store", "store_directory"]

STOPS = BACKTESTS["two indicators with stops"]
EVIL = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def client(
    store: ClickHouse, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    execute(postgres, f"CREATE DATABASE test_build TEMPLATE {TEMPLATE}")
    dsn = of_database(postgres, "test_build")
    results = tmp_path_factory.mktemp("results")
    with site(store, dsn, results) as url, httpx.Client(base_url=url, timeout=CLIENT_S) as found:
        yield found
    execute(postgres, "DROP DATABASE test_build WITH (FORCE)")


def pairs_of(body: dict[str, Any]) -> list[tuple[str, str]]:
    return fields_of(body, Defaults()).pairs


def changed(pairs: list[tuple[str, str]], **values: str) -> list[tuple[str, str]]:
    names = {name.replace("__", "."): value for name, value in values.items()}
    return [pair for pair in pairs if pair[0] not in names] + [*names.items()]


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", text).split())


def opened(client: httpx.Client, body: Any) -> httpx.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return post(client, "/_partial/build/open", [("json", text)])


@pytest.mark.parametrize("body", [*BACKTESTS.values(), REQUEST], ids=["stops", "holdout", "demo"])
def test_what_the_form_shows_is_what_was_opened(client: httpx.Client, body: dict[str, Any]) -> None:
    found = opened(client, body)
    assert found.status_code == 200
    assert meaning(request_of(Fields(sent(found.text)))) == meaning(body)


def test_what_has_no_field_is_said_and_sent_on(client: httpx.Client) -> None:
    body = copy.deepcopy(REQUEST)
    axis = {"mode": "explicit", "values": [EVIL]}
    body["template"]["signal_grids"]["ma.ema"] = {EVIL: axis}
    body["template"]["indicator_grids"][1]["output"] = "rsi"
    found = opened(client, body)
    assert "keeps it as it is" in found.text
    assert EVIL not in found.text
    again = request_of(Fields(sent(found.text)))
    # Names are lower-cased by the request itself.
    assert again["template"]["signal_grids"]["ma.ema"] == {EVIL: axis}


def test_a_strategy_opens_as_the_request_that_tries_it(client: httpx.Client) -> None:
    for body in (V2, {"strategy_id": "1", "name": "kept", "spec": V2}):
        found = opened(client, body)
        request = request_of(Fields(sent(found.text)))
        assert request["time_range"] == {
            "start": "2025-12-25T00:00:00Z", "end": "2026-01-14T00:00:00Z",
        }  # fmt: skip
        template = request["template"]
        assert [one["indicator_id"] for one in template["indicator_grids"]] == [
            "momentum.rsi", "ma.sma",
        ]  # fmt: skip
        assert template["direction_mode"] == "long-only"
        assert template["risk_grid"]["sl"] == {"mode": "explicit", "values": [2]}
        counted = post(client, "/_partial/build/estimate", sent(found.text)).text
        assert "data-counted" in counted
    assert "cannot be tried" in opened(client, {"indicators": [], EVIL: EVIL}).text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 5000, "nested deeper"),
        ('{"a": 1, "a": 2}', "comes twice"),
        ("[1]", "a request is a JSON object"),
        ('{"strategy_id": "x"}', "a stored strategy cannot be run here"),
        (json.dumps({**STOPS, EVIL: EVIL}), "script"),
        (json.dumps({**STOPS, "top_k": EVIL}), "top_k"),
    ],
)
def test_what_cannot_be_opened_is_said_where_it_was_given(
    client: httpx.Client, text: str, said: str
) -> None:
    found = opened(client, text)
    assert found.headers["hx-retarget"] == "#opened"
    assert said in markup.unescape(found.text)
    assert markup.unescape(found.text).count("a request is a JSON object") <= 1  # said once
    assert "<script" not in found.text


def test_the_page_begins_with_what_is_stored(client: httpx.Client) -> None:
    found = client.get("/backtests", headers=html())
    body = request_of(Fields(sent(found.text)))
    template = body["template"]
    assert template["instrument_id"] == {"market_id": 1, "symbol": "BTCUSDT"}
    assert [block["indicator_id"] for block in template["indicator_grids"]] == [
        "ma.sma", "momentum.rsi",
    ]  # fmt: skip
    assert "execution" not in template  # the fee follows the market
    assert 'data-fee="0.075"' in found.text
    estimate = post(client, "/_partial/build/estimate", sent(found.text))
    assert "disabled" not in estimate.text.partition("Start the job")[0]
    assert client.get("/api/backtests/runtime-defaults").status_code == 200


def test_candles_of_others_are_not_the_sample(client: httpx.Client) -> None:
    """Those that came while it was loaded do not make a load that failed one that did not."""
    shown = client.get("/_partial/sample?here=true").text
    assert "Load sample data" in shown
    assert "The sample is stored" not in shown


def test_the_estimate_counts_and_says_all_forms_of_the_request(client: httpx.Client) -> None:
    found = post(client, "/_partial/build/estimate", pairs_of(STOPS)).text
    assert '<b class="figure">12</b> base variants' in found
    assert "SYNTHETIC" not in found  # said beside the coverage
    text = markup.unescape(re.search(r'id="as-json".*?>(.*?)</pre>', found, re.DOTALL)[1])  # type: ignore[index]
    assert meaning(json.loads(text)) == meaning(STOPS)
    assert "roehub submit request.json" in found
    assert "/api/backtests/jobs" in found


def test_a_first_guess_of_the_time_comes_with_each_edit(client: httpx.Client) -> None:
    """From what was measured before, so that it does not wait for the measurement of its own."""
    body = copy.deepcopy(STOPS)
    body["ranking"] = {"primary_metric": "profit_factor"}

    def guess(windows: int) -> float | None:
        window = {"mode": "range", "start": 10, "stop_incl": 9 + windows, "step": 1}
        body["template"]["indicator_grids"][0]["params"]["window"] = window
        found = post(client, "/_partial/build/estimate", pairs_of(body)).text
        assert "Measuring a small part" in found
        told = re.search(r'id="seconds" data-guess="([0-9.]+)"', found)
        return None if told is None else float(told[1])

    assert guess(10) is None
    measured = client.post("/backtests/estimate?timed=true", json=body).json()
    assert guess(10) == pytest.approx(sum(measured["seconds"].values()), abs=1e-3)
    assert guess(10) < guess(1000)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"template__instrument_id__symbol": "NOSUCH"}, None, "No candle of Binance spot NOSUCH"),
        ({"template__instrument_id__symbol": EVIL}, None, "No candle of"),
        ({"template__instrument_id__symbol": ""}, "template.instrument_id.symbol", "required"),
        ({"time_range__start": "2030-01-01T00:00"}, "time_range", "start < end"),
        ({"time_range__start": "tomorrow"}, "time_range.start", "ISO 8601"),
        ({"blocks__ma__sma__params__window__start": "1"},
         "blocks.ma.sma.params.window", "from 2 to 2000"),
        ({"blocks__ma__sma__params__window__step": "x"},
         "blocks.ma.sma.params.window.step", "number"),
        ({"signals__momentum__rsi__long_threshold__values": EVIL},
         "signals.momentum.rsi.long_threshold", "must be numbers"),
        ({"template__risk_grid__sl__start": "-1"}, "template.risk_grid.sl", ">= 0"),
        ({"top_k": "301"}, "top_k", "300"),
        ({"preselect": "5", "blocks__ma__sma__params__window__stop_incl": "2000",
          "blocks__ma__sma__params__window__step": "1",
          "signals__momentum__rsi__short_threshold__values": " ".join(map(str, range(1, 99))),
          "signals__momentum__rsi__long_threshold__values": " ".join(map(str, range(1, 99)))},
         "blocks.ma.sma.params.window", "600 000"),
        ({"signals__momentum__rsi__long_threshold__as": "range",
          "signals__momentum__rsi__long_threshold__start": "1",
          "signals__momentum__rsi__long_threshold__stop_incl": "40000",
          "signals__momentum__rsi__long_threshold__step": "1",
          "signals__momentum__rsi__short_threshold__as": "range",
          "signals__momentum__rsi__short_threshold__start": "1",
          "signals__momentum__rsi__short_threshold__stop_incl": "39999",
          "signals__momentum__rsi__short_threshold__step": "1"},
         "signals.momentum.rsi.long_threshold", "9 599 760 000"),
        ({"preselect": "60000", "blocks__ma__sma__params__window__stop_incl": "2000",
          "blocks__ma__sma__params__window__step": "1",
          "template__risk_grid__sl__step": "0.01",
          "signals__momentum__rsi__long_threshold__values": " ".join(map(str, range(1, 30)))},
         "preselect", "Try stops on fewer of the best"),
    ],
)  # fmt: skip
def test_what_would_be_refused_is_said_with_its_field(
    client: httpx.Client, change: dict[str, str], field: str | None, said: str
) -> None:
    pairs = changed(pairs_of(STOPS), **change)
    found = post(client, "/_partial/build/estimate", pairs)
    assert found.status_code == 200
    assert "disabled" in found.text.partition("Start the job")[0]
    assert said in markup.unescape(found.text)
    assert "<script" not in found.text
    if field is not None:
        assert f'data-field="{field}"' in found.text
    # What the estimate refuses the creation of a job refuses, too.
    made = post(client, "/_partial/build/submit", pairs)
    assert "hx-redirect" not in made.headers
    assert "<script" not in made.text


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"start": "10", "stop_incl": "5", "step": "1"}, "from must not be above to: 10"),
        ({"start": "10", "stop_incl": "500000", "step": "1"}, "must be from 2 to 2000; 500000"),
        ({"start": "10", "stop_incl": "500000", "step": "1"}, "and at most 100 000 are taken"),
        ({"start": "10", "stop_incl": "50", "step": "0"}, "step must be above 0"),
        ({"start": "10", "stop_incl": "", "step": "1"}, "to is missing"),
        ({"as": "list", "values": "5.5"}, "the values must be whole numbers; 5.5 is none"),
        ({"as": "list", "values": "1"}, "the values must be from 2 to 2000; 1 is not"),
    ],
)  # fmt: skip
def test_the_form_speaks_of_its_fields(
    client: httpx.Client, window: dict[str, str], said: str
) -> None:
    change = {f"blocks__ma__sma__params__window__{name}": value for name, value in window.items()}
    found = post(client, "/_partial/build/estimate", changed(pairs_of(STOPS), **change))
    text = markup.unescape(found.text)
    assert said in text
    assert 'data-field="blocks.ma.sma.params.window' in text
    for code in ("stop_incl, got", "axis ", "backtest.api."):
        assert code not in text.partition("copies")[0]


def test_an_instrument_without_candles_names_those_that_have_some(client: httpx.Client) -> None:
    change = {"template__instrument_id__symbol": "NONEUSDT"}
    found = post(client, "/_partial/build/estimate", changed(pairs_of(STOPS), **change))
    assert "No candle of Binance spot NONEUSDT is stored here. Choose one that is:" in found.text
    assert "BTCUSDT (Binance spot)" in found.text


def test_a_grid_that_is_too_large_names_what_makes_it_so(client: httpx.Client) -> None:
    """Not the first indicator, but the axes with the most values, and in words of the page."""
    body = copy.deepcopy(STOPS)
    rsi = body["template"]["signal_grids"]["momentum.rsi"]
    rsi["long_threshold"] = {"mode": "range", "start": 1, "stop_incl": 600, "step": 1}
    rsi["short_threshold"] = {"mode": "range", "start": 1, "stop_incl": 500, "step": 1}
    found = markup.unescape(post(client, "/_partial/build/estimate", pairs_of(body)).text)
    said = words(found[found.index('id="why-not"') : found.index('class="facts"')])
    total = re.search(r"<b class=\"figure\">(.*?)</b> base variants", found)
    assert total is not None
    assert f"The grid is too large: {total[1]} combinations" in said
    assert "(ma.sma 3 × momentum.rsi 600 000), 600 000 are allowed." in said
    assert re.findall(r'data-field="(.*?)"', found) == [
        "signals.momentum.rsi.long_threshold", "signals.momentum.rsi.short_threshold",
        "blocks.ma.sma.params.window",
    ]  # fmt: skip
    assert "long_threshold: 600" in said
    assert "Give them fewer values or a larger step." in said
    assert "stage_a" not in said
    assert "can raise max_variants_per_compute to" in said
    # Its bar is refused, in words, too; that of the memory is not.
    variants, memory = (
        found[found.index(f"<dt>{name}</dt>") :].partition("</div>")[0]
        for name in ("Variants", "Memory")
    )
    assert "More than is allowed" in variants
    assert "of 600 000 allowed" in variants
    assert "repeat" not in variants
    assert "<meter" not in variants
    assert "<meter" in memory
    answer = client.post("/backtests/estimate", json=body).json()
    refusal = answer["refusal"]
    assert refusal["message"].startswith(f"Backtest variants guard exceeded: {total[1]} comb")
    assert "most come from momentum.rsi.long_threshold (600), momentum.rsi.s" in refusal["message"]
    assert refusal["details"]["stage"] == "stage_a"


def test_variants_that_only_repeat_others_are_told(client: httpx.Client) -> None:
    body = copy.deepcopy(STOPS)
    slow = {"mode": "explicit", "values": [9, 10]}
    params = {
        "fast_window": {"mode": "explicit", "values": [12]},
        "slow_window": {"mode": "explicit", "values": [26]},
        "signal_window": slow,
    }
    source = {"mode": "explicit", "values": ["close"]}
    macd = {"indicator_id": "momentum.macd", "source": source, "params": params}
    body["template"]["indicator_grids"] = [macd]
    body["template"]["signal_grids"] = {}
    found = post(client, "/_partial/build/estimate", pairs_of(body)).text
    assert "At most 1 of them can trade differently." in found
    assert "The others only repeat one of those, but count, too." in found


def test_a_form_that_is_sent_twice_makes_one_job(client: httpx.Client) -> None:
    pairs = [*pairs_of(STOPS), ("key", "a-form")]
    places = {
        post(client, "/_partial/build/submit", pairs).headers["hx-redirect"] for _ in range(3)
    }
    assert len(places) == 1
    other = changed(pairs, top_k="4")
    places.add(post(client, "/_partial/build/submit", other).headers["hx-redirect"])
    assert len(places) == 2
    found = client.get("/backtests/jobs").json()["items"]
    assert {f"/backtests/jobs/{job['job_id']}" for job in found} >= places
    # A job's request fills the form again.
    job_id = max(found, key=lambda job: job["created_at"])["job_id"]
    again = client.get(f"/backtests?from={job_id}", headers=html())
    assert meaning(request_of(Fields(sent(again.text))))[4:] == meaning({**STOPS, "top_k": 4})[4:]
    missing = client.get(f"/backtests?from={job_id[:-4]}0000", headers=html())
    assert missing.status_code == 404


def test_other_sites_cannot_send_the_form(client: httpx.Client) -> None:
    for path in ("sample", "build/submit", "build/estimate", "build/open"):
        found = client.post(f"/_partial/{path}", data=dict(pairs_of(STOPS)))
        assert found.status_code == 403, path
    many = [("x", "1")] * 5001
    assert post(client, "/_partial/build/estimate", many).status_code == 403
    assert client.get("/backtests/jobs").json()["items"] is not None


def test_a_block_comes_with_few_values_and_its_bounds(client: httpx.Client) -> None:
    path = "/_partial/build/block?indicator=trend.aroon"
    found = post(client, path, pairs_of(STOPS)).text
    assert 'min="2" max="2000" step="1"' in found
    assert 'name="signals.trend.aroon.long_threshold.start"' in found
    output = ("blocks.trend.aroon.output", "aroon_up")
    pairs = [*pairs_of(STOPS), ("indicator", "trend.aroon"), output]
    other = post(client, path, pairs).text
    assert 'name="signals.trend.aroon.long_delta_periods.values"' in other
    assert "long_threshold" not in other
    unknown = post(client, f"/_partial/build/block?indicator={EVIL}", pairs)
    assert unknown.status_code == 422
    assert "<script" not in unknown.text


def test_a_block_that_would_make_the_grid_too_large_has_one_value(client: httpx.Client) -> None:
    body = copy.deepcopy(STOPS)
    path = "/_partial/build/block?indicator=structure.candle_body_atr"

    def values() -> tuple[Scalar, ...]:
        found = post(client, path, pairs_of(body)).text
        made = request_of(Fields(sent(f'<form id="build">{found}</form>')))
        (block,) = made["template"]["indicator_grids"]
        return materialised(axis_spec(block["params"]["atr_window"]))

    assert values() == (10, 12, 14, 16, 18)
    rsi = body["template"]["signal_grids"]["momentum.rsi"]
    for name, most in (("long_threshold", 400), ("short_threshold", 200)):
        rsi[name] = {"mode": "range", "start": 1, "stop_incl": most, "step": 1}
    assert values() == (14,)


def test_symbols_with_candles_come_first(client: httpx.Client) -> None:
    def names(market_id: int, symbol: str) -> list[str]:
        query = {"template.instrument_id.market_id": market_id,
                 "template.instrument_id.symbol": symbol}  # fmt: skip
        found = client.get("/_partial/build/symbols", params=query)
        assert found.status_code == 200
        return re.findall(r'value="(.*?)"', found.text)

    assert names(1, " btc") == ["BTCUSDT", "BTCUSDC"]
    assert names(2, "") == ["BTCUSDT"]
    assert names(1, "a%") == ["A%B"]
    assert names(1, EVIL) == names(1, "\x00") == []


def test_the_coverage_of_an_instrument(client: httpx.Client) -> None:
    found = post(client, "/_partial/build/coverage", pairs_of(STOPS)).text
    assert found.count("<rect") == 21
    assert "synthetic" in found
    assert f'data-first="{START_MS}"' in found
    assert re.search(r"\d+ gaps with \d+ missing minutes; the longest is \d+ ", words(found))
    none = changed(pairs_of(STOPS), template__instrument_id__symbol=EVIL)
    text = post(client, "/_partial/build/coverage", none).text
    assert "There are no candles of" in text
    assert "<script" not in text
    for name in ("template__instrument_id__symbol", "template__instrument_id__market_id"):
        nothing = post(client, "/_partial/build/coverage", changed(pairs_of(STOPS), **{name: ""}))
        assert "Choose a symbol" in nothing.text


def test_gaps_are_counted_over_midnight_and_told(store: ClickHouse) -> None:
    holed, start = Instrument(1, "GAPUSDT"), START_MS + 5 * DAY_MS
    there = [*range(10), *range(15, 1430), *range(1450, 1500)]  # five minutes, and over midnight
    candles = CandleStore(store)

    def store_rows(rows: pa.Table) -> None:
        whole = rows.select(ROW_SCHEMA.names).cast(ROW_SCHEMA)
        candles.insert(stamped(whole, holed, Origin("file", NOW_MS)))

    store_rows(candle_table(1500, start_ms=start).take(there))
    found = stored(candles, GapLedger(store), holed, None)
    later = start + 800 * DAY_MS
    store_rows(candle_table(2, start_ms=later))
    longer = stored(candles, GapLedger(store), holed, None)
    candles.delete(holed, Period(start, later + DAY_MS))
    assert longer is not None  # a gap is one, over however many years
    assert longer.longest == Period(start + 1500 * MINUTE_MS, later)
    assert len(longer.gaps) == 3
    assert found is not None
    assert [gap.duration_ms // MINUTE_MS for gap in found.gaps] == [5, 20]
    assert found.longest == found.gaps[1]
    assert (found.missing, found.minutes) == (25, 1475)
    shown = words(
        templates()
        .get_template("_coverage.html")
        .render(stored=found, width=1000, instrument=holed, of="1:HOLEDUSDT")
    )
    assert "1 475 minutes are stored, 98.333 % of all from the first to the last." in shown
    assert "2 gaps with 25 missing minutes; the longest is 20 min, from 2025-12-30 23:50." in shown


def test_the_strip_has_every_day_in_a_cell() -> None:
    first = 19_000 * DAY_MS
    span = Period(first + 5 * MINUTE_MS, first + 400 * DAY_MS + 1440 * MINUTE_MS)
    days = dict.fromkeys(range(first, first + 401 * DAY_MS, DAY_MS), 1440)
    days[first] = 1435
    days[first + 3 * DAY_MS] = 0
    found = cells(days, span)
    assert len(found) == 134
    assert sum(cell.width for cell in found) == pytest.approx(1000, abs=1)
    assert [cell.level for cell in found[:3]] == [4, 2, 4]
    assert [level(share) for share in (0, 0.1, 0.6, 0.95, 1)] == [0, 1, 2, 3, 4]
    assert marked(Period(0, 1), span) is None
    assert marked(Period(0, span.end_ms + 1), span) == (0.01, 999.99)


def test_the_first_page_says_what_is_stored_and_leads_to_its_form(client: httpx.Client) -> None:
    shown = words(client.get("/", headers=html()).text)
    assert "BTCUSDT (made-up) 20 days of 1m candles from 2025-12-25" in shown
    assert "1 minute of 1m candles" in shown
    link = "/backtests?market_id=2&amp;symbol=BTCUSDT"
    assert link in client.get("/", headers=html()).text
    form = client.get(markup.unescape(link), headers=html()).text
    assert dict(sent(form))["template.instrument_id.market_id"] == "2"
    assert client.get("/backtests?market_id=1&symbol=%20", headers=html()).status_code == 422
