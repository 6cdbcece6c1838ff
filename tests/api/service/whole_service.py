"""The whole service with users, jobs and strategies on real stores, and people who use it.

There is no login here but that by Telegram, and no clock but the real one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pyotp.totp import TOTP

from api.app import add_jobs, add_strategies, add_users, configured, create_app, end_streams
from api.context import AppContext
from cluster.postgres.engine import engine
from ingest.stores.clickhouse import ClickHouse
from live.strategies.settings import StrategySettings
from tests.api.identity.people import COOKIE, SETTINGS, payload, refusal
from tests.api.service.job_service import QUICK
from tests.api.service.market import CLIENT_S
from tests.api.service.serving import served
from tests.postgres import rows

JOBS, STRATEGIES = "/backtests/jobs", "/strategies"
TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
SPEC: dict[str, Any] = {
    "schema_version": 2,
    "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
    "timeframe": "1h",
    "indicators": [{"id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 20}}],
}


@dataclass
class Person:
    """Somebody with a browser and an authenticator; all answers are kept."""

    client: httpx.Client
    secret: str = ""
    secrets: set[str] = field(default_factory=set)
    answers: list[httpx.Response] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = self.client.request(method, path, json=body)
        self.answers.append(answer)
        return answer

    def get(self, path: str) -> Any:
        return self._done("GET", path, None)

    def post(self, path: str, body: Any = None) -> Any:
        return self._done("POST", path, body)

    def _done(self, method: str, path: str, body: Any) -> Any:
        answer = self.call(method, path, body)
        assert answer.status_code in (200, 201, 204), answer.text
        return answer.json() if answer.content else None

    def log_in(self, telegram_user_id: int) -> str:
        """The id of a user who logs in for the first time."""
        signed = payload(telegram_user_id)
        user_id = self.post("/auth/telegram/login", signed)["user_id"]
        self.secrets.add(self.client.cookies[COOKIE])
        assert self.get("/auth/current-user")["user_id"] == user_id
        again = self.client.post("/auth/telegram/login", json=signed)
        assert refusal(again, 401) == "used_login"
        return user_id

    def add_second_factor(self) -> None:
        """Sets it up, enables it, and proves it once more."""
        uri = self.client.post("/2fa/setup").json()["otpauth_uri"]
        self.secret = parse_qs(urlsplit(uri).query)["secret"][0]
        self.secrets.add(self.secret)
        enabled = self.client.post("/2fa/verify", json={"code": self.code()}).json()
        self.secrets.update(enabled["recovery_codes"])
        # The next code is good already; that of a moment ago never is again.
        self.post("/2fa/step-up", {"code": self.code(after_s=30)})

    def code(self, after_s: int = 0) -> str:
        """What the authenticator shows, now or in some seconds."""
        return TOTP(self.secret).at(int(time.time()) + after_s)


@dataclass(frozen=True)
class Place:
    """A service and where it keeps things."""

    url: str
    dsn: str
    results_dir: Path

    def rows_of(self, *ids: str) -> list[tuple[object, ...]]:
        """Every row of every table that names one of these."""
        tables = [str(table) for (table,) in rows(self.dsn, TABLES)]
        each = (f"SELECT '{table}', t::text FROM {table} t WHERE t::text ~ $1" for table in tables)
        return sorted(rows(self.dsn, " UNION ALL ".join(each), "|".join(ids)), key=str)


@pytest.fixture
def place(store: ClickHouse, database: str, tmp_path: Path) -> Iterator[Place]:
    """Users, jobs and strategies, put together as `roehub api` does it, without its development
    login."""
    contexts: list[AppContext] = []

    def context() -> AppContext:
        found = configured({"ROEHUB_ENV": "test"})
        found.use_store(store)
        found.engine = engine(database)
        add_users(found, SETTINGS, development=False)
        add_jobs(found, QUICK, database, tmp_path)
        add_strategies(found, StrategySettings(), database)
        contexts.append(found)
        return found

    with served(lambda: create_app(context()), stopping=lambda: end_streams(contexts[0])) as url:
        yield Place(url, database, tmp_path)


@pytest.fixture
def ann(place: Place) -> Iterator[Person]:
    with httpx.Client(base_url=place.url, timeout=CLIENT_S, trust_env=False) as client:
        yield Person(client)


@pytest.fixture
def bob(place: Place) -> Iterator[Person]:
    with httpx.Client(base_url=place.url, timeout=CLIENT_S, trust_env=False) as client:
        yield Person(client)
