"""`roehub` as a process: signals, clean stdout, and kernels that are compiled once."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from compute.jit import CACHE_DIR
from tests.cluster.cli import axis, request, span, started, write_json, write_market


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market") / "candles.parquet", bars=20_000)


def compiled(cache: Path) -> set[str]:
    return {str(path.relative_to(cache)) for path in cache.rglob("*.nbc")}


def test_a_second_process_compiles_nothing_and_prints_json_alone(
    candles: Path, tmp_path: Path
) -> None:
    path = write_json(tmp_path / "request.json", request())
    flags = ("backtest", path, "--candles", candles, "--executor", "local", "--json")
    # A copy of the cache: other tests compile into the common one at the same time.
    cache = tmp_path / "kernels"
    unfinished = shutil.ignore_patterns("*.tmp.*")
    shutil.copytree(CACHE_DIR, cache / CACHE_DIR.name, ignore=unfinished)
    texts: list[str] = []
    caches: list[set[str]] = []
    for _ in range(2):
        process = started(*flags, ROEHUB_NUMBA_CACHE_DIR=str(cache))
        text, told = process.communicate()
        assert process.returncode == 0, told
        texts.append(text)
        caches.append(compiled(cache))
    assert caches[0] == caches[1] != set()
    first, second = (json.loads(text) for text in texts)
    assert all(first[name] == second[name] for name in first if name != "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_run_is_one_line(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    os.mkfifo(path)
    process = started("backtest", path, "--candles", tmp_path / "candles.parquet")
    with path.open("w"):  # opens when the command has begun to read, which ends with the block:
        process.send_signal(number)  # a signal just before a read does not keep it from blocking
    said, told = process.communicate()
    assert (process.returncode, said) == (130, "")
    assert told == "roehub backtest: interrupted; no result was written\n"


def until_scoring(terminal: int) -> None:
    """Reads what a process shows on its terminal until Stage A has got somewhere."""
    shown = b""
    while not re.search(rb"Stage A.{0,400} [1-9][0-9]?%", shown, re.DOTALL):
        shown += os.read(terminal, 4096)  # raises when the process ends before that


def drained(terminal: int) -> str:
    """The rest of what it shows there."""
    shown = b""
    with suppress(OSError):  # the other end is closed
        while part := os.read(terminal, 4096):
            shown += part
    return shown.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_spares_earlier_files(
    number: signal.Signals, candles: Path, tmp_path: Path
) -> None:
    changes = {
        "time_range": {"start": "2024-02-01T00:00:00Z", "end": "2026-04-01T00:00:00Z"},
        "template.indicator_grids.0.source": axis("close"),
        "template.indicator_grids.0.params.window": span(5, 404, 1),
        "template.indicator_grids.1.params.window": span(5, 44, 1),
        "template.signal_grids": {
            "momentum.rsi": {
                "long_threshold": span(45, 60, 1),
                "short_threshold": span(40, 55, 1),
            }
        },
        "template.risk_grid": {},
        "ranking": {"primary_metric": "max_drawdown_pct"},
    }
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("earlier")
    path = write_json(tmp_path / "request.json", request(changes))
    terminal, its_end = pty.openpty()
    process = started(
        "backtest", path, "--candles", candles, "--executor", "local", "--out", out,
        "--max-variants", 10_000_000, stderr=its_end, TERM="xterm", COLUMNS="120",
    )  # fmt: skip
    os.close(its_end)
    until_scoring(terminal)
    process.send_signal(number)
    told = drained(terminal)
    said, _ = process.communicate()
    assert process.returncode == 130, told
    assert "stopping at the next block" in told
    assert "Traceback" not in told
    assert "interrupted in Stage A; Stage A had scored " in said
    assert "best so far" in said
    assert (out / "result.json").read_text() == "earlier"
    assert sorted(p.name for p in out.iterdir()) == ["result.json", "variants.partial.parquet"]
    table = pq.read_table(out / "variants.partial.parquet")
    assert 0 < table.num_rows < 400 * 40 * 256
    assert table.schema.metadata[b"roehub.rows"] == b"partial"
