"""The top of the ranking as it stands on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
