"""Specifications as they are sent: the schemas of both versions, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from compute.errors import InvalidRequest
from compute.faults import schema_faults
from compute.request import (
    Count,
    Direction,
    ExecutionBlock,
    Frame,
    InstrumentId,
    Model,
    Name,
    Sizing,
)

Record = dict[str, Any]


def _number(raw: object) -> object:
    if isinstance(raw, bool):
        raise PydanticCustomError("number_type", "must be a number")
    return raw


Number = Annotated[int | float, BeforeValidator(_number)]


class StrategyInputs(Model):
    """What an indicator reads."""

    source: Name | None = Field(None, description="Price series, where it has a source: close, …")


class StrategyIndicator(Model):
    """One indicator with a value for each of its parameters."""

    id: Name = Field(description="Id of the indicator, like momentum.rsi.")
    inputs: StrategyInputs | None = Field(None, description="What it reads.")
    params: dict[Name, Number] = Field(
        default_factory=dict, description="Value of each of its parameters, by name."
    )
    output: Name | None = Field(None, description="Which output votes; the primary one without it.")


class StrategyRisk(Model):
    """Its stops."""

    sl_enabled: bool = Field(False, description="Whether there is a stop-loss.")
    sl_pct: float | None = Field(None, description="Its level in percent.")
    tp_enabled: bool = Field(False, description="Whether there is a take-profit.")
    tp_pct: float | None = Field(None, description="Its level in percent.")


class StrategyV2(Model):
    """A strategy with everything that decides its trades."""

    schema_version: Literal[2] = Field(description="2: signals, sizing, stops and costs included.")
    instrument_id: InstrumentId = Field(description="What is traded.")
    timeframe: Frame = Field(description="Bars that the indicators and trades run on.")
    indicators: Annotated[list[StrategyIndicator], Field(min_length=1)] = Field(
        description="Indicators that must agree, each once; the order is the name's."
    )
    signals: dict[Name, dict[Name, Number]] | None = Field(
        None, description="Parameters of the voting rules, by indicator and parameter."
    )
    direction_mode: Direction | None = Field(
        None, description="Which sides may open a position; long-short without it."
    )
    sizing_mode: Sizing | None = Field(
        None, description="How large a position is; all_in without it."
    )
    risk: StrategyRisk | None = Field(None, description="Stops; none without it.")
    execution: ExecutionBlock | None = Field(
        None, description="Costs and cash; what is left out takes the present default."
    )
    warmup_bars: Count | None = Field(
        None, description="Bars before the first traded one; as many as it needs without it."
    )


class StrategyV1(Model):
    """A strategy as the first version says it: indicators alone."""

    schema_version: Literal[1] = Field(1, description="1, or left out.")
    instrument_id: InstrumentId = Field(description="What is traded.")
    instrument_key: str | None = Field(
        None, description="`exchange:market_type:symbol`; must be that of instrument_id."
    )
    market_type: str | None = Field(
        None, description="spot or futures; must be that of instrument_id."
    )
    timeframe: str = Field(description="1m, 5m, 15m, 1h, 4h or 1d.")
    indicators: list[dict[str, Any]] = Field(
        description="Objects with a name, kind or id; other members are kept as they are."
    )
    signal_template: str | None = Field(None, description="For readers; nothing evaluates it.")


VERSIONS: Final[Mapping[int, type[StrategyV1] | type[StrategyV2]]] = {1: StrategyV1, 2: StrategyV2}


def strategy_request(body: object, at: str = "body") -> StrategyV1 | StrategyV2:
    """The request that a decoded JSON body holds; without `schema_version` it is of version 1.

    `at` is where it stands in the whole. Raises: InvalidRequest.
    """
    if not isinstance(body, Mapping):
        message = f"a strategy is a JSON object, got {type(body).__name__}"
        raise InvalidRequest(message, [{"path": at, "code": "object_type", "message": message}])
    if "template" in body:
        message = (
            "this is the request of a back-test, not a strategy: run it, and save a variant of it"
            " as a strategy (on the page of its job, or POST /strategies/from-variant)"
        )
        raise InvalidRequest(message, [{"path": at, "code": "mode_conflict", "message": message}])
    version = body.get("schema_version", 1)
    model = VERSIONS.get(version) if type(version) is int else None
    if model is None:
        message = "must be 1 or 2"
        place = f"{at}.schema_version"
        fault = {"path": place, "code": "literal_error", "message": message}
        raise InvalidRequest("Validation failed", [fault])
    try:
        return model.model_validate(dict(body))
    except ValidationError as error:
        faults = schema_faults(error, model)
        raise InvalidRequest("Validation failed", [moved(one, at) for one in faults]) from None


def moved(fault: Mapping[str, str], at: str) -> dict[str, str]:
    """A fault of a body that stands at `at`."""
    return {**fault, "path": at + fault["path"].removeprefix("body")}
