"""A site to look at: the service with jobs, strategies and a runner, and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from api.app import add_jobs, add_strategies, add_users, configured, create_app, end_streams
from api.context import AppContext
from cluster.postgres.engine import engine
from ingest.stores.clickhouse import ClickHouse
from live.strategies.settings import StrategySettings
from tests.api.identity.people import SETTINGS
from tests.api.service.job_service import QUICK
from tests.api.service.market import store, store_directory
from tests.api.service.serving import served
from tests.postgres import database, postgres, postgres_directory

__all__ = ["database", "postgres", "postgres_directory", "store", "store_directory"]

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
) -> Iterator[str]:
    """URL of the whole service; with `development` nobody has to log in."""
    contexts: list[AppContext] = []

    def context() -> AppContext:
        found = configured({"ROEHUB_ENV": "test"})
        if store is not None:
            found.use_store(store)
        found.engine = engine(database)
        add_users(found, SETTINGS, development=development)
        add_jobs(found, QUICK, database, results_dir)
        add_strategies(found, StrategySettings(), database)
        contexts.append(found)
        return found

    with served(
        lambda: create_app(context()), stopping=lambda: end_streams(contexts[0]), port=port
    ) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; skips where there is none.

    Its event loop runs in this thread for as long as it is there: not longer than a module.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Browser) -> Iterator[BrowserContext]:
    """A window of a visitor of his own."""
    found = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield found
    found.close()


@contextmanager
def watched(window: BrowserContext) -> Iterator[Page]:
    """A tab in which nothing may fail: no script error, no refusal of the content policy."""
    tab = window.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    yield tab
    assert faults == []
    tab.close()


def unsound(tab: Page) -> list[str]:
    """What axe finds that keeps somebody from using the page, a line each."""
    found = Axe().run(tab).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def html(**headers: Any) -> dict[str, Any]:
    """Headers of a browser that is led to a page."""
    return {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", **headers}
