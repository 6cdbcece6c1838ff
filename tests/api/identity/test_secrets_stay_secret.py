"""No secret is in a log line, a table, a metric, the document or an answer that is not to show it.

A whole life of a user is lived, with everything that can go wrong in it, while each log line down
to the driver's is kept. Then all of it is searched for what was planted: as it is, in hexadecimal,
and in base64 at any offset.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.identity.exchange_keys import ExchangeKey
from api.identity.settings import DEVELOPMENT
from tests.api.identity.secret_service import Person, Users, running_users
from tests.postgres import rows

API_KEY = "PlantedApiKey7f3b9c2e1d"
API_SECRET = "PlantedApiSecret5a8e4c1b0f"
PASSPHRASE = "PlantedPassphrase9d2c6e7a"
NOT_A_CODE = "PlantedWrongCode3e5f"
NOT_A_RECOVERY_CODE = "PlantedWrongRecovery8b1d"
PLANTED = (API_KEY, API_SECRET, PASSPHRASE, NOT_A_CODE, NOT_A_RECOVERY_CODE)


class Kept(logging.Handler):
    """Every log line, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[list[str]]:
    kept, names = Kept(), ("", "sqlalchemy.engine", "sqlalchemy.pool", "uvicorn", "asyncpg", "api")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    loggers[0].addHandler(kept)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield kept.lines
    finally:
        loggers[0].removeHandler(kept)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def forms(secret: str) -> set[str]:
    """How a secret may stand in a text: plain, in hexadecimal, in base64 behind other bytes."""
    raw = secret.encode()
    found = {secret, raw.hex(), raw.hex().upper()}
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(before) + raw).decode().rstrip("=")
            found.add(text[-(-before * 8 // 6) : len(text) - 2])
    return found


def leaks(secrets: set[str], text: str) -> list[str]:
    return [secret for secret in secrets if any(form in text for form in forms(secret))]


def exchange_key(**members: Any) -> dict[str, Any]:
    return {
        "exchange_name": "bybit", "market_type": "futures", "permissions": "trade",
        "api_key": API_KEY, "api_secret": API_SECRET, "passphrase": PASSPHRASE, **members,
    }  # fmt: skip


def refusals(ann: Person) -> Iterator[httpx.Response]:
    """Answers to requests that hold secrets and cannot be meant."""
    for members in (
        {"api_secret": [API_SECRET]},
        {"api_key": {"value": API_KEY}},
        {"api_secret": API_SECRET * 200},
        {"passphrase": PASSPHRASE * 50},
        {"permissions": API_SECRET},
        {"exchange_name": API_KEY},
        {"label": PASSPHRASE * 20},
        {"secret": API_SECRET},
        {"api_key": f"{API_KEY}\x00"},
        {},  # a key that is stored already
    ):
        yield ann.post("/exchange-keys", exchange_key(**members))
    broken = f'{{"api_key": "{API_KEY}", "api_secret": "{API_SECRET}"'.encode()
    headers = {"content-type": "application/json"}
    yield ann.client.post("/exchange-keys", content=broken, headers=headers)
    yield ann.client.post("/exchange-keys", content=broken + b"\xff}", headers=headers)
    yield ann.client.post("/exchange-keys", data={"api_secret": API_SECRET})
    yield ann.post("/exchange-keys", [API_KEY, API_SECRET])
    for path in ("/2fa/verify", "/2fa/step-up"):
        yield ann.post(path, {"code": NOT_A_CODE})
        yield ann.post(path, {"code": NOT_A_CODE * 10})
        yield ann.post(path, NOT_A_CODE)
    yield ann.post("/2fa/reset", {"recovery_code": NOT_A_RECOVERY_CODE})
    yield ann.post("/2fa/reset", {"recovery_code": [NOT_A_RECOVERY_CODE]})


def failures(ann: Person, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Response]:
    """Answers when something breaks while secrets are in hand."""
    execute, table = ann.users.execute, "identity_exchange_keys"
    execute(f"ALTER TABLE {table} RENAME COLUMN api_secret_enc TO gone")
    yield ann.post("/exchange-keys", exchange_key(api_key=f"{API_KEY}2"))
    execute(f"ALTER TABLE {table} RENAME COLUMN gone TO api_secret_enc")
    execute(f"ALTER TABLE {table} ADD CONSTRAINT never CHECK (label IS DISTINCT FROM 'never')")
    yield ann.post("/exchange-keys", exchange_key(api_key=f"{API_KEY}3", label="never"))
    with monkeypatch.context() as patched:
        ann.client.headers["Connection"] = "close"  # as the server does after a defect
        patched.setattr(ExchangeKey, "masked", property(lambda self: 1 / 0))
        yield ann.post("/exchange-keys", exchange_key(api_key=f"{API_KEY}4"))
    execute("UPDATE identity_2fa SET totp_secret_enc = totp_secret_enc || 'x'")
    ann.users.clock.next_step()
    yield ann.post("/2fa/step-up", {"code": ann.code()})
    execute("UPDATE identity_2fa SET totp_secret_enc = substr(totp_secret_enc, 1, 126)")
    execute("UPDATE identity_peppers SET pepper_enc = pepper_enc || 'x'")
    yield ann.post("/exchange-keys", exchange_key(api_key=f"{API_KEY}5"))


def life(users: Users, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], list[httpx.Response]]:
    """(what must be nowhere, answers that must not have it) of a user to whom all happens."""
    ann = users.person()
    secrets = {*PLANTED, ann.client.headers["cookie"].partition("=")[2]}
    answers: list[httpx.Response] = []
    ann.set_up()
    secrets.add(ann.secret)
    secrets.update(ann.enable())
    secrets.add(ann.secret)
    answers.append(ann.post("/exchange-keys", exchange_key()))
    answers.append(ann.get("/exchange-keys"))
    token = ann.post("/access-tokens", {"name": "n", "scopes": ["read"]}).json()["token"]
    secrets.add(token)
    program = users.client({"Authorization": f"Bearer {token}"})
    answers.append(program.post("/exchange-keys", json=exchange_key()))
    answers.append(program.get("/exchange-keys", headers={"Authorization": f"Bearer {token}x"}))
    answers.extend(refusals(ann))
    users.execute("DELETE FROM identity_limits")
    answers.extend(failures(ann, monkeypatch))
    users.execute("DELETE FROM identity_limits")
    for _ in range(7):
        answers.append(ann.post("/2fa/step-up", {"code": ann.wrong_code()}))
    users.execute("DELETE FROM identity_limits")
    codes = ann.post("/2fa/recovery-codes").json()["recovery_codes"]
    secrets.update(codes)
    answers.append(ann.get("/account/export"))
    answers.append(ann.get("/2fa"))
    answers.append(ann.post("/2fa/reset", {"recovery_code": codes[0]}))
    answers.append(ann.post("/auth/logout"))
    answers.append(ann.get("/exchange-keys"))
    answers.append(users.client().get("/openapi.json"))
    answers.append(users.client().get("/metrics"))
    return secrets | {code.replace("-", "") for code in secrets if code.count("-") == 5}, answers


def test_the_search_finds_what_it_looks_for() -> None:
    for before in (b"", b"a", b"ab", b"abc"):
        raw = before + API_SECRET.encode() + b"after"
        for text in (raw.decode(), raw.hex(), base64.b64encode(raw).decode()):
            assert leaks({API_SECRET}, f"… {text} …") == [API_SECRET]
    assert leaks({API_SECRET}, API_KEY + API_SECRET[:-3]) == []


def test_no_secret_is_anywhere_in_clear(
    postgres: str,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with running_users(postgres) as users:
        secrets, answers = life(users, monkeypatch)
        kept = users.settings
        for ring in (kept.jwt, kept.two_factor, kept.exchange_keys):
            secrets.add(ring.current.value.decode())
        secrets.update(DEVELOPMENT.values())
        tables = {
            str(table): "\n".join(
                str(row) for (row,) in rows(users.database, f"SELECT t::text FROM {table} t")
            )
            for (table,) in rows(
                users.database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            )
        }
    statuses = [answer.status_code for answer in answers]
    assert {201, 200, 204, 401, 403, 409, 415, 422, 429, 500} <= {*statuses}
    assert statuses.count(500) == 5
    assert len(tables["identity_exchange_keys"].splitlines()) == 2
    assert tables["identity_audit"].count("two_factor.code_refused") == 5
    text = "\n".join(log)
    assert "INSERT INTO identity_exchange_keys" in text  # the driver's lines are among them
    assert "Traceback" in text
    places = {
        "log": text,
        "terminal": "".join(capfd.readouterr()),
        **{f"table {name}": rows for name, rows in tables.items()},
        **{f"answer {n} {one.request.url}": one.text for n, one in enumerate(answers)},
    }
    found = {place: leaks(secrets, said) for place, said in places.items()}
    assert {place: leaked for place, leaked in found.items() if leaked} == {}
