"""The template-mode body of `POST /backtests`: its schema and nothing else.

Importing this module imports pydantic; the rest of the core does not need it. What a field means is
said here, once: the service's own description of itself is made of these models.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from compute.account import DIRECTION_MODES, SIZING_MODES
from compute.axes import AXIS_SCHEMA, Explicit, InvalidAxis, Range, axis_spec
from compute.errors import InvalidInput, InvalidRequest
from compute.faults import schema_faults, shown
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES, Timeframe, timeframe
from compute.settings import RANKING_METRICS

MODE_CONFLICT = "POST /backtests requires exactly one mode: strategy_id xor template"
MOST_INDICATORS = 100  # there are fewer, and each may be named once
DUPLICATE = "duplicate indicator_id in indicator_grids: "
SAVED_ONLY = "overrides belong to saved mode (strategy_id); put the values into template"
STRATEGY_GIVEN = (
    "this is a strategy, not the request of a back-test: open it in the form of the page, which"
    " makes a request of it, or store it (POST /strategies) and send its strategy_id with a"
    " time_range"
)
TEMPLATE_ONLY = "a stored strategy cannot be run here; send template with the grid to test"


Name = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)]


def _fault(kind: str, reason: str, at: str = "") -> PydanticCustomError:
    # The text goes through the context: a template may not contain braces of its own.
    return PydanticCustomError(kind, "{reason}", {"reason": reason, "at": at})  # type: ignore[arg-type]


def _axis(raw: object) -> Explicit | Range:
    try:
        return axis_spec(raw)
    except InvalidAxis as error:
        raise _fault(error.kind, error.message, error.at) from None


def _moment(raw: object) -> datetime:
    if isinstance(raw, str):
        try:
            raw = datetime.fromisoformat(raw.strip())
        except ValueError:
            raise _fault(
                "datetime_parsing",
                f"{shown(raw)} is not ISO 8601; write it like 2026-01-01T00:00:00Z",
            ) from None
    if not isinstance(raw, datetime):
        raise _fault(
            "datetime_type", f"must be an ISO 8601 text with a time zone (got {shown(raw)})"
        )
    if raw.utcoffset() is None:
        raise _fault(
            "timezone_aware",
            f"{raw.isoformat()} has no time zone; add Z or an offset like +02:00",
        )
    return raw


def sent_timeframe(text: object) -> Timeframe:
    """The timeframe of a code, for a schema."""
    try:
        return timeframe(text)  # type: ignore[arg-type]
    except InvalidInput as error:
        raise _fault("literal_error", error.message) from None


class OneOf:
    """A schema's check that a name is one of `allowed`."""

    def __init__(self, *allowed: str) -> None:
        self.allowed = allowed

    def __call__(self, text: str) -> str:
        if text not in self.allowed:
            raise _fault(
                "literal_error",
                f"must be one of {', '.join(sorted(self.allowed))} (got {shown(text)})",
            )
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": [*self.allowed]}


def _unique_names(raw: object) -> object:
    """Refuses keys that differ only in case or blanks; the later one would win silently."""
    if isinstance(raw, Mapping):
        names = Counter(key.strip().lower() for key in raw if isinstance(key, str))
        for name, count in names.items():
            if count > 1:
                raise _fault("duplicate", f"{name!r} is given more than once")
    return raw


Axis = Annotated[Explicit | Range, PlainValidator(_axis), WithJsonSchema(AXIS_SCHEMA)]
Moment = Annotated[
    datetime, PlainValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})
]
Frame = Annotated[
    Timeframe,
    PlainValidator(sent_timeframe),
    WithJsonSchema({"type": "string", "enum": [*TIMEFRAMES]}),
]
Axes = Annotated[dict[Name, Axis], BeforeValidator(_unique_names)]
Count = Annotated[int, Field(gt=0)]
Metric = Annotated[Name, OneOf(*RANKING_METRICS)]


class Model(BaseModel):
    """Strict and closed: no coercion, no boolean as a number, no unknown field."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        populate_by_name=True,
    )


class TimeRange(Model):
    """Half-open range of bar closes."""

    start: Moment = Field(description="First instant, with a time zone; truncated to milliseconds.")
    end: Moment = Field(description="The instant after the last one, with a time zone.")

    @model_validator(mode="after")
    def _ordered(self) -> TimeRange:
        try:
            Period.of(self.start, self.end)
        except InvalidInput as error:
            raise _fault("value_error", error.message) from None
        return self

    @property
    def period(self) -> Period:
        """The range in epoch milliseconds."""
        return Period.of(self.start, self.end)


class InstrumentId(Model):
    """Market and symbol as sent."""

    market_id: Count = Field(
        description="1 binance spot, 2 binance futures, 3 bybit spot, 4 bybit futures."
    )
    symbol: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = Field(
        description="Symbol of the exchange; trimmed and upper-cased."
    )

    @property
    def instrument(self) -> Instrument:
        """The instrument with its symbol normalised."""
        return Instrument(self.market_id, self.symbol)


class IndicatorBlock(Model):
    """One indicator and the axes that were sent for it; missing ones come from the defaults."""

    indicator_id: Name = Field(description="Id of the indicator, like momentum.rsi.")
    source: Axis | None = Field(
        None, description="Price series it reads, where it has a source: close, hlc3 and others."
    )
    params: Axes = Field(
        default_factory=dict, description="Axis of each of its parameters, by name."
    )
    output: Name | None = Field(
        None, description="Which of its outputs is meant; the primary one without it."
    )


class ExecutionBlock(Model):
    """Costs and cash in human percent and quote units; None takes the default."""

    init_cash_quote: Annotated[float | None, Field(gt=0)] = Field(
        None,
        validation_alias=AliasChoices("init_cash_quote", "init_cash"),
        description="Cash at the start, in quote units.",
    )
    fee_pct: Annotated[float | None, Field(ge=0)] = Field(
        None,
        validation_alias=AliasChoices("fee_pct", "market_fee_pct"),
        description="Fee of each side of a trade, in percent of its quote amount.",
    )
    slippage_pct: Annotated[float | None, Field(ge=0, lt=100)] = Field(
        None, description="How much worse than the close a fill is, in percent."
    )
    fixed_quote: Annotated[float | None, Field(gt=0)] = Field(
        None, description="Size of a position under fixed_quote, in quote units."
    )
    safe_profit_percent: Annotated[float | None, Field(ge=0, le=100)] = Field(
        None, description="Share of a profit that strategy_compound_profit_lock puts aside."
    )


class RiskBlock(Model):
    """Stop-loss and take-profit as sent; `compute.risk` decides what they mean."""

    sl_enabled: bool = Field(False, description="Whether there are stop-losses.")
    tp_enabled: bool = Field(False, description="Whether there are take-profits.")
    sl: Axis | None = Field(None, description="Stop-loss levels, in percent.")
    tp: Axis | None = Field(None, description="Take-profit levels, in percent.")
    sl_pct: float | None = Field(None, description="The one stop-loss level where sl is left out.")
    tp_pct: float | None = Field(
        None, description="The one take-profit level where tp is left out."
    )


Direction = Annotated[Name, OneOf(*DIRECTION_MODES)]
Sizing = Annotated[Name, OneOf(*SIZING_MODES)]
Signals = Annotated[dict[Name, Axes], BeforeValidator(_unique_names)]


class Template(Model):
    """An ad-hoc grid."""

    instrument_id: InstrumentId = Field(description="What is traded.")
    timeframe: Frame = Field(description="Bars that the indicators and trades run on.")
    indicator_grids: Annotated[
        list[IndicatorBlock], Field(min_length=1, max_length=MOST_INDICATORS)
    ] = Field(description="Indicators that must agree, each once, with the axes to search over.")
    direction_mode: Direction | None = Field(
        None, description="Which sides may open a position; long-short without it."
    )
    sizing_mode: Sizing | None = Field(
        None, description="How large a position is; all_in without it."
    )
    execution: ExecutionBlock | None = Field(None, description="Costs and cash.")
    risk_grid: RiskBlock | None = Field(None, description="Stops to try; none without it.")
    signal_grids: Signals | None = Field(
        None, description="Axes of the voting rules' parameters, by indicator and parameter."
    )

    @model_validator(mode="after")
    def _unique(self) -> Template:
        seen: set[str] = set()
        for i, block in enumerate(self.indicator_grids):
            if block.indicator_id in seen:
                raise _fault(
                    "duplicate",
                    DUPLICATE + block.indicator_id,
                    f"indicator_grids.{i}.indicator_id",
                )
            seen.add(block.indicator_id)
        return self


class Ranking(Model):
    """What the shortlist and the top-K are cut by."""

    primary_metric: Metric = Field(description="What rows are ordered by.")
    secondary_metric: Metric | None = Field(None, description="What orders rows that are equal.")
    min_trades: Annotated[int, Field(ge=0)] = Field(
        0, description="Rows with fewer trades are left out."
    )
    distinct: bool = Field(False, description="One row for all that trade alike.")

    @model_validator(mode="after")
    def _differ(self) -> Ranking:
        if self.primary_metric == self.secondary_metric:
            raise _fault(
                "value_error",
                f"must differ from primary_metric; drop it (got {shown(self.secondary_metric)})",
                "secondary_metric",
            )
        return self


class Validation(Model):
    """The last part of the slice that ranking does not see."""

    holdout_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the time range that is held out, from its end."
    )


class Search(Model):
    """What every request of a back-test says beside its grid."""

    time_range: TimeRange = Field(description="When bars must close to be traded on.")
    warmup_bars: Count | None = Field(
        None, description="Bars loaded before the range; as many as the indicators need without it."
    )
    top_k: Count | None = Field(None, description="Rows of the answer; null is the default.")
    preselect: Count | None = Field(
        None, description="Base variants that are tried with stops; null is the default."
    )
    top_trades_n: Count | None = Field(
        None, description="Rows that carry their trades where reports are made; at most top_k."
    )
    ranking: Ranking | None = Field(None, description="What is looked for.")
    validation: Validation | None = Field(None, description="What is held out.")


class BacktestRequest(Search):
    """A valid template-mode request; `body` is what was sent, for hashing and storage."""

    template: Template = Field(description="The grid to search over.")
    _body: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        """The decoded JSON as sent, not to be changed."""
        return self._body


def parse_request(body: object) -> BacktestRequest:
    """The request that a decoded JSON body holds.

    Raises: InvalidRequest, with one `{path, code, message}` per fault.
    """
    if not isinstance(body, Mapping):
        raise _refusal(
            f"a request is a JSON object, got {type(body).__name__}", "object_type", "body"
        )
    _template_mode(body)
    sent = {k: v for k, v in body.items() if k not in ("strategy_id", "overrides")}
    try:
        request = BacktestRequest.model_validate(sent)
    except ValidationError as error:
        raise _invalid(error) from None
    request._body.update(copy.deepcopy(dict(body)))
    return request


def strategy_in(body: object) -> Mapping[str, Any] | None:
    """The strategy that a JSON value is, as it is sent or as one is answered with; else None."""
    if not isinstance(body, Mapping) or "template" in body:
        return None
    spec = body.get("spec", body)
    ours = isinstance(spec, Mapping) and isinstance(spec.get("indicators"), list)
    return spec if ours else None


def _template_mode(body: Mapping[Any, Any]) -> None:
    if strategy_in(body) is not None:
        raise _refusal(STRATEGY_GIVEN, "mode_conflict", "body")
    saved = body.get("strategy_id") is not None
    if saved == (body.get("template") is not None):
        raise _refusal(MODE_CONFLICT, "mode_conflict", "body.strategy_id", "body.template")
    if saved:
        raise _refusal(TEMPLATE_ONLY, "mode_conflict", "body.strategy_id")
    if body.get("overrides") is not None:
        raise _refusal(SAVED_ONLY, "mode_conflict", "body.overrides")


def _refusal(message: str, code: str, *paths: str) -> InvalidRequest:
    return InvalidRequest(
        message, [{"path": path, "code": code, "message": message} for path in paths]
    )


def _invalid(error: ValidationError) -> InvalidRequest:
    errors = schema_faults(error, BacktestRequest)
    repeated = [e["message"] for e in errors if e["message"].startswith(DUPLICATE)]
    return InvalidRequest(repeated[0] if repeated else "Validation failed", errors)
