"""Whatever one user sends, with all that another one knows, the other's secrets stay his."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.identity.secret_service import Person, Users, running_users
from tests.postgres import rows

KEY = {
    "exchange_name": "binance",
    "market_type": "spot",
    "permissions": "read",
    "label": "a label",
    "api_key": "api-key-of-Bob",
    "api_secret": "api-secret-of-Bob",
}
CALLS = st.sampled_from(
    [
        ("GET", "/2fa", None),
        ("POST", "/2fa/setup", None),
        ("POST", "/2fa/verify", "code"),
        ("POST", "/2fa/verify", "own code"),
        ("POST", "/2fa/step-up", "code"),
        ("POST", "/2fa/step-up", "own code"),
        ("POST", "/2fa/reset", "recovery code"),
        ("POST", "/2fa/recovery-codes", None),
        ("DELETE", "/2fa", None),
        ("GET", "/exchange-keys", None),
        ("POST", "/exchange-keys", "key"),
        ("DELETE", "/exchange-keys/{key}", None),
        ("DELETE", "/auth/sessions/{session}", None),
        ("GET", "/auth/sessions", None),
        ("GET", "/account/export", None),
        ("DELETE", "/account", None),
    ]
)


class Bob:
    """Somebody who has everything, and what an attacker may know of him."""

    def __init__(self, users: Users) -> None:
        self.person = users.person()
        self.recovery = self.person.enable()
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        self.tables = [str(table) for (table,) in rows(users.database, query)]
        self.key_id = self.person.post("/exchange-keys", KEY).json()["key_id"]

    def body(self, name: str | None, ann: Person) -> Any:
        """What Ann sends, made of what she knows."""
        return {
            None: None,
            "code": {"code": self.person.code(1)},
            "own code": {"code": ann.code(1) if ann.secret else "123456"},
            "recovery code": {"recovery_code": self.recovery[0]},
            "key": KEY | {"api_secret": "another"},
        }[name]

    def path(self, template: str) -> str:
        return template.format(key=self.key_id, session=self.person.session_id)

    def known(self) -> list[tuple[object, ...]]:
        """Every row that names him or his key."""
        query = " UNION ALL ".join(
            f"SELECT '{table}', t::text FROM {table} t WHERE t::text ~ $1" for table in self.tables
        )
        names = f"{self.person.user_id}|{self.key_id}"
        return sorted(rows(self.person.users.database, query, names), key=str)


@pytest.fixture(scope="module")
def bob(postgres: str) -> Any:
    with running_users(postgres) as users:
        yield Bob(users)


@settings(max_examples=12)
@given(calls=st.lists(CALLS, min_size=3, max_size=8), prepared=st.booleans())
def test_no_calls_of_one_user_change_or_show_anything_of_another(
    bob: Bob, calls: list[tuple[str, str, str | None]], prepared: bool
) -> None:
    users = bob.person.users
    users.execute("DELETE FROM identity_limits")
    ann = users.person()
    if prepared:
        ann.enable()
    before = bob.known()
    assert len(before) >= 17  # 10 codes, 3 events, key, second factor, session, user
    for method, path, body in calls:
        answer = ann.client.request(method, bob.path(path), json=bob.body(body, ann))
        assert answer.status_code < 500, answer.text
        said = answer.text
        for secret in (bob.person.secret, bob.key_id, str(bob.person.user_id), "secret-of-Bob"):
            assert secret not in said
    assert bob.known() == before
    assert bob.person.get("/exchange-keys").status_code == 200
