"""What a strategy's page says of the back-test that it is from, while that is there and after."""

from __future__ import annotations

import asyncio
import html as markup
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.pages.saved_row import NO_JOBS, saved_row
from api.pages.words import percent, share
from api.users import User
from ingest.stores.clickhouse import ClickHouse
from tests.api.pages.conftest import html, site
from tests.api.service.job_service import request, running, until_ended
from tests.api.service.market import CLIENT_S
from tests.api.service.strategy_service import made, user


@pytest.fixture
def ann(store: ClickHouse, database: str, tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        site(store, database, tmp_path / "results") as url,
        httpx.Client(base_url=url, timeout=CLIENT_S, headers=user()) as client,
    ):
        yield client


def shown(client: httpx.Client, path: str) -> str:
    answer = client.get(path, headers=html())
    assert answer.status_code == 200
    return markup.unescape(answer.text)


def tiles(page: str) -> dict[str, str]:
    found = re.findall(r'<div class="tile"><p>(.*?)</p><p class=".*?">(.*?)</p>', page)
    return dict(found)


def saved(client: httpx.Client, body: dict[str, Any]) -> str:
    answer = client.post("/strategies/from-variant", json=body)
    assert answer.status_code == 201, answer.text
    return f"/strategies/{answer.json()['strategy_id']}"


def test_the_row_that_a_strategy_is_from_is_shown(
    ann: httpx.Client, database: str, tmp_path: Path
) -> None:
    body = request(validation={"holdout_fraction": 0.25})
    job = ann.post("/backtests/jobs", json=body).json()["job_id"]
    here = f"/backtests/jobs/{job}"
    base = saved(ann, {"job_id": job, "flat_index": 0})
    page = shown(ann, base)
    assert "The job has not ranked it so far." in page
    assert f'href="{here}"' in page
    with running(database, tmp_path / "results"):
        assert until_ended(ann, job)["state"] == "succeeded"
    row = ann.get(f"{here}/result").json()["variants"][1]
    strategy = saved(ann, {"job_id": job, "variant_key": row["variant_key"]})

    page = shown(ann, strategy)
    found, metrics = tiles(page), row["metrics"]
    assert found["Rank 2 returned"] == percent(metrics["total_return_pct"])
    assert found["Its largest drawdown"] == share(metrics["max_drawdown_pct"], 2)
    assert found["On the holdout"] == percent(row["holdout"]["metrics"]["total_return_pct"])
    assert "Buy and hold" in found
    assert f"{metrics['num_trades']} trades" in page
    assert f'href="{here}?rank=2#variant"' in page
    assert "2026-01-01 00:00 to 2026-01-08 00:00" in page
    assert "SYNTHETIC DATA." in page
    assert shown(ann, "/strategies").count("SYNTHETIC") == 2

    # A copy was found on the same candles; a base variant has no row, its job's page walks it.
    copy = {"source_strategy_id": strategy.split("/")[-1], "overrides": {"timeframe": "4h"}}
    copied = ann.post("/strategies/clone", json=copy).json()
    assert "SYNTHETIC DATA." in shown(ann, f"/strategies/{copied['strategy_id']}")
    page = shown(ann, base)
    assert "Saved from a base variant of a job." in page
    assert "The job did not rank it" in page
    assert f'href="{here}?flat_index=0#variant"' in page

    # Files are broken or go first, then the job; the strategy stays.
    (file,) = (tmp_path / "results").rglob("result.json")
    for broken in ("{", "{}"):
        file.write_text(broken)
        page = shown(ann, strategy)
        assert "The result of the job that it was saved from cannot be read" in page
        assert f'href="{here}"' in page
    shutil.rmtree(tmp_path / "results")
    found = tiles(shown(ann, strategy))
    assert found == {"It returned": percent(metrics["total_return_pct"])}
    assert "The job did not rank it" in shown(ann, base)
    assert "SYNTHETIC DATA." in shown(ann, saved(ann, {"job_id": job, "flat_index": 1}))
    (tmp_path / "results").mkdir()
    assert ann.delete(here).status_code == 204
    page = shown(ann, strategy)
    assert "The job that it was saved from is gone" in page
    assert here not in page
    assert tiles(page) == {}
    assert "SYNTHETIC DATA." in page


def test_a_service_without_jobs_does_not_call_them_gone() -> None:
    period = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-08T00:00:00Z"}
    source = {"kind": "job", "job_id": str(UUID(int=1)), "variant_key": "x", "time_range": period}
    found = asyncio.run(saved_row(None, User(UUID(int=2)), source))
    assert found is not None
    assert (found.missing, found.place) == (NO_JOBS, None)


def test_a_strategy_of_no_job_has_no_result(ann: httpx.Client) -> None:
    written = f"/strategies/{made(ann, {})['strategy_id']}"
    page = shown(ann, written)
    assert "The back-test it comes from" not in page
    assert "SYNTHETIC" not in page
    assert "SYNTHETIC" not in shown(ann, "/strategies")
    sample = {"market_id": 1, "symbol": "SYNTHUSDT"}
    copy = {"source_strategy_id": written.split("/")[-1], "overrides": {"instrument_id": sample}}
    assert ann.post("/strategies/clone", json=copy).status_code == 201
    assert shown(ann, "/strategies").count("SYNTHETIC") == 1
    found = ann.post("/backtests", json=request()).json()["variants"][0]
    body = {name: request()[name] for name in ("time_range", "template", "warmup_bars")}
    page = shown(ann, saved(ann, body | {"variant": found["payload"]}))
    assert "Saved from a variant of a search." in page
    assert "SYNTHETIC DATA." in page
