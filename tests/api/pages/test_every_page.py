"""Every page: what is sent for it, that it fits a phone, and that its numbers read alike."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Request, expect

from api.pages import strategy_view, words
from compute.quantities import plural
from ingest.stores.clickhouse import ClickHouse
from tests.api.identity.people import COOKIE, browser
from tests.api.pages.conftest import site, too_wide, unsound, visiting, watched
from tests.api.service.job_service import request, running, until_ended

NO_RESIZING = "window.ResizeObserver = class { observe() {} unobserve() {} disconnect() {} };"
"""A page has to fit before its charts have followed it."""
SENT_BYTES = 300_000
"""At most so much comes over the wire for a page, without the library of its charts."""
VALUES = [
    0, -0.001, 0.00001234567, 0.1, 1.005001, 19.17, -104.391, 999.996, 10_300, 10_300.26,
    1_234_567.8912, -98_765.4321, None,
    *(sixteenths / 16 for sixteenths in range(-400, 401)),  # in the middle between two, at times
    *(thousand + 0.125 for thousand in range(-9000, 9000, 1000)),
    *(small / 100_000 for small in range(500)),
]  # fmt: skip


def compressed(found: list[Request]) -> int:
    """Bytes of the bodies as they came, but of the charts' library."""
    return sum(one.sizes()["responseBodySize"] for one in found if "/vendor/echarts" not in one.url)


def places(ann: httpx.Client, database: str, results: Path) -> dict[str, str]:
    """Paths of all pages, and what each shows at last."""
    with running(database, results):
        jobs = [ann.post("/backtests/jobs", json=request(n)).json()["job_id"] for n in (4, 5)]
        assert {until_ended(ann, job)["state"] for job in jobs} == {"succeeded"}
    kept = ann.post("/strategies/from-variant", json={"job_id": jobs[0], "rank": 1}).json()
    return {
        "/": "a.card",
        "/backtests": "#build",
        "/backtests/jobs": "tbody tr",
        f"/backtests/jobs/compare?a={jobs[0]}&b={jobs[1]}": "#returns-chart canvas",
        f"/backtests/jobs/{jobs[0]}": "#heat canvas",
        "/strategies": "tbody tr",
        f"/strategies/{kept['strategy_id']}": "#start",
        "/account": "#tokens",
        "/docs": "summary",
        "/logout": "#log-out",
        f"/backtests/jobs/{kept['strategy_id']}": "h1",
    }


@pytest.mark.browser
def test_every_page_is_light_and_fits_a_phone(
    store: ClickHouse, database: str, tmp_path: Path, chromium: Browser
) -> None:
    heavy: dict[str, int] = {}
    wide: dict[str, int] = {}
    with (
        site(store, database, tmp_path, development=False) as url,
        browser(url) as ann,
    ):
        found = places(ann, database, tmp_path)
        for path, last in {"/login": "h1", **found}.items():
            with visiting(chromium) as window:
                window.add_init_script(NO_RESIZING)
                if path != "/login":
                    window.add_cookies([{"name": COOKIE, "value": ann.cookies[COOKIE], "url": url}])
                tab = window.new_page()
                requests: list[Request] = []
                tab.on("requestfinished", lambda one, to=requests: to.append(one))
                tab.goto(url + path)
                expect(tab.locator(last).first).to_be_visible()
                heavy[path] = compressed(requests)
                wide[path] = too_wide(tab)
                if last == "h1":
                    assert unsound(tab) == []
    assert len(heavy) == 12
    assert min(heavy.values()) > 5_000  # the style sheet and the scripts of every page
    assert {path: size for path, size in heavy.items() if size > SENT_BYTES} == {}
    assert {path: more for path, more in wide.items() if more} == {}


@pytest.mark.browser
def test_numbers_read_alike_in_templates_and_scripts(
    database: str, tmp_path: Path, chromium: Browser
) -> None:
    with (
        site(None, database, tmp_path) as url,
        visiting(chromium) as window,
        watched(window) as tab,
    ):
        tab.goto(f"{url}/logout")
        texts = tab.evaluate(
            """async (values) => {
              const { number, percent, price, countText } = await import("/assets/job_numbers.js");
              return values.map((one) => [number(one), number(one, 0), percent(one), price(one),
                one === null ? "–" : countText(Math.trunc(one))]);
            }""",
            VALUES,
        )
        for value, found in zip(VALUES, texts, strict=True):
            assert found == [
                words.number(value), words.number(value, 0), words.percent(value),
                strategy_view.price(value), words.count(value),
            ]  # fmt: skip
        told = """async (counts) => {
          const { plural } = await import("/assets/job_numbers.js");
          return counts.map((one) => plural(one, "variant"));
        }"""
        counts = [0, 1, 2, 1_234_567]
        assert tab.evaluate(told, counts) == [plural(one, "variant") for one in counts]
        # Of an axis, whatever library labels it.
        plain = """async (values) => {
          const { plain } = await import("/assets/job_numbers.js");
          return values.map(plain);
        }"""
        assert tab.evaluate(plain, [10_300, -0.5, 0.1 + 0.2]) == ["10\u202f300", "−0.5", "0.3"]
