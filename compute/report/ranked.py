"""The ranked variants as a table: one column per parameter that varies, equal rows grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from compute.quantities import spaced
from compute.report.format import NOT_AVAILABLE

Scalar = str | int | float | bool | None

NO_TRADES: Final = (
    "no variant ever trades: thresholds are never reached, votes never agree, or only on a side"
    " that direction_mode does not trade"
)
_HOLD: Final = "Benchmark Return [%]"
METRIC_COLUMNS = (
    ("total_return_pct", "Return", "%"),
    ("max_drawdown_pct", "Max. drawdown", "%"),
    ("return_over_max_drawdown", "Return / drawdown", ""),
    ("profit_factor", "Profit factor", ""),
    ("win_rate_pct", "Win rate", "%"),
    ("num_trades", "Trades", "n"),
)
"""(name in `metrics`, heading, unit: percent, plain ratio or count)."""


class Column(TypedDict):
    """A sortable column; `kind` is rank, parameter, metric or holdout."""

    name: str
    group: str
    label: str
    kind: str
    unit: str


class RankedTable(TypedDict):
    """`rows[i]` are the cells of variant i in the order of `columns`; `groups` hold indices."""

    columns: list[Column]
    rows: list[list[Scalar]]
    groups: list[list[int]]
    fixed: list[tuple[str, Scalar]]
    keys: list[str]
    equals: list[str]


def hold_pct(variant: Mapping[str, Any], *, held_out: bool = False) -> float | None:
    """What buying and holding made of the part that `variant` was ranked on, or of the holdout.

    None where the variant has no report of it, or the report no such number.
    """
    part = variant.get("holdout") if held_out else variant
    for row in ((part or {}).get("report") or {}).get("rows") or ():
        if row["metric"] == _HOLD and row["value"] != NOT_AVAILABLE:
            return float(row["value"])
    return None


def ranked_table(variants: Sequence[Mapping[str, Any]]) -> RankedTable:
    """Columns, cells and groups of equal metrics, in ranked order."""
    parameters = [parameter_values(variant.get("payload") or {}) for variant in variants]
    names = list(dict.fromkeys(name for values in parameters for name in values))
    varied = [n for n in names if len({_identity(v.get(n)) for v in parameters}) > 1]
    held = any(variant.get("holdout") for variant in variants)
    columns: list[Column] = [Column(name="rank", group="", label="#", kind="rank", unit="n")]
    columns += [_metric_column(*metric, kind="metric") for metric in METRIC_COLUMNS]
    if held:
        columns.append(_metric_column(*METRIC_COLUMNS[0], kind="holdout"))
    columns += [_parameter_column(name) for name in varied]
    return RankedTable(
        columns=columns,
        rows=[
            _cells(rank, variant, values, varied, held)
            for rank, (variant, values) in enumerate(zip(variants, parameters, strict=True), 1)
        ],
        groups=equal_groups(variants),
        fixed=[(n, parameters[0].get(n)) for n in names if n not in varied],
        keys=[str(variant.get("variant_key", "")) for variant in variants],
        equals=[_equals_text(variant.get("equals")) for variant in variants],
    )


def silence(result: Mapping[str, Any], min_trades: int) -> str:
    """Why a run ranked nothing, or nothing that trades; empty where it ranked some trades."""
    most = (result.get("plan") or {}).get("most_trades")
    if most == 0:
        return NO_TRADES
    if result.get("variants"):
        return ""
    if most is None:
        return "no variant was ranked"
    return (
        f"no variant has enough trades to be ranked: ranking.min_trades is {spaced(min_trades)},"
        f" the most that any variant has is {spaced(most)}; lower it"
    )


def parameter_values(payload: Mapping[str, Any]) -> dict[str, Scalar]:
    """All choices of one variant by full name: inputs, parameters, signal parameters, SL and TP."""
    values: dict[str, Scalar] = {}
    signals: Mapping[str, Any] = payload.get("signal_params") or {}
    for selection in payload.get("indicator_selections") or ():
        indicator = selection["indicator_id"]
        if selection.get("output"):
            values[f"{indicator}.output"] = selection["output"]
        for part in (selection.get("inputs"), selection.get("params"), signals.get(indicator)):
            for name, value in (part or {}).items():
                values[f"{indicator}.{name}"] = value
    risk = payload.get("risk_params") or {}
    values["risk.stop_loss_pct"] = risk.get("sl_pct") if risk.get("sl_enabled") else None
    values["risk.take_profit_pct"] = risk.get("tp_pct") if risk.get("tp_enabled") else None
    return values


def has_stops(payload: Mapping[str, Any]) -> bool:
    """Whether a variant has a stop-loss or a take-profit."""
    risk = payload.get("risk_params") or {}
    return bool(risk.get("sl_enabled") or risk.get("tp_enabled"))


def equal_groups(variants: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Indices of variants with the same metrics, groups in the order of their best rank."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, variant in enumerate(variants):
        metrics = variant.get("metrics") or {}
        values = tuple(metrics.get(name) for name, _, _ in METRIC_COLUMNS)
        # Without metrics nothing is known to be equal.
        key = values if any(v is not None for v in values) else (index,)
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _cells(
    rank: int,
    variant: Mapping[str, Any],
    values: Mapping[str, Scalar],
    varied: Sequence[str],
    held: bool,
) -> list[Scalar]:
    metrics = variant.get("metrics") or {}
    cells: list[Scalar] = [rank, *(metrics.get(name) for name, _, _ in METRIC_COLUMNS)]
    if held:
        later = (variant.get("holdout") or {}).get("metrics") or {}
        cells.append(later.get(METRIC_COLUMNS[0][0]))
    return cells + [values.get(name) for name in varied]


def _metric_column(name: str, label: str, unit: str, *, kind: str) -> Column:
    group = "holdout" if kind == "holdout" else ""
    return Column(name=f"{kind}.{name}", group=group, label=label, kind=kind, unit=unit)


def _parameter_column(name: str) -> Column:
    group, _, label = name.rpartition(".")
    return Column(
        name=name,
        group="risk" if group == "risk" else group,
        label=label.replace("_pct", "").replace("_", " "),
        kind="parameter",
        unit="%" if group == "risk" else "",
    )


def _identity(value: Scalar) -> tuple[str, Scalar]:
    return (type(value).__name__, value)


def _equals_text(equals: Mapping[str, Any] | None) -> str:
    """The axes along which the grid holds equal rows (`ranking.distinct`), as one line."""
    if not equals or equals.get("count", 1) <= 1:
        return ""
    spans = (
        f"{name} {low} to {high}"
        for name, (low, high) in (equals.get("axes") or {}).items()
        if low != high
    )
    return f"{equals['count']} equal in the grid: " + ", ".join(spans)
