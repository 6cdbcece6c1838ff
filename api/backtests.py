"""Requests of back-tests as what a worker computes: parsed, made effective, held to the guards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from api.bodies import check_axes
from api.context import AppContext
from api.errors import invalid
from api.saved import Asked, SavedFields
from api.sync_tasks import BacktestTask, ReportTask
from compute.backtest import Backtest, resolve
from compute.errors import InvalidInput
from compute.indicator_requests import parsed
from compute.plan import check_variants
from compute.request import (
    MOST_INDICATORS,
    Count,
    Direction,
    ExecutionBlock,
    Model,
    Name,
    Sizing,
    Template,
    TimeRange,
    parse_request,
)
from compute.settings import Defaults


def _scalar(raw: object) -> object:
    if isinstance(raw, bool):
        raise PydanticCustomError("scalar_type", "must be int, float, or string")
    return raw


Scalar = Annotated[int | float | str, BeforeValidator(_scalar)]
Number = Annotated[int | float, BeforeValidator(_scalar)]


class SelectionBlock(Model):
    """One concrete choice of an indicator."""

    indicator_id: Name = Field(description="Id of the indicator.")
    inputs: dict[Name, Scalar] = Field(
        default_factory=dict, description="`source`, where the indicator has one."
    )
    params: dict[Name, Scalar] = Field(
        default_factory=dict, description="Value of each of its parameters."
    )
    output: Name | None = Field(None, description="Which output votes; the primary one without it.")


class RiskValues(Model):
    """One pair of stops."""

    sl_enabled: bool = Field(False, description="Whether there is a stop-loss.")
    sl_pct: Annotated[float, Field(ge=0)] | None = Field(None, description="Its level in percent.")
    tp_enabled: bool = Field(False, description="Whether there is a take-profit.")
    tp_pct: Annotated[float, Field(ge=0)] | None = Field(None, description="Its level in percent.")


class VariantBlock(Model):
    """One variant in full: the `payload` of a row can be sent as it is."""

    indicator_selections: Annotated[
        list[SelectionBlock], Field(min_length=1, max_length=MOST_INDICATORS)
    ] = Field(description="The choice for each indicator, each once.")
    signal_params: dict[Name, dict[Name, Number]] = Field(
        default_factory=dict, description="Parameters of the voting rules, by indicator."
    )
    risk_params: RiskValues = Field(description="Its stops.")
    execution_params: ExecutionBlock = Field(
        description="Costs and cash; what is left out takes the present default."
    )
    direction_mode: Direction = Field(description="Which sides may open a position.")
    sizing_mode: Sizing = Field(description="How large a position is.")


class ReportFields(Model):
    """What a request of a report says beside its context."""

    time_range: TimeRange = Field(description="When bars must close to be traded on.")
    warmup_bars: Count | None = Field(
        None, description="Bars loaded before the range; as the context's own run without it."
    )
    variant: VariantBlock = Field(description="The variant; it need not be of the context's grid.")
    include_trades: bool = Field(False, description="Whether its trades are wanted, too.")


class TemplateReport(ReportFields):
    """A report in the context of a template: its instrument, timeframe and warm-up."""

    template: Template = Field(description="The template whose run the variant is from.")


class SavedReport(ReportFields, SavedFields):
    """A report in the context of a stored strategy."""


def effective(body: Mapping[str, Any], context: AppContext) -> Backtest:
    """The back-test that a template-mode body means here.

    Raises: InvalidRequest, InvalidGrid, GuardExceeded, another InvalidInput.
    """
    request = parse_request(body)
    check_axes(request, context.api)
    return resolve(request, context.defaults, context.indicator_defaults)


def backtest_task(asked: Asked, context: AppContext) -> BacktestTask:
    """The search of a request, under half of the budgets. Raises: as `effective`."""
    job = effective(asked.body, context)
    limits = context.limits.halved()
    check_variants(job, limits)
    reports = context.defaults.eager_top_reports_enabled
    return BacktestTask(job, limits, asked.identity, reports, device=context.search.device)


def report_task(asked: Asked, context: AppContext) -> ReportTask:
    """The report of a request's one variant. Raises: as `effective`."""
    request = parsed(TemplateReport, _without(asked.body, "strategy_id", "overrides"))
    body = _without(asked.body, "variant", "include_trades")
    around = {**body, "warmup_bars": effective(body, context).warmup_bars}
    job = variant_backtest(around, asked.body["variant"], context.defaults)
    return ReportTask(job, context.limits.halved(), request.include_trades)


def variant_backtest(
    around: Mapping[str, Any], variant: Mapping[str, Any], defaults: Defaults
) -> Backtest:
    """The back-test of one variant: `around` has the range, the warm-up, and the template that
    instrument and timeframe are from.

    Nothing of a variant is left to the defaults of indicators: it is what it says.
    Raises: InvalidRequest, InvalidGrid, another InvalidInput.
    """
    try:
        job = resolve(parse_request(_variant_body(around, variant)), defaults)
    except InvalidInput as error:
        raise _of_variant(error) from None
    if job.grid.total > 1:  # the proposed values of another output's rule
        raise invalid(
            "the voting rules need a value for each of their parameters; send signal_params as the"
            " payload of a row has them",
            "required",
            "body.variant.signal_params",
        )
    return replace(job, holdout_fraction=0.0, min_trades=0)


_PLACES: Final = {
    "body.template.indicator_grids": "body.variant.indicator_selections",
    "body.template.signal_grids": "body.variant.signal_params",
    "body.template.risk_grid.sl": "body.variant.risk_params.sl_pct",
    "body.template.risk_grid.tp": "body.variant.risk_params.tp_pct",
    "body.template.risk_grid": "body.variant.risk_params",
    "body.template.execution": "body.variant.execution_params",
}


def _of_variant(error: InvalidInput) -> InvalidInput:
    """The error with its places as they are in the variant."""
    for item in error.details.get("errors", ()):
        for ours, theirs in _PLACES.items():
            item["path"] = item["path"].replace(ours, theirs)
    return error


def _without(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def _variant_body(body: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any]:
    """The request whose grid is the one variant."""
    template = body["template"]
    return {
        "time_range": body["time_range"],
        "warmup_bars": body.get("warmup_bars"),
        "top_k": 1,
        "preselect": 1,
        "top_trades_n": 1,
        "template": {
            "instrument_id": template["instrument_id"],
            "timeframe": template["timeframe"],
            "indicator_grids": [_block(choice) for choice in variant["indicator_selections"]],
            "signal_grids": {
                name: {param: _one(value) for param, value in params.items()}
                for name, params in (variant.get("signal_params") or {}).items()
            },
            "risk_grid": variant["risk_params"],
            "execution": variant["execution_params"],
            "direction_mode": variant["direction_mode"],
            "sizing_mode": variant["sizing_mode"],
        },
    }


def _block(choice: Mapping[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = {
        "indicator_id": choice["indicator_id"],
        "params": {name: _one(value) for name, value in (choice.get("params") or {}).items()},
    }
    for name, value in (choice.get("inputs") or {}).items():
        block[name.strip().lower()] = _one(value)
    if choice.get("output") is not None:
        block["output"] = choice["output"]
    return block


def _one(value: Any) -> dict[str, Any]:
    return {"mode": "explicit", "values": [value]}
