"""Ranking: metrics as numbers that grow with merit, and the total order over variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compute.account import FIXED_QUOTE

RETURN, DRAWDOWN, RETURN_OVER_DRAWDOWN, PROFIT_FACTOR = (
    "total_return_pct",
    "max_drawdown_pct",
    "return_over_max_drawdown",
    "profit_factor",
)
# Relative distance within which a fast score does not decide a cut (of equity; of the factor).
GUARD = 1e-9


@dataclass(frozen=True, slots=True)
class Ranking:
    """What decides: metrics in order, then the identity key; too few trades leave a variant out."""

    primary: str = RETURN
    secondary: str | None = None
    min_trades: int = 0
    distinct: bool = False

    @property
    def needs_drawdown(self) -> bool:
        """A metric that only bar-level equity can give, in an exact score."""
        return {self.primary, self.secondary} & {DRAWDOWN, RETURN_OVER_DRAWDOWN} != set()

    @property
    def searches_drawdown(self) -> bool:
        """The search itself goes by bar-level equity."""
        return self.primary in (DRAWDOWN, RETURN_OVER_DRAWDOWN)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of n variants.

    `equity` is in units of initial cash, `won` and `lost` are profits in quote units, `drawdown` is
    a fraction, NaN where nobody asked for it.
    """

    index: NDArray[np.int64]
    equity: NDArray[np.float64]
    trades: NDArray[np.int32]
    wins: NDArray[np.int32]
    won: NDArray[np.float64]
    lost: NDArray[np.float64]
    drawdown: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Scores:
        """The chosen rows."""
        return Scores(*(getattr(self, name)[rows] for name in SCORE_FIELDS))


SCORE_FIELDS = ("index", "equity", "trades", "wins", "won", "lost", "drawdown")


def joined(parts: list[Scores]) -> Scores:
    """All rows of `parts`, in order."""
    if len(parts) == 1:
        return parts[0]
    return Scores(*(np.concatenate([getattr(p, name) for p in parts]) for name in SCORE_FIELDS))


def no_scores() -> Scores:
    """Scores of nothing."""
    return Scores(
        np.empty(0, np.int64), np.empty(0), np.empty(0, np.int32), np.empty(0, np.int32),
        np.empty(0), np.empty(0), np.empty(0),
    )  # fmt: skip


def total_return_pct(equity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return in percent of equity in units of initial cash."""
    return (equity - 1) * 100


def profit_factor(won: NDArray[np.float64], lost: NDArray[np.float64]) -> NDArray[np.float64]:
    """Profits / losses; inf without losses, 0 without either."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(lost > 0, won / lost, np.where(won > 0, np.inf, 0.0))


def return_over_drawdown(
    return_pct: NDArray[np.float64], drawdown_pct: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return / drawdown.

    Without a drawdown ±inf by the return's sign, 0 for no return; -inf where the drawdown is
    undefined (a peak that is not positive).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(return_pct == 0, 0.0, np.copysign(np.inf, return_pct))
        ratio = np.where(drawdown_pct == 0, limit, return_pct / drawdown_pct)
        return np.where(np.isinf(drawdown_pct), -np.inf, ratio)


def metric(name: str, scores: Scores) -> NDArray[np.float64]:
    """Values of one ranking metric, in its own unit and direction; never NaN."""
    if name == RETURN:
        return total_return_pct(scores.equity)
    if name == PROFIT_FACTOR:
        return profit_factor(scores.won, scores.lost)
    drawdown_pct = 100 * scores.drawdown
    if name == DRAWDOWN:
        return drawdown_pct
    return return_over_drawdown(total_return_pct(scores.equity), drawdown_pct)


def merit(name: str, scores: Scores) -> NDArray[np.float64]:
    """`metric`, turned so that more is better."""
    values = metric(name, scores)
    return -values if name == DRAWDOWN else values


def fast_merit(name: str, scores: Scores) -> NDArray[np.float64]:
    """Merit of fast scores for searching: equity stands for the return, it keeps more digits."""
    return scores.equity if name == RETURN else merit(name, scores)


def margin(name: str, sizing: int, value: float) -> float:
    """Half width of the guard band around a cut at fast merit `value`.

    A compounding account errs relative to itself, down to where the return in percent cannot tell
    two equities apart; a fixed amount errs relative to the initial cash, a drawdown absolutely.
    """
    if not np.isfinite(value):
        return 0.0
    least = {PROFIT_FACTOR: 0.0, DRAWDOWN: 1.0, RETURN_OVER_DRAWDOWN: 1e-3}.get(name)
    if least is None:
        least = 1.0 if sizing == FIXED_QUOTE else 1e-6
    return GUARD * max(abs(value), least)


def settled(
    name: str, scores: Scores, init_cash: float, exact: Callable[[NDArray[np.bool_]], Scores]
) -> Scores:
    """`scores` with those replaced in place whose ratio is too delicate for nine fast digits."""
    if name == PROFIT_FACTOR:
        delicate = np.minimum(scores.won, scores.lost) < 1e-6 * init_cash * scores.trades
    elif name == RETURN_OVER_DRAWDOWN:
        delicate = (scores.drawdown < 1e-3) & (scores.trades > 0)
    else:
        return scores
    if delicate.any():
        better = exact(delicate)
        for field in SCORE_FIELDS[1:]:
            getattr(scores, field)[delicate] = getattr(better, field)
    return scores


def cut_at(merits: NDArray[np.float64], n: int) -> float:
    """The n-th largest merit."""
    return float(np.partition(merits, len(merits) - n)[len(merits) - n])


def order(
    scores: Scores, ranking: Ranking, keys: Callable[[NDArray[np.int64]], list[str]]
) -> NDArray[np.intp]:
    """Rows of exact `scores` by the total order: primary, secondary, then ascending key.

    Keys are asked for only where both metrics tie.
    """
    first = merit(ranking.primary, scores)
    second = merit(ranking.secondary, scores) if ranking.secondary else np.zeros(len(scores))
    rows = np.lexsort((scores.index, -second, -first))
    first, second = first[rows], second[rows]
    same = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    edges = np.flatnonzero(np.concatenate(([True], ~same, [True])))
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if end - begin > 1:
            tied = rows[begin:end]
            names = keys(scores.index[tied])
            rows[begin:end] = tied[sorted(range(len(tied)), key=names.__getitem__)]
    return rows
