"""What a run has to show: its account and its trades."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from live.outcomes import moment_of
from live.paper import SIDES
from live.strategies.rows import moment
from live.tables import ACCOUNTS, BARS, TRADES

Record = dict[str, Any]
POINTS: Final = 1000
"""Points of an equity curve, at most."""
_CURVE: Final = text(
    "SELECT (extract(epoch FROM max(bar_ts)) * 1000)::bigint AS ts,"
    " (array_agg(equity ORDER BY bar_ts DESC))[1] AS equity,"
    " min(equity) AS low, max(equity) AS high,"
    " (array_agg(close ORDER BY bar_ts DESC))[1] AS close"
    " FROM (SELECT *, (row_number() OVER (ORDER BY bar_ts) - 1) / :step AS point"
    " FROM live_bars WHERE run_id = :run_id) bars GROUP BY point ORDER BY point"
)


async def account_record(connection: AsyncConnection, run_id: UUID) -> Record | None:
    """The account after the last bar; None before the first one."""
    query = select(ACCOUNTS).where(ACCOUNTS.c.run_id == run_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    account = row.account_json
    return {
        "equity_quote": row.equity,
        "bar_ts": moment(row.bar_ts),
        "available_quote": account["balance"]["available"],
        "safe_quote": account["balance"]["safe"],
        "position": account["position"] and _position(account["position"]),
        "num_trades": account["trades"],
    }


async def equity_record(connection: AsyncConnection, run_id: UUID, most: int = POINTS) -> Record:
    """Equity after each bar, as columns; of more than `most` bars several make a point, which has
    the last equity of them and the least and greatest ones, so no dip is lost."""
    count = select(func.count()).where(BARS.c.run_id == run_id)
    bars: int = (await connection.execute(count)).scalar_one()
    step = max(1, -(-bars // most))
    found = (await connection.execute(_CURVE, {"step": step, "run_id": run_id})).all()
    columns = ("ts", "equity", "low", "high", "close")
    values = {name: [getattr(row, name) for row in found] for name in columns}
    return {"bars": bars, "bars_per_point": step, **values}


async def trade_records(
    connection: AsyncConnection, run_id: UUID, limit: int, after: int = 0
) -> list[Record]:
    """Closed trades after number `after`, in their order: one more than `limit` if there are."""
    query = (
        select(TRADES)
        .where(TRADES.c.run_id == run_id, TRADES.c.number > after)
        .order_by(TRADES.c.number)
        .limit(limit + 1)
    )
    return [_trade(row) for row in await connection.execute(query)]


def _position(stored: Record) -> Record:
    return {
        "side": SIDES[stored["side"]],
        "entry_bar_ts": moment(moment_of(stored["bar_ms"])),
        "entry_fill_price": stored["fill"],
        "qty_base": stored["quantity"],
        "entry_quote_amount": stored["quote"],
        "entry_fee_quote": stored["fee"],
    }


def _trade(row: Any) -> Record:
    return {
        "trade_id": row.number,
        "direction": SIDES[row.side],
        "entry_bar_ts": moment(row.entry_bar_ts),
        "exit_bar_ts": moment(row.exit_bar_ts),
        "exit_reason": row.reason,
        "entry_fill_price": row.entry_fill,
        "exit_fill_price": row.exit_fill,
        "qty_base": row.quantity,
        "entry_quote_amount": row.entry_quote,
        "exit_quote_amount": row.exit_quote,
        "entry_fee_quote": row.entry_fee,
        "exit_fee_quote": row.exit_fee,
        "gross_pnl_quote": row.gross,
        "net_pnl_quote": row.net,
        "locked_profit_quote": row.locked,
    }
