"""The page where a back-test is made, without a browser: its parts over a real store."""

from __future__ import annotations

import copy
import html as markup
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.pages.coverage import cells, level, marked
from api.pages.form import Fields, fields_of, request_of
from api.schemas.examples import BACKTESTS
from cluster.demo import REQUEST
from compute.market.period import Period
from compute.settings import Defaults
from ingest.rows import DAY_MS, MINUTE_MS
from ingest.stores.clickhouse import ClickHouse
from tests.api.pages.conftest import database, html, site, store, store_directory
from tests.api.pages.forms import post, sent
from tests.api.pages.test_form import meaning
from tests.api.service.market import CLIENT_S, START_MS
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
    assert "It is kept." in found.text
    assert EVIL not in found.text
    again = request_of(Fields(sent(found.text)))
    # Names are lower-cased by the request itself.
    assert again["template"]["signal_grids"]["ma.ema"] == {EVIL: axis}


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


def test_the_estimate_counts_and_says_all_forms_of_the_request(client: httpx.Client) -> None:
    found = post(client, "/_partial/build/estimate", pairs_of(STOPS)).text
    assert '<b class="figure">12</b> base variants' in found
    assert "SYNTHETIC" not in found  # said beside the coverage
    text = markup.unescape(re.search(r'id="as-json".*?>(.*?)</pre>', found, re.DOTALL)[1])  # type: ignore[index]
    assert meaning(json.loads(text)) == meaning(STOPS)
    assert "roehub submit request.json" in found
    assert "/api/backtests/jobs" in found


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"template__instrument_id__symbol": "NOSUCH"}, None, "no candle of 1:NOSUCH"),
        ({"template__instrument_id__symbol": EVIL}, None, "no candle of"),
        ({"template__instrument_id__symbol": ""}, "template.instrument_id.symbol", "required"),
        ({"time_range__start": "2030-01-01T00:00"}, "time_range", "start < end"),
        ({"time_range__start": "tomorrow"}, "time_range.start", "ISO 8601"),
        ({"blocks__ma__sma__params__window__start": "1"}, "blocks.ma.sma.params.window", "2..2000"),
        ({"blocks__ma__sma__params__window__step": "x"},
         "blocks.ma.sma.params.window.step", "number"),
        ({"signals__momentum__rsi__long_threshold__values": EVIL},
         "signals.momentum.rsi.long_threshold", "numeric"),
        ({"template__risk_grid__sl__start": "-1"}, "template.risk_grid", ">= 0"),
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
         "preselect", "lower preselect"),
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
    none = changed(pairs_of(STOPS), template__instrument_id__symbol=EVIL)
    text = post(client, "/_partial/build/coverage", none).text
    assert "There are no candles of" in text
    assert "<script" not in text
    for name in ("template__instrument_id__symbol", "template__instrument_id__market_id"):
        nothing = post(client, "/_partial/build/coverage", changed(pairs_of(STOPS), **{name: ""}))
        assert "Choose a symbol" in nothing.text


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
