"""The tables of live runs as SQLAlchemy sees them; the migrations own keys, checks and indexes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB, REAL

METADATA: Final = MetaData()
_TIME: Final = DateTime(timezone=True)

RUNNERS: Final = Table(
    "live_runners",
    METADATA,
    Column("owner", Text, primary_key=True),
    Column("seen_until", _TIME),
)

LEASES: Final = Table(
    "live_leases",
    METADATA,
    Column("instrument_key", Text, primary_key=True),
    Column("owner", Text),
    Column("token", BigInteger),
    Column("lease_until", _TIME),
)

ACCOUNTS: Final = Table(
    "live_accounts",
    METADATA,
    Column("run_id", Uuid, primary_key=True),
    Column("account_json", JSONB),
    Column("equity", Double),
    Column("bar_ts", _TIME),
    Column("tried_at", _TIME),
)

BARS: Final = Table(
    "live_bars",
    METADATA,
    Column("run_id", Uuid, primary_key=True),
    Column("bar_ts", _TIME, primary_key=True),
    Column("close", REAL),
    Column("vote", SmallInteger),
    Column("equity", Double),
    Column("digest", BigInteger),
    Column("committed_at", _TIME),
)

RECONCILIATIONS: Final = Table(
    "live_reconciliations",
    METADATA,
    Column("run_id", Uuid, primary_key=True),
    Column("checked_at", _TIME),
    Column("until_ts", _TIME),
    Column("bars", Integer),
    Column("trades", Integer),
    Column("differences", Integer),
    Column("report_json", JSONB),
)

TRADES: Final = Table(
    "live_trades",
    METADATA,
    Column("run_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("side", SmallInteger),
    Column("entry_bar_ts", _TIME),
    Column("exit_bar_ts", _TIME),
    Column("reason", Text),
    *(
        Column(name, Double)
        for name in (
            "entry_fill", "exit_fill", "quantity", "entry_quote", "exit_quote",
            "entry_fee", "exit_fee", "gross", "net", "locked",
        )
    ),
)  # fmt: skip
