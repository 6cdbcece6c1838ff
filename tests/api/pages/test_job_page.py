"""A job in a browser: watched, explored, a variant looked at and kept; and what may go wrong."""

from __future__ import annotations

import html as markup
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from api.pages import words
from cluster.jobs.store import TopRow
from ingest.stores.clickhouse import ClickHouse
from tests.api.pages.conftest import Held, html, site, too_wide, unsound, watched
from tests.api.pages.job_site import ann, at, does, made
from tests.api.service.job_service import axis, request, running, until_ended
from tests.api.service.market import CLIENT_S
from tests.cluster.jobs.stored import claimed, leases, top_rows
from tests.postgres import execute

__all__ = ["ann"]
HOSTILE = "<img src=x onerror=\"document.title='gone'\">'\"&{{7*7}}</script>"


def shown_variant(tab: Page, title: str) -> None:
    expect(tab.locator("#variant-title")).to_have_text(title)
    expect(tab.locator("#variant-body:not([aria-busy])")).to_be_visible()


@pytest.mark.browser
def test_a_job_is_watched_explored_looked_into_kept_and_compared(
    ann: httpx.Client, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    grid = request(validation={"holdout_fraction": 0.25})
    grid["template"]["indicator_grids"][0]["params"]["window"] = axis(*range(5, 15))
    job_id = ann.post("/backtests/jobs", json=grid).json()["job_id"]
    here = f"/backtests/jobs/{job_id}"
    with watched(window) as tab:
        tab.goto(at(ann, here))
        expect(tab.locator("#run .state")).to_have_text("queued")
        expect(tab.locator("#live")).to_have_text("as it happens")
        with running(database, tmp_path):
            expect(tab.locator("#run .state")).to_have_text("succeeded")
            other = made(ann)
            assert until_ended(ann, other)["state"] == "succeeded"
        ranked = ann.get(f"{here}/ranked").json()
        expect(tab.locator("#ranked tr[data-rank]")).to_have_count(len(ranked["rows"]))
        expect(tab.locator(".job-head .notice").first).to_contain_text("SYNTHETIC DATA")
        shown_variant(tab, "Rank 1")
        # One name and one text of a parameter, wherever it stands.
        expect(tab.locator("#variant-parameters")).to_contain_text("sma window ")
        expect(tab.locator("#variant-parameters")).to_contain_text("rsi long threshold 50")
        expect(tab.locator("#variant-parameters")).to_contain_text(f"stop loss 2{words.PERCENT}")
        expect(tab.locator("#ranked")).to_contain_text("rsi long threshold 50")
        expect(tab.locator("#across option").first).to_have_text("sma window")
        expect(tab.locator("#plateau")).to_contain_text("Where sma window is")
        # What is with stops, and what is without.
        expect(tab.locator(".tile", has_text="Rank 1 returned")).to_contain_text("with its stops")
        expect(tab.locator("[data-tile=median]")).to_contain_text("without stops")
        expect(tab.locator("#histogram-words")).to_contain_text("tried with them")
        expect(tab.locator("#variant-around")).to_contain_text("Without its stops the marked")
        skip = tab.get_by_text("Skip the table")
        skip.focus()
        skip.press("Enter")
        expect(tab.locator("#grid-title")).to_be_focused()
        with tab.expect_download() as taken:
            tab.get_by_role("link", name="result.json").click()
        assert taken.value.suggested_filename == "result.json"
        expect(tab.locator("[data-tile=median]")).to_be_visible()
        expect(tab.locator("#verdict")).to_contain_text("neighbours, one step away")

        # A filter narrows the table and the pictures.
        expect(tab.locator("#grid-note")).to_contain_text("30 base variants")
        tab.locator("#filters summary").click()
        tab.locator("select[name='from.ma.sma.window']").select_option("10")
        expect(tab.locator("#grid-note")).to_contain_text("15 base variants")
        tab.locator("#filters [data-clear]").click()
        expect(tab.locator("#grid-note")).to_contain_text("30 base variants")

        # A cell of the heat map: its plateau in words, its best variant in full.
        expect(tab.locator("#map:not([aria-busy]) #plateau")).to_contain_text("The greatest cell.")
        before = tab.locator("#plateau").inner_text()
        box = tab.locator("#heat").bounding_box()
        assert box is not None
        tab.locator("#heat").click(position={"x": box["width"] / 2, "y": box["height"] / 2})
        expect(tab.locator("#plateau")).not_to_have_text(before)
        pressed = tab.locator("#plateau").inner_text()
        tab.locator("#heat").press("ArrowRight")
        tab.locator("#heat").press("ArrowUp")
        expect(tab.locator("#plateau")).not_to_have_text(pressed)
        tab.locator("#cell-best").click()
        expect(tab.locator("#variant-title")).to_contain_text("Base variant")
        expect(tab.locator("#variant-said")).to_contain_text("without stops")
        expect(tab.locator("#variant-around")).to_contain_text("The marked variant returned")
        assert "flat_index=" in tab.url

        # A press on a row before what draws it is there.
        held = Held(tab, "**/assets/job_grid.js")
        tab.goto(at(ann, here))
        tab.locator("#ranked tbody").nth(1).locator("td").first.click()
        held.route().continue_()
        second = tab.locator("#ranked tbody").nth(1).locator("tr").first
        shown_variant(tab, f"Rank {second.get_attribute('data-rank')}")

        # The holdout of a ranked row, as the result has it.
        row = tab.locator("#ranked tbody").nth(2).locator("tr").first
        rank = int(row.get_attribute("data-rank") or 0)
        row.click()
        shown_variant(tab, f"Rank {rank}")
        assert f"rank={rank}" in tab.url
        result = ann.get(f"{here}/result").json()["variants"][rank - 1]
        told = {row["metric"]: row["value"] for row in result["holdout"]["report"]["rows"]}
        beside = tab.locator("#variant-tiles .tile", has_text="On the holdout")
        bought = words.percent(float(told["Benchmark Return [%]"]))
        expect(beside).to_contain_text(words.percent(float(told["Total Return [%]"])))
        expect(beside).to_contain_text(f"buy and hold {bought}")
        expect(tab.locator(".tiles").first).to_contain_text(f"buy and hold {bought}")
        tab.locator("#part").select_option("holdout")
        total = tab.locator("#rows25 tr", has_text="Total Return [%]").locator("td")
        expect(total).to_have_text(words.percent(float(told["Total Return [%]"])))
        expect(tab.locator("#trades tbody tr")).to_have_count(int(told["Num. Trades"]))
        tab.locator("#trades thead button", has_text="Net, %").click()
        expect(tab.locator("#trades th[aria-sort=descending]")).to_have_text("Net, % ↓")
        exported = tab.locator("[data-export^=trades]").first.get_attribute("href")
        assert exported is not None
        assert ann.get(exported).text.count("\n") == int(told["Num. Trades"]) + 1
        assert unsound(tab) == []

        # Where it leads is another page's to show.
        blank = "<!doctype html><link rel=icon href='data:,'><title>kept</title>"
        tab.route(
            lambda asked: urlsplit(asked).path.startswith("/strategies/"),
            lambda route: route.fulfill(content_type="text/html", body=blank),
        )
        tab.locator("#save").click()
        tab.wait_for_url("**/strategies/*")
        side_by_side(ann, tab, [job_id, other])
    kept = ann.get("/strategies").json()["items"][0]
    assert kept["spec"]["source"]["variant_key"] == result["variant_key"]


def side_by_side(ann: httpx.Client, tab: Page, ids: list[str]) -> None:
    """Two ticked jobs, compared."""
    tab.goto(at(ann, "/backtests/jobs"))
    for job_id in ids:
        tab.locator(f"[data-compare][value='{job_id}']").check()
    tab.locator("#compare").click()
    differing = tab.locator("section[aria-labelledby=differ] tbody tr")
    expect(differing).to_have_count(2)
    expect(differing.locator("td")).to_have_text(
        ["5, 6, 7, 8", "5 to 14, step 1 (10 values)", "0.0", "0.25"]
    )
    expect(tab.locator("#compare:not([aria-busy])")).to_be_attached()
    for chart in ("#equities", "#returns-chart"):
        expect(tab.locator(f"{chart} canvas")).to_be_visible()
    expect(tab.locator("#returns-said")).to_contain_text("of 12 variants gained")
    assert unsound(tab) == []


@pytest.mark.browser
def test_the_best_rows_move_in_while_a_job_runs(
    ann: httpx.Client, database: str, window: BrowserContext
) -> None:
    """What a runner writes of a job that takes long, at the moments that a reader would see."""
    job_id = made(ann)

    def tops(windows: Sequence[int]) -> list[TopRow]:
        found = top_rows(len(windows))
        return [
            replace(
                row, variant_key=f"{window:064x}", payload={"indicator_selections": [
                    {"indicator_id": "ma.sma", "inputs": {}, "params": {"window": window}}]},
            )
            for row, window in zip(found, windows, strict=True)
        ]  # fmt: skip

    with watched(window) as tab:
        tab.goto(at(ann, f"/backtests/jobs/{job_id}"))
        expect(tab.locator("#live")).to_have_text("as it happens")
        job = does(database, claimed)
        does(database, lambda found: leases(found).progress(job, "stage_a", 3, 12, 4.5))
        figures, best = tab.locator("#run .figures"), tab.locator("#run .best li")
        expect(figures).to_contain_text("3 of 12 variants")
        expect(figures).to_contain_text("2 a second")
        expect(figures).to_contain_text("about 4 s left")
        expect(tab.locator("#run")).to_contain_text("appear in the second stage")
        listed = ann.get("/backtests/jobs", headers=html()).text
        assert "Every base variant 25" in listed
        assert "stage_a" not in listed
        does(database, lambda found: leases(found).progress(job, "stage_b", 4, 16, 12.0))
        does(database, lambda found: leases(found).top(job, tops([5, 6])))
        expect(best).to_have_count(2)
        expect(best.first).to_contain_text("+8.00\u202f%")
        expect(best.first).to_contain_text("sma window 5")
        expect(figures).to_contain_text("25\u202f% of this stage")
        expect(figures).to_contain_text("1 a second")
        expect(figures).to_contain_text("about 12 s left")
        does(database, lambda found: leases(found).top(job, tops([8, 5, 6])))
        expect(best).to_have_count(3)
        expect(best.first).to_contain_text("sma window 8")
        expect(tab.locator("#run .best .fresh")).to_have_count(1)
        assert unsound(tab) == []
        assert too_wide(tab) == 0


def test_jobs_are_filtered(ann: httpx.Client, database: str) -> None:
    made(ann)

    def shown(query: str) -> int:
        found = ann.get(f"/backtests/jobs?{query}", headers=html())
        assert found.status_code == 200
        items = ann.get(f"/backtests/jobs?{query}").json()["items"]
        assert found.text.count('<th scope="row">') == len(items)
        return len(items)

    text = ann.get("/backtests/jobs", headers=html()).text
    assert "sma, rsi; 2026-01-01 to 2026-01-08" in text
    assert "sma, rsi</span>" in ann.get("/", headers=html()).text
    assert shown("") == shown("symbol=&state=&timeframe=") == shown("symbol=cus&timeframe=1h") == 1
    assert shown("symbol=btcusdt&state=queued") == 1
    assert shown("symbol=eth") == shown("timeframe=4h") == shown("state=failed") == 0
    assert "No job matches." in ann.get("/backtests/jobs?symbol=x", headers=html()).text
    for wrong in ("timeframe=7m", "symbol=%00", "state=x"):
        assert ann.get(f"/backtests/jobs?{wrong}", headers=html()).status_code == 422
        assert ann.get(f"/backtests/jobs?{wrong}").status_code == 422
    # What goes on goes on with the filters.
    execute(
        database,
        "insert into backtest_jobs select (jsonb_populate_record(j, jsonb_build_object('job_id',"
        " gen_random_uuid(), 'idempotency_key', null))).* from backtest_jobs j,"
        " generate_series(1, 21)",
    )
    first = ann.get("/backtests/jobs?symbol=btc&timeframe=1h", headers=html()).text
    assert first.count('<th scope="row">') == 20
    more = markup.unescape(first.split('hx-get="')[1].split('"')[0])
    assert "symbol=BTC&timeframe=1h&cursor=" in more
    assert ann.get(more, headers=html()).text.count('<th scope="row">') == 2


def test_hostile_texts_are_texts(ann: httpx.Client, database: str) -> None:
    job_id = made(ann)
    execute(
        database,
        "update backtest_jobs set state = 'failed', started_at = now(), finished_at = now(),"
        f" last_error = $${HOSTILE}$$, last_error_json = jsonb_build_object('code', 'x',"
        f" 'message', $${HOSTILE}$$, 'details', jsonb_build_object('stage', $${HOSTILE}$$)),"
        " effective_json = jsonb_set(effective_json, '{template,direction_mode}',"
        " to_jsonb('long-short'::text))",
    )
    shown = ann.get(f"/backtests/jobs/{job_id}", headers=html())
    assert shown.status_code == 200
    assert "<img" not in shown.text
    assert "&lt;img src=x onerror=" in shown.text
    assert "49" not in shown.text.split("It failed")[1].split("</div>")[0]
    for query in (
        {"sort": HOSTILE},
        {"from.ma.sma.window": HOSTILE},
        {"min.num_trades": HOSTILE},
        {"is.ma.sma.source": HOSTILE},
        {"rank": HOSTILE},
    ):
        for path in (f"/backtests/jobs/{job_id}", f"/_partial/jobs/{job_id}/ranked"):
            found = ann.get(path, params=query, headers=html())
            assert found.status_code in (200, 422)
            assert "<img" not in found.text
    assert ann.get("/backtests/jobs/compare?a=x&b=y", headers=html()).status_code == 404


@pytest.mark.soak
@pytest.mark.browser
def test_five_million_variants_are_explored(
    store: ClickHouse, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    """Says how long a reader waits for each picture of them."""
    grid = request()
    template = grid["template"]
    sma, rsi = (block["params"] for block in template["indicator_grids"])
    template["indicator_grids"][0]["source"] = axis("close", "hlc3")
    sma["window"], rsi["window"] = axis(*range(5, 55)), axis(*range(7, 57))
    template["signal_grids"]["momentum.rsi"] = {
        "long_threshold": axis(*range(40, 65)),
        "short_threshold": axis(*range(25, 65)),
    }
    took: dict[str, float] = {}

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        took[what] = round(time.monotonic() - began, 2)

    with (
        site(store, database, tmp_path, most_variants=5_000_000) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
        watched(window) as tab,
    ):
        with timed("the job"), running(database, tmp_path):
            answer = client.post("/backtests/jobs", json=grid)
            assert answer.status_code == 201, answer.text
            job_id = answer.json()["job_id"]
            ended = until_ended(client, job_id, 900)
            assert ended["state"] == "succeeded", ended
        idle = tab.locator("#pictures:not([aria-busy])")
        with timed("the page"):
            tab.goto(f"{url}/backtests/jobs/{job_id}")
            expect(tab.locator("#grid-note")).to_contain_text("5 000 000 base variants")
            expect(tab.locator("#plateau")).to_contain_text("The greatest cell")
            expect(idle).to_be_attached()
        for name, choice in (
            ("#across", "momentum.rsi.long_threshold"),
            ("#up", "momentum.rsi.short_threshold"),
            ("#aggregate", "mean"),
            ("#aggregate", "q90"),
        ):
            with timed(f"{name} {choice}"), tab.expect_response("**/plateau?**"):
                tab.locator(name).select_option(choice)
        expect(tab.locator("#map:not([aria-busy]) #plateau")).to_contain_text("The greatest cell")
        box = tab.locator("#heat").bounding_box()
        assert box is not None
        with timed("a cell"):
            tab.locator("#heat").click(position={"x": box["width"] / 2, "y": box["height"] / 2})
            expect(tab.locator("#plateau")).not_to_contain_text("The greatest cell")
        with timed("the best of a cell"):
            tab.locator("#cell-best").click()
            expect(tab.locator("#variant-title")).to_contain_text("Base variant")
            expect(tab.locator("#variant-body:not([aria-busy])")).to_be_visible()
        tab.locator("#filters summary").click()
        with timed("a filter"):
            tab.locator("select[name='from.ma.sma.window']").select_option("30")
            expect(tab.locator("#grid-note")).to_contain_text("2 500 000 base variants")
            expect(idle).to_be_attached()
    print(took)
