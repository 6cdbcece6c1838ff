"""A job in a browser: watched, explored, a variant looked at and kept; and what may go wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from ingest.stores.clickhouse import ClickHouse
from tests.api.pages.conftest import html, site, unsound, watched
from tests.api.service.job_service import axis, request, running, until_ended
from tests.api.service.market import CLIENT_S
from tests.postgres import execute, rows

PATIENCE_MS = CLIENT_S * 1000
expect.set_options(timeout=60_000)
HOSTILE = "<img src=x onerror=\"document.title='gone'\">'\"&{{7*7}}</script>"


@pytest.fixture
def ann(store: ClickHouse, database: str, tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        site(store, database, tmp_path) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
    ):
        yield client


def made(client: httpx.Client, **members: Any) -> str:
    answer = client.post("/backtests/jobs", json=request(**members))
    assert answer.status_code == 201, answer.text
    return answer.json()["job_id"]


def at(client: httpx.Client, path: str) -> str:
    return f"{str(client.base_url).rstrip('/')}{path}"


def shown_variant(tab: Page, title: str) -> None:
    expect(tab.locator("#variant-title")).to_have_text(title, timeout=PATIENCE_MS)
    expect(tab.locator("#variant-body:not([aria-busy])")).to_be_visible(timeout=PATIENCE_MS)


@pytest.mark.browser
def test_a_job_is_watched_explored_looked_into_kept_and_compared(
    ann: httpx.Client, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    grid = request(validation={"holdout_fraction": 0.25})
    grid["template"]["indicator_grids"][0]["params"]["window"] = axis(*range(5, 15))
    job_id = ann.post("/backtests/jobs", json=grid).json()["job_id"]
    here = f"/backtests/jobs/{job_id}"
    with watched(window) as tab:
        tab.set_default_timeout(PATIENCE_MS)
        tab.goto(at(ann, here))
        expect(tab.locator("#run .state")).to_have_text("queued")
        expect(tab.locator("#live")).to_have_text("as it happens")
        with running(database, tmp_path):
            expect(tab.locator("#run .state")).to_have_text("succeeded", timeout=PATIENCE_MS)
            other = made(ann)
            assert until_ended(ann, other)["state"] == "succeeded"
        ranked = ann.get(f"{here}/ranked").json()
        expect(tab.locator("#ranked tr[data-rank]")).to_have_count(len(ranked["rows"]))
        expect(tab.locator(".job-head .notice").first).to_contain_text("SYNTHETIC DATA")
        shown_variant(tab, "Rank 1")
        expect(tab.locator("[data-tile=median]")).to_be_visible()
        expect(tab.locator("#verdict")).to_contain_text("neighbours, one step away")

        # A filter narrows the table and the pictures.
        expect(tab.locator("#grid-note")).to_contain_text("30 base variants")
        tab.locator("#filters summary").click()
        tab.locator("select[name='from.ma.sma.window']").select_option("10")
        expect(tab.locator("#grid-note")).to_contain_text("15 base variants")
        tab.locator("#filters button[type=reset]").click()
        expect(tab.locator("#grid-note")).to_contain_text("30 base variants")

        # A cell of the heat map: its plateau in words, its best variant in full.
        before = tab.locator("#plateau").inner_text()
        assert before.startswith("The greatest cell.")
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
        assert "flat_index=" in tab.url

        # The holdout of a ranked row, as the result has it.
        row = tab.locator("#ranked tbody").nth(1).locator("tr").first
        rank = int(row.get_attribute("data-rank") or 0)
        row.click()
        shown_variant(tab, f"Rank {rank}")
        assert f"rank={rank}" in tab.url
        result = ann.get(f"{here}/result").json()["variants"][rank - 1]
        told = {row["metric"]: row["value"] for row in result["holdout"]["report"]["rows"]}
        tab.locator("#part").select_option("holdout")
        total = tab.locator("#rows25 tr", has_text="Total Return [%]").locator("td")
        expect(total).to_have_text(told["Total Return [%]"])
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
def test_a_page_outlives_a_restart_of_the_service(
    store: ClickHouse, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    tab = window.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    with site(store, database, tmp_path) as url, httpx.Client(base_url=url) as client:
        job_id = made(client)
        tab.goto(f"{url}/backtests/jobs/{job_id}")
        expect(tab.locator("#live")).to_have_text("as it happens")
        port = urlsplit(url).port
    expect(tab.locator("#live")).to_contain_text("trying to reach the service")
    # The job goes on while nobody serves its page.
    with running(database, tmp_path):
        deadline = time.monotonic() + CLIENT_S
        while not rows(database, "select 1 from backtest_jobs where state = 'succeeded'"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert port is not None
    with site(store, database, tmp_path, port=port):
        expect(tab.locator("#run .state")).to_have_text("succeeded", timeout=PATIENCE_MS)
        expect(tab.locator("#ranked tr[data-rank]")).not_to_have_count(0)
        tab.close()


@pytest.mark.browser
def test_without_a_stream_the_page_asks(
    ann: httpx.Client, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    tab = window.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.route("**/events", lambda route: route.fulfill(status=502))
    job_id = made(ann)
    tab.clock.install()
    tab.goto(at(ann, f"/backtests/jobs/{job_id}"))
    for _ in range(3):
        tab.clock.run_for(2100)
    expect(tab.locator("#live")).to_have_text("asking every two seconds")
    tab.locator("[data-cancel]").click()
    tab.locator("#sure button[value=yes]").click()
    expect(tab.locator("#run .state")).to_have_text("cancelled")
    expect(tab.locator("#run")).to_contain_text("cancelled before anything was ranked")
    tab.locator("[data-delete]").click()
    tab.locator("#sure button[value=yes]").click()
    tab.wait_for_url("**/backtests/jobs")
    assert ann.get("/backtests/jobs").json()["items"] == []
    tab.close()


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
