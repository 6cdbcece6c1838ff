"""A job before it is stored: everything that its result depends on, fixed at creation.

The configuration, the defaults of indicators and the candle store may change afterwards; a job is
rebuilt from its own row alone.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, Final

from cluster.columns import MAX_ROWS
from cluster.jobs.errors import RejectedRequest
from cluster.jobs.job import Hashes, Record, Saved
from cluster.numerics import build
from cluster.postgres.jsonb import storable
from compute.backtest import Backtest, resolve
from compute.grid import Axis, IndicatorGrid
from compute.indicators.defaults import IndicatorDefaults
from compute.indicators.definition import SOURCE
from compute.keys import canonical_json
from compute.market.period import instant
from compute.market.timeline import Timeline
from compute.plan import Plan, check_variants, plan
from compute.request import BacktestRequest, parse_request
from compute.results import ENGINE_VERSION
from compute.settings import Defaults, Limits

ReadMarket = Callable[[Backtest], Timeline]

_ROWS_CAP: Final = "top_k must be <= {cap}, the most rows that a job keeps; got {top_k}"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What a job is created from.

    `request_json` is the request with effective values as the contract stores and hashes it,
    `effective_json` a complete request body from which `backtest_of` needs no defaults, `plan_json`
    and `limits_json` the estimate and the guards it was held to. `backtest`, `timeline` and `plan`
    are what these were made from.
    """

    saved: Saved | None
    request_json: Record
    effective_json: Record
    hashes: Hashes
    plan_json: Record
    plan_key: str
    limits_json: Record
    candles_fingerprint: str
    keep_columns: bool
    backtest: Backtest
    timeline: Timeline
    plan: Plan

    @property
    def mode(self) -> str:
        """`saved` for a stored strategy, else `template`."""
        return "template" if self.saved is None else "saved"


def snapshot(
    body: object,
    *,
    defaults: Defaults,
    indicator_defaults: Mapping[str, IndicatorDefaults],
    limits: Limits,
    workers: int,
    read_market: ReadMarket,
    keep_columns: bool = True,
    saved: Saved | None = None,
) -> Snapshot:
    """The `Snapshot` of a decoded request under one deployment's settings.

    With `saved`, `body` is the request in template mode that the stored strategy means.
    `read_market` reads the candles, once all that can be refused without them is; the guards are
    held against `workers` cores. Columns are kept up to `cluster.columns.MAX_ROWS` base variants.
    Raises: InvalidRequest, InvalidGrid, GuardExceeded, NoMarketData or another InvalidInput.
    """
    request = _storable(parse_request(body))
    check_top_k(request, defaults)
    job = resolve(request, defaults, indicator_defaults)
    check_variants(job, limits)
    if saved is not None:
        saved = replace(saved, spec=storable(saved.spec, "strategy"))
        job = replace(job, grid_request_hash="")
    hashes, request_json = _hashed(job, request, saved)
    effective_json = effective_body(job, request)
    rebuilt = backtest_of(json.loads(canonical_json(effective_json)), hashes)
    assert rebuilt == job, "a request and its snapshot mean different back-tests"
    timeline = read_market(job)
    keep = keep_columns and job.grid.total <= MAX_ROWS
    traded = timeline.stop - timeline.start
    sizes = plan(
        job, len(timeline.candles), traded - int(traded * job.holdout_fraction), limits,
        workers=workers, columns=keep,
    )  # fmt: skip
    return Snapshot(
        saved=saved,
        request_json=request_json,
        effective_json=effective_json,
        hashes=hashes,
        plan_json=plan_record(sizes, workers),
        plan_key=plan_key(effective_json, timeline.fingerprint, sizes, keep_columns=keep),
        limits_json=asdict(limits),
        candles_fingerprint=timeline.fingerprint,
        keep_columns=keep,
        backtest=job,
        timeline=timeline,
        plan=sizes,
    )


def check_top_k(request: BacktestRequest, defaults: Defaults) -> None:
    """Raises RejectedRequest for more rows than a job keeps."""
    top_k, cap = request.top_k or defaults.top_k_default, defaults.top_k_persisted_default
    if top_k > cap:
        raise RejectedRequest(_ROWS_CAP.format(cap=cap, top_k=top_k), "body.top_k", "max_value")


def _hashed(
    job: Backtest, request: BacktestRequest, saved: Saved | None = None
) -> tuple[Hashes, Record]:
    request_json = stored_request(job, request, saved)
    hashes = Hashes(
        request_hash=sha256(canonical_json(request_json)).hexdigest(),
        grid_request_hash=job.grid_request_hash or None,
        engine_params_hash=job.engine_params_hash,
        backtest_runtime_config_hash=job.backtest_runtime_config_hash,
    )
    return hashes, request_json


def stored_request(job: Backtest, request: BacktestRequest, saved: Saved | None = None) -> Record:
    """The contract's `request_json`: as sent without nulls, with effective modes and numbers.

    Times are in UTC with `Z`; ranking and validation are there when they were sent. A stored
    strategy is named, and what is effective is in the overrides.
    """
    sent = request.body
    document: Record = {
        name: _without_nulls(sent[name])
        for name in ("ranking", "validation")
        if sent.get(name) is not None
    }
    document["time_range"] = _time_range(job)
    effective = {
        "direction_mode": job.direction_mode,
        "sizing_mode": job.sizing_mode,
        "execution": job.execution.params(),
    }
    if saved is None:
        document["template"] = _without_nulls(sent["template"]) | effective
    else:
        document["strategy_id"] = saved.strategy_id
        document["overrides"] = _without_nulls(saved.overrides) | effective
    return storable(document | _counts(job))


def effective_body(job: Backtest, request: BacktestRequest) -> Record:
    """A request body that means `job` whatever the defaults are: every axis with its values."""
    sent = request.template.signal_grids or {}
    signals = {part.indicator_id: _axes(part.signals) for part in job.grid.indicators}
    ignored = {
        name: {param: spec.spec() for param, spec in sent[name].items()}
        for name in job.ignored_signals
    }
    return {
        "time_range": _time_range(job),
        "template": {
            "instrument_id": {
                "market_id": job.instrument.market_id,
                "symbol": job.instrument.symbol,
            },
            "timeframe": job.timeframe.code,
            "indicator_grids": [_block(part) for part in job.grid.indicators],
            "signal_grids": {name: axes for name, axes in signals.items() if axes} | ignored,
            "direction_mode": job.direction_mode,
            "sizing_mode": job.sizing_mode,
            "execution": job.execution.params(),
            "risk_grid": _risk(job),
        },
        "ranking": {
            "primary_metric": job.primary_metric,
            "secondary_metric": job.secondary_metric,
            "min_trades": job.min_trades,
            "distinct": job.distinct,
        },
        "validation": {"holdout_fraction": job.holdout_fraction},
        **_counts(job),
    }


def backtest_of(effective_json: Mapping[str, Any], hashes: Hashes) -> Backtest:
    """The back-test that `effective_body` was made of; no configuration is read."""
    request = parse_request(effective_json)
    market_id = request.template.instrument_id.market_id
    any_fee = Defaults(fee_pct_default_by_market_id={market_id: 0.0})  # the request has its own
    return replace(
        resolve(request, any_fee),
        engine_params_hash=hashes.engine_params_hash,
        grid_request_hash=hashes.grid_request_hash or "",
        backtest_runtime_config_hash=hashes.backtest_runtime_config_hash,
    )


def plan_key(
    effective_json: Mapping[str, Any], fingerprint: str, sizes: Plan, *, keep_columns: bool
) -> str:
    """The content key of a plan's spans: equal keys, equal parts, whoever computes them."""
    template = effective_json["template"]
    chosen = {block["indicator_id"] for block in template["indicator_grids"]}
    signals = {name: axes for name, axes in template["signal_grids"].items() if name in chosen}
    deciding = {name: value for name, value in effective_json.items() if name != "top_trades_n"}
    here = build()
    document = {
        "engine_version": ENGINE_VERSION,
        "engine": here.engine,
        "numerics": here.numerics,
        "candles_fingerprint": fingerprint,
        "request": deciding | {"template": {**template, "signal_grids": signals}},
        "boxes": _boxes(sizes),
        "keep_columns": keep_columns,
    }
    return sha256(canonical_json(document)).hexdigest()


def plan_record(sizes: Plan, workers: int) -> Record:
    """The estimate at creation: variants, bytes, and what the cut of the plan depends on."""
    return {
        "workers": workers,
        "loaded_bars": sizes.bars,
        "ranked_bars": sizes.slice_bars,
        "stage_a_variants_total": sizes.stage_a_total,
        "stage_a_distinct_total": sizes.distinct_total,
        "preselect": sizes.preselect,
        "risk_variants_total": sizes.risk_total,
        "stage_b_variants_total": sizes.stage_b_total,
        "memory_bytes": sizes.memory_bytes,
        "estimated_memory_bytes": sizes.total_bytes,
        "contract_memory_bytes": sizes.contract_memory_bytes,
        "boxes": _boxes(sizes),
    }


def _boxes(sizes: Plan) -> list[list[int] | None]:
    return [None if box is None else [box.axis, box.low, box.high] for box in sizes.boxes]


def _time_range(job: Backtest) -> Record:
    return {"start": instant(job.period.start_ms), "end": instant(job.period.end_ms)}


def _counts(job: Backtest) -> Record:
    return {
        "warmup_bars": job.warmup_bars,
        "top_k": job.top_k,
        "preselect": job.preselect,
        "top_trades_n": job.top_trades_n,
    }


def _axes(axes: tuple[Axis, ...]) -> Record:
    return {axis.name: {"mode": "explicit", "values": list(axis.values)} for axis in axes}


def _block(part: IndicatorGrid) -> Record:
    axes = _axes(part.compute)
    source = {SOURCE: axes.pop(SOURCE)} if SOURCE in axes else {}
    output = {} if part.output == part.definition.primary else {"output": part.output}
    return {"indicator_id": part.indicator_id, **source, "params": axes, **output}


def _risk(job: Backtest) -> Record:
    found: Record = {}
    for name, levels in (("sl", job.risk.sl), ("tp", job.risk.tp)):
        found[f"{name}_enabled"] = levels != (None,)
        if levels != (None,):
            found[name] = {"mode": "explicit", "values": list(levels)}
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(v) for v in value]
    return copy.copy(value)


def _storable(request: BacktestRequest) -> BacktestRequest:
    """The request as the database will give it back. Raises: RejectedRequest."""
    plain = storable(request.body)
    if canonical_json(plain) == canonical_json(request.body):
        return request
    return parse_request(plain)
