"""The pictures of a job's page: what is readable on a phone and in the dark, and undone."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Error, expect

from tests.api.pages.conftest import SCHEMES, Held, watched
from tests.api.pages.job_site import ann, at, made
from tests.api.service.job_service import axis, request, running, until_ended

__all__ = ["ann"]
LIGHT = """names => names.map(name => {
  const text = getComputedStyle(document.documentElement).getPropertyValue(`--heat-${name}`);
  const parts = [1, 3, 5].map(at => parseInt(text.trim().slice(at, at + 2), 16) / 255);
  return parts.reduce((sum, one, i) => sum + [0.2126, 0.7152, 0.0722][i] * one ** 2.2, 0);
})"""
OPTION = """async id => {
  const { getInstanceByDom } = await import("/assets/vendor/echarts.js");
  const chart = getInstanceByDom(document.getElementById(id)), option = chart.getOption();
  const { visualMap: [bar], parallelAxis: [axis] } = { visualMap: [], parallelAxis: [], ...option };
  return [chart.getWidth(), bar?.itemHeight, axis?.nameRotate];
}"""


@pytest.mark.browser
def test_pictures_are_readable_on_a_phone_and_in_the_dark(
    ann: httpx.Client, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    grid = request()
    grid["template"]["signal_grids"]["momentum.rsi"]["long_threshold"] = axis(45, 50)
    with running(database, tmp_path):
        job_id = made(ann, template=grid["template"])
        assert until_ended(ann, job_id)["state"] == "succeeded"
    drawn = "#pictures:not([aria-busy]) #map:not([aria-busy]) #plateau:not(:empty)"
    with watched(window) as tab:
        for wide in (True, False):
            tab.set_viewport_size({"width": 1280 if wide else 360, "height": 900})
            tab.goto(at(ann, f"/backtests/jobs/{job_id}"))
            expect(tab.locator(drawn)).to_be_attached()
            width, bar, _ = tab.evaluate(OPTION, "heat")
            assert bar <= width - 180  # both of its ends have a number beside
            assert tab.evaluate(OPTION, "parallel")[2] == (0 if wide else 90)

        # The middle is nearest to the paper, and losses do not outshine gains.
        for scheme in SCHEMES:
            tab.emulate_media(color_scheme=scheme)
            low, below, zero, above, high = tab.evaluate(
                LIGHT, ["low", "below", "zero", "above", "high"]
            )
            if scheme == "dark":
                assert zero < below < low < high
                assert zero < above < high
            else:
                assert zero > below > low
                assert zero > above > high

        # What is selected along an axis is selected no more.
        clear, axes = tab.locator("#parallel-clear"), tab.locator("#parallel")
        expect(clear).to_be_hidden()
        axes.scroll_into_view_if_needed()
        box = axes.bounding_box()
        assert box is not None
        last = box["x"] + box["width"] - 52
        tab.mouse.move(last, box["y"] + 200)
        tab.mouse.down()
        tab.mouse.move(last, box["y"] + 260, steps=5)
        tab.mouse.up()
        clear.click()
        expect(clear).to_be_hidden()


@pytest.mark.browser
def test_choices_of_the_map_leave_the_other_pictures_alone(
    ann: httpx.Client, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    with running(database, tmp_path):
        job_id = made(ann)
        assert until_ended(ann, job_id)["state"] == "succeeded"
    faults: list[Error] = []
    with window.new_page() as tab:
        tab.on("pageerror", lambda error: faults.append(error))
        aggregate, plateau = tab.locator("#aggregate"), tab.locator("#plateau")
        refused = tab.locator("#pictures-refused")

        def drawn(name: str) -> None:
            expect(tab.locator("#heat")).to_have_attribute(
                "aria-label", re.compile(f"^Heat map of {name}")
            )
            expect(tab.locator("#map:not([aria-busy]) #plateau")).to_contain_text(
                "The greatest cell."
            )

        # What is chosen while the first pictures come is drawn with all of them.
        held = Held(tab, "**/histogram*")
        tab.goto(at(ann, f"/backtests/jobs/{job_id}"))
        held.route()
        aggregate.select_option("max")
        expect(tab.locator("#pictures:not([aria-busy])")).to_be_attached()
        expect(tab.locator("#histogram-words")).to_contain_text("the median is")
        drawn("max")
        held.route().continue_()

        # A map that nobody wants any longer may fail.
        held = Held(tab, "**/heatmap*")
        aggregate.select_option("min")
        expect(tab.locator("#map[aria-busy]")).to_be_attached()  # it is of the choice before
        held.route()
        aggregate.select_option("max")
        drawn("max")
        with tab.expect_event("requestfinished", lambda one: "aggregate=min" in one.url):
            held.route().fulfill(status=502)
        drawn("max")
        expect(refused).to_be_empty()

        # A cell that is pressed before the new map's plateau is told: that of the cell counts.
        first = Held(tab, "**/plateau*")
        aggregate.select_option("min")
        first.route()
        second = Held(tab, "**/plateau*at_x*", times=2)  # it stays where the first is let go
        box = tab.locator("#heat").bounding_box()
        assert box is not None
        tab.locator("#heat").click(position={"x": box["width"] / 2, "y": box["height"] / 2})
        second.route()
        with tab.expect_event("requestfinished", lambda one: "/plateau?" in one.url):
            first.route().continue_()
        tab.wait_for_timeout(100)
        expect(tab.locator("#map[aria-busy]")).to_be_attached()
        second.route().continue_()
        expect(tab.locator("#map:not([aria-busy]) #plateau")).to_contain_text("Where")
        expect(plateau).not_to_contain_text("The greatest cell")
        aggregate.select_option("max")
        drawn("max")

        # What is refused is said, and the choices are those of the map that is shown.
        across, up = tab.locator("#across"), tab.locator("#up")
        first, second = across.input_value(), up.input_value()
        for choose in (
            lambda: across.select_option(second),
            lambda: aggregate.select_option("min"),
        ):
            maps = Held(tab, "**/heatmap*")
            choose()
            maps.route().fulfill(status=502)
            expect(plateau).to_have_text("The service does not answer. The map is the one before.")
            expect(tab.locator("#map:not([aria-busy])")).to_be_attached()
            expect(across).to_have_value(first)
            expect(up).to_have_value(second)
            expect(aggregate).to_have_value("max")
        sampled = Held(tab, "**/sample*")
        tab.locator("#cell-best").click()
        sampled.route().fulfill(status=502)
        expect(tab.locator("#said")).to_have_text("The service does not answer.")
        across.select_option(second)
        drawn("max")
        expect(up).to_have_value(first)

        # Where nothing could be drawn, the next choice draws all of it.
        sampled = Held(tab, "**/sample*")
        tab.reload()
        sampled.route().fulfill(status=502)
        expect(refused).to_have_text("The service does not answer.")
        aggregate.select_option("mean")
        drawn("mean")
        expect(refused).to_be_empty()
        assert faults == []


@pytest.mark.browser
def test_a_variant_that_cannot_be_shown_leaves_the_one_before(
    ann: httpx.Client, database: str, tmp_path: Path, window: BrowserContext
) -> None:
    with running(database, tmp_path):
        job_id = made(ann)
        assert until_ended(ann, job_id)["state"] == "succeeded"
    with window.new_page() as tab:
        tab.goto(at(ann, f"/backtests/jobs/{job_id}"))
        title, said, save = (
            tab.locator(f"#{name}") for name in ("variant-title", "variant-said", "save")
        )
        expect(title).to_have_text("Rank 1")
        expect(save).to_be_enabled()
        held = Held(tab, "**/variant?*")
        second = tab.locator("#ranked tbody").nth(1).locator("tr").first
        second.click()
        held.route()
        expect(save).to_be_disabled()  # what is shown is not what is chosen
        held.route().fulfill(status=502)
        expect(said).to_have_text("The service does not answer. Below is the one before.")
        expect(save).to_be_enabled()
        expect(tab.locator("#variant-body:not([aria-busy])")).to_be_visible()
        expect(tab.locator("#ranked tr.chosen")).to_have_attribute("data-rank", "1")
        assert "rank=1" in tab.url
        second.click()
        expect(title).to_have_text(f"Rank {second.get_attribute('data-rank')}")
