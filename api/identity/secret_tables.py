"""The tables of second factors and exchange keys as SQLAlchemy sees them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)

from api.identity.tables import TIME

METADATA: Final = MetaData()

TWO_FACTOR: Final = Table(
    "identity_2fa",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("totp_secret_enc", LargeBinary),
    Column("enabled", Boolean),
    Column("enabled_at", TIME),
    Column("last_used_step", BigInteger),
    Column("updated_at", TIME),
)

RECOVERY_CODES: Final = Table(
    "identity_recovery_codes",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("code_hash", LargeBinary, primary_key=True),
    Column("created_at", TIME),
)

STEP_UPS: Final = Table(
    "identity_step_ups",
    METADATA,
    Column("session_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("at", TIME),
)

EXCHANGE_KEYS: Final = Table(
    "identity_exchange_keys",
    METADATA,
    Column("key_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("exchange_name", Text),
    Column("market_type", Text),
    Column("label", Text),
    Column("permissions", Text),
    Column("api_key_enc", LargeBinary),
    Column("api_key_hash", LargeBinary),
    Column("api_key_last4", Text),
    Column("api_secret_enc", LargeBinary),
    Column("passphrase_enc", LargeBinary),
    Column("created_at", TIME),
    Column("updated_at", TIME),
    Column("is_deleted", Boolean),
    Column("deleted_at", TIME),
)

PEPPERS: Final = Table(
    "identity_peppers",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("pepper_enc", LargeBinary),
)
