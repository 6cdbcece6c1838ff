"""Trades of one variant, column by column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.exact import REASONS

_MONEY = (
    "entry_fill", "exit_fill", "qty_base", "entry_quote", "exit_quote",
    "entry_fee", "exit_fee", "gross", "net", "locked",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trades:
    """Closed trades in entry order; bars index all loaded bars, money is float64 quote units.

    `reason` holds codes of `compute.exact.REASONS`; `side` is +1 long, -1 short.
    """

    side: NDArray[np.int8]
    entry_bar: NDArray[np.int64]
    exit_bar: NDArray[np.int64]
    reason: NDArray[np.int8]
    entry_fill: NDArray[np.float64]
    exit_fill: NDArray[np.float64]
    qty_base: NDArray[np.float64]
    entry_quote: NDArray[np.float64]
    exit_quote: NDArray[np.float64]
    entry_fee: NDArray[np.float64]
    exit_fee: NDArray[np.float64]
    gross: NDArray[np.float64]
    net: NDArray[np.float64]
    locked: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.side)

    @classmethod
    def of_rows(cls, bars: NDArray[np.int64], money: NDArray[np.float64], offset: int) -> Trades:
        """Trades from the tables `account_runs` fills; `offset` is the slice's first bar."""
        return cls(
            bars[:, 0].astype(np.int8),
            bars[:, 1] + offset,
            bars[:, 2] + offset,
            bars[:, 3].astype(np.int8),
            *(np.ascontiguousarray(money[:, i]) for i in range(len(_MONEY))),
        )

    def records(self) -> list[dict[str, Any]]:
        """Trade records with the contract's field names, `trade_id` from 1."""
        return [
            {
                "trade_id": i + 1,
                "direction": "long" if self.side[i] > 0 else "short",
                "entry_bar_index": int(self.entry_bar[i]),
                "exit_bar_index": int(self.exit_bar[i]),
                "entry_fill_price": float(self.entry_fill[i]),
                "exit_fill_price": float(self.exit_fill[i]),
                "qty_base": float(self.qty_base[i]),
                "entry_quote_amount": float(self.entry_quote[i]),
                "exit_quote_amount": float(self.exit_quote[i]),
                "entry_fee_quote": float(self.entry_fee[i]),
                "exit_fee_quote": float(self.exit_fee[i]),
                "gross_pnl_quote": float(self.gross[i]),
                "net_pnl_quote": float(self.net[i]),
                "locked_profit_quote": float(self.locked[i]),
                "exit_reason": REASONS[self.reason[i]],
            }
            for i in range(len(self))
        ]
