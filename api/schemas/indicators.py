"""Answers about indicators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from api.schemas.errors import Answer
from compute.axes import AXIS_SCHEMA

Axis = Annotated[dict[str, Any], WithJsonSchema(AXIS_SCHEMA)]


class InputItem(Answer):
    """A choice of price series."""

    name: Literal["source"] = Field(description="Always source.")
    allowed_values: list[str] = Field(description="Series that can be chosen, sorted.")
    default: Axis | None = Field(description="Values of a request that leaves it out, if any.")


class ParamItem(Answer):
    """A parameter of an indicator."""

    name: str = Field(description="Its name.")
    kind: Literal["int", "float", "enum"] = Field(description="What its values are.")
    hard_min: float | int = Field(description="Smallest value.")
    hard_max: float | int = Field(description="Largest value.")
    step: float | int = Field(description="Distance that the steps of ranges are multiples of.")
    enum_values: list[str] | None = Field(description="Allowed values of an enum.")
    default: Axis | None = Field(description="Values of a request that leaves it out, if any.")


class SignalParamItem(Answer):
    """A parameter of a voting rule."""

    name: str = Field(description="Its name.")
    kind: Literal["int", "float"] = Field(description="What its values are.")
    proposed: Axis = Field(description="Values worth trying.")
    default: Axis | None = Field(description="Values of a request that leaves it out, if any.")


class SignalItem(Answer):
    """The voting rule of the primary output."""

    family: str = Field(description="Family of the rule.")
    params: list[SignalParamItem] = Field(description="Its parameters.")


class OutputItem(Answer):
    """One series of an indicator."""

    name: str = Field(description="Its name.")
    family: str | None = Field(description="Family of its voting rule; null where it has none.")
    meaning: str = Field(description="What its vote means.")
    axes: list[str] = Field(description="Axes that it depends on.")


class IndicatorItem(Answer):
    """One indicator."""

    indicator_id: str = Field(description="Its id.")
    group: str = Field(description="Its group.")
    title: str = Field(description="Its name for people.")
    required_inputs: list[str] = Field(description="Series it reads beside a chosen source.")
    inputs: list[InputItem] = Field(description="Its source axis, where it has one.")
    params: list[ParamItem] = Field(description="Its parameters, by name.")
    output_names: list[str] = Field(description="Its outputs.")
    primary_output: str = Field(description="The output that is meant where none is named.")
    axis_order: list[str] = Field(description="Axes in variant order, the last one fastest.")
    signal: SignalItem | None = Field(description="How the primary output votes, if it can.")
    outputs: list[OutputItem] = Field(description="Its outputs and their votes.")
    default_layout: Literal["time_major"] = Field(description="Layout of tensors.")


class IndicatorList(Answer):
    """All indicators, by id."""

    schema_version: Literal[1] = Field(description="Version of this form.")
    items: list[IndicatorItem] = Field(description="The indicators.")


class EstimateTotals(Answer):
    """What a request would take."""

    schema_version: Literal[1] = Field(description="Version of this form.")
    total_variants: int = Field(description="Variants of all indicators and stops.")
    distinct_variants: int = Field(description="Of them, with outputs that can differ.")
    estimated_memory_bytes: int = Field(description="Bytes of candles, tensors and a reserve.")


class TensorAxis(Answer):
    """One axis of a tensor."""

    name: str = Field(description="Its name.")
    values: list[int | float | str] = Field(description="Its values, in order.")


class TensorMeta(Answer):
    """Sizes of a tensor."""

    t: int = Field(description="Bars.")
    variants: int = Field(description="Variants.")
    nan_policy: Literal["propagate"] = Field(description="A missing minute stays NaN.")
    compute_ms: int = Field(description="Milliseconds it took.")


class TensorFacts(Answer):
    """A computed tensor without its values, which stay in the service."""

    schema_version: Literal[1] = Field(description="Version of this form.")
    indicator_id: str = Field(description="What was computed.")
    output: str = Field(description="Which output.")
    layout: Literal["time_major", "variant_major"] = Field(description="Which index runs slower.")
    axes: list[TensorAxis] = Field(description="Axes of the variants, the last one fastest.")
    shape: list[int] = Field(description="Shape.")
    dtype: Literal["float32"] = Field(description="Type of the values.")
    c_contiguous: bool = Field(description="Whether it is one block in C order.")
    meta: TensorMeta = Field(description="Sizes and time.")


class PreviewSeries(Answer):
    """One setting of an indicator over a range, in columns of points, by time."""

    indicator_id: str = Field(description="What was computed.")
    output: str = Field(description="Which output.")
    settings: dict[str, int | float | str] = Field(description="Value of each of its axes.")
    signals: dict[str, int | float] = Field(description="Value of each parameter of its rule.")
    meaning: str = Field(description="What its vote means.")
    on_price: bool = Field(description="Whether its values are prices.")
    generated: bool = Field(description="Whether a generator made some of the candles.")
    bars: int = Field(description="Bars that are shown.")
    bars_per_point: int = Field(description="Bars that a point stands for; the last may have less.")
    ts_open: list[int] = Field(description="Open of the first bar of each point, epoch ms.")
    open: list[float | None] = Field(description="First price of each point.")
    high: list[float | None] = Field(description="Highest price of each point.")
    low: list[float | None] = Field(description="Lowest price of each point.")
    close: list[float | None] = Field(description="Last price of each point.")
    value: list[float | None] = Field(description="The output at the last bar of each point.")
    long: list[int] = Field(description="Bars of each point that vote LONG.")
    short: list[int] = Field(description="Bars of each point that vote SHORT.")
