"""A key-encryption key is replaced: everything stays readable, nothing is decrypted on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.identity import envelope
from api.identity.envelope import EXCHANGE_KEYS, TOTP, Vault, exchange_binding, totp_binding
from api.identity.exchange_keys import ExchangeKeys, NewKey
from api.identity.rotation import Rotation, rotate
from api.identity.service import Identity
from api.identity.settings import IdentitySettings, Key, KeyRing
from api.identity.two_factor import TwoFactor
from tests.api.identity.database import with_engine
from tests.postgres import execute, rows

OLD, NEW = Key(b"o" * 32), Key(b"n" * 32)
ONE, BOTH, LATER = KeyRing(OLD), KeyRing(NEW, OLD), KeyRing(NEW)
USERS = [UUID(int=number) for number in range(2, 9)]


def vaults(ring: KeyRing) -> tuple[Vault, Vault]:
    return Vault(TOTP, ring), Vault(EXCHANGE_KEYS, ring)


def identity(engine: AsyncEngine, ring: KeyRing) -> Identity:
    settings = IdentitySettings("test", "", ring, ring, ring)
    return Identity(engine, settings, lambda: 0)


def filled(database: str) -> None:
    """Seven users with a second factor each; the first has two exchange keys, one is deleted."""
    for number, user in enumerate(USERS, 1):
        execute(
            database,
            "INSERT INTO identity_users (user_id, telegram_user_id, created_at) "
            f"VALUES ('{user}', {number}, now())",
        )

    async def work(engine: AsyncEngine) -> None:
        users = identity(engine, ONE)
        for user in USERS:
            await TwoFactor(users).setup(user)
        keys = ExchangeKeys(users)
        for name, phrase in (("first-key", "phrase"), ("second-key", None), ("third-key", None)):
            new = NewKey("binance", "spot", "read", None, name, f"secret of {name}", phrase)
            added = await keys.add(USERS[0], new)
        await keys.delete(USERS[0], added.key_id)

    with_engine(database, work)


def rotated(database: str, ring: KeyRing = BOTH, batch: int = 3) -> Rotation:
    return with_engine(database, lambda engine: rotate(engine, *vaults(ring), batch))


def opened(database: str, ring: KeyRing) -> list[str]:
    """All secrets, as keys of `ring` read them."""
    two_factor, exchange = vaults(ring)
    found: list[str] = []
    for user, blob in rows(database, "SELECT user_id, totp_secret_enc FROM identity_2fa"):
        found.append(two_factor.open(blob, totp_binding(user)))  # type: ignore[arg-type]
    query = "SELECT user_id, key_id, {0}_enc FROM identity_exchange_keys WHERE {0}_enc IS NOT NULL"
    for name in ("api_key", "api_secret", "passphrase"):
        for user, key, blob in rows(database, query.format(name)):
            found.append(exchange.open(blob, exchange_binding(user, key, name)))  # type: ignore[arg-type]
    return sorted(found)


def test_everything_is_under_the_new_key_and_the_old_one_may_go(database: str) -> None:
    filled(database)
    before = opened(database, ONE)
    done = rotated(database)
    assert done.record() == {
        "identity_2fa.totp_secret_enc": {"rewrapped": 7, "current": 0, "unreadable": 0, "late": 0},
        "identity_exchange_keys.api_key_enc": {
            "rewrapped": 2,
            "current": 0,
            "unreadable": 0,
            "late": 0,
        },
        "identity_exchange_keys.api_secret_enc": {
            "rewrapped": 2,
            "current": 0,
            "unreadable": 0,
            "late": 0,
        },
        "identity_exchange_keys.passphrase_enc": {
            "rewrapped": 1,
            "current": 0,
            "unreadable": 0,
            "late": 0,
        },
        "identity_peppers.pepper_enc": {"rewrapped": 1, "current": 0, "unreadable": 0, "late": 0},
    }
    assert done.complete
    assert opened(database, LATER) == before
    assert "first-key" in before

    async def again(engine: AsyncEngine) -> None:
        new = NewKey("binance", "spot", "read", None, "first-key", "another", None)
        await ExchangeKeys(identity(engine, LATER)).add(USERS[0], new)

    with pytest.raises(Exception, match="already exists"):  # the pepper is the same one
        with_engine(database, again)


def test_a_second_run_finds_nothing_to_do(database: str) -> None:
    filled(database)
    rotated(database)
    before = rows(database, "SELECT user_id, totp_secret_enc FROM identity_2fa ORDER BY user_id")
    counts = rotated(database).record().values()
    assert [count["rewrapped"] for count in counts] == [0] * 5
    assert [count["current"] for count in counts] == [7, 2, 2, 1, 1]
    after = rows(database, "SELECT user_id, totp_secret_enc FROM identity_2fa ORDER BY user_id")
    assert after == before
    events = rows(database, "SELECT details FROM identity_audit WHERE event = 'secrets.rotated'")
    assert len(events) == 2


def test_an_interrupted_run_goes_on_where_it_was(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(database)
    before = opened(database, ONE)
    genuine, calls = Vault.rewrap, [0]

    def fails(self: Vault, blob: bytes, binding: envelope.Binding) -> bytes:
        calls[0] += 1
        if calls[0] == 5:  # in the middle of the second batch
            raise KeyboardInterrupt
        return genuine(self, blob, binding)

    with monkeypatch.context() as patched:
        patched.setattr(Vault, "rewrap", fails)
        with pytest.raises(KeyboardInterrupt):
            rotated(database)
    assert opened(database, BOTH) == before
    counts = rotated(database).record()["identity_2fa.totp_secret_enc"]
    assert counts == {"rewrapped": 4, "current": 3, "unreadable": 0, "late": 0}
    assert opened(database, LATER) == before


def test_data_are_not_decrypted(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(database)

    def refused(self: Vault, *arguments: object) -> str:
        raise AssertionError("a secret was opened")

    seen: list[bytes] = []
    genuine = envelope._decrypted

    def watched(key: bytes, part: bytes, aad: bytes) -> bytes:
        plain = genuine(key, part, aad)
        seen.append(plain)
        return plain

    monkeypatch.setattr(Vault, "open", refused)
    monkeypatch.setattr(envelope, "_decrypted", watched)
    assert rotated(database).complete
    assert len(seen) == 13
    assert {len(plain) for plain in seen} == {32}  # data keys, nothing else


def test_what_cannot_be_read_is_counted_and_left_alone(database: str) -> None:
    filled(database)
    execute(
        database,
        "UPDATE identity_2fa SET totp_secret_enc = decode('02', 'hex') "
        f"WHERE user_id = '{USERS[1]}'",
    )
    done = rotated(database, batch=1)
    counts = done.record()["identity_2fa.totp_secret_enc"]
    assert counts == {"rewrapped": 6, "current": 0, "unreadable": 1, "late": 0}
    assert not done.complete
    assert rotated(database).record()["identity_2fa.totp_secret_enc"]["unreadable"] == 1
    left = f"SELECT totp_secret_enc FROM identity_2fa WHERE user_id = '{USERS[1]}'"
    assert rows(database, left) == [(b"\x02",)]


def test_the_column_of_an_erased_user_is_gone_with_him(database: str) -> None:
    filled(database)
    execute(database, f"DELETE FROM identity_users WHERE user_id = '{USERS[0]}'")
    assert rows(database, "SELECT count(*) FROM identity_exchange_keys") == [(0,)]
    assert rotated(database).record()["identity_2fa.totp_secret_enc"]["rewrapped"] == 6


def test_what_is_written_under_the_old_key_meanwhile_keeps_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that was not given the new key goes on with the one before."""
    filled(database)
    late = Vault(TOTP, ONE).seal("late", totp_binding(USERS[0])).hex()
    write = (
        f"UPDATE identity_2fa SET totp_secret_enc = decode('{late}', 'hex') "
        f"WHERE user_id = '{USERS[0]}'"
    )
    genuine, calls = Vault.rewrap, [0]

    def watched(self: Vault, blob: bytes, binding: envelope.Binding) -> bytes:
        calls[0] += 1
        if calls[0] == 4:  # the batch with the first user is committed
            other.submit(execute, database, write).result()
        return genuine(self, blob, binding)

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as other:
        patched.setattr(Vault, "rewrap", watched)
        done = rotated(database)
    assert done.record()["identity_2fa.totp_secret_enc"]["late"] == 1
    assert not done.complete
    assert rotated(database).complete
