"""The database itself refuses rows that no part of the service may leave."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from tests.postgres import TEMPLATE, execute, of_database, rows

ANN = "00000000-0000-0000-0000-00000000000a"
KEY = "00000000-0000-0000-0000-0000000000aa"
FACTOR = {
    "user_id": f"'{ANN}'",
    "totp_secret_enc": "'x'",
    "enabled": "FALSE",
    "enabled_at": "NULL",
    "last_used_step": "NULL",
    "updated_at": "now()",
}
EXCHANGE_KEY = {
    "key_id": f"'{KEY}'",
    "user_id": f"'{ANN}'",
    "exchange_name": "'binance'",
    "market_type": "'spot'",
    "permissions": "'read'",
    "api_key_enc": "'x'",
    "api_key_hash": "sha256('x')",
    "api_key_last4": "'ABCD'",
    "api_secret_enc": "'x'",
    "passphrase_enc": "NULL",
    "created_at": "now()",
    "updated_at": "now()",
    "is_deleted": "FALSE",
    "deleted_at": "NULL",
}
DELETED = {
    "is_deleted": "TRUE", "deleted_at": "now()", "api_key_enc": "NULL", "api_secret_enc": "NULL",
}  # fmt: skip


@pytest.fixture(scope="module")
def one_database(postgres: str) -> Iterator[str]:
    """A database with a user, for all tests of the file."""
    execute(postgres, f"CREATE DATABASE secret_tables TEMPLATE {TEMPLATE}")
    dsn = of_database(postgres, "secret_tables")
    execute(dsn, f"INSERT INTO identity_users VALUES ('{ANN}', 1, 'free', now(), now(), FALSE)")
    yield dsn
    execute(postgres, "DROP DATABASE secret_tables WITH (FORCE)")


@pytest.fixture
def users(one_database: str) -> str:
    """That database, without secrets of the user."""
    execute(one_database, "DELETE FROM identity_2fa", "DELETE FROM identity_exchange_keys")
    return one_database


def insert(dsn: str, table: str, row: dict[str, str], **changes: str) -> None:
    values = row | changes
    execute(dsn, f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})")


def constraint_of(error: asyncpg.PostgresError) -> str:
    return getattr(error, "constraint_name", "")


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"enabled": "TRUE", "last_used_step": "1"}, "identity_2fa_enabled_state_chk"),
        ({"enabled_at": "now()"}, "identity_2fa_enabled_state_chk"),
        ({"enabled": "TRUE", "enabled_at": "now()"}, "identity_2fa_last_used_step_chk"),
    ],
)
def test_second_factors(users: str, changes: dict[str, str], constraint: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        insert(users, "identity_2fa", FACTOR, **changes)
    assert constraint_of(caught.value) == constraint


def test_a_recovery_code_is_a_hash_of_a_second_factor(users: str) -> None:
    insert(users, "identity_2fa", FACTOR)
    row = {"user_id": f"'{ANN}'", "code_hash": "sha256('x')", "created_at": "now()"}
    with pytest.raises(asyncpg.CheckViolationError):
        insert(users, "identity_recovery_codes", row, code_hash="'plain'")
    insert(users, "identity_recovery_codes", row)
    execute(users, "DELETE FROM identity_2fa")
    assert rows(users, "SELECT count(*) FROM identity_recovery_codes") == [(0,)]
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        insert(users, "identity_recovery_codes", row)


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"exchange_name": "'kraken'"}, "exchange_name_chk"),
        ({"market_type": "'margin'"}, "market_type_chk"),
        ({"permissions": "'withdraw'"}, "permissions_chk"),
        ({"api_key_hash": "'short'"}, "api_key_hash_len_chk"),
        ({"api_key_last4": "'ABC'"}, "api_key_last4_len_chk"),
        ({"api_key_last4": "'ABCDE'"}, "api_key_last4_len_chk"),
        (DELETED | {"deleted_at": "NULL"}, "deleted_state_chk"),
        ({"deleted_at": "now()"}, "deleted_state_chk"),
        (DELETED | {"api_secret_enc": "'x'"}, "wiped_chk"),
        (DELETED | {"passphrase_enc": "'x'"}, "wiped_chk"),
        ({"api_secret_enc": "NULL"}, "wiped_chk"),
        ({"updated_at": "now() - interval '1 s'"}, "times_chk"),
        (DELETED | {"deleted_at": "now() - interval '1 s'"}, "times_chk"),
        (DELETED | {"deleted_at": "now() + interval '1 s'"}, "times_chk"),
    ],
    ids=range(14),
)
def test_exchange_keys(users: str, changes: dict[str, str], constraint: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        insert(users, "identity_exchange_keys", EXCHANGE_KEY, **changes)
    assert constraint_of(caught.value) == f"identity_exchange_keys_{constraint}"


def test_active_keys_are_unique_and_deleted_ones_need_not_be(users: str) -> None:
    other = {"key_id": "gen_random_uuid()"}
    insert(users, "identity_exchange_keys", EXCHANGE_KEY)
    insert(users, "identity_exchange_keys", EXCHANGE_KEY, **other, **DELETED)
    insert(users, "identity_exchange_keys", EXCHANGE_KEY, **other, **DELETED)
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        insert(users, "identity_exchange_keys", EXCHANGE_KEY, **other)
    assert constraint_of(caught.value) == "idx_identity_exchange_keys_active_unique_key"
