"""Answers about back-tests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.schemas.errors import Answer

HASH = r"^[0-9a-f]{64}$"
Json = dict[str, Any]


class InstrumentRef(Answer):
    """What is traded."""

    market_id: int = Field(
        description="1 binance spot, 2 binance futures, 3 bybit spot, 4 bybit futures."
    )
    symbol: str = Field(description="Symbol, upper case.")


class Selection(Answer):
    """The choice for one indicator."""

    indicator_id: str = Field(description="Id of the indicator.")
    inputs: dict[str, str] = Field(description="`source`, where the indicator has one.")
    params: dict[str, int | float] = Field(description="Value of each of its parameters.")
    output: str = Field("", description="The output that votes; absent for the primary one.")


class RiskParams(Answer):
    """One pair of stops."""

    sl_enabled: bool = Field(description="Whether there is a stop-loss.")
    sl_pct: float | None = Field(description="Its level in percent.")
    tp_enabled: bool = Field(description="Whether there is a take-profit.")
    tp_pct: float | None = Field(description="Its level in percent.")


class ExecutionParams(Answer):
    """Costs and cash, all effective."""

    init_cash_quote: float = Field(description="Cash at the start, in quote units.")
    fee_pct: float = Field(description="Fee of each side of a trade, in percent.")
    slippage_pct: float = Field(description="How much worse than the close a fill is, in percent.")
    fixed_quote: float = Field(description="Size of a position under fixed_quote.")
    safe_profit_percent: float = Field(description="Share of a profit that is put aside.")


class Payload(Answer):
    """A variant in full: enough to ask for its report, or to save it as a strategy."""

    indicator_selections: list[Selection] = Field(description="Choices, by indicator id.")
    signal_params: dict[str, dict[str, int | float]] = Field(
        description="Parameters of the voting rules, by indicator."
    )
    risk_params: RiskParams = Field(description="Its stops.")
    execution_params: ExecutionParams = Field(description="Costs and cash.")
    direction_mode: str = Field(description="Which sides may open a position.")
    sizing_mode: str = Field(description="How large a position is.")


class Metrics(Answer):
    """Numbers of a variant; null where one is not finite or there is no trade."""

    max_drawdown_pct: float | None = Field(description="Largest fall of the equity, in percent.")
    profit_factor: float | None = Field(description="Gross wins over gross losses.")
    return_over_max_drawdown: float | None = Field(description="Return over the largest fall.")
    total_return_pct: float | None = Field(description="Return of the whole range, in percent.")
    win_rate_pct: float | None = Field(description="Share of trades that won, in percent.")
    num_trades: int = Field(description="Closed trades.")


class ReportRow(Answer):
    """One line of a report."""

    metric: str = Field(description="What is told.")
    value: str = Field(description="The value as text; N/A where there is none.")


class Trade(Answer):
    """One closed trade; bars are counted over all loaded bars, warm-up included."""

    trade_id: int = Field(description="Number in entry order, from 1.")
    direction: Literal["long", "short"] = Field(description="Side.")
    entry_bar_index: int = Field(description="Bar of the entry.")
    exit_bar_index: int = Field(description="Bar of the exit.")
    entry_fill_price: float | None = Field(description="Price paid at the entry.")
    exit_fill_price: float | None = Field(description="Price got at the exit.")
    qty_base: float | None = Field(description="Size in base units.")
    entry_quote_amount: float | None = Field(description="Size in quote units at the entry.")
    exit_quote_amount: float | None = Field(description="Size in quote units at the exit.")
    entry_fee_quote: float | None = Field(description="Fee of the entry.")
    exit_fee_quote: float | None = Field(description="Fee of the exit.")
    gross_pnl_quote: float | None = Field(description="Profit before fees.")
    net_pnl_quote: float | None = Field(description="Profit after fees.")
    locked_profit_quote: float | None = Field(description="What was put aside of it.")
    exit_reason: Literal["sl", "tp", "signal_exit", "forced_close"] = Field(
        description="Why it ended."
    )


class Report(Answer):
    """A variant told in full."""

    rows: list[ReportRow] = Field(description="The 25 rows, in fixed order.")
    table_md: str = Field(description="The same as a Markdown table.")
    trades: list[Trade] | None = Field(description="Trades by number; null when not asked for.")


class Holdout(Answer):
    """A variant on the part of the range that ranking did not see."""

    metrics: Metrics = Field(description="Its numbers there.")
    report: Report | None = Field(description="Its report there.")


class Equals(Answer):
    """Rows that one row stands for, where equal ones were to be one."""

    count: int = Field(description="How many there are.")
    axes: dict[str, list[int | float | str | None]] = Field(
        description="Smallest and largest value of each axis among them."
    )


class Variant(Answer):
    """One ranked row."""

    variant_index: int = Field(description="Rank in the shortlist × stop pairs + stop pair.")
    base_variant_index: int = Field(description="Place of its base variant in the grid.")
    variant_key: str = Field(pattern=HASH, description="Identity of the variant.")
    indicator_variant_key: str = Field(pattern=HASH, description="Identity of its series.")
    total_return_pct: float | None = Field(description="Return of the range, in percent.")
    metrics: Metrics = Field(description="Its numbers.")
    payload: Payload = Field(description="What it is.")
    report: Report | None = Field(description="Its report; null unless reports are made eagerly.")
    holdout: Holdout | None = Field(None, description="Present where a part was held out.")
    equals: Equals | None = Field(None, description="Present where equal rows were to be one.")
    base_equals: Equals | None = Field(None, description="The same for its base variant.")


class CandleFacts(Answer):
    """The candles that a run was computed over."""

    fingerprint: str = Field(pattern=HASH, description="Hash of the candles that were there.")
    rows: int = Field(description="One-minute candles in the load window.")
    missing: int = Field(description="Minutes of it without one.")
    synthetic: int = Field(description="Bars carried forward because they had no candle.")
    first: str = Field(description="Open of the first candle.")
    last: str = Field(description="Open of the last one.")


class CautionNote(Answer):
    """A reason to trust the numbers less."""

    code: str = Field(description="Stable name.")
    message: str = Field(description="The reason.")


class PlanFacts(Answer):
    """Sizes of a run."""

    loaded_bars: int = Field(description="Bars with warm-up.")
    ranked_bars: int = Field(description="Bars that ranking saw.")
    unsettled_bars: int = Field(description="Of them, before every indicator had settled.")
    stage_a_variants_total: int = Field(description="Base variants.")
    stage_a_distinct_total: int = Field(description="Of them, with votes that can differ.")
    stage_a_eligible_total: int = Field(description="Of them, with enough trades.")
    shortlist_total: int = Field(description="Base variants that were tried with stops.")
    risk_variants_total: int = Field(description="Pairs of stops.")
    stage_b_variants_total: int = Field(description="Variants with stops.")
    stage_b_eligible_total: int = Field(description="Of them, with enough trades.")
    most_trades: int = Field(description="Trades of the variant that has most.")
    contract_memory_bytes: int = Field(description="Bytes by the formula for tensors.")


class HeldOut(Answer):
    """The part that was held out."""

    fraction: float = Field(description="Share of the range.")
    start_ms: int = Field(description="Where it begins, epoch milliseconds.")


class RunFacts(Answer):
    """What may differ between two equal runs."""

    executor: str = Field(description="What it ran on.")
    device: str = Field(description="What searched: cpu, or the name of a card.")
    threads: int = Field(description="Threads.")
    timings: dict[str, float] = Field(description="Seconds by step.")


class BacktestResult(Answer):
    """A finished search."""

    schema_version: Literal[1] = Field(description="Version of this form.")
    mode: Literal["template", "saved"] = Field(description="What was run.")
    strategy_id: str | None = Field(description="The stored strategy, in saved mode.")
    instrument_id: InstrumentRef = Field(description="What is traded.")
    timeframe: str = Field(description="Bars it was computed on.")
    warmup_bars: int = Field(description="Bars loaded before the range; the effective number.")
    top_k: int = Field(description="Most rows.")
    preselect: int = Field(description="Most base variants tried with stops.")
    top_trades_n: int = Field(description="Rows that carry trades where reports are made.")
    spec_hash: str | None = Field(description="Hash of the stored strategy, in saved mode.")
    grid_request_hash: str | None = Field(description="Hash of the request, in template mode.")
    engine_params_hash: str = Field(pattern=HASH, description="Hash of modes and execution.")
    engine_version: str = Field(description="Version of whatever can change a number.")
    candles: CandleFacts = Field(description="What it was computed over.")
    cautions: list[CautionNote] = Field(description="What to know before trusting the numbers.")
    plan: PlanFacts = Field(description="Its sizes.")
    holdout: HeldOut | None = Field(None, description="Present where a part was held out.")
    variants: list[Variant] = Field(description="Rows in rank order, at most top_k.")
    run: RunFacts = Field(description="How it ran.")


class RankingDefaults(Answer):
    """What rows are ordered by without a ranking."""

    primary_metric_default: str = Field(description="First metric.")
    secondary_metric_default: str | None = Field(description="What orders equal rows.")


class ExecutionDefaults(Answer):
    """Costs and cash without an execution block."""

    init_cash_quote_default: float = Field(description="Cash at the start.")
    fixed_quote_default: float = Field(description="Size under fixed_quote.")
    safe_profit_percent_default: float = Field(description="Share that is put aside.")
    slippage_pct_default: float = Field(description="Slippage in percent.")
    fee_pct_default_by_market_id: dict[str, float] = Field(description="Fee by market, percent.")


class JobDefaults(Answer):
    """What jobs keep."""

    top_k_persisted_default: int = Field(description="Most rows that a job keeps.")


class RuntimeDefaults(Answer):
    """What a request that is silent gets."""

    warmup_bars_default: int = Field(description="Bars before the range, at least.")
    top_k_default: int = Field(description="Rows.")
    preselect_default: int = Field(description="Base variants tried with stops.")
    top_trades_n_default: int = Field(description="Rows with trades where reports are made.")
    ranking: RankingDefaults = Field(description="What is looked for.")
    execution: ExecutionDefaults = Field(description="Costs and cash.")
    jobs: JobDefaults = Field(description="What jobs keep.")


class PlaneRows(Answer):
    """Rows of the votes of one indicator that are held."""

    long: int = Field(description="Votes for LONG that differ.")
    short: int = Field(description="Votes for SHORT that differ.")


class CautionItem(Answer):
    """A reason to trust the numbers of a run less."""

    code: str = Field(description="Its stable name.")
    message: str = Field(description="What it is and what helps.")


class Refusal(Answer):
    """Why a job of the request would be refused."""

    message: str = Field(description="What is too much and what helps.")
    details: Json = Field(description="The guard and its numbers.")


class EstimateBody(Answer):
    """What a job will take."""

    loaded_bars: int = Field(description="Bars that are read, warm-up included.")
    ranked_bars: int = Field(description="Bars that rows are ranked on.")
    stage_a_variants_total: int = Field(description="Base variants: all without stops.")
    stage_a_distinct_total: int = Field(description="Of them those whose votes can differ.")
    idle_axes: list[str] = Field(description="Axes that change no vote.")
    preselect: int = Field(description="Base variants that are tried with stops.")
    risk_variants_total: int = Field(description="Pairs of stops.")
    stage_b_variants_total: int = Field(description="Variants with stops.")
    max_variants_per_compute: int = Field(description="Most variants of a stage.")
    planes: dict[str, PlaneRows] = Field(description="Votes that are held, by indicator.")
    memory_bytes: dict[str, int] = Field(description="Bytes by what they are for.")
    estimated_memory_bytes: int = Field(description="Bytes at the peak.")
    max_compute_bytes_total: int = Field(description="Most bytes of a run.")
    contract_memory_bytes: int = Field(description="Bytes of tensors that nothing allocates.")
    blocks: int = Field(description="Parts of the grid that are walked one after the other.")
    spans: dict[str, int] | None = Field(description="Parts of each stage; null: not timed.")
    threads: int | None = Field(description="Cores the seconds are for; null: not timed.")
    seconds: dict[str, float] | None = Field(
        description="Seconds of each step, extrapolated from a piece of it; null: not timed."
    )
    slow_metric: str | None = Field(description="A ranking metric that is dear, if there is one.")
    cautions: list[CautionItem] = Field(description="What a reader of the result should know.")
    refusal: Refusal | None = Field(description="Why a job would be refused; null: it would not.")
