"""Specifications of strategies: what is stored of one, and how it is made of what is sent.

Version 2 is made of a back-test of one variant, so registry, bounds and numbers are the engine's
own; version 1 is what its contract says, indicators by any name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.postgres.jsonb import storable
from compute.backtest import Backtest, resolve
from compute.errors import InvalidInput, InvalidRequest
from compute.keys import canonical_json
from compute.market.instrument import MARKETS, Instrument
from compute.market.timeframe import timeframe
from compute.quantities import spaced
from compute.request import parse_request
from compute.settings import Defaults
from ingest.rows import DAY_MS
from live.strategies.errors import InvalidStrategy
from live.strategies.names import identifier, signature
from live.strategies.requests import StrategyV1, moved, strategy_request
from live.strategies.settings import StrategySettings
from live.strategies.template import strategy_template

Record = dict[str, Any]

KIND: Final = "roehub.strategy.v{version}"
MARKET_TYPES: Final = ("spot", "futures")
DERIVED: Final = ("symbol", "tags")
"""Members of a stored specification that repeat others of it."""

MOST: Final = {"init_cash_quote": 1e18, "fixed_quote": 1e18, "fee_pct": 100.0}
"""Bounds of what a strategy trades with: no account of it ever overflows."""
MOST_WARMUP_BARS: Final = 1_000_000
MOST_WARMUP_DAYS: Final = 50 * 366

# Longest first: the place of an indicator is inside that of the template.
_PLACES: Final = {
    "body.template.indicator_grids": "body.indicators",
    "body.template.signal_grids": "body.signals",
    "body.template.risk_grid.sl": "body.risk.sl_pct",
    "body.template.risk_grid.tp": "body.risk.tp_pct",
    "body.template.risk_grid": "body.risk",
    "body.template": "body",
}
_ANY_RANGE: Final = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}


@dataclass(frozen=True, slots=True)
class SpecRules:
    """What specifications are held to here: limits, and the costs that one may leave out."""

    settings: StrategySettings
    defaults: Defaults


def spec_of(
    body: object, rules: SpecRules, at: str = "body", source: Record | None = None
) -> Record:
    """The specification that a decoded JSON body means, normalised and complete.

    `at` is where the body stands in the whole request, `source` what version 2 says it is from.
    Raises: InvalidRequest, InvalidGrid, InvalidStrategy, another InvalidInput.
    """
    # Numbers are as they will come back before anything is made of them.
    sent: Any = storable(body, at)
    request = strategy_request(sent, at)
    if isinstance(request, StrategyV1):
        return _sized(_v1(request), rules.settings)
    _check_count(len(request.indicators), rules.settings)
    try:
        job = backtest_of_spec(sent, rules.defaults)
        strays = job.ignored_signals
        if strays:
            raise _fault(f"the strategy has no indicator {strays[0]}", f"body.signals.{strays[0]}")
        if job.grid.total > 1:  # the proposed values of another output's rule
            raise _fault("the voting rules need a value for each parameter", "body.signals")
    except InvalidInput as error:
        raise _placed(error, at) from None
    order = [entry.id for entry in request.indicators]
    return variant_spec(job, rules.settings, source=source, order=order)


def variant_spec(
    job: Backtest,
    settings: StrategySettings,
    *,
    source: Record | None = None,
    order: Sequence[str] = (),
) -> Record:
    """The specification of the one variant that `job` is a grid of; `source` is where it is from.

    Indicators come in `order`, by their ids without one. Raises: InvalidStrategy.
    """
    choices = {choice.indicator_id: choice for choice in job.grid.selection(0)}
    _check_count(len(choices), settings)
    _check_bounds(job)
    return _sized(
        {
            **_head(2, job.instrument, job.timeframe.code),
            "indicators": [
                {
                    "id": name,
                    "inputs": dict(choices[name].inputs),
                    "params": dict(choices[name].params),
                    **({} if choices[name].output is None else {"output": choices[name].output}),
                }
                for name in (order or sorted(choices))
            ],
            "signals": {
                name: dict(choice.signals) for name, choice in choices.items() if choice.signals
            },
            "direction_mode": job.direction_mode,
            "sizing_mode": job.sizing_mode,
            "risk": job.risk.params(0),
            "execution": job.execution.params(),
            "warmup_bars": job.warmup_bars,
            "source": source,
        },
        settings,
    )


def backtest_of_spec(spec: Mapping[str, Any], defaults: Defaults) -> Backtest:
    """The back-test of a specification over no particular time. Raises: InvalidInput."""
    body = {
        "time_range": _ANY_RANGE,
        "template": strategy_template(spec, {}),
        "warmup_bars": spec.get("warmup_bars"),
    }
    # No defaults of indicators: a strategy is what it says.
    return resolve(parse_request(body), defaults)


def request_of(spec: Mapping[str, Any]) -> Record:
    """The body that `spec_of` makes this specification of, but for its source."""
    strays = ("spec_kind", "source", "instrument_key", "market_type", *DERIVED)
    return {name: value for name, value in spec.items() if name not in strays}


def shown_spec(spec: Mapping[str, Any]) -> Record:
    """A stored specification without the members that repeat others."""
    return {name: value for name, value in spec.items() if name not in DERIVED}


def _v1(request: StrategyV1) -> Record:
    instrument = request.instrument_id.instrument
    try:
        frame = timeframe(request.timeframe).code
    except InvalidInput as error:
        raise InvalidStrategy(error.message) from None
    head = _head(1, instrument, frame)
    _check_key(request, head)
    if not request.indicators:
        raise InvalidStrategy("a strategy needs at least one indicator")
    for i, entry in enumerate(request.indicators):
        if identifier(entry) is None:
            raise InvalidStrategy(f"indicators.{i} needs a text in name, kind or id")
        if not isinstance(entry.get("params", {}), dict):
            raise InvalidStrategy(f"indicators.{i}.params must be an object")
    shown = (request.signal_template or "").strip() or signature(request.indicators[0])
    return {**head, "indicators": request.indicators, "signal_template": shown}


def _head(version: int, instrument: Instrument, frame: str) -> Record:
    """The members that every version has; key and market type follow from the market."""
    market = MARKETS.get(instrument.market_id)
    if market is None:
        known = ", ".join(f"{number} {name}" for number, name in MARKETS.items())
        raise InvalidStrategy(f"there is no market {instrument.market_id}; markets are {known}")
    if ":" in instrument.symbol:
        raise InvalidStrategy(f"a symbol has no colon, got {instrument.symbol!r}")
    exchange, market_type = market.split()
    return {
        "spec_kind": KIND.format(version=version),
        "schema_version": version,
        "instrument_id": {"market_id": instrument.market_id, "symbol": instrument.symbol},
        "instrument_key": f"{exchange}:{market_type}:{instrument.symbol}",
        "market_type": market_type,
        "symbol": instrument.symbol,
        "timeframe": frame,
        "tags": {
            "symbol": instrument.symbol,
            "market_type": market_type,
            "timeframe": frame,
        },
    }


def _check_key(request: StrategyV1, head: Record) -> None:
    """Refuses a key or a market type that is not that of the instrument."""
    key, kind = request.instrument_key, request.market_type
    if kind is not None and kind.strip().lower() not in MARKET_TYPES:
        raise InvalidStrategy(f"market_type must be spot or futures, got {kind[:60]!r}")
    if kind is not None and kind.strip().lower() != head["market_type"]:
        raise InvalidStrategy(
            f"market_type of market {head['instrument_id']['market_id']} is"
            f" {head['market_type']}, got {kind[:60]!r}"
        )
    if key is None:
        return
    parts = [part.strip() for part in key.split(":")]
    if len(parts) != 3:
        raise InvalidStrategy("instrument_key must have three parts, exchange:market_type:symbol")
    if [*map(str.lower, parts[:2]), parts[2].upper()] != head["instrument_key"].split(":"):
        raise InvalidStrategy(
            f"instrument_key of this instrument is {head['instrument_key']}, got {key[:60]!r}"
        )


def _check_count(count: int, settings: StrategySettings) -> None:
    if count > settings.max_indicators:
        raise InvalidStrategy(
            f"the strategy has {count} indicators, the limit is {settings.max_indicators}",
            details={
                "error": "max_indicators_exceeded",
                "indicators": count,
                "max_indicators": settings.max_indicators,
            },
        )


def _check_bounds(job: Backtest) -> None:
    for name, most in MOST.items():
        value = getattr(job.execution, name)
        if value > most:
            raise InvalidStrategy(f"execution.{name} must be at most {most:g}, got {value!r}")
    most_bars = min(MOST_WARMUP_BARS, MOST_WARMUP_DAYS * DAY_MS // job.timeframe.ms)
    if job.warmup_bars > most_bars:
        raise InvalidStrategy(
            f"warmup_bars must be at most {spaced(most_bars)} for {job.timeframe.code}, got"
            f" {spaced(job.warmup_bars)}"
        )


def _sized(spec: Record, settings: StrategySettings) -> Record:
    """`spec` as the database gives it back. Raises: InvalidStrategy where it is too large."""
    _check_count(len(spec["indicators"]), settings)
    spec = storable(spec)
    size = len(canonical_json(spec))
    if size > settings.max_spec_bytes:
        raise InvalidStrategy(
            f"the strategy has {spaced(size)} bytes, the limit is"
            f" {spaced(settings.max_spec_bytes)}",
            details={
                "error": "max_spec_bytes_exceeded",
                "spec_bytes": size,
                "max_spec_bytes": settings.max_spec_bytes,
            },
        )
    return spec


def _fault(message: str, path: str) -> InvalidRequest:
    return InvalidRequest(message, [{"path": path, "code": "value_error", "message": message}])


def _placed(error: InvalidInput, at: str) -> InvalidInput:
    """An error of a template with its places as they are in a strategy."""
    for item in error.details.get("errors", ()):
        path: str = item["path"]
        for ours, theirs in _PLACES.items():
            if path.startswith(ours):
                path = theirs + path.removeprefix(ours)
                break
        if path.startswith("body.indicators."):
            path = path.replace(".indicator_id", ".id").replace(".source", ".inputs.source")
        item["path"] = moved({"path": path}, at)["path"]
    return error
