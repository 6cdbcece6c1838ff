"""`roehub estimate`: sizes counted without running, the probe's order of magnitude."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import compute.pipeline
from compute.probe import narrowed
from tests.cluster.cli import VARIANTS, call, request, write_json, write_market
from tests.cluster.test_columns import grid


@pytest.fixture(autouse=True)
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the back-test was started")

    monkeypatch.setattr(compute.pipeline, "backtest", refuse)


@pytest.mark.parametrize("with_candles", [False, True])
@pytest.mark.parametrize("metric", ["total_return_pct", "max_drawdown_pct", "profit_factor"])
def test_counts_and_times(with_candles: bool, metric: str, tmp_path: Path) -> None:
    changes = {
        "ranking": {"primary_metric": metric}, "validation": {"holdout_fraction": 0.5},
    }  # fmt: skip
    path = write_json(tmp_path / "request.json", request(changes))
    flags: list[object] = []
    if with_candles:
        flags = ["--candles", write_market(tmp_path / "candles.parquet")]
    done = call("estimate", path, "--json", "--threads", 2, *flags)
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["stage_a_variants_total"] == VARIANTS
    assert found["stage_b_variants_total"] == 30 * 6
    assert found["planes"]["ma.sma"] == {"long": 40, "short": 40}
    # Two windows; two thresholds a side, and 50/50 reads the other way round than 50/45.
    assert found["planes"]["momentum.rsi"] == {"long": 6, "short": 6}
    assert found["ranked_bars"] == 72 * 24 - 72 * 12
    assert found["estimated_memory_bytes"] == sum(found["memory_bytes"].values())
    assert set(found["seconds"]) == {"planes", "stage_a", "stage_b", "exact", "reports"}
    assert all(0 < seconds < 60 for seconds in found["seconds"].values())
    assert all(count >= 1 for count in found["spans"].values())
    assert found["slow_metric"] == (metric if metric == "max_drawdown_pct" else None)
    assert found["refusal"] is None


def test_text_names_the_parts_and_warns_of_slow_rankings(tmp_path: Path) -> None:
    ranking = {"primary_metric": "return_over_max_drawdown"}
    path = write_json(tmp_path / "request.json", request({"ranking": ranking}))
    done = call("estimate", path)
    assert done.status == 0
    for word in ("Stage A", "Stage B", "planes", "memory", "spans", "seconds", "tensor formula"):
        assert word in done.stdout
    assert "SLOW: return_over_max_drawdown" in done.stdout


def test_candles_are_warned_of_as_by_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bare.parquet"
    named = write_market(tmp_path / "candles.parquet")
    pq.write_table(pq.read_table(named).drop_columns(["symbol"]), bare)
    beyond = {"start": "2024-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}
    body = request({"time_range": beyond, "validation": {"holdout_fraction": 0.25}})
    path = write_json(tmp_path / "request.json", body)
    done = call("estimate", path, "--candles", bare)
    warnings = [line for line in done.stdout.splitlines() if line.startswith("WARNING: ")]
    found = json.loads(call("estimate", path, "--candles", bare, "--json").stdout)["cautions"]
    assert [f"WARNING: {caution['message']}" for caution in found] == warnings
    assert [caution["code"] for caution in found] == [
        "instrument_assumed", "carried_forward", "holdout_without_candles",
    ]  # fmt: skip
    monkeypatch.undo()
    run = call("backtest", path, "--candles", bare, "--executor", "local")
    assert [line for line in run.stdout.splitlines() if line.startswith("WARNING: ")] == warnings
    assert json.loads(call("estimate", path, "--json").stdout)["cautions"] == []


def test_a_refusal_is_foretold_with_the_numbers(tmp_path: Path) -> None:
    path = write_json(tmp_path / "request.json", request())
    done = call("estimate", path, "--max-variants", 100)
    assert done.status == 2
    assert "would be refused: " in done.stdout
    assert "320" in done.stdout
    found = json.loads(call("estimate", path, "--max-variants", 100, "--json").stdout)
    assert found["refusal"]["details"]["max_variants_per_compute"] == 100
    assert found["stage_a_variants_total"] == 320
    assert found["seconds"] is None


def test_a_plan_that_needs_blocks_says_so(tmp_path: Path) -> None:
    body = request({"time_range": {"start": "1990-01-01T00:00:00Z", "end": "2024-01-01T00:00:00Z"}})
    path = write_json(tmp_path / "request.json", body)
    whole = json.loads(call("estimate", path, "--json", "--threads", 1).stdout)
    tight = whole["estimated_memory_bytes"] - whole["memory_bytes"]["planes"] // 4
    done = call("estimate", path, "--json", "--threads", 1, "--memory-bytes", tight)
    found = json.loads(done.stdout)
    assert done.status == 0
    assert found["blocks"] > whole["blocks"] == 1
    assert found["estimated_memory_bytes"] <= tight


@pytest.mark.parametrize("most", [1, 2, 5, 40, 10_000])
def test_a_narrowed_grid_keeps_neighbours(most: int) -> None:
    whole = grid(50)
    small = narrowed(whole, most)
    assert small.total <= max(1, most)
    for axis, before in zip(small.axes, whole.axes, strict=True):
        start = before.values.index(axis.values[0])
        assert before.values[start : start + len(axis)] == axis.values
