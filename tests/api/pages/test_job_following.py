"""A job's page follows the job, also where the service or its stream is gone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import BrowserContext, Route, expect

from ingest.stores.clickhouse import ClickHouse
from tests.api.pages.conftest import html, site
from tests.api.pages.job_site import ann, at, does, made
from tests.api.service.job_service import running
from tests.api.service.market import CLIENT_S
from tests.cluster.jobs.stored import claimed, expire, leases
from tests.postgres import rows

__all__ = ["ann"]
SILENT = "The service does not answer; trying again …"
PROXY = "<html><head><title>502 Bad Gateway</title></head><body>of a proxy</body></html>"


@pytest.mark.browser
def test_a_page_outlives_a_restart_of_the_service(
    store: ClickHouse, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    tab = window.new_page()
    with (
        site(store, database, tmp_path) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
    ):
        job_id = made(client)
        tab.goto(f"{url}/backtests/jobs/{job_id}")
        expect(tab.locator("#live")).to_have_text("as it happens")
        port = urlsplit(url).port
    expect(tab.locator("#run .notice")).to_have_text(SILENT)
    # The job goes on while nobody serves its page.
    with running(database, tmp_path):
        deadline = time.monotonic() + CLIENT_S
        while not rows(database, "select 1 from backtest_jobs where state = 'succeeded'"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert port is not None
    with site(store, database, tmp_path, port=port):
        expect(tab.locator("#run .state")).to_have_text("succeeded")
        expect(tab.locator("#ranked tr[data-rank]")).not_to_have_count(0)
        tab.close()


@pytest.mark.browser
def test_without_a_stream_the_page_asks(
    ann: httpx.Client, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    tab = window.new_page()
    tab.route("**/events", lambda route: route.fulfill(status=502))
    job_id = made(ann)
    tab.clock.install()
    tab.goto(at(ann, f"/backtests/jobs/{job_id}"))
    for _ in range(3):
        tab.clock.run_for(2100)
    expect(tab.locator("#live")).to_have_text("asking every two seconds")
    tab.locator("[data-cancel]").click()
    expect(tab.locator("#sure")).to_contain_text("Ranked rows are kept from the second stage on.")
    expect(tab.locator("#sure button")).to_have_text(["Let it run", "Cancel the job"])
    tab.locator("#sure button[value=yes]").click()
    expect(tab.locator("#run .state")).to_have_text("cancelled")
    expect(tab.locator("#run")).to_contain_text("cancelled before anything was ranked")
    tab.locator("[data-delete]").click()
    tab.locator("#sure button[value=yes]").click()
    tab.wait_for_url("**/backtests/jobs")
    assert ann.get("/backtests/jobs").json()["items"] == []
    tab.close()


@pytest.mark.browser
def test_a_service_that_does_not_answer_promises_nothing(
    store: ClickHouse, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    tab = window.new_page()
    live, left = tab.locator("#live"), tab.get_by_text("about 15 s left")
    with (
        site(store, database, tmp_path) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
    ):
        job_id = made(client)
        tab.goto(f"{url}/backtests/jobs/{job_id}")
        job = does(database, claimed)
        does(database, lambda found: leases(found).progress(job, "stage_a", 3, 12, 15.0))
        expect(left).to_be_visible()
        port = urlsplit(url).port
    expect(tab.locator("#run .notice")).to_have_text(SILENT)
    expect(left).to_be_hidden()
    expect(tab.locator("#run progress")).to_be_hidden()
    expect(live).to_be_empty()
    expect(tab.locator("#said")).to_be_empty()
    for _ in range(4):  # at the third failure the stream is given up, and the page asks
        with tab.expect_request("**/_partial/jobs/*/run"):
            pass
    assert port is not None
    with site(store, database, tmp_path, port=port):
        expect(live).to_have_text("as it happens")
        expect(tab.locator("#run .notice")).to_have_count(0)
        expect(tab.locator("#run .only-stale")).to_be_visible()
        expect(left).to_be_hidden()
        does(database, lambda found: leases(found).progress(job, "stage_a", 6, 12, 9.0))
        expect(tab.get_by_text("about 9 s left")).to_be_visible()
        expect(tab.locator("#run .only-stale")).to_be_hidden()
        tab.close()


def proxied(status: int, body: str) -> Callable[[Route], None]:
    """Answers with what a proxy says of a service that is gone."""
    return lambda route: route.fulfill(status=status, body=body)


@pytest.mark.browser
def test_what_a_proxy_says_is_no_part_of_a_page(ann: httpx.Client, window: BrowserContext) -> None:
    job_id = made(ann)
    for status, body in ((502, PROXY), (502, ""), (503, "no healthy upstream")):
        away = proxied(status, body)
        with window.new_page() as tab:
            tab.route("**/events*", away)
            tab.route("**/run", away)
            tab.goto(at(ann, f"/backtests/jobs/{job_id}"))
            expect(tab.locator("#run .notice")).to_have_text(SILENT)
            expect(tab.locator("#run .state")).to_have_text("queued")
            tab.unroute("**/events*")
            tab.unroute("**/run")
            expect(tab.locator("#live")).to_have_text("as it happens")
            expect(tab.locator("#run .notice")).to_have_count(0)
            tab.route("**/api/**", away)
            tab.locator("[data-cancel]").click()
            tab.locator("#sure button[value=yes]").click()
            expect(tab.locator("#said")).to_have_text("The service does not answer.")


def test_a_job_whose_runner_is_gone_waits_for_another_one(ann: httpx.Client, database: str) -> None:
    job_id = made(ann)
    job = does(database, claimed)
    does(database, lambda found: leases(found).progress(job, "stage_a", 3, 12, 15.0))
    here = f"/_partial/jobs/{job_id}/run"
    assert "about <b>15 s</b> left" in ann.get(here, headers=html()).text
    does(database, lambda found: expire(found, job))
    shown = ann.get(here, headers=html()).text
    assert "Its runner has stopped." in shown
    assert "15 s" not in shown
