"""Requests of every kind, and snapshots of small ones over made-up candles."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from cluster.jobs.snapshot import Snapshot, snapshot
from compute.account import DIRECTION_MODES, SIZING_MODES
from compute.backtest import Backtest
from compute.indicator_grids import proposed_axis
from compute.indicators.definition import Definition, Output, Param
from compute.indicators.registry import definition, ids
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline, load_window, timeline
from compute.settings import RANKING_METRICS, Defaults, Limits
from ingest.synthetic import synthetic_candles

Body = dict[str, Any]
LIMITS = Limits(max_variants_per_compute=600_000, max_compute_bytes_total=5 << 30)


def explicit(*values: float | str) -> Body:
    return {"mode": "explicit", "values": list(values)}


def run_of(start: float, stop: float, step: float = 1) -> Body:
    return {"mode": "range", "start": start, "stop_incl": stop, "step": step}


def request(windows: int = 3, **members: Any) -> Body:
    """A small request: `windows` base variants, two stops."""
    return {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-03T00:00:00Z"},
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": "1h",
            "indicator_grids": [
                {
                    "indicator_id": "ma.sma",
                    "source": explicit("close"),
                    "params": {"window": run_of(5, 4 + windows)},
                }
            ],
            "risk_grid": {"sl_enabled": True, "sl": explicit(1, 2)},
        },
        "warmup_bars": 30,
        "top_k": 3,
        "preselect": 5,
        "top_trades_n": 1,
        **members,
    }


def market(job: Backtest) -> Timeline:
    """Made-up candles of the job's own frame."""
    load = load_window(job.period, job.timeframe, job.warmup_bars, job.timeframe)
    candles = synthetic_candles(
        seed=3,
        bars=load.duration_ms // job.timeframe.ms,
        frame=job.timeframe,
        start_ms=load.start_ms,
    )
    return timeline(
        candles, job.timeframe, job.instrument, job.timeframe, job.period, job.warmup_bars
    )


def made(body: Body | None = None, **options: Any) -> Snapshot:
    """The snapshot of a request under the contract's defaults."""
    options = {
        "defaults": Defaults(),
        "indicator_defaults": {},
        "limits": LIMITS,
        "workers": 2,
        "read_market": market,
    } | options
    return snapshot(request() if body is None else body, **options)


def through_jsonb(document: Any) -> Any:
    """A document as PostgreSQL's jsonb gives it back: numbers are decimals without exponents."""

    def written(value: Any) -> str:
        if isinstance(value, dict):
            members = (f"{json.dumps(k)}:{written(v)}" for k, v in value.items())
            return "{" + ",".join(sorted(members)) + "}"
        if isinstance(value, list | tuple):
            return "[" + ",".join(map(written, value)) + "]"
        if isinstance(value, float):
            text = format(Decimal(json.dumps(value)), "f")
            return text[1:] if text.startswith("-") and not float(text) else text
        return json.dumps(value)

    return json.loads(written(document))


VOTERS = tuple(name for name in ids() if any(output.rule for output in definition(name).outputs))


def usable(known: Definition) -> list[Output]:
    return [output for output in known.outputs if output.rule is not None]


def block(known: Definition, axis: Callable[[Param], Body], output: str | None = None) -> Body:
    """A block with an axis for every parameter; ordered pairs keep their defaults."""
    ordered = {name for pair in known.ordered for name in pair}
    params = {
        param.name: explicit(param.default) if param.name in ordered else axis(param)
        for param in known.params
    }
    found: Body = {"indicator_id": known.indicator_id, "params": params}
    if known.sources:
        found["source"] = explicit(*known.sources[:2])
    if output is not None:
        found["output"] = output
    return found


def signals(output: Output) -> Body:
    """The proposed axes of an output's rule."""
    assert output.rule is not None
    return {param.name: proposed_axis(param).spec() for param in output.rule.params}


@st.composite
def axes(draw: st.DrawFn, param: Param) -> Body:
    """A range or a list on the parameter's hard grid, near its default."""
    room = int((param.hard_max - param.default) / param.step + 1e-9)
    steps = draw(st.integers(0, min(4, room)))
    if draw(st.booleans()):
        by = draw(st.integers(1, 2))
        return run_of(param.default, param.default + steps * param.step, by * param.step)
    values = [param.default + i * param.step for i in range(steps + 1)]
    values = [value if param.kind == "float" else int(value) for value in values]
    return explicit(*draw(st.permutations(values)))


NUMBERS = st.one_of(
    st.integers(-100, 100),
    st.floats(-1e3, 1e3),
    st.sampled_from([-0.0, 0.0, 1e16, 1.5e300, 5e-324, 0.1, 2**53]),
)


@st.composite
def rule_axes(draw: st.DrawFn, output: Output) -> Body:
    """Axes of a rule: what is proposed, or any numbers where any will do."""
    assert output.rule is not None
    found = signals(output)
    if output.rule.family == "delta_sign":
        return found
    for name in found:
        if draw(st.booleans()):
            few = draw(st.lists(NUMBERS, min_size=1, max_size=3, unique_by=float))
            found[name] = explicit(*[v for v in few if abs(v) < 2**63] or [1])
    return found


LEVELS = st.lists(
    st.one_of(st.integers(0, 50), st.floats(0, 50)), min_size=1, max_size=4, unique_by=float
)
SOME_RISK = st.fixed_dictionaries(
    {},
    optional={
        "sl_enabled": st.booleans(),
        "tp_enabled": st.booleans(),
        "sl_pct": st.floats(0, 10),
        "tp_pct": st.integers(0, 10),
        "sl": LEVELS.map(lambda values: explicit(*values)),
        "tp": LEVELS.map(lambda values: explicit(*values)),
    },
).filter(
    lambda risk: all(
        not risk.get(f"{side}_enabled") or side in risk or f"{side}_pct" in risk
        for side in ("sl", "tp")
    )
)
EXECUTION = st.fixed_dictionaries(
    {},
    optional={
        "init_cash": st.floats(1e-6, 1e18),
        "fee_pct": st.one_of(st.none(), st.floats(0, 5), st.just(-0.0)),
        "slippage_pct": st.floats(0, 99),
        "fixed_quote": st.integers(1, 10**6),
        "safe_profit_percent": st.floats(0, 100),
    },
)
RANKINGS = st.tuples(
    st.permutations(RANKING_METRICS), st.booleans(), st.integers(0, 9), st.booleans()
).map(
    lambda drawn: {
        "primary_metric": drawn[0][0],
        "secondary_metric": drawn[0][1] if drawn[1] else None,
        "min_trades": drawn[2],
        "distinct": drawn[3],
    }
)


@st.composite
def requests(draw: st.DrawFn) -> Body:
    """A valid request of any indicators, outputs, axes, rules, modes, stops and limits."""
    names = draw(st.lists(st.sampled_from(VOTERS), min_size=1, max_size=3, unique=True))
    blocks, rules = [], {}
    for name in names:
        known = definition(name)
        output = draw(st.sampled_from(usable(known)))
        sent = draw(st.booleans()) or output.name != known.primary
        blocks.append(block(known, lambda param: draw(axes(param)), output.name if sent else None))
        if output.rule is not None and output.rule.params:
            rules[name] = draw(rule_axes(output))
    if draw(st.booleans()):
        rules["momentum.rsi"] = rules.get("momentum.rsi") or {"long_threshold": explicit(-0.0)}
    start_day = draw(st.integers(1, 20))
    body: Body = {
        "time_range": {
            "start": f"2026-01-{start_day:02}T00:00:00.0005+02:00",
            "end": "2026-02-01T00:00:00Z",
        },
        "template": {
            "instrument_id": {
                "market_id": draw(st.integers(1, 4)),
                "symbol": draw(st.sampled_from(["btcusdt ", "ETHUSDT", "été"])),
            },
            "timeframe": draw(st.sampled_from([" 1H ", *TIMEFRAMES])),
            "indicator_grids": blocks,
            "signal_grids": rules,
        },
    }
    template = body["template"]
    for member, of in (
        ("direction_mode", st.sampled_from(tuple(DIRECTION_MODES))),
        ("sizing_mode", st.sampled_from(tuple(SIZING_MODES))),
        ("execution", EXECUTION),
        ("risk_grid", SOME_RISK),
    ):
        if draw(st.booleans()):
            template[member] = draw(of)
    for member, of in (
        ("ranking", RANKINGS),
        ("validation", st.fixed_dictionaries({"holdout_fraction": st.floats(0, 0.9)})),
        ("warmup_bars", st.integers(1, 10_000)),
        ("top_k", st.one_of(st.none(), st.integers(1, 300))),
        ("preselect", st.integers(1, 10**9)),
    ):
        if draw(st.booleans()):
            body[member] = draw(of)
    return body
