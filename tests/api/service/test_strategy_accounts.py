"""An account hands out its strategies and their jobs, and takes them along: all or nothing."""

from __future__ import annotations

from typing import Any

from tests.api.identity.people import TELEGRAM_ANN, TELEGRAM_BOB
from tests.api.service.job_service import request
from tests.api.service.market import store, store_directory
from tests.api.service.whole_service import (
    JOBS,
    SPEC,
    STRATEGIES,
    TABLES,
    Person,
    Place,
    ann,
    bob,
    place,
)
from tests.postgres import execute, rows

__all__ = ["ann", "bob", "place", "store", "store_directory"]


def settled(person: Person, telegram_user_id: int) -> str:
    """A user with a strategy that runs, a deleted one, and a job that holds the specification."""
    user = person.log_in(telegram_user_id)
    strategy = person.post(STRATEGIES, SPEC)["strategy_id"]
    deleted = person.post(STRATEGIES, SPEC)["strategy_id"]
    person.post(f"{STRATEGIES}/{strategy}/run")
    assert person.call("DELETE", f"{STRATEGIES}/{deleted}").status_code == 204
    body = {"time_range": request()["time_range"], "strategy_id": strategy}
    assert person.post(JOBS, body)["mode"] == "saved"
    return user


def held(place: Place, user: str) -> list[str]:
    """The tables that name a user."""
    return sorted({str(table) for table, _ in place.rows_of(user)})


def test_everything_is_handed_out(place: Place, ann: Person, bob: Person) -> None:
    user, other = settled(ann, TELEGRAM_ANN), settled(bob, TELEGRAM_BOB)
    told: dict[str, Any] = ann.get("/account/export")
    running, deleted = told["strategies"]
    assert (running["is_deleted"], deleted["is_deleted"]) == (False, True)
    shown = ann.get(f"{STRATEGIES}/{running['strategy_id']}")
    runs = ann.get(f"{STRATEGIES}/{running['strategy_id']}/runs")["items"]
    events = ann.get(f"{STRATEGIES}/{running['strategy_id']}/events")["items"]
    did: dict[str, Any] = {"account": None, "trades": []}
    assert running == shown | {"runs": [one | did for one in runs], "events": events}
    types = [one["event_type"] for one in deleted["events"]]
    assert types == ["strategy_created", "strategy_deleted"]
    (job,) = told["jobs"]
    assert job["request_json"]["strategy_id"] == running["strategy_id"]
    assert other not in str(told)
    assert user not in str(bob.get("/account/export"))


def test_an_erased_account_leaves_nothing_of_its_strategies(
    place: Place, ann: Person, bob: Person
) -> None:
    user, other = settled(ann, TELEGRAM_ANN), settled(bob, TELEGRAM_BOB)
    theirs = place.rows_of(other)
    assert {"backtest_jobs", "strategy_events", "strategy_runs", "strategy_strategies"} <= {
        *held(place, user)
    }
    assert ann.call("DELETE", "/account").status_code == 204
    assert held(place, user) == ["identity_audit"]
    assert place.rows_of(other) == theirs
    for table in ("backtest_jobs", "strategy_strategies", "strategy_runs", "strategy_events"):
        assert {str(one) for (one,) in rows(place.dsn, f"SELECT user_id FROM {table}")} == {other}
    # The setting by which the log let go is over with its transaction.
    assert bob.get(STRATEGIES)["items"]


def test_what_cannot_be_erased_as_a_whole_is_not_erased_at_all(place: Place, ann: Person) -> None:
    user = settled(ann, TELEGRAM_ANN)
    tables = [str(table) for (table,) in rows(place.dsn, TABLES) if table != "alembic_version"]
    before = {table: rows(place.dsn, f"SELECT t::text FROM {table} t") for table in tables}
    execute(
        place.dsn,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER stays BEFORE DELETE ON identity_users FOR EACH ROW"
        " EXECUTE FUNCTION refuse()",
    )
    assert ann.call("DELETE", "/account").status_code == 500
    assert {table: rows(place.dsn, f"SELECT t::text FROM {table} t") for table in tables} == before
    execute(place.dsn, "DROP TRIGGER stays ON identity_users")
    ann.client.cookies.clear()
    assert ann.call("DELETE", "/account").status_code == 401
    assert user in str(rows(place.dsn, "SELECT user_id FROM strategy_strategies"))
