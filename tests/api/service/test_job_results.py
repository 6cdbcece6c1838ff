"""What a job leaves, from a request over HTTP to its files: a runner computes it for real."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.jobs import Jobs
from api.saved import Asked
from compute.executor import LocalExecutor
from compute.market.timeline import Timeline
from compute.pipeline import backtest
from compute.settings import Limits
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.job_service import job_service, request, running, until_ended
from tests.api.service.market import refused, store, store_directory
from tests.postgres import execute

__all__ = ["store", "store_directory"]
PATH = "/backtests/jobs"
X, Y = "ma.sma.window", "momentum.rsi.window"


@pytest.fixture
def service(
    store: ClickHouse, database: str, tmp_path: Path
) -> Iterator[tuple[httpx.Client, Jobs]]:
    with job_service(store, database, tmp_path) as found:
        yield found


def table_of(response: httpx.Response) -> pa.Table:
    assert response.status_code == 200, response.text
    return pa.ipc.open_stream(response.content).read_all()


def test_a_job_from_its_request_to_its_columns_and_report(
    service: tuple[httpx.Client, Jobs], database: str, tmp_path: Path
) -> None:
    client, jobs = service
    job_id = client.post(PATH, json=request(windows=40)).json()["job_id"]
    here = f"{PATH}/{job_id}"
    early = refused(client.get(f"{here}/variants"), 409)
    assert early["details"]["error"] == "stage_a_unfinished"
    assert (early["details"]["rows"], early["details"]["variants"]) == (0, 120)
    assert refused(client.get(f"{here}/result"), 409)["details"]["error"] == "job_not_succeeded"
    assert refused(client.get(f"{here}/heatmap?x={X}&y={Y}"), 409)
    with running(database, tmp_path):
        assert until_ended(client, job_id)["state"] == "succeeded"

    expected = np.full(120, np.nan)
    trades = np.zeros(120, int)

    def sink(block: dict[str, Any]) -> None:
        expected[block["index"]] = block["total_return_pct"]
        trades[block["index"]] = block["num_trades"]

    market = jobs.context.market
    assert market is not None
    made = jobs._made(Asked(request(windows=40)), market)
    with LocalExecutor(2) as executor:
        outcome = backtest(
            made.backtest, made.timeline, executor, limits=Limits(10**6, 2**32), sink=sink
        )

    table = table_of(client.get(f"{here}/variants")).sort_by("flat_index")
    assert table.num_rows == 120
    assert table.column("total_return_pct").to_pylist() == expected.tolist()
    assert table.column("num_trades").to_pylist() == trades.tolist()
    assert table.schema.metadata[b"roehub.job_id"] == job_id.encode()
    assert table.schema.metadata[b"roehub.synthetic"] == b"true"
    assert sorted(set(table.column(X).to_pylist())) == list(range(5, 45))

    parquet = client.get(f"{here}/variants", headers={"Accept": "application/vnd.apache.parquet"})
    assert parquet.headers["content-type"] == "application/vnd.apache.parquet"
    assert f'filename="variants-{job_id}.parquet"' in parquet.headers["content-disposition"]
    whole = pq.read_table(io.BytesIO(parquet.content)).sort_by("flat_index")
    assert whole.column("total_return_pct").equals(table.column("total_return_pct"))
    query = {
        "format": "arrow", "axis": [f"{X}:10..12", f"{Y}:7"], "min": "num_trades:1",
        "columns": f"flat_index,{X}",
    }  # fmt: skip
    some = table_of(
        client.get(
            f"{here}/variants", params=query, headers={"Accept": "application/vnd.apache.parquet"}
        )
    )
    assert some.column_names == ["flat_index", X]
    assert sorted(some.column(X).to_pylist()) == [10, 11, 12]
    assert refused(client.get(f"{here}/variants?axis=nothing:1"))["details"]["errors"][0] == {
        "path": "query.axis",
        "code": "unknown_axis",
        "message": f"no axis 'nothing'; axes are {', '.join(made.backtest.grid.axis_names)}",
    }
    assert refused(client.get(f"{here}/variants?format=csv"))

    drawn = client.get(
        f"{here}/heatmap", params={"x": X, "y": Y, "aggregate": "max", "axis": f"{X}:5..9"}
    ).json()
    assert (drawn["job_id"], drawn["metric"]) == (job_id, "total_return_pct")
    assert drawn["x"]["values"] == [5, 6, 7, 8, 9]
    assert drawn["y"]["values"] == [7, 14, 21]
    by_axes = {(row[X], row[Y]): row["total_return_pct"] for row in table.to_pylist()}
    for j, period in enumerate(drawn["y"]["values"]):
        for i, window in enumerate(drawn["x"]["values"]):
            assert drawn["cells"][j][i] == by_axes[window, period]
    assert refused(client.get(f"{here}/heatmap?x={X}"))["details"]["errors"][0]["path"] == "query.y"

    result = client.get(f"{here}/result")
    assert result.headers["content-type"] == "application/json"
    assert result.json()["cautions"][0] == {
        "code": "synthetic_candles",
        "message": "These candles are SYNTHETIC: nothing here happened on a market",
    }
    variants = result.json()["variants"]
    assert [one["variant_index"] for one in variants] == outcome.top.index.tolist()
    top = client.get(f"{here}/top").json()["items"]
    assert [row["variant_key"] for row in top] == [one["variant_key"] for one in variants]
    pictures(client, here, table)
    variant_in_full(client, here, result.json(), made.timeline)
    page = client.get(f"{here}/report")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.count("<strong>SYNTHETIC DATA.</strong>") == 1
    assert "SYNTHETIC, made by a generator; the candle store" in page.text
    assert page.text.startswith("<!doctype html>") or page.text.startswith("<!DOCTYPE html>")

    events = client.get(f"{here}/events").text
    states = [json.loads(line[6:])["state"] for line in events.splitlines() if '"state":"' in line]
    assert states == ["queued", "running", "succeeded"]
    assert '"stage":"stage_b"' in events

    for ranges in ("bytes=0-5", "bytes=5-1", "bytes=abc", "bytes=99999999-", "bytes=0-1,3-4"):
        whole = client.get(f"{here}/result", headers={"Range": ranges})
        assert (whole.status_code, whole.content) == (200, result.content)
        assert whole.headers["accept-ranges"] == "none"

    shutil.rmtree(tmp_path / "plans")
    gone = refused(client.get(f"{here}/variants"), 409)
    assert gone["details"]["error"] == "columns_gone"
    assert "not in the directory of results any more" in gone["message"]
    (tmp_path / "jobs" / job_id / "report.html").unlink()
    assert refused(client.get(f"{here}/report"), 404)["details"] == {"job_id": job_id}


def pictures(client: httpx.Client, here: str, table: pa.Table) -> None:
    """What is drawn of the grid is what its columns say."""
    returns = np.array(table.column("total_return_pct").to_pylist())
    found = client.get(f"{here}/histogram").json()
    assert (found["variants"], found["median"]) == (120, np.median(returns))
    found = client.get(f"{here}/sample?best=3&random=4&min=num_trades:1").json()
    assert [row["flat_index"] for row in found["best"]] == np.argsort(-returns, kind="stable")[
        :3
    ].tolist()
    assert len(found["random"]) == 4
    assert found["axes"][1] == X
    around = client.get(f"{here}/plateau?x={X}&y={Y}&aggregate=max").json()
    assert around["value"] == returns.max()
    assert [around["x"], around["y"]] == [
        table.column(name)[int(returns.argmax())].as_py() for name in (X, Y)
    ]
    ranked = client.get(f"{here}/ranked").json()
    assert [row["rank"] for row in ranked["rows"]] == [1, 2, 3, 4, 5]
    assert {column["name"] for column in ranked["columns"]} > {"rank", "metric.num_trades"}
    some = client.get(f"{here}/ranked", params={"axis": f"{Y}:7"}).json()
    bases = {row["flat_index"] for row in some["rows"]}
    assert bases == {
        row["flat_index"]
        for row in ranked["rows"]
        if table.column(Y)[row["flat_index"]].as_py() == 7
    }
    assert refused(client.get(f"{here}/sample?best=1001"))
    assert refused(client.get(f"{here}/plateau?x={X}&y={Y}&at_x=999&at_y=7"))


def variant_in_full(
    client: httpx.Client, here: str, result: dict[str, Any], timeline: Timeline
) -> None:
    """A row walked again is the row of the result, trade for trade."""
    row = result["variants"][0]
    found = client.get(f"{here}/variant?rank=1").json()
    told = [{name: one[name] for name in ("metric", "value")} for one in found["rows"]]
    assert told == row["report"]["rows"]
    assert found["rows"][2] == {**told[2], "shown": "7 d"}
    assert found["payload"] == row["payload"]
    assert found["flat_index"] == row["base_variant_index"]
    assert found["synthetic"] is True
    told = [{name: trade[name] for name in first} for trade in found["trades"]
            if (first := row["report"]["trades"][0])]  # fmt: skip
    assert told == row["report"]["trades"]
    assert found["trades_total"] == len(told) > 0
    trade = found["trades"][0]
    sl = row["payload"]["risk_params"]["sl_pct"] / 100
    side = 1 if trade["direction"] == "long" else -1
    assert trade["sl_price"] == pytest.approx(trade["entry_fill_price"] * (1 - side * sl))
    assert trade["tp_price"] is None
    total = found["metrics"]["total_return_pct"]
    assert total == row["metrics"]["total_return_pct"]
    growth = np.prod([1 + month["return_pct"] / 100 for month in found["months"]])
    assert growth == pytest.approx(1 + total / 100, rel=1e-5)
    assert found["equity"]["values"][-1] == pytest.approx(found["init_cash"] * (1 + total / 100))
    close = timeline.candles.close[timeline.start : timeline.stop]
    assert found["bars"] == len(close) == len(found["window"]["close"])
    assert found["window"]["close"] == pytest.approx(close.tolist(), rel=1e-6)
    assert found["hold"]["values"][-1] == pytest.approx(
        found["init_cash"] * float(close[-1]) / float(close[0]), rel=1e-6
    )
    # The two agree where a trade was entered.
    votes = [strip["mean"] for strip in found["window"]["votes"]]
    assert len(votes) == 2
    assert {strip[trade["entry_bar"]] for strip in votes} == {float(side)}

    base = client.get(f"{here}/variant", params={"flat_index": row["base_variant_index"]}).json()
    assert base["payload"]["risk_params"]["sl_enabled"] is False
    assert base["metrics"]["total_return_pct"] == pytest.approx(base["around"]["own"], rel=1e-9)
    again = {"flat_index": row["base_variant_index"], "sl_pct": sl * 100}
    assert client.get(f"{here}/variant", params=again).json()["rows"] == found["rows"]
    near = client.get(f"{here}/variant/window?rank=1&first=10&last=20").json()
    assert near["close"] == found["window"]["close"][10:20]
    assert near["votes"][0]["mean"] == votes[0][10:20]
    files = {
        form: client.get(f"{here}/variant/trades?rank=1&format={form}")
        for form in ("csv", "json", "parquet")
    }
    assert files["json"].json() == found["trades"]
    lines = files["csv"].text.splitlines()
    assert len(lines) == len(told) + 1
    assert lines[1].split(",")[:2] == ["1", trade["direction"]]
    kept = pq.read_table(io.BytesIO(files["parquet"].content))
    assert kept.column("net_pnl_quote").to_pylist() == [one["net_pnl_quote"] for one in told]
    assert kept.schema.metadata[b"roehub.synthetic"] == b"true"
    page = client.get(f"{here}/variant/report?rank=2")
    assert "attachment" in page.headers["content-disposition"]
    assert "SYNTHETIC DATA." in page.text
    assert result["variants"][1]["variant_key"] in page.text
    for query in ("", "rank=1&flat_index=2", "rank=1&sl_pct=1", "flat_index=120", "rank=0",
                  f"rank={2**31}", f"rank={10**20}", "rank=1&part=holdout"):  # fmt: skip
        assert refused(client.get(f"{here}/variant?{query}"))
    assert refused(client.get(f"{here}/variant?rank=6"), 404)["details"]["rank"] == 6


def test_columns_above_the_limit_are_refused_with_the_cure(
    service: tuple[httpx.Client, Jobs], database: str
) -> None:
    client, _ = service
    job_id = client.post(PATH, json=request()).json()["job_id"]
    execute(
        database,
        "update backtest_jobs set keep_columns = false,"
        " plan_json = jsonb_set(plan_json, '{stage_a_variants_total}', '5000001')",
    )
    for path in ("variants", f"heatmap?x={X}&y={Y}", "histogram", "sample"):
        error = refused(client.get(f"{PATH}/{job_id}/{path}"), 409)
        assert error["details"] == {
            "error": "columns_not_kept",
            "job_id": job_id,
            "limit": 5_000_000,
            "variants": 5_000_001,
        }
        assert "narrow an axis" in error["message"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "arrow"),
        ("*/*", "arrow"),
        ("application/vnd.apache.parquet", "parquet"),
        ("application/vnd.apache.parquet;q=0.5, application/vnd.apache.arrow.stream", "arrow"),
        ("application/vnd.apache.arrow.stream;q=0.1,application/vnd.apache.parquet;q=0.2",
         "parquet"),
        ("application/vnd.apache.parquet;q=x", "parquet"),
        ("application/vnd.apache.parquet;q=0", "arrow"),
    ],
)  # fmt: skip
def test_the_form_that_a_client_prefers(accept: str | None, form: str) -> None:
    from api.routes.job_results import _accepted

    assert _accepted(accept) == form
