"""A person with a browser: from a service that has candles to a strategy that trades on paper."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import BrowserContext, Page, expect

from tests.api.pages.conftest import unsound, watched
from tests.api.service.up_process import Running, fetched, until

GRID = {
    "blocks.ma.sma.params.window": "3, 5, 8, 13",
    "blocks.momentum.rsi.params.window": "5, 7",
    "signals.momentum.rsi.long_threshold": "50, 52",
    "signals.momentum.rsi.short_threshold": "48",
}


def walked(up: Running, window: BrowserContext, goes_on: Callable[[str], None]) -> str:
    """The strategy that was made; `goes_on` lets some minutes of the market go by for a run."""
    with watched(window) as tab:
        tab.goto(f"{up.url()}/strategies")  # a stranger: the login comes first, then this page
        expect(tab.locator("h1")).to_have_text("Log in")
        link = up.link()
        assert link is not None, up.said
        tab.goto(link)
        expect(tab.locator("h1")).to_have_text("Strategies")
        assert fetched(link).status_code == 401  # once
        tab.get_by_role("link", name="New back-test").click()
        _asks(tab)
        _explores(tab)
        strategy = _saves(tab)
        _runs(up, tab, strategy, goes_on)
    return strategy


def _asks(tab: Page) -> None:
    """Fills the form, sees what it will take and starts the job."""
    tab.get_by_label("Timeframe").select_option("1m")
    tab.get_by_label("Minimum trades").fill("3")
    for name, values in GRID.items():
        tab.locator(f"[name='{name}.as']").select_option("list")
        tab.locator(f"[name='{name}.values']").fill(values)
    expect(tab.locator(".estimate-line")).to_contain_text("32 base variants")
    tab.get_by_role("button", name="Start the job").click()
    tab.wait_for_url("**/backtests/jobs/*")
    expect(tab.locator("#run .state")).to_have_text("succeeded")


def _explores(tab: Page) -> None:
    """Looks at the grid: a cell and its best variant, the lines of all, a ranked row."""
    expect(tab.locator("#grid-note")).to_contain_text("32 base variants")
    expect(tab.locator("#variant-title")).to_have_text("Rank 1")
    tab.locator("#across").select_option("ma.sma.window")
    tab.locator("#up").select_option("momentum.rsi.window")
    expect(tab.locator("#map:not([aria-busy]) #plateau")).to_contain_text("The greatest cell")
    box = tab.locator("#heat").bounding_box()
    assert box is not None
    tab.locator("#heat").click(position={"x": box["width"] / 3, "y": box["height"] / 3})
    expect(tab.locator("#plateau")).not_to_contain_text("The greatest cell")
    expect(tab.locator("#parallel canvas")).to_be_visible()
    expect(tab.locator("#parallel-words")).to_contain_text("of 32 variants")
    tab.locator("#cell-best").click()
    expect(tab.locator("#variant-title")).to_contain_text("Base variant")


def _saves(tab: Page) -> str:
    """Looks into the best row, keeps it, and finds it in the list."""
    tab.locator("#ranked tr[data-rank='1']").click()
    expect(tab.locator("#variant-title")).to_have_text("Rank 1")
    for chart in ("#equity", "#underwater", "#candles"):
        expect(tab.locator(f"{chart} canvas").first).to_be_visible()
    expect(tab.locator("#rows25 tbody tr")).to_have_count(25)
    assert tab.locator("#trades tbody tr").count() >= 3
    tab.get_by_role("button", name="Save as strategy").click()
    tab.wait_for_url("**/strategies/*")
    strategy = tab.url.rpartition("/")[2]
    tab.get_by_role("navigation").get_by_role("link", name="Strategies").click()
    expect(tab.locator("tbody tr")).to_contain_text("never ran")
    tab.locator("tbody th a").click()
    return strategy


def _runs(up: Running, tab: Page, strategy: str, goes_on: Callable[[str], None]) -> None:
    """Starts it, sees what it does as it does it, holds it to its back-test, stops it."""
    tab.get_by_role("button", name="Start on paper").click()
    state = tab.locator("#run .state")
    expect(state).to_have_text(re.compile("warming up|running"))
    expect(tab.locator("#live")).to_have_text("as it happens")
    runs = f"/strategies/{strategy}/runs"
    run = f"{runs}/{up.get(runs)['items'][0]['run_id']}"
    closed = tab.locator("tr[data-kind=trade_close]")

    def traded() -> bool:
        goes_on(run)
        return closed.count() > 0

    until(traded, lambda: (tab.locator("#run").inner_text(), up.said))
    expect(state).to_have_text("running")
    expect(tab.locator("#shown-state")).to_have_text("running")
    account = up.get(f"{run}/account")
    tiles = tab.locator("#run .tile p:nth-child(2)")
    expect(tiles.nth(0)).not_to_have_text("–")
    expect(tiles.nth(2)).to_have_text(str(account["num_trades"]))
    expect(tiles.nth(3)).to_have_text("0 s")
    expect(tab.locator("#equity canvas")).to_be_visible()
    expect(tab.locator("tr[data-kind=trade_open]").first).to_contain_text(" at ")
    expect(tab.locator("#badge")).to_have_text("unchecked")
    tab.get_by_role("button", name="Check now").click()
    expect(tab.locator("#badge")).to_have_text("exact")
    assert unsound(tab) == []
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_role("button", name="Stop the run").click()
    expect(tab.locator("#start-title")).to_have_text("Run it again")
    expect(state).to_have_text("stopped")
