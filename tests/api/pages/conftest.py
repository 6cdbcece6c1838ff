"""A site to look at: the service with jobs, strategies and a runner, and a browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Route,
    expect,
    sync_playwright,
)

from api.app import add_jobs, add_strategies, add_users, configured, create_app, end_streams
from api.context import AppContext
from api.identity.settings import IdentitySettings
from cluster.postgres.engine import engine
from ingest.stores.clickhouse import ClickHouse
from live.strategies.settings import StrategySettings
from tests.api.identity.people import SETTINGS
from tests.api.service.job_service import QUICK
from tests.api.service.market import store, store_directory
from tests.api.service.serving import served
from tests.postgres import database, postgres, postgres_directory

__all__ = ["database", "postgres", "postgres_directory", "store", "store_directory"]

PATIENCE_MS = 120_000
"""Of whoever waits for a page: it shares two cores with all other tests, which compile kernels."""
expect.set_options(timeout=PATIENCE_MS)
SCHEMES: Final[tuple[Literal["dark", "light"], ...]] = ("dark", "light")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@contextmanager
def site(
    store: ClickHouse | None,
    database: str,
    results_dir: Path,
    *,
    development: bool = True,
    port: int = 0,
    settings: IdentitySettings = SETTINGS,
    most_variants: int | None = None,
) -> Iterator[str]:
    """URL of the whole service; with `development` nobody has to log in."""
    contexts: list[AppContext] = []

    def context() -> AppContext:
        found = configured({"ROEHUB_ENV": "test"})
        if most_variants is not None:
            found.limits = replace(found.limits, max_variants_per_compute=most_variants)
        if store is not None:
            found.use_store(store)
        found.engine = engine(database)
        add_users(found, settings, development=development)
        add_jobs(found, QUICK, database, results_dir)
        add_strategies(found, StrategySettings(), database)
        contexts.append(found)
        return found

    with served(
        lambda: create_app(context()), stopping=lambda: end_streams(contexts[0]), port=port
    ) as url:
        yield url


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser; skips where there is none. Its event loop runs in this thread while inside."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for a module, not longer: it has an event loop in this thread."""
    with launched() as found:
        yield found


@contextmanager
def visiting(browser: Browser | None = None, *, still: bool = False) -> Iterator[BrowserContext]:
    """A window of a visitor of his own, of a browser that is there or of one for this alone.

    Where it is `still` pictures are there at once, and painted once.
    """
    with nullcontext(browser) if browser else launched() as opened:
        found = opened.new_context(
            viewport={"width": 1280, "height": 900},
            reduced_motion="reduce" if still else "no-preference",
        )
        found.set_default_timeout(PATIENCE_MS)
        yield found
        found.close()


@pytest.fixture
def window(chromium: Browser) -> Iterator[BrowserContext]:
    """A window of a visitor of his own."""
    with visiting(chromium, still=True) as found:
        yield found


@contextmanager
def watched(window: BrowserContext) -> Iterator[Page]:
    """A tab in which nothing may fail: no script error, no refusal of the content policy."""
    tab = window.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))

    def heard(said: ConsoleMessage) -> None:
        if said.type == "error":
            faults.append(f"{said.text} {said.location['url']}")

    tab.on("console", heard)
    yield tab
    assert faults == []
    tab.close()


class Held:
    """The next requests of a tab whose address a pattern takes, held until they are let go."""

    def __init__(self, tab: Page, pattern: str, times: int = 1) -> None:
        self._tab, self._pattern = tab, pattern
        self._routes: list[Route] = []
        tab.route(pattern, lambda route: self._routes.append(route), times=times)

    def route(self) -> Route:
        """The first of them, as soon as it was made."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not self._routes:
            assert time.monotonic() < deadline, f"nothing asked for {self._pattern}"
            self._tab.wait_for_timeout(10)
        return self._routes[0]


def unsound(tab: Page) -> list[str]:
    """What axe finds that keeps somebody from using the page, light or dark, a line each."""
    lines: list[str] = []
    for scheme in SCHEMES:
        tab.emulate_media(color_scheme=scheme)
        for one in Axe().run(tab).response["violations"]:
            lines += [f"{scheme}, {one['id']}: {node['html'][:200]}" for node in one["nodes"]]
    return lines


def too_wide(tab: Page) -> int:
    """By how many pixels a page is wider than the screen of a phone; the window stays so small."""
    tab.set_viewport_size({"width": 360, "height": 740})
    return max(0, tab.evaluate("() => document.documentElement.scrollWidth - innerWidth"))


def html(**headers: Any) -> dict[str, Any]:
    """Headers of a browser that is led to a page."""
    return {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", **headers}
