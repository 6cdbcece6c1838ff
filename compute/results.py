"""The result of a back-test as a JSON document: ranked rows, what made them, and how it ran."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from compute.cautions import Caution, cautions, unsettled_bars
from compute.control import Control
from compute.details import replayed
from compute.executor import Executor
from compute.keys import canonical_json
from compute.market.period import instant
from compute.pipeline import Outcome
from compute.ranking import Scores, metric
from compute.replay import Replay
from compute.report.rows import report_rows, rows_record
from compute.settings import RANKING_METRICS

ENGINE_VERSION: Final = "0.1.0"
"""Version of whatever can change a number; equals the project's version."""

Record = dict[str, Any]


def result_document(
    outcome: Outcome,
    executor: Executor,
    *,
    run: Mapping[str, Any],
    control: Control | None = None,
    doubts: Sequence[Caution] = (),
    reports: bool = True,
) -> Record:
    """The content of result.json; JSON-able, non-finite numbers as None.

    Without `reports` the `report` of every row is None, and no row is walked again.
    `doubts` are cautions about the source of the candles, which the timeline does not know.
    `run` is kept apart: everything that may differ between two equal runs. The rest depends on the
    request and the candles alone (`canonical_result`). The first `top_trades_n` rows carry trades.
    """
    job = outcome.job
    document: Record = {
        "schema_version": 1,
        "mode": "template",
        "strategy_id": None,
        "instrument_id": {
            "market_id": job.instrument.market_id,
            "symbol": job.instrument.symbol,
        },
        "timeframe": job.timeframe.code,
        "warmup_bars": job.warmup_bars,
        "top_k": job.top_k,
        "preselect": job.preselect,
        "top_trades_n": job.top_trades_n,
        "spec_hash": None,
        "grid_request_hash": job.grid_request_hash,
        "engine_params_hash": job.engine_params_hash,
        "engine_version": ENGINE_VERSION,
        "candles": _candles(outcome),
        "cautions": [asdict(one) for one in (*doubts, *cautions(job, outcome.timeline))],
        "plan": _plan(outcome),
    }
    if outcome.holdout is not None:
        document["holdout"] = {
            "fraction": job.holdout_fraction,
            "start_ms": _holdout_start_ms(outcome),
        }
    document["variants"] = _variants(outcome, executor, control, reports)
    document["run"] = dict(run)
    return document


def canonical_result(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON of everything but `run`: equal bytes, equal results."""
    return canonical_json({name: value for name, value in document.items() if name != "run"})


def result_text(document: Mapping[str, Any]) -> str:
    """JSON with a line for each member and each variant: small, and still readable by lines."""
    lines: list[str] = []
    for name, value in document.items():
        if name == "variants" and value:
            text = "[\n  " + ",\n  ".join(_compact(variant) for variant in value) + "\n ]"
        else:
            text = _compact(value)
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def metrics_record(scores: Scores, row: int) -> Record:
    """The four ranking metrics, the win rate and the trades of one row of exact scores."""
    one = scores.take(slice(row, row + 1))
    trades = int(one.trades[0])
    values: Record = {name: _finite(float(metric(name, one)[0])) for name in RANKING_METRICS}
    values["win_rate_pct"] = 100.0 * int(one.wins[0]) / trades if trades else None
    values["num_trades"] = trades
    return values


def payload(outcome: Outcome, row: int) -> Record:
    """Everything needed to run or save one row: selections, rule, risk and execution values."""
    job = outcome.job
    choices = job.grid.selection(outcome.flat(row))
    return {
        "indicator_selections": [
            {
                "indicator_id": choice.indicator_id,
                "inputs": dict(choice.inputs),
                "params": dict(choice.params),
                **({} if choice.output is None else {"output": choice.output}),
            }
            for choice in choices
        ],
        "signal_params": {
            choice.indicator_id: dict(choice.signals) for choice in choices if choice.signals
        },
        "risk_params": job.risk.params(outcome.risk_index(row)),
        "execution_params": job.execution.params(),
        "direction_mode": job.direction_mode,
        "sizing_mode": job.sizing_mode,
    }


def _variants(
    outcome: Outcome, executor: Executor, control: Control | None, reports: bool
) -> list[Record]:
    job = outcome.job
    rows = range(len(outcome.top))
    held = outcome.holdout

    def reported(held_out: bool) -> list[Record | None]:
        if not reports:
            return [None] * len(rows)
        visit = _reporter(outcome, held_out=held_out)
        return [*replayed(outcome, rows, executor, visit, held_out=held_out, control=control)]

    ranked = reported(False)
    later = [] if held is None else reported(True)
    keys = job.key_template()
    variants: list[Record] = []
    for row in rows:
        flat, risk_index = outcome.flat(row), outcome.risk_index(row)
        metrics = metrics_record(outcome.top, row)
        variant: Record = {
            "variant_index": int(outcome.top.index[row]),
            "base_variant_index": flat,
            "variant_key": keys.variant_key(flat, risk_index),
            "indicator_variant_key": keys.indicator_key(flat),
            "total_return_pct": metrics["total_return_pct"],
            "metrics": metrics,
            "payload": payload(outcome, row),
            "report": ranked[row],
        }
        if held is not None:
            variant["holdout"] = {"metrics": metrics_record(held, row), "report": later[row]}
        variant |= _equals(outcome, row)
        variants.append(variant)
    return variants


def _equals(outcome: Outcome, row: int) -> Record:
    """What a row stands for where equal ones were to be one, and what its base variant does."""
    rank = int(outcome.top.index[row]) // outcome.job.risk.total
    found: Record = {}
    for name, stage, place in (("equals", "stage_b", row), ("base_equals", "stage_a", rank)):
        held = outcome.equals[stage]
        if held is not None:
            found[name] = {"count": held[place].count, "axes": held[place].axes}
    return found


def _reporter(outcome: Outcome, *, held_out: bool):
    """What makes the report of a replayed row: 25 rows, trades for the first few."""
    job = outcome.job
    start_ms, end_ms = job.period.start_ms, job.period.end_ms
    if outcome.holdout is not None:
        cut_ms = _holdout_start_ms(outcome)
        start_ms, end_ms = (cut_ms, end_ms) if held_out else (start_ms, cut_ms)

    def report(row: int, walked: Replay) -> Record:
        rows = report_rows(
            walked, walked.trades, period_start_ms=start_ms, period_end_ms=end_ms,
            init_cash=walked.init_cash,
        )  # fmt: skip
        trades = walked.trades.records() if row < job.top_trades_n else None
        return {
            "rows": rows_record(rows),
            "trades": None if trades is None else [_plain(trade) for trade in trades],
        }

    return report


def _holdout_start_ms(outcome: Outcome) -> int:
    """Close of the first bar held out: where the ranked part of the period ends."""
    timeline = outcome.timeline
    first = timeline.start + outcome.plan.slice_bars
    return int(timeline.candles.ts_open_ms[first]) + timeline.timeframe.ms


def _candles(outcome: Outcome) -> Record:
    timeline = outcome.timeline
    return {
        "fingerprint": timeline.fingerprint,
        "rows": timeline.rows,
        "missing": timeline.missing,
        "synthetic": timeline.synthetic,
        "first": instant(timeline.first_ms),
        "last": instant(timeline.last_ms),
    }


def _plan(outcome: Outcome) -> Record:
    """Sizes that follow from the request and the candles; bytes follow from the machine too."""
    sizes = outcome.plan
    return {
        "loaded_bars": sizes.bars,
        "ranked_bars": sizes.slice_bars,
        "unsettled_bars": unsettled_bars(outcome.job, outcome.timeline),
        "stage_a_variants_total": sizes.stage_a_total,
        "stage_a_distinct_total": sizes.distinct_total,
        "stage_a_eligible_total": outcome.eligible["stage_a"],
        "shortlist_total": len(outcome.shortlist),
        "risk_variants_total": sizes.risk_total,
        "stage_b_variants_total": sizes.stage_b_total,
        "stage_b_eligible_total": outcome.eligible["stage_b"],
        "most_trades": outcome.most_trades,
        "contract_memory_bytes": sizes.contract_memory_bytes,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(record: Mapping[str, Any]) -> Record:
    return {k: _finite(v) if isinstance(v, float) else v for k, v in record.items()}
