"""The tables of users as SQLAlchemy sees them; the migrations own keys, checks and indexes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA: Final = MetaData()
TIME: Final = DateTime(timezone=True)

USERS: Final = Table(
    "identity_users",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("telegram_user_id", BigInteger),
    Column("paid_level", Text),
    Column("created_at", TIME),
    Column("last_login_at", TIME),
    Column("is_deleted", Boolean),
)

SESSIONS: Final = Table(
    "identity_sessions",
    METADATA,
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("created_at", TIME),
    Column("last_seen_at", TIME),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    Column("user_agent", Text),
    Column("network", Text),
)

USED_LOGINS: Final = Table(
    "identity_used_logins",
    METADATA,
    Column("login_hash", LargeBinary, primary_key=True),
    Column("expires_at", TIME),
)

ACCESS_TOKENS: Final = Table(
    "identity_access_tokens",
    METADATA,
    Column("token_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("name", Text),
    Column("token_hash", LargeBinary),
    Column("scopes", ARRAY(Text)),
    Column("created_at", TIME),
    Column("expires_at", TIME),
    Column("last_used_at", TIME),
    Column("revoked_at", TIME),
)

LIMITS: Final = Table(
    "identity_limits",
    METADATA,
    Column("rule", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("attempts", Integer),
    Column("blocked_until", TIME),
    Column("forget_at", TIME),
)

AUDIT: Final = Table(
    "identity_audit",
    METADATA,
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", TIME),
    Column("user_id", Uuid),
    Column("event", Text),
    Column("details", JSONB(none_as_null=True)),
)
