"""The top of the ranking on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from compute.quantities import spaced

if TYPE_CHECKING:
    from rich.table import Table

    from compute.backtest import Backtest

_SHOWN: Final = 20
_WIDE: Final = 240  # columns of a pipe: nothing is cut off in a file
_METRICS: Final = (
    ("total_return_pct", "return %", 2),
    ("max_drawdown_pct", "drawdown %", 2),
    ("return_over_max_drawdown", "return / drawdown", 2),
    ("profit_factor", "profit factor", 3),
    ("num_trades", "trades", 0),
    ("win_rate_pct", "win rate %", 1),
)


def print_ranked(result: Mapping[str, Any], job: Backtest) -> None:
    """Prints the best rows to stdout, rows with equal metrics as one."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    variants = result["variants"]
    if not variants:
        console.print(
            f"no variant has enough trades to be ranked: ranking.min_trades is"
            f" {spaced(job.min_trades)}, the most that any variant has is"
            f" {spaced(result['plan']['most_trades'])}; lower it",
            highlight=False,
        )
        return
    table, left, fixed, marks = ranked_table(variants, job.primary_metric)
    console.print(table)
    for line in _legend(marks):
        console.print(line, style="dim", highlight=False)
    if left:
        console.print(f"… and {spaced(left)} more ranked rows", style="dim", highlight=False)
    if fixed:
        console.print(f"in every row: {fixed}", style="dim", highlight=False)


def ranked_table(
    variants: Sequence[Mapping[str, Any]], primary_metric: str, shown: int = _SHOWN
) -> tuple[Table, int, str, list[str]]:
    """First groups of equal rows, and what is said below them.

    That is the number of ranked rows left out, the parameters all rows share, the marks of equals.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    from compute.report import ranked

    rows = ranked.ranked_table(variants)
    groups = rows["groups"][:shown]
    marks = [_equal(variants, group) for group in groups]
    grouped = any(marks)
    held = any(variant.get("holdout") for variant in variants)
    parameters = [i for i, c in enumerate(rows["columns"]) if c["kind"] == "parameter"]
    table = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    if grouped:
        table.add_column("equal", justify="right")
    for name, label, _ in _METRICS:
        if name != "return_over_max_drawdown" or name == primary_metric:
            table.add_column(label, justify="right")
    if held:
        table.add_column("held out %", justify="right")
    for i in parameters:
        column = rows["columns"][i]
        table.add_column(f"{column['group']}\n{column['label']}", justify="right")
    for group, mark in zip(groups, marks, strict=True):
        first = variants[group[0]]
        cells = [str(group[0] + 1)]
        if grouped:
            cells.append(mark)
        cells += [
            _number(first["metrics"][name], places)
            for name, _, places in _METRICS
            if name != "return_over_max_drawdown" or name == primary_metric
        ]
        if held:
            later = [variants[row]["holdout"]["metrics"]["total_return_pct"] for row in group]
            cells.append(_reach(later))
        cells += [_span([rows["rows"][row][i] for row in group]) for i in parameters]
        table.add_row(*cells)
    fixed = ", ".join(f"{name} {_span([value])}" for name, value in rows["fixed"])
    return table, len(variants) - sum(len(group) for group in groups), fixed, marks


def _number(value: float | int | None, places: int) -> str:
    return "–" if value is None else f"{value:,.{places}f}".replace(",", " ")


def _equal(variants: Sequence[Mapping[str, Any]], group: Sequence[int]) -> str:
    """How many rows a line stands for: those of the group, else those that were folded away."""
    if len(group) > 1:
        return f"×{len(group)}"
    first = variants[group[0]]
    folded = [(first.get(name) or {}).get("count", 1) for name in ("equals", "base_equals")]
    return f"×{folded[0]}×{folded[1]}" if max(folded) > 1 else ""


def _legend(marks: Iterable[str]) -> list[str]:
    """What the marks of equal rows mean, for the kinds that there are."""
    kinds = {mark.count("×") for mark in marks}
    lines: list[str] = []
    if 1 in kinds:
        lines.append("equal ×N: N ranked rows with the same metrics, and what their values reach")
    if 2 in kinds:
        lines.append(
            "equal ×N×M: ranking.distinct left one of N rows of Stage B with the same trades, "
            "and one of M base variants of Stage A with the same votes"
        )
    return lines


def _reach(values: Sequence[float | None]) -> str:
    """Least and greatest of a group, once where they look the same."""
    found = [value for value in values if value is not None]
    texts = [_number(value, 2) for value in (min(found), max(found))] if found else ["–"]
    return "…".join(dict.fromkeys(texts))


def _span(values: Sequence[Any]) -> str:
    """The one value of a group, or what its values reach over."""
    found = sorted({v for v in values if v is not None}, key=lambda v: (isinstance(v, str), v))
    texts = [v if isinstance(v, str) else f"{v:g}" for v in found]
    if None in values:
        texts.append("off")
    if len(texts) > 2 and not any(isinstance(v, str) for v in found) and None not in values:
        return f"{texts[0]}…{texts[-1]}"
    return " ".join(texts)
