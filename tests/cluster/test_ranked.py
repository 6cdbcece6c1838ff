"""The top of the ranking as it stands on a terminal."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.inputs import effective
from cluster.ranked import print_ranked
from compute.backtest import Backtest
from tests.cluster.cli import axis, call, request, write_json, write_market

DISTINCT = {"primary_metric": "total_return_pct", "distinct": True}


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market") / "candles.parquet")


def table(candles: Path, tmp_path: Path, changes: dict[str, Any]) -> str:
    body = write_json(tmp_path / "request.json", request(changes))
    done = call("backtest", body, "--candles", candles, "--executor", "local")
    assert done.status == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("distinct", [False, True])
def test_marks_of_equal_rows_are_explained(distinct: bool, candles: Path, tmp_path: Path) -> None:
    # Stops far away change no trade.
    changes: dict[str, Any] = {"template.risk_grid.sl": axis(90, 95), "top_k": 30}
    text = table(candles, tmp_path, changes | ({"ranking": DISTINCT} if distinct else {}))
    assert ("equal ×N×M: ranking.distinct left one of N rows of Stage B" in text) is distinct
    assert ("equal ×N: N ranked rows with the same metrics" in text) is not distinct
    assert ("×4×" in text or "×2×" in text) is distinct


def test_without_equal_rows_there_is_no_legend(candles: Path, tmp_path: Path) -> None:
    text = table(candles, tmp_path, {"template.risk_grid": {}, "top_k": 1, "top_trades_n": 1})
    assert "rank" in text
    assert "equal" not in text


MACD = {
    "indicator_id": "momentum.macd",
    "source": axis("close"),
    "params": {
        "fast_window": axis(5, 12),
        "slow_window": axis(26),
        "signal_window": axis(7, 8, 9),
    },
}


@pytest.mark.parametrize("distinct", [False, True])
def test_copies_are_told_as_such(distinct: bool, candles: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "template.indicator_grids": [MACD],
        "template.signal_grids": {},
        "template.risk_grid": {},
        "top_k": 6,
    }
    text = table(candles, tmp_path, changes | ({"ranking": DISTINCT} if distinct else {}))
    hint = "6 ranked rows, 2 different results: ranking.distinct keeps one of each"
    assert (hint in text) is not distinct
    assert ("any: the output that votes does not depend on it" in text) is distinct
    assert (len(re.findall(r"\d +any\b", text)) == 2) is distinct


@pytest.fixture(scope="module")
def found(
    candles: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Backtest]:
    body = request({"ranking": DISTINCT, "validation": {"holdout_fraction": 0.25}})
    path = write_json(tmp_path_factory.mktemp("request") / "request.json", body)
    done = call("backtest", path, "--candles", candles, "--executor", "local", "--json")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout), effective(body)


def printed(found: tuple[dict[str, Any], Backtest], width: int) -> list[str]:
    text = StringIO()
    print_ranked(*found, Console(width=width, file=text))
    return text.getvalue().splitlines()


@pytest.mark.parametrize(("width", "abbreviated", "fewer"), [
    (60, True, True), (80, True, True), (120, True, False), (240, False, False),
])  # fmt: skip
def test_the_table_fits_the_terminal(
    width: int, abbreviated: bool, fewer: bool, found: tuple[dict[str, Any], Backtest]
) -> None:
    lines = printed(found, width)
    assert max(len(line) for line in lines) <= width
    assert not any("…" in line for line in lines if "more ranked rows" not in line)
    # A line for each row, with rank and return in it.
    variants = found[0]["variants"]
    rows = [line for line in lines if re.match(r" +\d+ ", line)]
    assert [row.split()[0] for row in rows] == [str(i) for i in range(1, len(variants) + 1)]
    for row, variant in zip(rows, variants, strict=True):
        assert f" {variant['total_return_pct']:.2f}" in row
    text = "\n".join(lines)
    assert ("momentum.rsi   " in text) is not abbreviated
    assert ("no room for: " in text) is fewer


def test_what_has_no_room_is_named(found: tuple[dict[str, Any], Backtest]) -> None:
    text = " ".join(" ".join(printed(found, 70)).split())
    assert re.search(r"no room for: .*win rate %.*; --out and --json have all of it", text)
    assert "return %" in text.split("no room for")[0]
