"""The oracle of the whole search: score everything, sort everything, cut; twice.

Shares nothing with the streaming search but the meaning of the contract: the total order, the two
stages, the minimum of trades and one row per set of equal votes or trades.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compute.reference.engine import DIRECTIONS, Simulation, signal_code, simulate

# +1: the larger value ranks first, -1: the smaller.
METRICS = {
    "max_drawdown_pct": -1,
    "profit_factor": 1,
    "return_over_max_drawdown": 1,
    "total_return_pct": 1,
}
RiskPair = tuple[float | None, float | None]
NO_RISK: RiskPair = (None, None)
Key = Callable[[int, RiskPair], str]


@dataclass(frozen=True, slots=True)
class Row:
    """One scored variant: what it is, how it did, and the rows it stands for.

    `base` is the stage A index, `risk_index` -1 in stage A; `variant_index` is `base` in stage A
    and `shortlist rank * risk pairs + risk_index` in stage B. `equals` are the `variant_index` of
    all rows scored in that stage that this one stands for (itself included, ascending).
    """

    base: int
    risk_index: int
    variant_index: int
    key: str
    simulation: Simulation
    equals: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """Both cuts, best row first."""

    shortlist: list[Row]
    top: list[Row]


def search(
    closes: Sequence[float],
    variants: Sequence[Sequence[int | str]],
    risk_pairs: Sequence[RiskPair],
    terms: Mapping[str, Any],
    *,
    preselect: int,
    top_k: int,
    key: Key,
    primary: str = "total_return_pct",
    secondary: str | None = None,
    min_trades: int = 0,
    distinct: bool = False,
    start: int = 0,
    stop: int | None = None,
) -> Search:
    """Shortlist and top-K of all base variants (signal vectors) under all (SL, TP) percent pairs.

    `terms` are the account arguments of `simulate`; `key(base, pair)` is the identity that breaks
    ties, ascending. Variants with fewer than `min_trades` trades are not ranked, in either stage.
    """

    def scored(base: int, pair: RiskPair) -> Simulation:
        sl_pct, tp_pct = pair
        return simulate(
            closes, variants[base], **terms, sl_pct=sl_pct, tp_pct=tp_pct, start=start, stop=stop
        )

    def cut(rows: list[Row], identity: Callable[[Row], Hashable], size: int) -> list[Row]:
        ranked = [row for row in rows if row.simulation.num_trades >= min_trades]
        ranked.sort(key=lambda row: rank(row, primary, secondary))
        if distinct:
            ranked = first_of_equals(ranked, identity)
        return ranked[:size]

    def votes(row: Row) -> Hashable:
        return tradable_votes(variants[row.base], terms["direction_mode"], start, stop)

    shortlist = cut(
        [
            Row(base, -1, base, key(base, NO_RISK), scored(base, NO_RISK), (base,))
            for base in range(len(variants))
        ],
        votes,
        preselect,
    )
    expanded: list[Row] = []
    for place, row in enumerate(shortlist):
        for risk_index, pair in enumerate(risk_pairs):
            index = place * len(risk_pairs) + risk_index
            expanded.append(
                Row(
                    row.base,
                    risk_index,
                    index,
                    key(row.base, pair),
                    scored(row.base, pair),
                    (index,),
                )
            )
    return Search(shortlist, cut(expanded, lambda row: trade_list(row.simulation), top_k))


def rank(row: Row, primary: str, secondary: str | None) -> tuple[float | str, ...]:
    """Sort key of the total order: primary metric, secondary if any, identity key ascending."""
    names = [primary] if secondary is None else [primary, secondary]
    return (*(-METRICS[name] * getattr(row.simulation, name) for name in names), row.key)


def first_of_equals(ranked: Sequence[Row], identity: Callable[[Row], Hashable]) -> list[Row]:
    """The first row of every identity, in order, each with the indices of all its equals."""
    groups: dict[Hashable, list[Row]] = {}
    for row in ranked:
        groups.setdefault(identity(row), []).append(row)
    return [
        replace(group[0], equals=tuple(sorted(row.variant_index for row in group)))
        for group in groups.values()
    ]


def tradable_votes(
    signals: Sequence[int | str], direction_mode: str, start: int, stop: int | None
) -> tuple[int, ...]:
    """Codes inside the slice; a side that may not be traded is no vote (it only closes)."""
    allowed = DIRECTIONS[direction_mode]
    codes = (signal_code(signal) for signal in signals[start:stop])
    return tuple(code if code in allowed else 0 for code in codes)


def trade_list(simulation: Simulation) -> tuple[tuple[str, int, int], ...]:
    """(side, entry bar, exit bar) of every trade: what decides all the money."""
    return tuple(
        (trade.direction, trade.entry_bar_index, trade.exit_bar_index)
        for trade in simulation.trades
    )
