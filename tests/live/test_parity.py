"""Every indicator that votes, live: the very bars, votes and trades of its back-test."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from compute.account import DIRECTION_MODES, SIZING_MODES
from compute.indicators.definition import SOURCE, Listed, Output, RuleParam
from compute.indicators.registry import definition, ids
from ingest.stores.clickhouse import ClickHouse
from tests.live.stage import Stage, minute, on_stage

HISTORY, MINUTES = 700, 940
FOUR = ("ma.ema", "momentum.rsi", "trend.supertrend", "structure.pivots")


def voting(indicator_id: str) -> Output | None:
    known = definition(indicator_id)
    primary = known.output()
    others = (output for output in known.outputs if output.rule is not None)
    return primary if primary.rule is not None else next(others, None)


def middle(param: RuleParam) -> float:
    proposed = param.proposed
    if isinstance(proposed, Listed):
        return proposed.values[0]
    return proposed.start


def spec(indicator_id: str, **more: Any) -> dict[str, Any] | None:
    """A strategy of one indicator with its own defaults; None where it cannot vote."""
    known, output = definition(indicator_id), voting(indicator_id)
    if output is None or output.rule is None:
        return None
    values = {name: value for name, value in known.defaults.items() if name != SOURCE}
    entry: dict[str, Any] = {"id": indicator_id, "params": values, "output": output.name}
    if known.sources:
        entry["inputs"] = {"source": known.sources[0]}
    signals = {param.name: middle(param) for param in output.rule.params}
    return {
        "timeframe": "1m",
        "indicators": [entry],
        **({"signals": {indicator_id: signals}} if signals else {}),
        "warmup_bars": 300,
        **more,
    }


def modes() -> list[dict[str, Any]]:
    """Modes of direction, sizing and stops such that each pair of values is there."""
    stops = [
        {},
        {"risk": {"sl_enabled": True, "sl_pct": 0.3}},
        {"risk": {"sl_enabled": True, "sl_pct": 0.5, "tp_enabled": True, "tp_pct": 0.4}},
    ]
    found = []
    for i, (direction, sizing) in enumerate(itertools.product(DIRECTION_MODES, SIZING_MODES)):
        shift = (i + i // len(SIZING_MODES)) % len(stops)
        found.append({"direction_mode": direction, "sizing_mode": sizing, **stops[shift]})
    return found


def test_every_indicator_and_mode_is_its_back_test(database: str, db: ClickHouse) -> None:
    specs = [made for name in ids() if (made := spec(name)) is not None]
    assert len(specs) > 80
    specs += [made for name in FOUR for mode in modes() if (made := spec(name, **mode)) is not None]

    async def work(stage: Stage) -> None:
        stage.keep(range(MINUTES))
        stage.now_ms = minute(HISTORY) + 200
        runs = [await stage.start(minute(HISTORY - 1) + 5, **one) for one in specs]
        worker = await stage.worker()
        rng = np.random.default_rng(3)
        number = HISTORY
        while number < MINUTES:
            count = min(int(rng.choice([1, 1, 1, 7, 40])), MINUTES - number)
            worker.offer(stage.entries(*range(number, number + count)))
            number += count
            stage.now_ms = minute(number) + 200
            if rng.random() < 0.05:
                worker = await stage.worker()  # killed, and another one begins
            await stage.step(worker)
        traded = 0
        for run in runs:
            await stage.assert_is_the_back_test(run, least_trades=0)
            traded += len(await stage.trades(run.run_id)) > 0
        assert traded > 0.8 * len(runs)

    on_stage(database, db, "ALL", work, minutes=MINUTES)
