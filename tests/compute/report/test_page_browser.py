"""The page in a real browser, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compute.report.document import Document
from compute.report.page import report_page
from tests.compute.report.sample import document
from tests.compute.report.test_page import ATTACK

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


class Opened:
    """A tab with the page in it, and everything it complained about or asked for."""

    def __init__(self, browser: Browser, path: Path, shown: Document, **context: Any) -> None:
        path.write_text(report_page(shown), encoding="utf-8")
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(offline=True, **context)
        self.tab: Tab = self.context.new_page()
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri())
        self.tab.wait_for_selector("#facts dl")

    def inked(self, canvas: str) -> int:
        """Number of colours on a canvas: 1 is a blank one."""
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.tab.evaluate(frame)
        return self.tab.evaluate(
            """id => { const canvas = document.getElementById(id), pen = canvas.getContext('2d');
            const image = pen.getImageData(0, 0, canvas.width, canvas.height);
            return new Set(new Uint32Array(image.data.buffer)).size; }""",
            canvas,
        )

    def column(self, place: int) -> list[str]:
        return self.tab.locator(f"#ranked tbody tr td:nth-child({place})").all_inner_texts()


@pytest.fixture(scope="module")
def report(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    shown = document(bars=800, top=12)
    opened = Opened(browser, tmp_path_factory.mktemp("report") / "report.html", shown)
    yield opened
    assert opened.complaints == []
    assert opened.requests == [opened.tab.url]
    opened.context.close()


def test_draws_every_chart(report: Opened) -> None:
    for canvas in ("equity", "underwater", "price", "heat", "histogram"):
        assert report.inked(canvas) > 5, canvas
    assert report.tab.locator("#report tbody tr").count() == 25
    assert report.tab.locator(".notice").first.is_visible()


def number(text: str) -> float:
    kept = text.replace("\u2212", "-").replace("\u202f", "").replace("%", "").replace("+", "")
    return float(kept)


def test_sorts_by_click_and_by_key(report: Opened) -> None:
    trades = report.tab.locator("#ranked thead th", has_text="Trades")
    assert trades.get_attribute("aria-sort") == "none"
    trades.locator("button").click()
    assert trades.get_attribute("aria-sort") == "descending"
    found = [number(text) for text in report.column(7)]
    assert len(set(found)) > 1
    assert found == sorted(found, reverse=True)
    report.tab.keyboard.press("Enter")  # the heading kept the focus
    assert trades.get_attribute("aria-sort") == "ascending"
    assert [number(text) for text in report.column(7)] == sorted(found)
    report.tab.locator("#ranked thead button").first.click()
    assert trades.get_attribute("aria-sort") == "none"
    ranks = [int(text.split()[0]) for text in report.column(1)]
    assert ranks == sorted(ranks)


def test_equal_rows_unfold(report: Opened) -> None:
    rows, many = report.tab.locator("#ranked tbody tr"), report.tab.locator(".many").first
    folded, members = rows.count(), int(many.inner_text().split()[0][1:])
    assert members > 1
    many.click()
    assert rows.count() == folded + members - 1
    assert report.tab.locator(".many").first.get_attribute("aria-expanded") == "true"
    report.tab.keyboard.press("Enter")
    assert rows.count() == folded


def test_another_variant_can_be_chosen(report: Opened) -> None:
    profit = report.tab.locator("#report tbody tr:nth-child(6) td:nth-child(2)")
    first = profit.inner_text()
    last = report.tab.locator("#ranked tbody tr").last
    last.click()
    assert "chosen" in (last.get_attribute("class") or "")
    assert profit.inner_text() != first
    assert report.tab.locator("#charts").is_hidden()  # curves are kept for the best few only
    report.tab.locator("#variant").select_option("0")
    assert profit.inner_text() == first
    assert report.tab.locator("#charts").is_visible()


def test_heat_map_takes_other_axes_and_aggregates(report: Opened) -> None:
    heat = report.tab.locator("#heat")
    seen = set()

    def state() -> tuple[str | None, ...]:
        return tuple(heat.get_attribute(f"data-{name}") for name in ("x", "y", "aggregate"))

    assert state() == ("ma.fast.window", "ma.slow.window", "median")
    for aggregate in ("median", "mean", "min", "max", "profitable"):
        report.tab.locator("#heat-aggregate").select_option(aggregate)
        assert state()[2] == aggregate
        seen.add(heat.evaluate("canvas => canvas.toDataURL()"))
    assert len(seen) == 4  # with two values to a cell the mean is the median
    report.tab.locator("#heat-aggregate").select_option("median")
    report.tab.locator("#heat-x").select_option(label="ma.fast.source")
    assert state() == ("ma.fast.source", "ma.slow.window", "median")
    report.tab.locator("#heat-y").select_option(label="ma.fast.source")
    assert state() == ("ma.slow.window", "ma.fast.source", "median")
    heat.focus()
    report.tab.keyboard.press("ArrowRight")
    assert report.tab.locator("#heat-readout").inner_text().startswith("ma.slow.window ")


def test_charts_zoom_together_and_answer_to_the_pointer(report: Opened) -> None:
    whole = report.tab.locator("#zoom-out")
    assert whole.is_hidden()
    equity = report.tab.locator("#equity")
    equity.scroll_into_view_if_needed()
    box = equity.bounding_box()
    assert box is not None
    mouse = report.tab.mouse
    mouse.move(box["x"] + 100, box["y"] + 60)
    assert "equity" in report.tab.locator("#readout").inner_text()
    mouse.down()
    mouse.move(box["x"] + 220, box["y"] + 60)
    mouse.up()
    assert whole.is_visible()
    whole.click()
    assert whole.is_hidden()
    equity.focus()
    report.tab.keyboard.press("ArrowRight")
    report.tab.keyboard.press("+")
    assert whole.is_visible()
    report.tab.keyboard.press("Escape")
    assert whole.is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone(browser: Browser, tmp_path: Path, scheme: str) -> None:
    shown = document(bars=300, fast=(4, 8), slow=(20, 30), top=4, detailed=1)
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    opened = Opened(browser, tmp_path / "phone.html", shown, **phone)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == 360
    assert opened.inked("equity") > 5
    assert opened.complaints == []
    opened.context.close()


def test_hostile_names_are_shown_and_not_run(browser: Browser, tmp_path: Path) -> None:
    hostile = document(bars=300, fast=(4, 8), slow=(20, 30), top=4, detailed=1, symbol=ATTACK)
    for variant in hostile["result"]["variants"]:
        variant["payload"]["indicator_selections"][0]["indicator_id"] = ATTACK
    assert hostile["surface"] is not None
    hostile["surface"]["axes"][0]["name"] = ATTACK
    opened = Opened(browser, tmp_path / "hostile.html", hostile)
    assert opened.tab.evaluate("window.broken") is None
    assert ATTACK in opened.tab.locator("h1").inner_text()
    assert opened.tab.locator("img").count() == 0
    assert opened.complaints == []
    opened.context.close()


def test_a_page_without_ranked_rows_has_no_marks_and_no_empty_parts(
    browser: Browser, tmp_path: Path
) -> None:
    whole = document(bars=300, top=4)
    result = {**whole["result"], "variants": [], "plan": {"most_trades": 3}}
    shown = Document(**{**whole, "result": result, "market": None, "curves": []})
    opened = Opened(browser, tmp_path / "report.html", shown)
    text = opened.tab.locator("body").inner_text()
    assert "the most that any variant has is 3" in text
    assert "ank 1" not in text
    assert "Ranked variants" not in text
    assert "One variant" not in text
    assert opened.inked("heat") > 5
    assert opened.complaints == []
    opened.context.close()


def test_the_heat_map_begins_with_axes_that_change_votes(browser: Browser, tmp_path: Path) -> None:
    shown = Document(**{**document(bars=300, top=4), "idle_axes": ["ma.fast.window"]})
    opened = Opened(browser, tmp_path / "report.html", shown)
    chosen = [
        opened.tab.locator(f"#{name} option:checked").inner_text() for name in ("heat-x", "heat-y")
    ]
    assert chosen == ["ma.slow.window", "ma.fast.source"]
    opened.context.close()
