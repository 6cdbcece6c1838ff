"""The service with users, second factors and exchange keys: over HTTP, on a real database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest
from pyotp.totp import TOTP
from sqlalchemy.ext.asyncio import AsyncEngine

from api.app import create_app
from api.context import AppContext
from api.identity import session_tokens
from api.identity.service import Identity
from api.identity.sessions import open_session
from api.identity.settings import IdentitySettings
from api.identity.users import logged_in
from cluster.postgres.engine import engine
from tests.api.identity.database import with_engine
from tests.api.service.market import context_of
from tests.api.service.serving import served
from tests.postgres import TEMPLATE, execute, of_database, rows

SETTINGS = IdentitySettings.from_environment({}, "test")
STEP_MS = 30_000
_numbers = itertools.count(1)


@dataclass(slots=True)
class Clock:
    """A clock that stands until it is moved."""

    now_ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def next_step(self, steps: int = 1) -> None:
        self.now_ms += steps * STEP_MS


@dataclass(slots=True)
class Person:
    """Somebody who is logged in, with an authenticator."""

    users: Users
    user_id: UUID
    session_id: UUID
    client: httpx.Client
    secret: str = ""

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.client.post(path) if body is None else self.client.post(path, json=body)

    def delete(self, path: str) -> httpx.Response:
        return self.client.delete(path)

    def code(self, steps: int = 0) -> str:
        """What the authenticator shows now, or some steps from now."""
        return TOTP(self.secret).at(self.users.clock.now_ms // 1000 + steps * 30)

    def wrong_code(self) -> str:
        good = {self.code(steps) for steps in (-1, 0, 1)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in good)

    def set_up(self) -> str:
        """The URI of a new secret, which the authenticator has scanned."""
        response = self.post("/2fa/setup")
        assert response.status_code == 200, response.text
        uri = response.json()["otpauth_uri"]
        self.secret = parse_qs(urlsplit(uri).query)["secret"][0]
        return uri

    def enable(self) -> list[str]:
        """The recovery codes of a second factor that is enabled, and proved in this session."""
        self.set_up()
        response = self.post("/2fa/verify", {"code": self.code()})
        assert response.status_code == 200, response.text
        return response.json()["recovery_codes"]

    def step_up(self) -> None:
        self.users.clock.next_step()
        response = self.post("/2fa/step-up", {"code": self.code()})
        assert response.status_code == 200, response.text

    def forget_step_up(self, minutes: int = 11) -> None:
        """Lets minutes pass for the step-up."""
        self.users.execute(
            f"UPDATE identity_step_ups SET at = at - interval '{minutes} minutes' "
            f"WHERE user_id = '{self.user_id}'"
        )

    def events(self) -> list[str]:
        """Names of what the audit log has of this user."""
        query = "SELECT event FROM identity_audit WHERE user_id = $1 ORDER BY event_id"
        return [str(event) for (event,) in rows(self.users.database, query, self.user_id)]

    def row(self) -> tuple[object, ...] | None:
        """The row of the second factor."""
        query = "SELECT * FROM identity_2fa WHERE user_id = $1"
        found = rows(self.users.database, query, self.user_id)
        return found[0] if found else None


@dataclass(slots=True)
class Users:
    """A running service: `person` logs somebody in."""

    url: str
    database: str
    clock: Clock
    settings: IdentitySettings
    clients: list[httpx.Client] = field(default_factory=list)

    def execute(self, *statements: str) -> None:
        execute(self.database, *statements)

    def person(self, same: Person | None = None) -> Person:
        """A new user in a session, or another session of the same."""
        number = next(_numbers)

        async def work(found: AsyncEngine) -> tuple[UUID, UUID, str]:
            async with found.begin() as connection:
                if same is None:
                    user_id = (await logged_in(connection, number)).user_id
                else:
                    user_id = same.user_id
                life = timedelta(days=1)
                session = await open_session(connection, user_id, life, "test", "unknown")
            token = session_tokens.encoded(
                self.settings.jwt,
                user_id=user_id,
                session_id=session.session_id,
                paid_level="free",
                issued_at=session.created_at,
                expires_at=session.expires_at,
            )
            return user_id, session.session_id, token

        user_id, session_id, token = with_engine(self.database, work)
        client = self.client({"Cookie": f"{self.settings.cookie_name}={token}"})
        return Person(self, user_id, session_id, client, "" if same is None else same.secret)

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        """A client that is nobody, or whom `headers` name."""
        self.clients.append(httpx.Client(base_url=self.url, timeout=60, headers=headers))
        return self.clients[-1]


@contextmanager
def running_users(postgres: str, **settings: Any) -> Iterator[Users]:
    """The service over a database of its own."""
    name = f"users_{next(_numbers)}"
    execute(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    database, clock = of_database(postgres, name), Clock()
    chosen = replace(SETTINGS, **settings)

    def context() -> AppContext:
        found = context_of(None, engine=engine(database), now_ms=clock)
        assert found.engine is not None
        found.use_identity(Identity(found.engine, chosen, clock))
        return found

    with served(lambda: create_app(context())) as url:
        users = Users(url, database, clock, chosen)
        try:
            yield users
        finally:
            for client in users.clients:
                client.close()
    execute(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def service(postgres: str) -> Iterator[Users]:
    """One service for the tests of a file."""
    with running_users(postgres) as users:
        yield users


@pytest.fixture
def users(service: Users) -> Users:
    """The service of the file, with no attempts counted against anybody."""
    service.execute("DELETE FROM identity_limits")
    return service


def refused(response: httpx.Response, status: int, error: str) -> dict[str, Any]:
    """The error of a refusal, which has the one form."""
    assert response.status_code == status, response.text
    assert [*response.json()] == ["error"]
    found = response.json()["error"]
    assert [*found] == ["code", "message", "details"]
    assert found["details"]["error"] == error, found
    return found
