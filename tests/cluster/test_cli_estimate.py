"""`roehub estimate`: sizes counted without running, the probe's order of magnitude."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import compute.pipeline
from compute.probe import narrowed
from tests.cluster.cli import VARIANTS, axis, call, request, write_json, write_market
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
    lines = [line for line in done.stdout.splitlines() if "tensor formula" in line]
    assert [line.split()[0] for line in lines] == ["nominal"]


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
        "instrument_assumed", "synthetic_candles", "carried_forward", "holdout_without_candles",
    ]  # fmt: skip
    monkeypatch.undo()
    run = call("backtest", path, "--candles", bare, "--executor", "local")
    assert [line for line in run.stdout.splitlines() if line.startswith("WARNING: ")] == warnings
    assert json.loads(call("estimate", path, "--json").stdout)["cautions"] == []


@pytest.mark.parametrize("start", ["2024-01-20T00:00:00Z", "2024-01-20T00:07:30Z"])
@pytest.mark.parametrize("warmup", [1, 120])
def test_made_up_candles_are_as_many_as_a_file_gives(
    start: str, warmup: int, tmp_path: Path
) -> None:
    times = {"start": start, "end": "2024-02-20T00:00:00Z"}
    path = write_json(
        tmp_path / "request.json", request({"time_range": times, "warmup_bars": warmup})
    )
    candles = write_market(tmp_path / "candles.parquet")
    counts = []
    for flags in ([], ["--candles", candles]):
        found = json.loads(call("estimate", path, "--json", *flags).stdout)
        counts.append((found["loaded_bars"], found["ranked_bars"]))
    assert counts[0] == counts[1]
    first_close = 1 if start.endswith("07:30Z") else 0  # the bar that closes at the start
    assert counts[0][1] == 31 * 24 - first_close
    assert counts[0][0] == counts[0][1] + warmup - 1 + first_close


def test_axes_that_change_no_vote_are_named(tmp_path: Path) -> None:
    macd = {
        "indicator_id": "momentum.macd",
        "source": axis("close"),
        "params": {
            "fast_window": axis(5, 12), "slow_window": axis(26), "signal_window": axis(7, 9),
        },
    }  # fmt: skip
    path = write_json(
        tmp_path / "r.json",
        request({"template.indicator_grids": [macd], "template.signal_grids": {}}),
    )
    found = json.loads(call("estimate", path, "--json").stdout)
    assert (found["stage_a_variants_total"], found["stage_a_distinct_total"]) == (4, 2)
    assert found["idle_axes"] == ["momentum.macd.signal_window"]
    line = "with votes that can differ; what votes does not depend on momentum.macd.signal_window"
    assert line in call("estimate", path).stdout


@pytest.mark.parametrize(
    ("flags", "line", "marks"),
    [
        (["--max-variants", 100], "base variants; the guard is 100 – OVER", 2),
        (["--max-variants", 350], "= best 80 × 6 stop pairs; the guard is 350 – OVER", 1),
        (["--memory-bytes", 100_000], "of a budget of 0.1 MiB – OVER, made of", 1),
    ],
)
def test_the_line_over_a_guard_is_marked(
    flags: list[object], line: str, marks: int, tmp_path: Path
) -> None:
    path = write_json(tmp_path / "request.json", request({"preselect": 80}))
    text = call("estimate", path, *flags).stdout
    assert line in text
    assert text.count("OVER") == marks
    assert "OVER" not in call("estimate", path).stdout


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
    for cut, before in zip(small.axes, whole.axes, strict=True):
        start = before.values.index(cut.values[0])
        assert before.values[start : start + len(cut)] == cut.values
