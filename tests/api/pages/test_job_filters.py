"""The filters of a job's page: what they leave, what they leave nothing of, and how fast."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, expect

from tests.api.pages.conftest import Held, html, unsound, watched
from tests.api.pages.job_site import ann, at, made
from tests.api.service.job_service import running, until_ended

__all__ = ["ann"]
NONE = "No variant is left with these filters"


@pytest.fixture
def job_id(ann: httpx.Client, database: str, tmp_path: Path) -> str:
    """A job of twelve base variants that has ended."""
    with running(database, tmp_path):
        found = made(ann)
        assert until_ended(ann, found)["state"] == "succeeded"
    return found


def test_filters_that_leave_nothing_are_told_in_one_sentence(
    ann: httpx.Client, job_id: str
) -> None:
    def shown(**sent: str) -> str:
        found = ann.get(f"/_partial/jobs/{job_id}/ranked", params=sent, headers=html())
        assert found.status_code == 200
        assert ('data-none="yes"' in found.text) is (NONE in found.text)
        return " ".join(found.text.split())

    nothing = shown(**{"min.total_return_pct": "1000"})
    assert f"{NONE}.</p>" in nothing
    assert "the pictures below" not in nothing
    assert "data-clear" in nothing
    crossed = shown(**{"from.ma.sma.window": "7", "to.ma.sma.window": "6"})
    assert f"{NONE}: no value of ma.sma.window is 7..6; it has 5, 6, 7, 8." in crossed
    # Rows that are ranked have stops; what the pictures show has none.
    rows = ann.get(f"/backtests/jobs/{job_id}/ranked").json()["rows"]
    below = min(row["metrics"]["total_return_pct"] for row in rows) - 1e-6
    several = shown(**{"max.total_return_pct": str(below)})
    assert "No ranked row matches these filters." in several
    assert "base variants without stops do: the pictures below show them." in several
    assert "Clear the filters" not in shown()


@pytest.mark.browser
def test_numbers_filter_while_they_are_typed_and_are_cleared(
    ann: httpx.Client, job_id: str, window: BrowserContext
) -> None:
    with watched(window) as tab:
        tab.goto(at(ann, f"/backtests/jobs/{job_id}?min.num_trades=1"))
        note, shown = tab.locator("#grid-note"), tab.locator("#ranked tr[data-rank]")
        least = tab.locator("[name='min.total_return_pct']")
        expect(note).to_contain_text("12 base variants")
        least.press_sequentially("1000")  # nobody presses Enter
        expect(tab.locator("#ranked .empty")).to_contain_text(NONE)
        expect(note).to_have_text("no variant is left")
        expect(tab.locator("#pictures")).to_be_hidden()
        expect(tab.locator("#pictures-refused")).to_be_empty()
        assert unsound(tab) == []
        tab.locator("#ranked [data-clear]").click()
        expect(note).to_contain_text("12 base variants")
        expect(tab.locator("#pictures")).to_be_visible()
        expect(shown).not_to_have_count(0)
        expect(tab.locator("[name='min.num_trades']")).to_have_value("")

        # Cleared while the answer to what was typed is under way.
        held = Held(tab, "**/ranked?*1000*", times=2)  # of the key, and of a pause before it
        least.press_sequentially("1000")
        least.press("Enter")
        held.route()
        tab.locator("#filters [data-clear]").click()
        held.route().continue_()
        expect(tab.locator("#filters-note")).to_be_empty()
        expect(least).to_have_value("")
        expect(shown).not_to_have_count(0)
