"""The top of the ranking on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from compute.quantities import spaced
from compute.report import ranked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from compute.backtest import Backtest

_SHOWN: Final = 20
_WIDE: Final = 240  # columns of a pipe: nothing is cut off in a file
_BOUNDLESS: Final = 10_000
_ANY: Final = "any"
_METRICS: Final = (
    ("total_return_pct", "return %", 2, 0),
    ("max_drawdown_pct", "drawdown %", 2, 4),
    ("return_over_max_drawdown", "return / drawdown", 2, 0),
    ("profit_factor", "profit factor", 3, 6),
    ("num_trades", "trades", 0, 5),
    ("win_rate_pct", "win rate %", 1, 7),
)
"""(name, heading, decimals, how soon it goes where there is no room)."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A column of the table; the one with the greatest `spare` is the first to go."""

    name: str
    heading: str
    brief: str
    cells: list[str]
    spare: int = 0


def caution_lines(messages: Iterable[str]) -> list[str]:
    """A line for each caution, to be shown before the numbers that it is about."""
    return [f"WARNING: {message}" for message in messages]


def print_ranked(result: Mapping[str, Any], job: Backtest, console: Console | None = None) -> None:
    """Prints the best rows to stdout, rows with equal metrics as one, a line each."""
    from rich.console import Console

    console = console or Console(width=None if sys.stdout.isatty() else _WIDE)
    variants = result["variants"]
    why = ranked.silence(result, job.min_trades)
    if not variants:
        console.print(why, highlight=False)
        return
    rows = ranked.ranked_table(variants)
    groups = rows["groups"][:_SHOWN]
    marks = [_equal(variants, group) for group in groups]
    idle = job.grid.idle_axes if job.distinct else ()
    columns, dropped = fitted(
        ranked_columns(variants, rows, groups, marks, job.primary_metric, idle), console
    )
    console.print(_table(columns))
    below = [why] if why else [*_legend(marks)]
    if (later := ranked.hold_pct(variants[0], held_out=True)) is not None:
        here = ranked.hold_pct(variants[0])
        before = "" if here is None else f"{here:.2f} % over the ranked bars, "
        below.append(f"buy and hold: {before}{later:.2f} % over those held out")
    kinds = len(rows["groups"])
    if not why and not job.distinct and 2 * kinds <= len(variants):
        below.append(
            f"{spaced(len(variants))} ranked rows, {spaced(kinds)} different"
            f" {'results' if kinds > 1 else 'result'}: ranking.distinct keeps one of each and"
            " makes room for others"
        )
    if idle:
        below.append(f"{_ANY}: the output that votes does not depend on it")
    if dropped:
        below.append(f"no room for: {', '.join(dropped)}; --out and --json have all of it")
    if left := len(variants) - sum(len(group) for group in groups):
        below.append(f"… and {spaced(left)} more ranked rows")
    if rows["fixed"]:
        fixed = ", ".join(
            f"{name} {_ANY if name in idle else _span([value])}" for name, value in rows["fixed"]
        )
        below.append(f"in every row: {fixed}")
    for line in below:
        console.print(line, style="dim", highlight=False)


def ranked_columns(
    variants: Sequence[Mapping[str, Any]],
    rows: ranked.RankedTable,
    groups: Sequence[Sequence[int]],
    marks: list[str],
    primary_metric: str,
    idle: Collection[str],
) -> list[Shown]:
    """The columns of the table, a cell for each group of equal rows; `idle` axes take any value."""
    first = [variants[group[0]] for group in groups]
    columns = [Shown("rank", "rank", "rank", [str(group[0] + 1) for group in groups])]
    if any(marks):
        columns.append(Shown("equal", "equal", "equal", marks, spare=1))
    for name, label, places, spare in _METRICS:
        if name != "return_over_max_drawdown" or name == primary_metric:
            cells = [_number(variant["metrics"][name], places) for variant in first]
            kept = name == primary_metric
            columns.append(Shown(label, label, _stacked(label), cells, 0 if kept else spare))
    if any(variant.get("holdout") for variant in variants):
        later = [
            [variants[row]["holdout"]["metrics"]["total_return_pct"] for row in group]
            for group in groups
        ]
        reach = [_reach(values) for values in later]
        columns.append(Shown("held out %", "held out %", "held\nout %", reach, spare=2))
    for i, column in enumerate(rows["columns"]):
        if column["kind"] == "parameter":
            group, label = column["group"], column["label"]
            cells = [_span([rows["rows"][row][i] for row in group]) for group in groups]
            if column["name"] in idle:
                cells = [_ANY] * len(groups)
            brief = f"{group.rpartition('.')[2]}\n{_stacked(label)}"
            columns.append(Shown(f"{group} {label}", f"{group}\n{label}", brief, cells, spare=3))
    return columns


def fitted(columns: list[Shown], console: Console) -> tuple[list[Shown], list[str]]:
    """The columns as the console has room for them: abbreviated, then fewer; names of the others.

    Of equal `spare` the last goes first. What may not go stays, however narrow the console is.
    """

    free = console.options.update(width=_BOUNDLESS)  # a measure never exceeds the width it is given

    def fits(chosen: list[Shown]) -> bool:
        return console.measure(_table(chosen), options=free).maximum <= console.width

    if fits(columns):
        return columns, []
    chosen = [replace(column, heading=column.brief) for column in columns]
    dropped: set[str] = set()
    while not fits(chosen) and any(column.spare for column in chosen):
        at = max(range(len(chosen)), key=lambda i: (chosen[i].spare, i))
        dropped.add(chosen.pop(at).name)
    return chosen, [column.name for column in columns if column.name in dropped]


def _table(columns: Sequence[Shown]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    return table


def _stacked(label: str) -> str:
    """A heading with a word to a line; a unit stays with what it measures."""
    return label.replace(" ", "\n").replace("\n%", " %").replace("\n/", " /")


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
