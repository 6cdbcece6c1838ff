"""Takes the pictures of `docs/pages.md` and the README: each page, on screens of three widths.

    python -m tools.docs.page_pictures [searches] [trades]

Runs the product as its tests do, over made-up markets, and looks at it with Chromium. The same code
finds the same numbers; dates and ids are those of the day, and how far a job is, how fast and what
it takes are those of the machine.
"""

from __future__ import annotations

import sys
import tempfile
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from playwright.sync_api import Browser, Page, StorageState, expect

from cluster.demo import REQUEST
from tests.api.pages.conftest import launched
from tests.api.service.up_day import begun, made_up, reaches, saved, search
from tests.api.service.up_process import Running, cleared, until

OUT: Final = Path(__file__).resolve().parents[2] / "docs" / "images" / "pages"
SCREENS: Final = {"1440": (1440, 900), "820": (820, 1100), "360": (360, 740)}
ENDS: Final = {name: SCREENS[name] for name in ("1440", "360")}
FIRST: Final = (1280, 1400)
"""The screen of the README's picture, which is as long as what it shows."""
SLOW: Final = {
    "ranking": {"primary_metric": "return_over_max_drawdown", "min_trades": 30},
    "preselect": 20_000,
}
"""What makes a job last that is to be seen under way."""
NOBODY: Final = "00000000-0000-4000-8000-000000000000"
QUALITY: Final = 72
PATIENCE_MS: Final = 240_000

Look = Callable[[Page], object]


@dataclass
class Camera:
    """Takes pictures of a service as a user who is logged in sees it."""

    browser: Browser
    up: Running
    state: StorageState | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        context = self.browser.new_context()
        context.new_page().goto(self.up.url() + self.up.post("/auth/links")["path"])
        self.state = context.storage_state()
        context.close()

    def takes(
        self,
        name: str,
        path: str,
        ready: Look = lambda page: None,
        *,
        at: str = "body",
        screens: dict[str, tuple[int, int]] = SCREENS,
        to: str | None = None,
        dark: bool = False,
        stranger: bool = False,
    ) -> None:
        """A picture for each screen, of what is below `at`, once a page is `ready`.

        `to` is what it ends with, else the screen; a `stranger` is not logged in.
        """
        for screen, (width, height) in screens.items():
            context = self.browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
                storage_state=None if stranger else self.state,
            )
            context.set_default_timeout(PATIENCE_MS)
            page = context.new_page()
            page.goto(self.up.url() + path)
            ready(page)
            if to is not None:
                end = "one => Math.ceil(one.getBoundingClientRect().bottom + scrollY) + 28"
                height = page.locator(to).evaluate(end)
                page.set_viewport_size({"width": width, "height": height})
            page.locator(at).first.evaluate("one => one.scrollIntoView()")
            page.wait_for_timeout(700)  # charts come in moving
            session = context.new_cdp_session(page)
            shot = cast(
                "dict[str, str]",
                session.send(  # pyright: ignore[reportUnknownMemberType]
                    "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
                ),
            )
            file = OUT / f"{name}-{screen}{'-dark' if dark else ''}.webp"
            file.write_bytes(b64decode(shot["data"]))
            print(f"{file.name}: {file.stat().st_size // 1024} KiB", flush=True)
            context.close()


def drawn(page: Page) -> None:
    """Returns when the form has its counts, its seconds and a picture of each indicator."""
    expect(page.locator(".look-chart.drawn")).to_have_count(2, timeout=PATIENCE_MS)
    expect(page.locator("#seconds")).to_contain_text("core", timeout=PATIENCE_MS)


def under_way(page: Page) -> None:
    """Returns when the page of a running job says how fast it is, and has its best rows so far."""
    expect(page.locator(".best li").nth(4)).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".figures")).to_contain_text("a second", timeout=PATIENCE_MS)
    expect(page.locator(".figures")).to_contain_text("left", timeout=PATIENCE_MS)


def explored(page: Page) -> None:
    """Returns when a job's page has its pictures and the best variant."""
    expect(page.locator("#plateau")).not_to_be_empty(timeout=PATIENCE_MS)
    expect(page.locator("#variant-body:not([aria-busy])")).to_be_visible(timeout=PATIENCE_MS)


def zoomed(page: Page) -> None:
    """Returns when some trades are seen bar by bar."""
    explored(page)
    expect(page.locator("#candles canvas").first).to_be_visible(timeout=PATIENCE_MS)
    for _ in range(7):
        page.locator("#candles").press("+")
    expect(page.locator("#whole")).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_load_state("networkidle")


def compared(page: Page) -> None:
    """Returns when two jobs are drawn side by side."""
    expect(page.locator("#compare:not([aria-busy])")).to_be_attached(timeout=PATIENCE_MS)


def on(timeframe: str) -> dict[str, Any]:
    """The demonstration's request on other bars."""
    return REQUEST | {"template": REQUEST["template"] | {"timeframe": timeframe}}


def searches(browser: Browser, root: Path) -> None:
    """From an empty service to a saved strategy, by the demonstration's market and request."""
    up = Running(root / "first", "--runners", 1)
    try:
        camera = Camera(browser, up)
        camera.takes("home", "/")
        up.post("/market-data/sample")
        camera.takes("build", "/backtests?sample=true", drawn)
        other = ended(up, on("1h"))  # kernels are compiled in it, which tells nothing of a pace
        ended(up, on("1h") | SLOW)
        long = up.post("/backtests/jobs", on("5m") | SLOW)["job_id"]
        camera.takes("running", f"/backtests/jobs/{long}", under_way)
        up.post(f"/backtests/jobs/{long}/cancel")
        job = ended(up, REQUEST)
        here = f"/backtests/jobs/{job}"
        camera.takes("job", here, explored)
        camera.takes("job", here, explored, screens={"1440": SCREENS["1440"]}, dark=True)
        camera.takes("first", here, explored, screens={"1280": FIRST}, to=".picture:has(#heat)")
        camera.takes("grid", here, explored, at="#grid")
        camera.takes("parallel", here, explored, at=".picture:has(#parallel)", screens=ENDS)
        camera.takes("variant", here, explored, at="#variant")
        camera.takes("candles", here, zoomed, at=".picture:has(#candles)", screens=ENDS)
        camera.takes("compare", f"/backtests/jobs/compare?a={job}&b={other}", compared)
        up.post("/strategies/from-variant", {"job_id": job, "rank": 1})
        camera.takes("jobs", "/backtests/jobs")
        camera.takes("strategies", "/strategies")
        camera.takes("account", "/account")
        camera.takes("login", "/login", stranger=True, screens=ENDS)
        camera.takes("error", f"/backtests/jobs/{NOBODY}", screens=ENDS)
    finally:
        cleared(up.directory)


def ended(up: Running, request: dict[str, Any]) -> str:
    """The id of a job that was run to its end."""
    job = up.post("/backtests/jobs", request)["job_id"]
    here = f"/backtests/jobs/{job}"
    until(lambda: up.get(here)["finished_at"], lambda: up.log("runner-1.log"), 600)
    return job


def trades(browser: Browser, root: Path) -> None:
    """A run on paper, some hours after its start."""
    with begun(root, made_up(240), runners=0) as place:
        up, day = place.up, place.day
        path = f"/strategies/{saved(up, search(day))}"
        run = f"{path}/runs/{up.post(f'{path}/run')['run_id']}"
        while day.next < day.minutes:
            day.goes_on(5)
            reaches(up, run, day)
        day.settles()
        up.post(f"{run}/reconciliation")

        def ready(page: Page) -> None:
            expect(page.locator("#equity canvas")).to_be_visible(timeout=PATIENCE_MS)

        camera = Camera(browser, up)
        camera.takes("run", path, ready)
        camera.takes("run", path, ready, screens={"1440": SCREENS["1440"]}, dark=True)


STEPS: Final[dict[str, Callable[[Browser, Path], None]]] = {
    "searches": searches,
    "trades": trades,
}


def main(names: Sequence[str]) -> int:
    """The exit code of some steps, or of all."""
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names or STEPS:
        with tempfile.TemporaryDirectory() as root, launched() as browser:
            STEPS[name](browser, Path(root))
    whole = sum(file.stat().st_size for file in OUT.iterdir())
    print(f"{OUT}: {whole // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
