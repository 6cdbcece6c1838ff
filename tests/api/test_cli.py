"""The `roehub` command itself: what is there, how quickly help comes, how failures are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import api.cli
import api.doctor
import compute.device
from compute.cli import indicator, indicators, matching
from compute.indicators.defaults import indicator_defaults
from compute.indicators.registry import definition, ids
from compute.results import ENGINE_VERSION
from configs.load import config
from tests.cluster.cli import ROOT, call, started


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, api.cli\n"
        "try:\n    api.cli.app(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'numba', 'numpy', 'pyarrow', 'pydantic', 'ray', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in (
        "backtest", "estimate", "demo", "synthetic", "ingest", "indicators", "doctor", "bench",
    ):  # fmt: skip
        assert f" {name} " in done.stdout


def test_the_version_is_told() -> None:
    done = call("--version")
    assert (done.status, done.stdout) == (0, f"roehub {ENGINE_VERSION}\n")


# What was published; an id stays for ever, so these only grow.
PUBLISHED = {
    "ma": 15, "momentum": 16, "structure": 20, "trend": 11, "volatility": 14, "volume": 12,
}  # fmt: skip
SILENT = {
    ("structure.pivot_high", "pivot_high"),
    ("structure.pivot_low", "pivot_low"),
    ("structure.pivots", "pivot_low"),
}


def test_every_indicator_is_listed_with_its_rule_and_title() -> None:
    listed = call("indicators")
    assert listed.status == 0
    head, *lines = listed.stdout.split("\n\n")[0].splitlines()
    assert head.split() == ["indicator", "parameters", "rule", "title"]
    assert [line.split()[0] for line in lines] == list(ids())
    found = Counter(indicator_id.split(".")[0] for indicator_id in ids())
    assert found.keys() == PUBLISHED.keys()
    assert all(found[group] >= count for group, count in PUBLISHED.items())
    assert sum(PUBLISHED.values()) == 88
    for line, indicator_id in zip(lines, ids(), strict=True):
        known = definition(indicator_id)
        rule = known.output().rule
        assert line.endswith(f"  {known.title}")
        assert f"  {rule.family if rule else 'none'}  " in line


def test_every_output_of_every_indicator_is_shown_with_its_vote() -> None:
    silent = set()
    file = config("indicators")
    defaults = indicator_defaults(file.document, str(file.path))
    told = call("indicators", "show", ids()[0])
    assert (told.status, told.stdout) == (0, indicator(ids()[0], defaults[ids()[0]]) + "\n")
    for indicator_id in ids():
        known = definition(indicator_id)
        parts = indicator(indicator_id, defaults.get(indicator_id)).split("\n\n  output ")
        assert known.title in parts[0]
        assert known.formula in parts[0]
        for output, text in zip(known.outputs, parts[1:], strict=True):
            name, vote, *details = text.splitlines()
            primary = " (primary)" if output.name == known.primary else ""
            assert name == output.name + primary
            if output.rule is None:
                silent.add((indicator_id, output.name))
                assert vote.strip() == "has no rule, it cannot vote"
                continue
            assert vote.startswith(f"    rule {output.rule.family}")
            assert details[0].strip() == output.meaning
            asked = output.rule.params
            for param, line in zip(asked, details[1 : 1 + len(asked)], strict=True):
                assert line.startswith(f"    {param.name} ({param.kind})  ")
    assert silent == SILENT


def test_one_indicator_is_shown_with_bounds_and_thresholds() -> None:
    rsi = call("indicators", "show", " Momentum.RSI ").stdout
    for word in ("2000", "threshold_band", "(trend)", "long_threshold", "close hlc3", "14"):
        assert word in rsi


def test_one_indicator_is_shown_with_what_its_page_says() -> None:
    macd = call("indicators", "show", "momentum.macd").stdout
    assert "axes     fast_window, signal_window, slow_window, source: the last one" in macd
    assert (
        "values   from bar 0, settled after 130 bars at the defaults; depends on all bars" in macd
    )
    ichimoku = call("indicators", "show", "trend.ichimoku").stdout
    assert "values   from conversion bar 8, base bar 25, span_a bar 51" in ichimoku
    assert " default " in macd
    assert (
        "only     combinations with accel_start ≤ accel_max"
        in call("indicators", "show", "trend.psar").stdout
    )


@pytest.mark.parametrize(
    ("indicator_id", "words"),
    [
        ("volume.vwap_deviation", "SHORT while the price is above the output, LONG while below"),
        ("trend.vortex", "SHORT above 1 + abs_threshold, LONG below 1 - abs_threshold"),
        ("structure.pivots", "LONG is read from pivot_low, SHORT from pivot_high"),
        ("structure.pivot_low", "structure.pivots votes on the same values"),
        ("volume.obv", "the sign of the two is ignored"),
    ],
)
def test_votes_are_told_as_they_are(indicator_id: str, words: str) -> None:
    assert words in call("indicators", "show", indicator_id).stdout


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MACD", ["momentum.macd"]),
        ("bollinger", [name for name in ids() if name.startswith("volatility.bbands")]),
        ("supertrend_dir", ["trend.supertrend"]),
    ],
)
def test_a_text_narrows_the_list(text: str, found: list[str]) -> None:
    lines = call("indicators", text).stdout.split("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in lines] == found
    listed = json.loads(call("indicators", text, "--json").stdout)
    assert [record["indicator_id"] for record in listed] == found
    assert all(output["meaning"] for record in listed for output in record["outputs"])


def test_a_text_that_nothing_has_is_refused() -> None:
    done = call("indicators", "boolinger", "--json")
    assert done.status == 2
    assert "'boolinger'" in done.stderr
    assert "'boolinger'" in json.loads(done.stdout)["error"]["message"]
    assert len(json.loads(call("indicators", "--json").stdout)) == len(ids())


@pytest.mark.parametrize("width", [60, 80, 100])
def test_texts_are_folded_to_the_terminal(width: int) -> None:
    listed = indicators(matching(), width)
    assert max(map(len, listed.splitlines())) <= max(width, 31 + 25 + 16 + 4)
    assert {*ids()} <= {*listed.split()}
    for indicator_id in ids():
        shown = indicator(indicator_id, width=width)
        assert max(map(len, shown.splitlines())) <= width
        assert shown.split() == indicator(indicator_id).split()


def test_an_unknown_indicator_is_refused_with_the_nearest() -> None:
    done = call("indicators", "show", "momentum.rsy")
    assert done.status == 2
    assert "did you mean momentum.rsi" in done.stderr


def test_synthetic_writes_candles_that_can_be_read(tmp_path: Path) -> None:
    from ingest.candle_files import read_candles

    path = tmp_path / "made.parquet"
    done = call("synthetic", path, "--bars", 500, "--timeframe", "1h", "--symbol", "abc")
    assert done.status == 0
    assert "SYNTHETIC" in done.stdout
    file = read_candles(path)
    assert (str(file.instrument), file.frame.code, file.synthetic) == ("1:ABC", "1h", True)
    refused = call("synthetic", tmp_path / "made.csv")
    assert refused.status == 2
    assert "must end in .parquet" in refused.stderr


def test_bench_outside_a_checkout_says_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.cli, "ROOT", tmp_path)
    done = call("bench")
    assert done.status == 2
    assert "part of a checkout" in done.stderr


def test_doctor_finds_this_machine_ready() -> None:
    done = call("doctor", "--no-ray")
    assert done.status == 0, done.stdout
    for subject in (
        "Python",
        "cores",
        "memory",
        "/dev/shm",
        "kernel cache",
        "kernels",
        f"{len(ids())} indicators",
        "too large for the guard of 600 000",
        "Ray",
        "GPU",
        f"none yet at {os.environ['ROEHUB_DATA_DIR']}",
    ):
        assert subject in done.stdout
    assert "ready: the main job can run" in done.stdout


def test_doctor_looks_into_the_candle_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    assert call("ingest", "migrate").status == 0
    found = api.doctor.candle_store()
    assert (found.status, found.text) == (
        "ok",
        f"{tmp_path / 'clickhouse'}, in this process, candles of 0 instruments",
    )
    (minute := tmp_path / "one.csv").write_text(
        "ts_open,open,high,low,close,volume_base\n1704067200000,1,1,1,1,1\n"
    )
    loaded = call(
        "ingest", "backfill-1m", "--market-id", 1, "--symbol", "BTCUSDT", "--parquet", minute
    )
    assert loaded.status == 0, loaded.stderr
    assert api.doctor.candle_store().text.endswith(", candles of 1 instrument")
    monkeypatch.setenv("CH_HOST", "127.0.0.1")
    monkeypatch.setenv("CH_PORT", "9")
    found = api.doctor.candle_store()
    assert found.status == "note"
    assert "http://127.0.0.1:9/market_data" in found.text


def test_doctor_tells_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    card = compute.device.Facts(
        driver=13020, runtime=13020, count=1, name="NVIDIA L4", capability=(8, 9),
        total_bytes=24 << 30, free_bytes=23 << 30,
    )  # fmt: skip
    for found, driver, status, text, cure in (
        (card, True, "ok", "NVIDIA L4, compute capability 8.9, 23.00 GiB free of 24.00", ""),
        (compute.device.Facts(missing=("cupy",)), False, "ok", "no NVIDIA driver, CuPy is", ""),
        (compute.device.Facts(missing=("cupy",)), True, "note", "CuPy is not", "cuda extra"),
        (compute.device.Facts(runtime=13020), False, "note", "no NVIDIA driver answers", "--gpus"),
        (replace(card, driver=12040), True, "note", "the driver is too old", "update the driver"),
    ):
        monkeypatch.setattr(compute.device, "facts", lambda found=found: found)
        monkeypatch.setattr(api.doctor, "_driver", lambda driver=driver: driver)
        finding = api.doctor.gpu()
        assert finding.status == status
        assert text in finding.text
        assert (cure in finding.cure) if cure else finding.cure == ""


def test_doctor_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = api.doctor.Finding("Ray", "bad", "does not start", "do this")
    monkeypatch.setattr(api.doctor, "ray", lambda start: bad)
    done = call("doctor")
    assert done.status == 1
    assert "BAD" in done.stdout
    assert "→ do this" in done.stdout
    assert "not ready" in done.stdout


def test_doctor_without_ray_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.doctor.importlib.util, "find_spec", lambda name: None)
    found = {finding.subject: finding for finding in api.doctor.findings(start_ray=True)}
    assert found["Ray"].status == "bad"
    assert "pip install" in found["Ray"].cure
    assert found["stores"].status == "ok"


def test_doctor_sees_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import compute.jit

    (tmp_path / "file").touch()
    monkeypatch.setattr(compute.jit, "CACHE_DIR", tmp_path / "file" / "below")
    found = api.doctor.kernel_cache()
    assert found.status == "note"
    assert "ROEHUB_NUMBA_CACHE_DIR" in found.cure


def test_a_defect_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    assert api.cli.exit_status(KeyError("ours")) is None
    assert api.cli.exit_status(OSError("disk")) == 1
    assert api.cli.exit_status(MemoryError()) == 1


def test_the_engine_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ENGINE_VERSION
    assert project["scripts"]["roehub"] == "api.cli:main"


@pytest.mark.slow
def test_the_demo_runs_the_main_job(tmp_path: Path) -> None:
    process = started("demo", "--out", tmp_path)
    text, told = process.communicate()
    assert process.returncode == 0, told
    assert "SYNTHETIC" in text
    assert "rank" in text
    for name in ("report.html", "result.json", "variants.parquet", "candles.parquet"):
        assert (tmp_path / name).stat().st_size > 0
