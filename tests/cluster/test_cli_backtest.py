"""`roehub backtest` end to end, in this process, with threads."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cluster.outputs
import cluster.session
import compute.device
import compute.jit
import compute.results
from compute.control import Progress, Report
from compute.device import Facts
from compute.results import canonical_result
from tests.cluster.cli import VARIANTS, Called, axis, call, request, write_json, write_market


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market") / "candles.parquet")


@pytest.fixture(scope="module")
def finished(candles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Called]:
    out = tmp_path_factory.mktemp("run") / "deep" / "out"
    body = write_json(out.parent.parent / "request.json", request())
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--out", out)
    assert done.status == 0, done.stderr
    return out, done


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())


def test_writes_three_files_and_nothing_else(finished: tuple[Path, Called]) -> None:
    out, done = finished
    assert sorted(p.name for p in out.iterdir()) == [
        "report.html", "result.json", "variants.parquet",
    ]  # fmt: skip
    assert "SYNTHETIC" in done.stdout
    assert all(name in done.stdout for name in ("result.json", "variants.parquet", "report.html"))


def test_the_first_run_of_a_version_says_what_it_waits_for(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute.jit, "CACHE_DIR", tmp_path / "none")
    body = write_json(tmp_path / "request.json", request())
    done = call("backtest", body, "--candles", candles, "--executor", "local")
    assert done.status == 0
    assert "compiling the kernels" in done.stdout


def test_a_card_that_is_not_there(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute.device, "facts", lambda: Facts(missing=("cupy",)))
    body = write_json(tmp_path / "request.json", request())
    run = ("backtest", body, "--candles", candles, "--executor", "local", "--device")
    refused = call(*run, "cuda")
    assert refused.status == 2
    assert "device cuda: CuPy is not installed; install the cuda extra" in refused.stderr
    done = call(*run, "auto")
    assert done.status == 0
    assert done.stdout.count("device auto: searching on the CPU, CuPy is not installed") == 1


def test_a_range_far_beyond_the_candles_is_warned_of(candles: Path, tmp_path: Path) -> None:
    covered, beyond = request(), request()
    beyond["time_range"] = {**beyond["time_range"], "end": "2026-06-01T00:00:00Z"}
    said = []
    for name, body in (("covered", covered), ("beyond", beyond)):
        path = write_json(tmp_path / f"{name}.json", body)
        done = call("backtest", path, "--candles", candles, "--executor", "local")
        assert done.status == 0, done.stderr
        said.append(done.stdout)
    assert said[0].count("WARNING") == 1  # that they are made up
    assert re.search(r"WARNING: \d+% of the bars repeat the close before them", said[1])


def test_candles_without_a_symbol_are_warned_of(candles: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(candles).drop_columns(["market_id", "symbol"]), bare)
    body = write_json(tmp_path / "request.json", request())
    done = call("backtest", body, "--candles", bare, "--executor", "local", "--out", tmp_path)
    assert done.status == 0, done.stderr
    warnings = [line for line in done.stdout.splitlines() if line.startswith("WARNING: ")]
    assert len(warnings) == 2
    assert "name no market_id and no symbol: they are taken for 1:TESTUSDT" in warnings[0]
    found = result(tmp_path)["cautions"]
    assert [one["code"] for one in found] == ["instrument_assumed", "synthetic_candles"]
    assert [f"WARNING: {one['message']}" for one in found] == warnings
    assert "taken for 1:TESTUSDT" in (tmp_path / "report.html").read_text()


def test_result_has_the_members_of_the_contract(finished: tuple[Path, Called]) -> None:
    found = result(finished[0])
    for name, value in {
        "schema_version": 1, "mode": "template", "strategy_id": None, "spec_hash": None,
        "instrument_id": {"market_id": 1, "symbol": "TESTUSDT"}, "timeframe": "1h",
        "warmup_bars": 120, "top_k": 12, "preselect": 30, "top_trades_n": 2,
    }.items():  # fmt: skip
        assert found[name] == value
    assert len(found["variants"]) == 12
    assert {"executor", "device", "threads", "timings", "peak_rss_bytes", "started_at"} <= set(
        found["run"]
    )
    assert found["plan"]["stage_a_variants_total"] == VARIANTS
    assert found["plan"]["stage_b_variants_total"] == 30 * 6
    for row, variant in enumerate(found["variants"]):
        assert len(variant["report"]["rows"]) == 25
        assert (variant["report"]["trades"] is not None) == (row < 2)
        assert set(variant["payload"]) == {
            "indicator_selections", "signal_params", "risk_params", "execution_params",
            "direction_mode", "sizing_mode",
        }  # fmt: skip
    returns = [variant["total_return_pct"] for variant in found["variants"]]
    assert returns == sorted(returns, reverse=True)


def test_rows_trades_and_metrics_tell_the_same(finished: tuple[Path, Called]) -> None:
    for variant in result(finished[0])["variants"]:
        rows = {row["metric"]: row["value"] for row in variant["report"]["rows"]}
        metrics = variant["metrics"]
        assert float(rows["Total Return [%]"]) == pytest.approx(
            metrics["total_return_pct"], abs=1e-4
        )
        assert float(rows["Max. Drawdown [%]"]) == pytest.approx(
            metrics["max_drawdown_pct"], abs=1e-4
        )
        assert int(rows["Num. Trades"]) == metrics["num_trades"]
        trades = variant["report"]["trades"]
        if trades is not None:
            profit = sum(trade["net_pnl_quote"] for trade in trades)
            assert profit / 100 == pytest.approx(metrics["total_return_pct"], rel=1e-9)
            wins = sum(trade["net_pnl_quote"] > 0 for trade in trades)
            assert metrics["win_rate_pct"] == pytest.approx(100 * wins / len(trades))


def test_columns_agree_with_the_result(candles: Path, tmp_path: Path) -> None:
    body = write_json(tmp_path / "request.json", request({"template.risk_grid": {}, "top_k": 30}))
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--out", tmp_path)
    assert done.status == 0
    table = pq.read_table(tmp_path / "variants.parquet").to_pydict()
    assert table["flat_index"] == list(range(VARIANTS))
    ranked = result(tmp_path)["variants"]
    assert max(table["total_return_pct"]) == pytest.approx(ranked[0]["total_return_pct"], rel=1e-9)
    for variant in ranked:
        row = {name: column[variant["base_variant_index"]] for name, column in table.items()}
        chosen = variant["payload"]["indicator_selections"]
        assert row["ma.sma.window"] == chosen[0]["params"]["window"]
        assert row["ma.sma.source"] == chosen[0]["inputs"]["source"]
        assert row["momentum.rsi.window"] == chosen[1]["params"]["window"]
        signals = variant["payload"]["signal_params"]["momentum.rsi"]
        assert row["momentum.rsi.long_threshold"] == signals["long_threshold"]
        for name in ("total_return_pct", "profit_factor", "num_trades", "win_rate_pct"):
            assert row[name] == pytest.approx(variant["metrics"][name], rel=1e-9)


def test_report_is_one_page_with_the_table(finished: tuple[Path, Called]) -> None:
    out, _ = finished
    page = (out / "report.html").read_text()
    assert not re.search(r"https?://|url\(|@import", page)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    assert len(data["table"]["rows"]) == 12
    best = result(out)["variants"][0]
    assert data["table"]["rows"][0][1] == best["metrics"]["total_return_pct"]
    assert data["surface"]["variants"] == VARIANTS
    assert data["curves"][0]["variant"] == 0
    assert "SYNTHETIC DATA" in page


@pytest.mark.parametrize("changes", [{}, {"validation": {"holdout_fraction": 0.3}}])
def test_threads_do_not_show_in_the_result(
    changes: dict[str, Any], candles: Path, tmp_path: Path
) -> None:
    body = write_json(tmp_path / "request.json", request(changes))
    for threads in (1, 2):
        done = call(
            "backtest", body, "--candles", candles, "--executor", "local",
            "--threads", threads, "--out", tmp_path / str(threads),
        )  # fmt: skip
        assert done.status == 0
    one, two = (result(tmp_path / name) for name in "12")
    assert one["run"]["threads"] == 1
    assert two["run"]["threads"] == 2
    assert canonical_result(one) == canonical_result(two)
    files = [(tmp_path / name / "variants.parquet").read_bytes() for name in "12"]
    assert files[0] == files[1]


@pytest.mark.slow
def test_ray_gives_the_same_result_as_threads(
    finished: tuple[Path, Called], candles: Path, tmp_path: Path
) -> None:
    body = write_json(tmp_path / "request.json", request())
    done = call("backtest", body, "--candles", candles, "--threads", 1, "--out", tmp_path)
    assert done.status == 0, done.stderr
    out, _ = finished
    assert result(tmp_path)["run"]["executor"] == "ray"
    assert canonical_result(result(tmp_path)) == canonical_result(result(out))
    assert (tmp_path / "variants.parquet").read_bytes() == (out / "variants.parquet").read_bytes()


@pytest.mark.parametrize("flag", ["--max-variants", "--memory-bytes"])
def test_the_flag_that_a_guard_names_is_enough(flag: str, candles: Path, tmp_path: Path) -> None:
    body = write_json(tmp_path / "request.json", request({"preselect": VARIANTS}))
    run = ("backtest", body, "--candles", candles, "--executor", "local", "--out", tmp_path / "out")
    refusal = call(*run, flag, 50)
    assert refusal.status == 2
    named = re.search(rf"{flag} (\d+)", refusal.stderr)
    assert named is not None, refusal.stderr
    assert call(*run, flag, int(named[1]) // 2).status == 2
    assert call(*run, flag, named[1]).status == 0


@pytest.mark.parametrize("distinct", [False, True])
def test_too_many_trades_wanted_names_the_most_there_are(
    distinct: bool, candles: Path, tmp_path: Path
) -> None:
    ranking = {"primary_metric": "total_return_pct", "min_trades": 1_500, "distinct": distinct}
    body = write_json(tmp_path / "request.json", request({"ranking": ranking}))
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--out", tmp_path)
    assert done.status == 0
    assert result(tmp_path)["variants"] == []
    most = max(pq.read_table(tmp_path / "variants.parquet")["num_trades"].to_pylist())
    assert most > 0
    assert result(tmp_path)["plan"]["most_trades"] == most
    assert f"min_trades is 1 500, the most that any variant has is {most};" in done.stdout


def test_holdout_stands_beside_the_ranked_part(candles: Path, tmp_path: Path) -> None:
    body = request({"validation": {"holdout_fraction": 0.25}})
    done = call(
        "backtest", write_json(tmp_path / "r.json", body), "--candles", candles,
        "--executor", "local", "--out", tmp_path,
    )  # fmt: skip
    assert done.status == 0
    assert "held out" in done.stdout
    found = result(tmp_path)
    here, later = (
        {row["metric"]: float(row["value"]) for row in part["report"]["rows"][6:7]}
        for part in (found["variants"][0], found["variants"][0]["holdout"])
    )
    name = "Benchmark Return [%]"
    assert (
        f"buy and hold: {here[name]:.2f} % over the ranked bars,"
        f" {later[name]:.2f} % over those held out"
    ) in done.stdout
    assert found["holdout"]["fraction"] == 0.25
    for variant in found["variants"]:
        later = {row["metric"]: row["value"] for row in variant["holdout"]["report"]["rows"]}
        ranked = {row["metric"]: row["value"] for row in variant["report"]["rows"]}
        assert ranked["End"] == later["Start"]
        assert later["End"] == "2024-04-01 00:00:00.000+00:00"
        assert float(later["Total Return [%]"]) == pytest.approx(
            variant["holdout"]["metrics"]["total_return_pct"], abs=1e-4
        )


def test_distinct_rows_say_what_they_stand_for(candles: Path, tmp_path: Path) -> None:
    changes = {
        "ranking": {"primary_metric": "total_return_pct", "distinct": True},
        "template.risk_grid.tp": axis(300, 600),  # never reached: two equal levels
    }
    body = write_json(tmp_path / "request.json", request(changes))
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--json")
    assert done.status == 0, done.stderr
    ranked = json.loads(done.stdout)["variants"]
    assert len({variant["metrics"]["total_return_pct"] for variant in ranked}) == len(ranked)
    for variant in ranked:
        assert variant["equals"]["count"] % 2 == 0
        assert variant["equals"]["axes"]["tp_pct"] == [300.0, 600.0]
        assert variant["base_equals"]["count"] >= 1


def test_json_alone_on_stdout(candles: Path, tmp_path: Path) -> None:
    body = write_json(tmp_path / "request.json", request())
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--json")
    assert done.status == 0
    assert len(json.loads(done.stdout)["variants"]) == 12
    assert "base variants" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["request.json"]


def test_the_best_alone_above_the_limit_of_rows(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.outputs, "MAX_ROWS", VARIANTS - 1)
    body = write_json(tmp_path / "request.json", request())
    out = tmp_path / "out"
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--out", out)
    assert done.status == 0
    assert "holds the best 30 of 320 base variants" in done.stdout
    table = pq.read_table(out / "variants.parquet")
    assert table.num_rows == 30
    assert table.schema.metadata[b"roehub.rows"] == b"best"
    assert table.schema.metadata[b"roehub.synthetic"] == b"true"
    assert (np.diff(table["flat_index"].to_numpy()) > 0).all()
    page = (out / "report.html").read_text()
    assert "are kept for grids of up to" in page


def test_no_columns_keeps_no_columns(candles: Path, tmp_path: Path) -> None:
    body = write_json(tmp_path / "request.json", request())
    out = tmp_path / "out"
    done = call(
        "backtest", body, "--candles", candles, "--executor", "local", "--out", out, "--no-columns"
    )
    assert done.status == 0
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "result.json"]


def test_top_k_overrules_the_request(candles: Path, tmp_path: Path) -> None:
    body = write_json(tmp_path / "request.json", request({"top_trades_n": ...}))
    done = call(
        "backtest", body, "--candles", candles, "--executor", "local", "--json", "--top-k", 1
    )
    found = json.loads(done.stdout)
    assert (found["top_k"], len(found["variants"]), found["top_trades_n"]) == (1, 1, 1)


def test_nothing_ranked_is_said_and_still_a_result(candles: Path, tmp_path: Path) -> None:
    ranking = {"primary_metric": "profit_factor", "min_trades": 100_000}
    body = write_json(tmp_path / "request.json", request({"ranking": ranking}))
    out = tmp_path / "out"
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--out", out)
    assert done.status == 0, done.stderr
    assert "no variant has enough trades" in done.stdout
    assert result(out)["variants"] == []
    assert pq.read_metadata(out / "variants.parquet").num_rows == VARIANTS


@pytest.mark.parametrize("min_trades", [0, 1])
def test_a_grid_that_never_trades_is_told_so(
    min_trades: int, candles: Path, tmp_path: Path
) -> None:
    changes = {
        "template.signal_grids": {
            "momentum.rsi": {"long_threshold": axis(-5), "short_threshold": axis(105)},
        },
        "ranking": {"primary_metric": "total_return_pct", "min_trades": min_trades},
    }  # fmt: skip
    body = write_json(tmp_path / "request.json", request(changes))
    out = tmp_path / "out"
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--out", out)
    assert done.status == 0, done.stderr
    assert "no variant ever trades: thresholds are never reached" in done.stdout
    assert "lower it" not in done.stdout
    assert "NOTHING TRADES." in (out / "report.html").read_text()


def test_other_outputs_other_frames_other_costs(candles: Path, tmp_path: Path) -> None:
    changes = {
        "template.timeframe": "4h",
        "template.indicator_grids": [
            {
                "indicator_id": "momentum.macd",
                "output": "hist",
                "source": axis("close"),
                "params": {
                    "fast_window": axis(4, 8),
                    "slow_window": axis(12, 20),
                    "signal_window": axis(5),
                },
            },
        ],
        "template.signal_grids": {},
        "template.sizing_mode": "strategy_compound_profit_lock",
        "template.direction_mode": "long-only",
        "ranking": {"primary_metric": "max_drawdown_pct"},
    }
    body = write_json(tmp_path / "request.json", request(changes))
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--json")
    assert done.status == 0, done.stderr
    ranked = json.loads(done.stdout)["variants"]
    falls = [variant["metrics"]["max_drawdown_pct"] for variant in ranked]
    assert falls == sorted(falls)
    assert ranked[0]["payload"]["indicator_selections"][0]["output"] == "hist"
    assert {t["direction"] for t in ranked[0]["report"]["trades"]} <= {"long"}


@pytest.mark.parametrize(
    ("stage", "name"), [("stage_a", "Stage A"), ("stage_b", "Stage B"), ("report", "Reports")]
)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_stop_in_any_stage_keeps_the_columns(
    stage: str,
    name: str,
    earlier: bool,
    candles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real signal, sent when the stage reports its first work (or when it would be replayed)."""
    body = write_json(tmp_path / "request.json", request())
    out = tmp_path / "out"
    flags = ("backtest", body, "--candles", candles, "--executor", "local", "--out", out)
    if earlier:
        assert call(*flags).status == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()} if earlier else {}

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    @contextmanager
    def watched() -> Iterator[Report]:
        def report(now: Progress) -> None:
            if now.stage == stage and now.done:
                interrupt()

        yield report

    monkeypatch.setattr(cluster.session, "progress", watched)
    if stage == "report":
        rows = compute.results.report_rows

        def interrupted(*arguments: Any, **options: Any) -> Any:
            interrupt()
            return rows(*arguments, **options)

        monkeypatch.setattr(compute.results, "report_rows", interrupted)
    done = call(*flags, "--threads", 1)
    assert done.status == 130, done.stderr
    assert f"interrupted in {name}; Stage A had scored" in done.stdout
    assert "best so far" in done.stdout
    left = {path.name: path.read_bytes() for path in out.iterdir()}
    kept = left.pop("variants.partial.parquet")
    assert left == before
    rows_kept = pq.read_metadata(pa.BufferReader(kept)).num_rows
    assert rows_kept == VARIANTS if stage != "stage_a" else 0 < rows_kept <= VARIANTS


def test_a_second_signal_says_which_files_were_finished(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    body = write_json(tmp_path / "request.json", request())
    out = tmp_path / "out"
    flags = ("backtest", body, "--candles", candles, "--executor", "local", "--out", out)
    monkeypatch.setattr(cluster.session, "report_html", interrupt)
    done = call(*flags)
    assert (done.status, [p.name for p in out.iterdir()]) == (130, ["variants.parquet"])
    assert f"interrupted at once; finished were {out / 'variants.parquet'}, " in done.stdout
    monkeypatch.setattr(cluster.session, "_outcome", interrupt)
    done = call(*flags)
    assert done.status == 130
    assert "interrupted at once; nothing was written" in done.stdout


def test_a_finished_run_removes_what_a_stopped_one_kept(candles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "variants.partial.parquet").write_text("left behind")
    body = write_json(tmp_path / "request.json", request())
    done = call("backtest", body, "--candles", candles, "--executor", "local", "--out", out)
    assert done.status == 0
    assert not (out / "variants.partial.parquet").exists()
