"""`roehub backtest --device cuda` leaves the files of `--device cpu`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cli import axis, call, request, write_json, write_market

LOCAL = ("--executor", "local")


def run(body: Path, candles: Path, out: Path, device: str, *executor: str) -> dict[str, Any]:
    """The result of one run."""
    done = call("backtest", body, "--candles", candles, "--device", device, "--out", out, *executor)
    assert done.status == 0, done.stderr
    return json.loads((out / "result.json").read_text())


@pytest.mark.parametrize(
    ("sizing_mode", "executor", "device"),
    [
        ("all_in", (), "cuda (1 of the cluster)"),
        ("strategy_compound_profit_lock", LOCAL, "cuda (simulator)"),
    ],
)
def test_the_files_are_equal_to_the_byte(
    tmp_path: Path, sizing_mode: str, executor: tuple[str, ...], device: str
) -> None:
    """With the executor that nobody chose, too: a search too small for its cores is on its card."""
    candles = write_market(tmp_path / "candles.parquet")
    body = write_json(
        tmp_path / "request.json",
        request(
            {
                "template.sizing_mode": sizing_mode,
                "template.indicator_grids.1.params.window": axis(7),
                "preselect": 5,
                "time_range.end": "2024-02-20T00:00:00Z",
            }
        ),
    )
    cpu = run(body, candles, tmp_path / "cpu", "cpu", *LOCAL)
    card = run(body, candles, tmp_path / "cuda", "cuda", *executor)
    assert (cpu["run"]["device"], card["run"]["device"]) == ("cpu", device)
    del cpu["run"], card["run"]
    assert json.dumps(card) == json.dumps(cpu)
    assert len(cpu["variants"]) == 12
    columns = [(tmp_path / name / "variants.parquet").read_bytes() for name in ("cpu", "cuda")]
    assert columns[0] == columns[1]
