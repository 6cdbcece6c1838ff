"""The tables of Telegram as SQLAlchemy sees them; the migrations own keys, checks and indexes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)

METADATA: Final = MetaData()
TIME: Final = DateTime(timezone=True)

CHANNELS: Final = Table(
    "identity_telegram_channels",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("chat_id", BigInteger, primary_key=True),
    Column("is_confirmed", Boolean),
    Column("confirmed_at", TIME),
)

LINKS: Final = Table(
    "identity_telegram_links",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("token_hash", LargeBinary),
    Column("created_at", TIME),
    Column("expires_at", TIME),
)

BOTS: Final = Table(
    "telegram_bots",
    METADATA,
    Column("bot_id", BigInteger, primary_key=True),
    Column("username", Text),
    Column("next_update_id", BigInteger),
    Column("heard_at", TIME),
    Column("owner", Text),
    Column("token", BigInteger),
    Column("lease_until", TIME),
)
