"""A back-test with everything effective: what a request means under one deployment's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from compute.account import Terms, terms
from compute.errors import InvalidGrid, InvalidRequest
from compute.grid import Grid, IndicatorGrid
from compute.indicator_grids import voting_grid
from compute.indicators.defaults import IndicatorDefaults
from compute.indicators.definition import SOURCE
from compute.indicators.registry import definition, ids
from compute.keys import (
    KeyTemplate,
    backtest_runtime_config_hash,
    engine_params_hash,
    grid_request_hash,
)
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import Timeframe
from compute.risk import RiskGrid, risk_grid

if TYPE_CHECKING:
    from compute.request import BacktestRequest, IndicatorBlock
    from compute.settings import Defaults
from compute.settling import settle_bars

NO_DEFAULTS: Mapping[str, IndicatorDefaults] = {}


@dataclass(frozen=True, slots=True)
class Execution:
    """Costs in human percent and cash in quote units, all five effective."""

    init_cash_quote: float
    fee_pct: float
    slippage_pct: float
    fixed_quote: float
    safe_profit_percent: float

    def params(self) -> dict[str, float]:
        """The five values by their names on the wire."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True)
class Backtest:
    """Everything that decides a result, beside the candles.

    `ignored_signals` are the ids whose rule parameters were sent though the grid has none of them.
    """

    instrument: Instrument
    timeframe: Timeframe
    period: Period
    warmup_bars: int
    grid: Grid
    risk: RiskGrid
    direction_mode: str
    sizing_mode: str
    execution: Execution
    primary_metric: str
    secondary_metric: str | None
    min_trades: int
    distinct: bool
    holdout_fraction: float
    top_k: int
    preselect: int
    top_trades_n: int
    engine_params_hash: str
    grid_request_hash: str
    backtest_runtime_config_hash: str
    ignored_signals: tuple[str, ...] = ()

    def terms(self) -> Terms:
        """What the account functions take."""
        return terms(
            **self.execution.params(),
            sizing_mode=self.sizing_mode,
            direction_mode=self.direction_mode,
        )

    def key_template(self) -> KeyTemplate:
        """Identity keys of this grid's variants; build it once per run."""
        return KeyTemplate(
            self.grid,
            self.risk,
            instrument_id=str(self.instrument),
            timeframe=self.timeframe.code,
            direction_mode=self.direction_mode,
            sizing_mode=self.sizing_mode,
            execution=self.execution.params(),
        )


def resolve(
    request: BacktestRequest,
    defaults: Defaults,
    indicator_defaults: Mapping[str, IndicatorDefaults] = NO_DEFAULTS,
) -> Backtest:
    """The back-test that `request` asks for; axes and values it leaves out are filled in.

    Raises: InvalidRequest, InvalidGrid or another InvalidInput, always before any computing.
    """
    template, ranking, validation = request.template, request.ranking, request.validation
    execution = _execution(request, defaults)
    grid, risk = _grids(request, indicator_defaults)
    chosen = {part.indicator_id for part in grid.indicators}
    direction_mode = template.direction_mode or "long-short"
    sizing_mode = template.sizing_mode or "all_in"
    top_k = request.top_k or defaults.top_k_default
    period = request.time_range.period
    return Backtest(
        instrument=template.instrument_id.instrument,
        timeframe=template.timeframe,
        period=period,
        warmup_bars=request.warmup_bars or max(defaults.warmup_bars_default, settle_bars(grid)),
        grid=grid,
        risk=risk,
        direction_mode=direction_mode,
        sizing_mode=sizing_mode,
        execution=execution,
        primary_metric=ranking.primary_metric if ranking else defaults.primary_metric_default,
        secondary_metric=ranking.secondary_metric if ranking else defaults.secondary_metric_default,
        min_trades=ranking.min_trades if ranking else 0,
        distinct=ranking.distinct if ranking else False,
        holdout_fraction=validation.holdout_fraction if validation else 0.0,
        top_k=top_k,
        preselect=request.preselect or defaults.preselect_default,
        top_trades_n=_top_trades_n(request.top_trades_n, top_k, defaults),
        engine_params_hash=engine_params_hash(
            direction_mode=direction_mode, sizing_mode=sizing_mode, execution=execution.params()
        ),
        grid_request_hash=grid_request_hash(request.body, period),
        backtest_runtime_config_hash=backtest_runtime_config_hash(defaults),
        ignored_signals=tuple(sorted({*(template.signal_grids or ())} - chosen)),
    )


def _execution(request: BacktestRequest, defaults: Defaults) -> Execution:
    sent = dict(request.template.execution or {})
    market_id = request.template.instrument_id.market_id
    fee = defaults.fee_pct_default_by_market_id.get(market_id)
    if fee is None:
        known = ", ".join(str(market) for market in defaults.fee_pct_default_by_market_id)
        message = f"market {market_id} has no default fee; markets with one: {known}"
        path = "body.template.instrument_id.market_id"
        raise InvalidRequest(message, [{"path": path, "code": "unsupported", "message": message}])
    filled = {
        "init_cash_quote": defaults.init_cash_quote_default,
        "fee_pct": fee,
        "slippage_pct": defaults.slippage_pct_default,
        "fixed_quote": defaults.fixed_quote_default,
        "safe_profit_percent": defaults.safe_profit_percent_default,
    } | {name: value for name, value in sent.items() if value is not None}
    return Execution(**{name: float(value) for name, value in filled.items()})


def _top_trades_n(sent: int | None, top_k: int, defaults: Defaults) -> int:
    if sent is None:
        return min(defaults.top_trades_n_default, top_k)
    if sent > top_k:
        message = f"top_trades_n must be <= top_k, got {sent} > {top_k}"
        error = {"path": "body.top_trades_n", "code": "max_value", "message": message}
        raise InvalidRequest(message, [error])
    return sent


def _grids(
    request: BacktestRequest, indicator_defaults: Mapping[str, IndicatorDefaults]
) -> tuple[Grid, RiskGrid]:
    """The grid of all blocks, and that of the stops.

    Raises: the first InvalidGrid, with the faults of everything in `details["errors"]`.
    """
    template = request.template
    sent = template.signal_grids or {}
    parts: list[IndicatorGrid] = []
    risks: list[RiskGrid] = []
    found: list[tuple[str, InvalidGrid]] = []
    for i, block in enumerate(template.indicator_grids):
        at = f"body.template.indicator_grids.{i}"
        try:
            name = definition(block.indicator_id).indicator_id
            given = indicator_defaults.get(name) or IndicatorDefaults(name)
            parts.append(voting_grid(block, sent.get(name, {}), given))
        except InvalidGrid as error:
            found += [(_place(fault, block, at), fault) for fault in (error, *error.others)]
    for name in sent:
        if name not in ids():
            try:
                definition(name)
            except InvalidGrid as error:
                found.append((f"body.template.signal_grids.{name}", error))
    try:
        risks.append(risk_grid(**dict(template.risk_grid or {})))
    except InvalidGrid as error:
        axis = error.details.get("axis")
        found.append(("body.template.risk_grid" + (f".{axis}" if axis else ""), error))
    if found:
        first = found[0][1]
        faults = [
            {"path": path, "code": "grid_validation_error", "message": fault.message}
            for path, fault in found
        ]
        first.details["errors"] = sorted(faults, key=lambda fault: fault["path"])
        raise first
    return Grid(tuple(parts)), risks[0]


def _place(error: InvalidGrid, block: IndicatorBlock, at: str) -> str:
    """Where in the request the fault of a block's grid stands."""
    details: dict[str, Any] = error.details
    if axis := details.get("axis"):
        return f"{at}.source" if axis == SOURCE else f"{at}.params.{axis}"
    if param := details.get("param"):
        return f"body.template.signal_grids.{details['indicator_id']}.{param}"
    if details.get("usable_outputs") and block.output:
        return f"{at}.output"
    return f"{at}.indicator_id" if details else at
