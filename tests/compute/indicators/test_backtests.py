"""Every output that has a rule runs a back-test from its request; every other one is refused."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from compute.backtest import resolve
from compute.errors import InvalidGrid
from compute.executor import LocalExecutor
from compute.indicator_grids import proposed_axis
from compute.indicators.definition import Definition, Output
from compute.indicators.registry import definition, ids
from compute.indicators.series import BarSeries
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline, timeline
from compute.pipeline import Outcome, backtest
from compute.planes import build_votes, vote_layout
from compute.request import parse_request
from compute.settings import Defaults, Limits
from ingest.synthetic import walk_candles

FRAME = TIMEFRAMES["15m"]
START_MS = 1_767_225_600_000  # 2026-01-01
START, END = "2026-01-03T00:00:00Z", "2026-01-06T00:00:00Z"
WARMUP_BARS = 192
OUTPUTS = [(name, output) for name in ids() for output in definition(name).outputs]
VOTING = [(name, output) for name, output in OUTPUTS if output.rule is not None]
SILENT = [(name, output) for name, output in OUTPUTS if output.rule is None]


def labels(pairs: list[tuple[str, Output]]) -> list[str]:
    return [f"{name}.{output.name}" for name, output in pairs]


def explicit(*values: float | str) -> dict[str, Any]:
    return {"mode": "explicit", "values": list(values)}


def request(known: Definition, output: Output, wide: bool) -> dict[str, Any]:
    """Recommended parameters, one window in two sizes; the rule's proposed axes when `wide`."""
    params = {param.name: explicit(param.default) for param in known.params}
    moving = [param for param in known.params if param.kind == "int" and param.name in output.axes]
    if moving:
        params[moving[0].name] = explicit(moving[0].default, moving[0].default + 5)
    block = {"indicator_id": known.indicator_id, "output": output.name, "params": params}
    if known.sources:
        block["source"] = explicit("close")
    signals = {}
    for param in output.rule.params if output.rule else ():
        spec = proposed_axis(param).spec()
        values = spec["values"] if "values" in spec else [spec["start"], spec["stop_incl"]]
        signals[param.name] = spec if wide else explicit(*values[:2])
    return {
        "time_range": {"start": START, "end": END},
        "warmup_bars": WARMUP_BARS,
        "top_k": 5,
        "top_trades_n": 1,
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": FRAME.code,
            "indicator_grids": [block],
            "signal_grids": {known.indicator_id: signals} if signals else {},
            "risk_grid": {"sl_enabled": True, "sl": explicit(0.5, 2)},
        },
    }


@cache
def market() -> Timeline:
    candles = walk_candles(seed=12, bars=480, frame=FRAME, start_ms=START_MS)
    period = Period.parse(START, END)
    return timeline(candles, FRAME, Instrument(1, "BTCUSDT"), FRAME, period, WARMUP_BARS)


def run(sent: dict[str, Any]) -> Outcome:
    job = resolve(parse_request(sent), Defaults())
    with LocalExecutor(1) as executor:
        return backtest(job, market(), executor, limits=Limits())


@pytest.mark.parametrize(("name", "output"), VOTING, ids=labels(VOTING))
def test_runs_a_backtest(name: str, output: Output) -> None:
    known = definition(name)
    found = run(request(known, output, wide=False))
    assert found.plan.stage_a_total == found.job.grid.total
    assert 1 <= len(found.top) <= 5
    (choice,) = found.job.grid.selection(found.flat(0))
    assert choice.indicator_id == name
    assert choice.output == (None if output.name == known.primary else output.name)


# What contains the current bar is never left on its far side.
ONE_SIDED = {
    "trend.donchian.donchian_upper",
    "trend.donchian.donchian_lower",
    "structure.heikin_ashi.ha_high",
    "structure.heikin_ashi.ha_low",
}


@pytest.mark.parametrize(("name", "output"), VOTING, ids=labels(VOTING))
def test_the_proposed_rule_settings_vote_both_ways(name: str, output: Output) -> None:
    job = resolve(parse_request(request(definition(name), output, wide=True)), Defaults())
    line = market()
    opened, high, low, close, volume = line.candles.series()
    series = BarSeries(opened, high, low, close, volume, line.first_bar)
    table = build_votes(vote_layout(job.grid.indicators[0]), series, line.start, line.stop)
    sides = {bool(np.any(table.long)), bool(np.any(table.short))}
    assert sides == ({True, False} if f"{name}.{output.name}" in ONE_SIDED else {True})


@pytest.mark.parametrize(("name", "output"), SILENT, ids=labels(SILENT))
def test_an_output_without_a_rule_is_refused(name: str, output: Output) -> None:
    known = definition(name)
    with pytest.raises(InvalidGrid) as refusal:
        resolve(parse_request(request(known, output, wide=False)), Defaults())
    usable = [item.name for item in known.outputs if item.rule is not None]
    assert refusal.value.details["usable_outputs"] == usable
    assert ", ".join(usable) in refusal.value.message or not usable
