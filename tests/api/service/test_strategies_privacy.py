"""No sequence of calls by one user changes anything of another, or tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.service.strategy_service import (
    PATH,
    USER,
    V2,
    made,
    own_database,
    strategy_service,
    user,
)
from tests.postgres import rows

MISSING = str(UUID(int=5))
SYMBOL = "BOBSCOIN"
TABLES = ("strategy_strategies", "strategy_runs", "strategy_events")


@dataclass
class Bob:
    """A user with a strategy that runs, one that does not, and one that is deleted."""

    dsn: str
    client: httpx.Client
    who: dict[str, str]
    ids: list[str] = field(default_factory=list)
    run_id: str = ""
    cursors: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        body = V2 | {"instrument_id": {"market_id": 2, "symbol": SYMBOL}}
        for _ in range(3):
            strategy = made(self.client, self.who, body)
            self.ids.append(strategy["strategy_id"])
            self.names.append(strategy["name"])
        running, _, deleted = self.ids
        answer = self.client.post(
            f"{PATH}/{running}/run", headers=self.who | {"Idempotency-Key": "bobs"}
        )
        self.run_id = answer.json()["run_id"]
        self.client.delete(f"{PATH}/{deleted}", headers=self.who)
        for path in ("", f"/{running}/events"):
            page = self.client.get(f"{PATH}{path}", params={"limit": 1}, headers=self.who)
            self.cursors.append(page.json()["next_cursor"])

    def rows(self) -> list[Any]:
        """All that the database holds of him."""
        each = (f"select t::text from {table} t where user_id = $1" for table in TABLES)
        return rows(self.dsn, f"{' union all '.join(each)} order by 1", UUID(self.who[USER]))

    def seen(self) -> list[Any]:
        """All that the service shows him."""
        paths = ["", f"/{self.ids[0]}", f"/{self.ids[0]}/runs", f"/{self.ids[0]}/events"]
        return [self.client.get(f"{PATH}{path}", headers=self.who).json() for path in paths]

    def secrets(self) -> list[str]:
        """What nobody else may read."""
        events = self.seen()[-1]["items"]
        return [self.who[USER], SYMBOL, self.run_id, *self.ids, *self.names,
                *(one["event_id"] for one in events)]  # fmt: skip


@pytest.fixture(scope="module")
def bob(postgres: str) -> Iterator[Bob]:
    with (
        own_database(postgres, "test_strategies_privacy") as dsn,
        strategy_service(dsn, max_strategies_per_user=10_000) as client,
    ):
        yield Bob(dsn, client, user())


KINDS = ("show", "delete", "run", "stop", "runs", "one run", "events", "list", "clone", "create",
         "save", "backtest")  # fmt: skip
CALLS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 5),  # whose strategy
        st.sampled_from([None, "bobs", "anns"]),  # key
        st.sampled_from([None, 0, 1]),  # one of Bob's cursors
    ),
    min_size=1,
    max_size=12,
)


def called(
    bob: Bob, ann: dict[str, str], own: list[str], call: tuple[str, int, str | None, int | None]
) -> tuple[httpx.Response, str]:
    """(the answer to one call of Ann's, all that she sent)."""
    kind, whose, key, cursor = call
    strategy_id = [*bob.ids, MISSING, *own[-2:], MISSING, MISSING][whose]
    headers = ann | ({} if key is None else {"Idempotency-Key": key})
    params: dict[str, Any] = {} if cursor is None else {"cursor": bob.cursors[cursor]}
    there = f"{PATH}/{strategy_id}"
    variant = {
        "indicator_selections": [{"indicator_id": "ma.sma", "params": {"window": 3}}],
        "risk_params": {}, "execution_params": {}, "direction_mode": "long-only",
        "sizing_mode": "all_in",
    }  # fmt: skip
    by_id = {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
        "strategy_id": strategy_id,
    }
    requests: dict[str, tuple[str, str, dict[str, Any]]] = {
        "show": ("GET", there, {}),
        "delete": ("DELETE", there, {}),
        "run": ("POST", f"{there}/run", {}),
        "stop": ("POST", f"{there}/stop", {}),
        "runs": ("GET", f"{there}/runs", {"params": params}),
        "one run": ("GET", f"{there}/runs/{bob.run_id}", {}),
        "events": ("GET", f"{there}/events", {"params": params | {"run_id": bob.run_id}}),
        "list": ("GET", PATH, {"params": params | {"symbol": SYMBOL}}),
        "clone": ("POST", f"{PATH}/clone", {"json": {"source_strategy_id": strategy_id}}),
        "create": ("POST", PATH, {"json": V2}),
        "save": ("POST", f"{PATH}/from-variant", {"json": by_id | {"variant": variant}}),
        "backtest": ("POST", "/backtests", {"json": by_id}),
    }
    method, path, more = requests[kind]
    answer = bob.client.request(method, path, headers=headers, **more)
    return answer, f"{path} {more}"


@settings(max_examples=15)
@given(CALLS)
def test_nothing_of_bobs_is_changed_or_told(
    bob: Bob, calls: list[tuple[str, int, str | None, int | None]]
) -> None:
    before, seen, secrets = bob.rows(), bob.seen(), bob.secrets()
    ann, own = user(), [MISSING]
    for call in calls:
        answer, sent = called(bob, ann, own, call)
        assert answer.status_code < 500 or call[0] == "backtest"  # there are no candles here
        told = [secret for secret in secrets if secret in answer.text and secret not in sent]
        assert not told, (call, answer.text)
        if answer.status_code == 201:
            own.append(answer.json()["strategy_id"])
            assert answer.json()["user_id"] == ann[USER]
    assert bob.rows() == before
    assert bob.seen() == seen
