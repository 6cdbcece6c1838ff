"""Bad input through the command line: exit code 2, one clear message, no traceback, no compute."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compute.pipeline
from tests.cluster.cli import Called, axis, call, request, span, write_json, write_market

Table = dict[str, Any]


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market") / "candles.parquet")


@pytest.fixture(autouse=True)
def no_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is refused here is refused before anything runs."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the back-test was started")

    monkeypatch.setattr(compute.pipeline, "backtest", refuse)


def refused(done: Called, *words: str) -> str:
    """The lines of a refusal, which have all of `words`."""
    assert done.status == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("error: "))
    message = "\n".join(lines[first:])
    assert all(line.startswith("error: ") for line in lines[first:]), message
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in message, message
    return message


def run(tmp_path: Path, candles: Path, body: object, *flags: object) -> Called:
    path = write_json(tmp_path / "request.json", body)
    return call("backtest", path, "--candles", candles, "--executor", "local", *flags)


REQUESTS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("empty axis", {"template.risk_grid.sl": axis()}, ["template.risk_grid.sl.values"]),
    (
        "empty compute axis",
        {"template.indicator_grids.0.params.window": axis()},
        ["template.indicator_grids[0].params.window.values"],
    ),
    (
        "reversed range",
        {"template.indicator_grids.0.params.window": span(20, 5, 1)},
        ["window", "start"],
    ),
    (
        "off the hard grid",
        {"template.indicator_grids.0.params.window": axis(1)},
        ["template.indicator_grids[0].params.window: ma.sma.window must be in 2..2000, got 1"],
    ),
    ("fraction of a bar", {"template.indicator_grids.0.params.window": axis(5.5)}, ["window"]),
    ("boolean", {"template.indicator_grids.0.params.window": axis(True)}, ["window"]),
    ("text for a number", {"template.indicator_grids.0.params.window": axis("20")}, ["window"]),
    ("text in a risk axis", {"template.risk_grid.sl": axis("1")}, ["sl", "numeric"]),
    ("negative stop", {"template.risk_grid.sl": axis(-1)}, ["sl_pct must be >= 0"]),
    (
        "unknown indicator",
        {"template.indicator_grids.0.indicator_id": "ma.smaa"},
        ["template.indicator_grids[0].indicator_id: unknown indicator 'ma.smaa'", "ma.sma"],
    ),
    (
        "unknown parameter",
        {"template.indicator_grids.0.params": {"length": axis(5)}},
        ["unknown param 'length'", "window"],
    ),
    (
        "unknown rule parameter",
        {"template.signal_grids": {"momentum.rsi": {"level": axis(50)}}},
        ["template.signal_grids.momentum.rsi.level: ", "unknown signal param", "long_threshold"],
    ),
    (
        "rule parameter of no indicator",
        {"template.signal_grids": {"momentum.ris": {"long_threshold": axis(50)}}},
        ["template.signal_grids.momentum.ris: unknown indicator", "did you mean momentum.rsi"],
    ),
    (
        "lag of no bars",
        {
            "template.indicator_grids": [{"indicator_id": "volume.obv"}],
            "template.signal_grids": {
                "volume.obv": {"long_delta_periods": axis(0), "short_delta_periods": axis(0)}
            },
        },
        [
            "grids.volume.obv.long_delta_periods: absolute value must be > 0, got 0",
            "grids.volume.obv.short_delta_periods: absolute value must be > 0, got 0",
        ],
    ),
    (
        "unknown source",
        {"template.indicator_grids.0.source": axis("typical")},
        ["template.indicator_grids[0].source: ma.sma.source must be one of close", "'typical'"],
    ),
    (
        "misspelt field",
        {"template.indicator_grids.0.parms": {}},
        ["template.indicator_grids[0].parms: is an unknown field; did you mean params?"],
    ),
    ("unknown field", {"template.leverage": 3}, ["template.leverage: is an unknown", "risk_grid"]),
    ("unknown metric", {"ranking": {"primary_metric": "sharpe"}}, ["total_return_pct"]),
    (
        "negative fee",
        {"template.execution.fee_pct": -0.1},
        ["template.execution.fee_pct: must be >= 0 (got -0.1)"],
    ),
    ("NaN cost", {"template.execution.slippage_pct": math.nan}, ["slippage_pct"]),
    ("infinite cost", {"template.execution.fee_pct": math.inf}, ["fee_pct"]),
    ("slippage of 100", {"template.execution.slippage_pct": 100}, ["slippage_pct", "100"]),
    ("no cash", {"template.execution.init_cash_quote": 0}, ["init_cash_quote"]),
    ("timeframe", {"template.timeframe": "7m"}, ["'7m'", "15m"]),
    ("finer than the candles", {"template.timeframe": "15m"}, ["1h", "15m"]),
    ("market without a fee", {"template.instrument_id.market_id": 9}, ["market 9"]),
    ("other instrument", {"template.instrument_id.symbol": "ETHUSDT"}, ["1:TESTUSDT", "ETHUSDT"]),
    (
        "period outside the file",
        {"time_range": {"start": "2030-01-01T00:00:00Z", "end": "2030-02-01T00:00:00Z"}},
        [
            "no market data for requested range [2030-01-01T00:00:00Z, 2030-02-01T00:00:00Z)",
            " candles of 1h that were given cover [2024-01-01T00:00:00Z, 2024-04-10T00:00:00Z)",
        ],
    ),
    (
        "period without a close",
        {"time_range": {"start": "2024-02-01T00:10:00Z", "end": "2024-02-01T00:50:00Z"}},
        [
            "no bar of 1h closes within time_range [2024-02-01T00:10:00Z, 2024-02-01T00:50:00Z)",
            " candles of 1h that were given cover [2024-01-01T00:00:00Z, 2024-04-10T00:00:00Z)",
            "lengthen time_range",
        ],
    ),
    (
        "period reversed",
        {"time_range": {"start": "2024-03-01T00:00:00Z", "end": "2024-02-01T00:00:00Z"}},
        ["start < end"],
    ),
    (
        "time without a zone",
        {"time_range": {"start": "2024-02-01T00:00:00", "end": "2024-03-01T00:00:00Z"}},
        ["time zone"],
    ),
    ("no mode", {"template": ...}, ["exactly one mode"]),
    (
        "more trade lists than rows",
        {"top_trades_n": 13},
        ["error: top_trades_n: must be <= top_k, got 13 > 12"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"), [r[1:] for r in REQUESTS], ids=[r[0] for r in REQUESTS]
)
def test_request(changes: dict[str, Any], words: list[str], candles: Path, tmp_path: Path) -> None:
    refused(run(tmp_path, candles, request(changes)), *words)


def test_missing_signal_parameter_is_found_first(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "indicators.yaml"
    bare.write_text("schema_version: 1\ndefaults: {}\n")
    monkeypatch.setenv("ROEHUB_INDICATORS_CONFIG", str(bare))
    body = request({"template.signal_grids": {"momentum.rsi": {"long_threshold": axis(50)}}})
    missing = tmp_path / "nowhere.parquet"
    refused(
        run(tmp_path, missing, body),
        "momentum.rsi: missing required signal param 'short_threshold'",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", ["a request is a JSON object, got list"]),
        ('"text"', ["a request is a JSON object"]),
        ("null", ["a request is a JSON object"]),
        ('{"template": ', ["not valid JSON", "line 1"]),
        ("", ["not valid JSON"]),
        ('{"top_k": 1, "top_k": 2}', ["'top_k' comes twice"]),
    ],
)
def test_not_a_request(text: str, words: list[str], candles: Path, tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(text)
    refused(call("backtest", path, "--candles", candles, "--executor", "local"), *words)


def test_no_request_file(candles: Path, tmp_path: Path) -> None:
    refused(call("backtest", tmp_path / "r.json", "--candles", candles), "r.json", "no such file")


def _empty(table: Table) -> Table:
    return {name: column[:0] for name, column in table.items()}


def _unsorted(table: Table) -> Table:
    order = np.arange(len(table["close"]))
    order[[10, 20]] = order[[20, 10]]
    return {name: column[order] for name, column in table.items()}


def _doubled(table: Table) -> Table:
    order = np.sort(np.append(np.arange(len(table["close"])), 10))
    return {name: column[order] for name, column in table.items()}


def _changed(name: str, row: int, value: float) -> Callable[[Table], Table]:
    def change(table: Table) -> Table:
        column = table[name].copy()
        column[row] = value
        return {**table, name: column}

    return change


def _hollow(table: Table) -> Table:
    bare = {name: np.full_like(table[name], np.nan) for name in ("open", "high", "low", "close")}
    return {**table, **bare, "volume_base": np.full_like(table["close"], np.nan)}


def _without(name: str) -> Callable[[Table], Table]:
    return lambda table: {n: column for n, column in table.items() if n != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_empty, ["no rows"]),
        (_unsorted, ["earlier than the row before", "sort"]),
        (_doubled, ["repeats the row before", "row 11"]),
        (_changed("close", 7, math.nan), ["only some of the five values are NaN", "row 7"]),
        (_hollow, ["NaN", "no candle"]),
        (_changed("close", 7, 0.0), ["zero or negative", "row 7"]),
        (_changed("low", 7, -3.0), ["zero or negative", "row 7"]),
        (_without("close"), ["missing columns close"]),
        (_without("volume_base"), ["missing columns volume_base"]),
    ],
    ids=["empty", "unsorted", "duplicate", "partly NaN", "all NaN", "zero", "negative",
         "no close", "no volume"],
)  # fmt: skip
def test_candles(
    change: Callable[[Table], Table], words: list[str], candles: Path, tmp_path: Path
) -> None:
    table = pq.read_table(candles)
    columns = {
        name: table[name].to_numpy() for name in ("open", "high", "low", "close", "volume_base")
    }
    columns["ts_open"] = table["ts_open"].cast(pa.int64()).to_numpy()
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table(change(columns)), path)
    refused(run(tmp_path, path, request()), "bad.parquet", *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.parquet", ["no such file"]),
        ("none", ["no such file"]),
        ("candles.xlsx", [".parquet or .csv"]),
    ],
)
def test_candle_file(name: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "candles.xlsx").touch()
    refused(run(tmp_path, tmp_path / name, request()), name, *words)


def test_wrong_candles_timeframe(candles: Path, tmp_path: Path) -> None:
    message = refused(
        run(tmp_path, candles, request(), "--candles-timeframe", "4h"), "--candles-timeframe", "4h"
    )
    assert "1h or finer" in message
    refused(run(tmp_path, candles, request(), "--candles-timeframe", "2h"), "2h")


@pytest.mark.parametrize(
    ("flags", "details", "words"),
    [
        (
            ["--max-variants", 319],
            {"error": "max_variants_per_compute_exceeded", "stage": "stage_a",
             "total_variants": 320, "max_variants_per_compute": 319},
            ["320 combinations (", "), 319 are allowed; most come from ", "--max-variants 1920"],
        ),
        (
            ["--max-variants", 320],
            {"error": "max_variants_per_compute_exceeded", "stage": "stage_b",
             "total_variants": 320 * 6, "max_variants_per_compute": 320},
            ["1 920 combinations with stops (the best 320, each with 6 ", "320 are allowed",
             "--max-variants 1920"],
        ),
        (
            ["--memory-bytes", 100_000],
            {"error": "max_compute_bytes_total_exceeded", "stage": "stage_a",
             "max_compute_bytes_total": 100_000},
            ["of it for the votes of ", " × 1 728 bars", "97.66 KiB are allowed; "],
        ),
    ],
    ids=["stage A", "stage B", "memory"],
)  # fmt: skip
def test_guards_carry_their_numbers(
    flags: list[object], details: dict[str, Any], words: list[str], candles: Path, tmp_path: Path
) -> None:
    body = request({"preselect": 320})
    refused(run(tmp_path, candles, body, *flags), *words)
    done = run(tmp_path, candles, body, "--json", *flags)
    envelope = json.loads(done.stdout)["error"]
    assert done.status == 2
    assert envelope["code"] == "validation_error"
    assert details.items() <= envelope["details"].items()
    if details["error"].startswith("max_compute_bytes"):
        assert envelope["details"]["estimated_memory_bytes"] > 100_000
        assert envelope["details"]["contract_memory_bytes"] > 64 << 20


def test_one_indicator_above_the_guard(candles: Path, tmp_path: Path) -> None:
    refused(
        run(tmp_path, candles, request(), "--max-variants", 39),
        "variants exceed guard: variants=40, max_variants_guard=39", "ma.sma alone has 40",
    )  # fmt: skip


def test_a_refusal_lists_every_fault(candles: Path, tmp_path: Path) -> None:
    body = request({"template.timeframe": "7m", "template.execution.fee_pct": -1, "extra": 1})
    done = run(tmp_path, candles, body, "--json")
    assert refused(done).splitlines() == [
        "error: extra: is an unknown field; allowed are time_range, warmup_bars, top_k, preselect,"
        " top_trades_n, ranking, validation, template",
        "error: template.execution.fee_pct: must be >= 0 (got -1)",
        "error: template.timeframe: '7m' is not supported; use one of 1m 5m 15m 1h 4h 1d",
    ]
    envelope = json.loads(done.stdout)["error"]
    assert envelope["message"] == "Validation failed"
    assert [fault["path"] for fault in envelope["details"]["errors"]] == [
        "body.extra", "body.template.execution.fee_pct", "body.template.timeframe",
    ]  # fmt: skip


def test_a_refusal_lists_the_grid_faults_of_every_indicator(candles: Path, tmp_path: Path) -> None:
    changes = {
        "template.indicator_grids.0.params.window": axis(1),
        "template.indicator_grids.1.params": {"length": axis(7)},
    }
    done = run(tmp_path, candles, request(changes), "--json")
    assert refused(done).splitlines() == [
        "error: template.indicator_grids[0].params.window: ma.sma.window must be in 2..2000, got 1",
        "error: template.indicator_grids[1].params.length: momentum.rsi: unknown param 'length';"
        " it takes window",
    ]
    envelope = json.loads(done.stdout)["error"]
    assert envelope["message"] == "ma.sma.window must be in 2..2000, got 1"
    assert envelope["details"]["hard_max"] == 2000


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_unwritable_out_is_found_before_the_candles(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run(tmp_path, tmp_path / "none.parquet", request(), "--out", tmp_path / place)
    refused(done, "cannot write", "--out")


def test_address_without_ray(candles: Path, tmp_path: Path) -> None:
    done = run(tmp_path, candles, request(), "--ray-address", "127.0.0.1:6379")
    refused(done, "--ray-address", "--executor")


@pytest.mark.slow
def test_ray_address_that_does_not_answer(candles: Path, tmp_path: Path) -> None:
    path = write_json(tmp_path / "request.json", request())
    flags = ("--executor", "ray", "--ray-address", "127.0.0.1:9")
    refused(call("backtest", path, "--candles", candles, *flags), "127.0.0.1:9")


def test_broken_configuration(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "backtest.yaml"
    broken.write_text("version: 1\nbacktest:\n  guards:\n    max_variants: 3\n")
    monkeypatch.setenv("ROEHUB_BACKTEST_CONFIG", str(broken))
    refused(run(tmp_path, candles, request()), "backtest.yaml", "unknown key")


def test_flags_out_of_range(candles: Path, tmp_path: Path) -> None:
    path = write_json(tmp_path / "request.json", request())
    for flag, value in (("--threads", 0), ("--top-k", 0), ("--executor", "gpu")):
        done = call("backtest", path, "--candles", candles, flag, value)
        assert done.status == 2
        assert flag in done.stderr
