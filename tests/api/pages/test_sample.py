"""The sample is loaded once, in sight of every tab, and the first page says what is there then."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from ingest.errors import StoreFailed
from ingest.sample import INSTRUMENT as SAMPLE
from ingest.sample import sample_candles
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.deletion import EVER
from tests.api.pages.conftest import html, site, too_wide, unsound, watched
from tests.api.pages.forms import post
from tests.api.pages.test_first_steps import empty
from tests.api.service.market import CLIENT_S

__all__ = ["empty"]
LOADING, FORM = "Loading sample data", "/backtests?sample=true"


@pytest.fixture
def client(
    empty: ClickHouse, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    with (
        site(empty, database, tmp_path_factory.mktemp("results")) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as found,
    ):
        yield found


@pytest.mark.browser
def test_a_tab_that_leaves_as_the_load_ends_is_not_called_back(
    empty: ClickHouse, client: httpx.Client, window: BrowserContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its next page is long in coming, too."""
    made = sample_candles()
    last = made.slice(len(made) - 10_000, len(made))  # what has to be deleted takes its time
    monkeypatch.setattr("ingest.sample.sample_candles", lambda: last)
    url = str(client.base_url)
    with watched(window) as tab:
        tab.goto(url)
        tab.get_by_role("button", name="Load sample data").click()
        tab.evaluate("() => window.dispatchEvent(new Event('beforeunload'))")
        expect(tab.get_by_role("link", name="Open the example")).to_be_visible()
        expect(tab).to_have_url(f"{url}/")
    CandleStore(empty).delete(SAMPLE, EVER)


@pytest.mark.browser
def test_the_sample_is_loaded_once_and_every_tab_sees_it(
    client: httpx.Client,
    window: BrowserContext,
    monkeypatch: pytest.MonkeyPatch,
    empty: ClickHouse,
    database: str,
    tmp_path: Path,
) -> None:
    goes_on, pieces, insert = threading.Event(), [], CandleStore.insert

    def held(self: CandleStore, table: Any, **how: Any) -> int:
        pieces.append(table.num_rows)
        goes_on.wait(CLIENT_S)
        return insert(self, table, **how)

    def refuses(self: CandleStore, table: Any, **how: Any) -> int:
        if self.is_empty():
            return insert(self, table, **how)
        raise StoreFailed("the disk is full")

    monkeypatch.setattr(CandleStore, "insert", refuses)
    url = str(client.base_url)
    with watched(window) as tab, watched(window) as other:
        tab.goto(url)
        button = tab.get_by_role("button", name="Load sample data")
        button.click()
        expect(tab.get_by_role("alert")).to_contain_text("was not stored")
        tab.goto(f"{url}/backtests")  # a part of it is there, which is no market to try
        expect(tab.get_by_role("alert")).to_contain_text("was not stored")
        with site(empty, database, tmp_path) as again:  # which knows of no load
            assert "Load sample data" in httpx.get(again, headers=html(), timeout=CLIENT_S).text
        monkeypatch.setattr(CandleStore, "insert", held)
        button.click()
        expect(tab.get_by_role("status").filter(has_text=LOADING)).to_contain_text("%")
        for place in ("/backtests/jobs", "/", "/backtests", "/"):
            tab.goto(url + place)
            if place != "/backtests/jobs":
                expect(tab.get_by_role("status").filter(has_text=LOADING)).to_contain_text("%")
                expect(button).to_have_count(0)
        assert unsound(tab) == []
        other.goto(url)
        expect(other.get_by_text(LOADING)).to_be_visible()
        assert LOADING in post(client, "/_partial/sample", [("x", "")]).text  # pressed once more
        goes_on.set()
        for one in (tab, other):  # none that was not asked is taken elsewhere
            expect(one.get_by_role("link", name="Open the example")).to_be_visible()
            assert one.url == f"{url}/"
        assert unsound(tab) == []
        tab.get_by_role("link", name="Open the example").click()
        tab.wait_for_url(f"**{FORM}")
        again = client.post("/market-data/sample").json()
        assert (sum(pieces), again["written"]) == (again["minutes"], 0)
        tab.goto(url)
        told = tab.get_by_role("region", name="What is stored")
        expect(told).to_contain_text("SYNTHUSDT (made-up)")
        expect(told).to_contain_text("1 year of 1m candles")
        expect(told).to_contain_text("from 2024-01-01 00:00 to 2025-01-01 00:00")
        assert unsound(tab) == []
        assert too_wide(tab) == 0
        told.get_by_role("link").click()
        tab.wait_for_url(f"**{FORM}")
