"""Strategies as the service shows them."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from api.schemas.backtests import ExecutionParams, InstrumentRef, RiskParams
from api.schemas.errors import Answer

_ID: Final = "00000000-0000-4000-8000-000000000931"
_TIME: Final = "2026-02-22T18:00:00Z"
_HASH: Final = "^[0-9a-f]{64}$"
_NAME: Final = "BTCUSDT 1m [MA(20,50)] #048A5652"
RunState = Literal["starting", "warming_up", "running", "stopping", "stopped", "failed"]


class SpecHead(Answer):
    """What every specification says."""

    instrument_id: InstrumentRef = Field(description="What is traded.")
    instrument_key: str = Field(
        description="`exchange:market_type:symbol`.", examples=["binance:spot:BTCUSDT"]
    )
    market_type: Literal["spot", "futures"] = Field(description="Type of the market.")
    timeframe: Literal["1m", "5m", "15m", "1h", "4h", "1d"] = Field(
        description="Bars that the indicators and trades run on."
    )


class SpecV1(SpecHead):
    """A specification of version 1: indicators alone."""

    spec_kind: Literal["roehub.strategy.v1"] = Field(description="Which kind it is.")
    schema_version: Literal[1] = Field(description="Its version.")
    indicators: list[dict[str, Any]] = Field(description="As they were sent.")
    signal_template: str = Field(description="For readers; nothing evaluates it.")


class ChosenIndicator(Answer):
    """One indicator with its values."""

    id: str = Field(description="Id of the indicator.")
    inputs: dict[str, str] = Field(description="`source`, where the indicator has one.")
    params: dict[str, int | float] = Field(description="Value of each of its parameters.")
    output: str = Field("", description="The output that votes; absent for the primary one.")


class SpecV2(SpecHead):
    """A specification of version 2: everything that decides trades."""

    spec_kind: Literal["roehub.strategy.v2"] = Field(description="Which kind it is.")
    schema_version: Literal[2] = Field(description="Its version.")
    indicators: list[ChosenIndicator] = Field(description="Indicators that must agree.")
    signals: dict[str, dict[str, int | float]] = Field(
        description="Parameters of the voting rules, by indicator."
    )
    direction_mode: str = Field(description="Which sides may open a position.")
    sizing_mode: str = Field(description="How large a position is.")
    risk: RiskParams = Field(description="Its stops.")
    execution: ExecutionParams = Field(description="Costs and cash.")
    warmup_bars: int = Field(description="Bars before the first traded one.")
    source: dict[str, Any] | None = Field(
        description="Where it is from: kind is job, variant or strategy, with the ids and the"
        " variant's keys, its rank or flat_index, and synthetic where a generator made the candles"
        " that it was found on; null for one that was written."
    )


class StrategyBody(Answer):
    """A strategy; nothing of it changes but is_deleted."""

    strategy_id: str = Field(description="UUID of the strategy.", examples=[_ID])
    user_id: str = Field(description="UUID of its owner.", examples=[_ID])
    name: str = Field(
        description="Made of the specification; the last part tells two apart.", examples=[_NAME]
    )
    created_at: str = Field(description="UTC.", examples=[_TIME])
    is_deleted: bool = Field(description="Whether it was deleted.")
    spec_hash: str = Field(pattern=_HASH, description="Of the specification, whoever owns it.")
    spec: SpecV1 | SpecV2 = Field(description="What it does.")


class StrategyPage(Answer):
    """A page of the list, oldest first."""

    items: list[StrategyBody] = Field(description="The strategies.")
    next_cursor: str | None = Field(description="What to send as cursor; null on the last page.")


class RunBody(Answer):
    """A run of a strategy."""

    run_id: str = Field(description="UUID of the run.", examples=[_ID])
    strategy_id: str = Field(description="UUID of the strategy.", examples=[_ID])
    state: RunState = Field(description="The last two are final, the others active.")
    started_at: str = Field(description="UTC; when it was asked for.", examples=[_TIME])
    stopped_at: str | None = Field(description="UTC; when it came to a final state.")
    checkpoint_ts_open: str | None = Field(
        description="UTC; open of the last one-minute candle that it processed."
    )
    last_error: str | None = Field(description="Why it failed.")
    updated_at: str = Field(description="UTC; its last change.", examples=[_TIME])
    metadata: dict[str, Any] = Field(description="What the runner says of its progress.")


class RunNowBody(RunBody):
    """A run of a strategy, as it does now."""

    lag_seconds: float | None = Field(
        description="From the close of the last candle it processed to now, below 60 while it"
        " keeps up; null before the first candle and when the run has ended."
    )
    waits_for: str | None = Field(
        description="Why no candle comes to it, and what to do: none of its instrument is stored,"
        " or no new one. Null while candles come, when it has ended, and where that is not known."
    )


class RunPage(Answer):
    """A page of the runs, newest first."""

    items: list[RunBody] = Field(description="The runs.")
    next_cursor: str | None = Field(description="What to send as cursor; null on the last page.")


class PositionBody(Answer):
    """A position that is open."""

    side: str = Field(description="long or short.", examples=["long"])
    entry_bar_ts: str = Field(description="UTC; open of the bar whose close it was entered at.")
    entry_fill_price: float = Field(description="Price paid, slippage included.")
    qty_base: float = Field(description="How much of the instrument.")
    entry_quote_amount: float = Field(description="What was put in, in quote units.")
    entry_fee_quote: float = Field(description="Fee of the entry, in quote units.")


class DifferenceBody(Answer):
    """A bar or trade that is another in the back-test."""

    kind: Literal["bar", "vote", "equity", "trade"] = Field(
        description="What differs; bar: only one of the two has it."
    )
    ts: str = Field(description="UTC; open of the bar, of a trade that of its exit.")
    live: Any = Field(description="What the run has; null for nothing.")
    backtest: Any = Field(description="What the back-test has; null for nothing.")
    cause: str = Field(
        description=(
            "late candle, changed candle, repair, missing candle, code version or unexplained."
        )
    )
    detail: str = Field(description="Which candle, which version; may be blank.")


class ReconciliationBody(Answer):
    """How what a run did agrees with the back-test of the candles that are stored."""

    run_id: str = Field(description="UUID of the run.", examples=[_ID])
    badge: Literal["exact", "different", "unchecked"] = Field(
        description="exact: every bar and trade is that of the back-test, to the bit."
    )
    checked_at: str | None = Field(description="UTC; when it was looked at.")
    until: str | None = Field(description="UTC; end of the last bar that was compared.")
    bars: int = Field(description="Bars that were compared.")
    trades: int = Field(description="Trades that were compared.")
    differing: int = Field(description="Bars and trades that differ.")
    differences: list[DifferenceBody] = Field(description="The first hundred of them, by time.")


class AccountBody(Answer):
    """The paper account of a run after its last bar."""

    equity_quote: float = Field(description="What it is worth at the bar's close.")
    bar_ts: str = Field(description="UTC; open of that bar.", examples=[_TIME])
    available_quote: float = Field(description="What may be traded with.")
    safe_quote: float = Field(description="Profit that was locked away.")
    position: PositionBody | None = Field(description="The open position; null without one.")
    num_trades: int = Field(description="Closed trades.")


class EquityBody(Answer):
    """The equity of a run by its bars, as columns."""

    bars: int = Field(description="Bars that it traded on so far.")
    bars_per_point: int = Field(description="How many of them make a point, the last one fewer.")
    ts: list[int] = Field(
        description="Open of the last bar of each point, in milliseconds since 1970, UTC."
    )
    equity: list[float] = Field(description="Equity at the close of that bar, in quote units.")
    low: list[float] = Field(description="The least equity at a close within the point.")
    high: list[float] = Field(description="The greatest one.")
    close: list[float] = Field(description="Price at the close of that bar.")


class TradePage(Answer):
    """A page of closed trades, oldest first."""

    items: list[dict[str, Any]] = Field(
        description="Trades with the fields of a report's, and the bars by their times."
    )
    next_cursor: str | None = Field(description="What to send as cursor; null on the last page.")


class EventBody(Answer):
    """Something that happened."""

    event_id: str = Field(description="UUID of the event.", examples=[_ID])
    strategy_id: str = Field(description="UUID of the strategy.", examples=[_ID])
    run_id: str | None = Field(description="The run; null for the strategy as a whole.")
    ts: str = Field(description="UTC; when it happened.", examples=[_TIME])
    event_type: str = Field(
        description="strategy_created, strategy_cloned, run_started, run_state_changed,"
        " run_stop_requested, run_stopped, run_failed, signal, trade_open, trade_close, gap or"
        " repair.",
        examples=["run_started"],
    )
    payload: dict[str, Any] = Field(description="Ids, and what changed.")


class EventPage(Answer):
    """A page of the log, oldest first."""

    items: list[EventBody] = Field(description="The events.")
    next_cursor: str | None = Field(description="What to send as cursor; null on the last page.")


_SPEC: Final[dict[str, Any]] = {
    "schema_version": 2,
    "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
    "timeframe": "1h",
    "indicators": [
        {"id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 20}},
        {"id": "momentum.rsi", "inputs": {"source": "close"}, "params": {"window": 14}},
    ],
    "signals": {"momentum.rsi": {"long_threshold": 50, "short_threshold": 40}},
    "direction_mode": "long-short",
    "sizing_mode": "all_in",
    "risk": {"sl_enabled": True, "sl_pct": 2.0, "tp_enabled": False},
    "execution": {"init_cash_quote": 10000, "fee_pct": 0.075, "slippage_pct": 0.01},
    "warmup_bars": 200,
}

SPECS: Final[dict[str, Any]] = {
    "two indicators with a stop": _SPEC,
    "the first version": {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "instrument_key": "binance:spot:BTCUSDT",
        "market_type": "spot",
        "timeframe": "1m",
        "indicators": [{"name": "MA", "params": {"fast": 20, "slow": 50}}],
    },
}
CLONES: Final[dict[str, Any]] = {
    "a specification on another timeframe": {
        "template": _SPEC,
        "overrides": {"timeframe": "4h"},
    }
}
