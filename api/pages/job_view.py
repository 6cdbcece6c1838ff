"""A job as its page shows it: stages, tiles, filters and ranked rows as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final
from urllib.parse import urlencode

from api.column_parts import METRICS
from api.pages.words import NONE, PERCENT, count, number, percent, share
from api.ranked import ranked_record
from cluster.jobs.job import STAGES, TERMINAL, Job
from cluster.pace import starting_text
from compute.grid import Axis, Grid
from compute.quantities import plural, sentence
from compute.report.facts import MARKETS
from compute.report.ranked import METRIC_COLUMNS, has_stops, hold_pct, parameter_values, silence

Record = dict[str, Any]

STAGE_NAMES: Final = {
    "stage_a": "Every base variant",
    "stage_b": "The best with stops",
    "finalizing": "Reports",
}
METRIC_NAMES: Final = {
    "total_return_pct": "return, %",
    "num_trades": "trades",
    "win_rate_pct": "win rate, %",
    "profit_factor": "profit factor",
}
ROWS: Final = 50
"""Groups of ranked rows on a page, until more are wanted."""


def about(job: Job) -> Record:
    """What a job is about, in words and links."""
    template, period = job.effective_json["template"], job.effective_json["time_range"]
    instrument = template["instrument_id"]
    market = instrument["market_id"]
    return {
        "symbol": instrument["symbol"],
        "timeframe": template["timeframe"],
        "venue": MARKETS.get(market, f"Market {market}"),
        "start": period["start"],
        "end": period["end"],
        "indicators": [block["indicator_id"] for block in template["indicator_grids"]],
        "base_variants": job.plan_json["stage_a_variants_total"],
        "direction": template["direction_mode"],
        "sizing": template["sizing_mode"].replace("_", " "),
        "metric": job.effective_json["ranking"]["primary_metric"]
        .removesuffix("_pct")
        .replace("_", " "),
        "distinct": job.effective_json["ranking"]["distinct"],
        "holdout": job.effective_json["validation"]["holdout_fraction"],
        "fee_pct": template["execution"]["fee_pct"],
        "slippage_pct": template["execution"]["slippage_pct"],
        "has_stops": has_stops({"risk_params": template.get("risk_grid")}),
    }


def course(job: Job, is_left: bool) -> Record:
    """How far a job is: its stages, the share of the one under way, pace and time left."""
    at = STAGES.index(job.stage)
    total, done = job.total_units, job.processed_units
    share = 100.0 * done / total if total else 0.0
    left = job.eta_seconds
    pace = (total - done) / left if left and total > done else None
    ended = job.state in TERMINAL
    return {
        "stages": [
            {"name": STAGE_NAMES[name], "place": _place(i, at, job.state)}
            for i, name in enumerate(STAGES)
        ],
        "share": share,
        "done": done,
        "total": total,
        "pace": pace,
        "left": left,
        "starting": starting_text(job.stage, done),
        "took": (job.finished_at - job.started_at).total_seconds()
        if job.finished_at and job.started_at
        else None,
        "ended": ended,
        "orphaned": is_left,
        "cancelling": not ended and job.cancel_requested_at is not None,
        "failure": failure(job),
    }


def _place(stage: int, at: int, state: str) -> str:
    if state == "succeeded" or stage < at:
        return "done"
    return "now" if stage == at and state == "running" else "later"


def failure(job: Job) -> Record | None:
    """Why a job failed and what to do; None where it did not."""
    if job.state != "failed":
        return None
    told = job.last_error_json or {}
    text = told.get("message") or job.last_error or "Nothing was told."
    return {
        "message": sentence(text),
        "stage": STAGE_NAMES.get(str((told.get("details") or {}).get("stage")), ""),
    }


def best_rows(variants: Sequence[Mapping[str, Any]], most: int = 5) -> list[Record]:
    """The best so far: rank, key, return, and the parameters in which they differ."""
    chosen = variants[:most]
    parameters = [parameter_values(one.get("payload") or {}) for one in chosen]
    names = list(dict.fromkeys(name for values in parameters for name in values))
    varied = [n for n in names if len({str(v.get(n)) for v in parameters}) > 1]
    return [
        {
            "rank": rank,
            "variant_key": one["variant_key"],
            "return_pct": one["metrics"]["total_return_pct"],
            "parameters": [
                (short(name), setting(name, values.get(name))) for name in varied or names
            ],
        }
        for rank, (one, values) in enumerate(zip(chosen, parameters, strict=True), 1)
    ]


def short(name: str) -> str:
    """A parameter's name without what everybody knows."""
    group, _, label = name.rpartition(".")
    indicator = group.rpartition(".")[2]
    label = label.removesuffix("_pct").replace("_", " ")
    return label if group == "risk" else f"{indicator} {label}"


def setting(name: str, value: Any) -> str:
    """The text of a parameter's value; a stop that a variant does not have is off."""
    if value is None:
        return "off"
    return cell(value, {"kind": "parameter", "unit": "%" if name.startswith("risk.") else ""})


def tiles(result: Mapping[str, Any]) -> list[Record]:
    """The numbers that a result begins with: label, value, note, side of the value."""
    rows = result.get("variants")
    return row_tiles(rows[0], "Rank 1 returned") if rows else []


def row_tiles(row: Mapping[str, Any], title: str) -> list[Record]:
    """The same of any row; of one that is not final only its return is known."""
    metrics, held = row["metrics"], (row.get("holdout") or {}).get("metrics")
    gain, trades = metrics["total_return_pct"], metrics.get("num_trades")
    drawdown = metrics.get("max_drawdown_pct")
    told = "" if trades is None else plural(trades, "trade")
    if told and has_stops(row.get("payload") or {}):
        told += ", with its stops"
    found = [(title, percent(gain), told, gain)]
    if drawdown is not None:
        found.append(("Its largest drawdown", share(drawdown, 2), "below its peak", None))
    if held:
        later, held_pct = held["total_return_pct"], hold_pct(row, held_out=True)
        note = (
            "bars it was not ranked on" if held_pct is None else f"buy and hold {percent(held_pct)}"
        )
        found.append(("On the holdout", percent(later), note, later))
    bought = hold_pct(row)
    if bought is not None:
        found.append(("Buy and hold", percent(bought), "same bars, no costs", None))
    return [dict(zip(("label", "value", "note", "side"), one, strict=True)) for one in found]


def notices(result: Mapping[str, Any], min_trades: int) -> list[str]:
    """Why a result has no rows, and its cautions; that its candles are made up is said apart."""
    found = [silence(result, min_trades)]
    found += [
        one["message"] for one in result.get("cautions") or () if one["code"] != "synthetic_candles"
    ]
    return [sentence(text) for text in found if text]


@dataclass(frozen=True, slots=True)
class Filters:
    """What the form of filters says, as the API's queries take it."""

    axis: list[str] = field(default_factory=list)
    least: list[str] = field(default_factory=list)
    most: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)

    @property
    def query(self) -> str:
        """The filters as the query of an operation."""
        pairs = [("axis", text) for text in self.axis] + [("min", text) for text in self.least]
        return urlencode(pairs + [("max", text) for text in self.most])


def filters(sent: Mapping[str, str], grid: Grid) -> Filters:
    """The filters of a form's fields `from.AXIS`, `to.AXIS`, `is.AXIS`, `min.METRIC`, `max.METRIC`.

    Fields of what there is not are left out: the page may be older than the form.
    """
    given = {name: value.strip() for name, value in sent.items() if value.strip()}
    axis = []
    for name in grid.axis_names:
        low, high = given.get(f"from.{name}", ""), given.get(f"to.{name}", "")
        if low or high:
            axis.append(f"{name}:{low}..{high}")
        if f"is.{name}" in given:
            axis.append(f"{name}:{given[f'is.{name}']}")
    least, most = (
        [f"{name}:{given[f'{end}.{name}']}" for name in METRICS if f"{end}.{name}" in given]
        for end in ("min", "max")
    )
    return Filters(axis, least, most, given)


def filter_fields(grid: Grid) -> list[Record]:
    """The axes that have something to filter by: their names, values, whether they are numbers."""
    return [
        {
            "name": name,
            "label": short(name),
            "values": _values(axis),
            "is_text": isinstance(axis.values[0], str),
        }
        for name, axis in zip(grid.axis_names, grid.axes, strict=True)
        if len(axis) > 1
    ]


def _values(axis: Axis) -> list[str]:
    """Values to choose from, not more than one can look through."""
    step = max(1, -(-len(axis) // 60))
    texts = [str(value) for value in axis.values]
    return texts if step == 1 else [*texts[:-1:step], texts[-1]]


def table(
    variants: Sequence[Mapping[str, Any]],
    rows: Sequence[int],
    grid: Grid,
    final: bool,
    sort: str,
    down: bool,
) -> Record:
    """The ranked table in the order of a column: heads, groups of rows, what is the same in all."""
    found = ranked_record(variants, rows, grid, final)
    columns = found["columns"]
    if not final:  # the others are not known yet
        kept = [i for i, c in enumerate(columns) if c["kind"] != "metric" or i == 1]
        columns = [columns[i] for i in kept]
        for row in found["rows"]:
            row["cells"] = [row["cells"][i] for i in kept]
    names = [column["name"] for column in columns]
    at = names.index(sort) if sort in names else 0
    groups = [[found["rows"][i] for i in group] for group in found["groups"]]
    groups.sort(key=lambda group: _order(group[0]["cells"][at]), reverse=down)
    groups.sort(key=lambda group: group[0]["cells"][at] is None)  # what is unknown stays last
    return found | {
        "columns": columns,
        "groups": [_group(group, columns) for group in groups],
        "sort": names[at],
        "down": down,
        "fixed": [
            (short(n), setting(n, value)) for n, value in found["fixed"] if value is not None
        ],
        "folded": len(found["rows"]) - len(groups),
    }


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def _group(rows: list[Record], columns: Sequence[Mapping[str, Any]]) -> Record:
    head = rows[0]
    spans = [
        span(column, [row["cells"][at] for row in rows]) if column["kind"] == "parameter" else None
        for at, column in enumerate(columns)
    ]
    return {"head": head, "others": rows[1:], "spans": spans}


def span(column: Mapping[str, Any], values: Sequence[Any]) -> str | None:
    """What a folded group shows where its members differ; None where they do not."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return None
    if len(distinct) == 2:
        return " or ".join(cell(one, column) for one in distinct)
    if all(isinstance(one, int | float) for one in distinct):
        return f"{cell(min(distinct), column)} to {cell(max(distinct), column)}"
    return f"{len(distinct)} values"


def cell(value: Any, column: Mapping[str, Any]) -> str:
    """The text of a cell of the ranked table."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if column["kind"] == "parameter":
        text = f"{value:.12g}".replace("-", "\N{MINUS SIGN}")
        return text + PERCENT if column["unit"] == "%" else text
    if column["unit"] == "n":
        return count(value)
    if column["name"].endswith("total_return_pct"):
        return percent(value)
    return number(value) + (PERCENT if column["unit"] == "%" else "")


def metric_text(name: str, value: float | None) -> str:
    """A metric of a ranked row."""
    return cell(value, {"name": name, "kind": "metric", "unit": METRIC_UNITS[name]})


def compared(one: Record, other: Record) -> list[tuple[str, str, str]]:
    """(name, here, there) of what two requests differ in."""
    flat = [dict(_leaves(record, "")) for record in (one, other)]
    names = list(dict.fromkeys([*flat[0], *flat[1]]))
    return [
        (name, flat[0].get(name, NONE), flat[1].get(name, NONE))
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    ]


def _leaves(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        if value.get("mode") == "explicit":
            return [(name, _listed(value["values"]))]
        return [leaf for key, one in value.items() for leaf in _leaves(one, _joined(name, key))]
    if isinstance(value, list):
        if not value:
            return []
        if all(isinstance(one, Mapping) and "indicator_id" in one for one in value):
            return [
                leaf
                for one in value
                for leaf in _leaves(
                    {k: v for k, v in one.items() if k != "indicator_id"}, one["indicator_id"]
                )
            ]
        return [(name, _listed(value))]
    if isinstance(value, bool):
        return [(name, "yes" if value else "no")]
    return [(name, NONE if value is None else str(value))]


def _joined(name: str, key: str) -> str:
    if key in ("template", "params", "indicator_grids", "execution", "time_range"):
        return name
    return f"{name}.{key}" if name else key


def _listed(values: Sequence[Any]) -> str:
    if len(values) <= 6:
        return ", ".join(str(value) for value in values)
    are_numbers = all(isinstance(value, int | float) for value in values)
    steps = {round(b - a, 9) for a, b in pairwise(values)} if are_numbers else set()
    step = f", step {steps.pop():g}" if len(steps) == 1 else ""
    return f"{values[0]} to {values[-1]}{step} ({len(values)} values)"


METRIC_LABELS: Final = {name: label for name, label, _ in METRIC_COLUMNS}
METRIC_UNITS: Final = {name: unit for name, _, unit in METRIC_COLUMNS}
