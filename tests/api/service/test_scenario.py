"""From a first login to the last logout; and somebody else who gets nothing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.identity.people import (
    BOT_TOKEN,
    COOKIE,
    SETTINGS,
    TELEGRAM_ANN,
    TELEGRAM_BOB,
    refusal,
)
from tests.api.identity.test_secrets_stay_secret import PLANTED, exchange_key, leaks, log
from tests.api.service.job_service import request, running, until_ended
from tests.api.service.market import CLIENT_S, store, store_directory
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
from tests.postgres import rows

__all__ = ["ann", "bob", "log", "place", "store", "store_directory"]
RANGE = request()["time_range"]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@dataclass
class Possessions:
    """What Ann has come to, and what of it nobody else may read."""

    user: str
    key: str
    token: str
    session: str
    strategy: str
    run: str
    job: str
    private: set[str]

    def ids(self) -> list[str]:
        return [self.user, self.key, self.token, self.session, self.strategy, self.run, self.job]

    def of(self, text: str) -> str:
        return text.format(**vars(self))


def walked(ann: Person, place: Place) -> Possessions:
    """The way of a new user up to a strategy that runs."""
    user = ann.log_in(TELEGRAM_ANN)
    early = ann.call("POST", "/exchange-keys", exchange_key())
    assert refusal(early, 403) == "two_factor_required"
    ann.add_second_factor()
    key = ann.post("/exchange-keys", exchange_key(label="a label of Ann"))
    made = ann.client.post("/access-tokens", json={"name": "of Ann", "scopes": ["read"]}).json()
    ann.secrets.add(made["token"])

    search = request()
    best = ann.post("/backtests", search)["variants"][0]
    context = {name: search[name] for name in ("time_range", "template", "warmup_bars")}
    strategy = ann.post(f"{STRATEGIES}/from-variant", {**context, "variant": best["payload"]})
    by_id = {"time_range": RANGE, "strategy_id": strategy["strategy_id"]}
    (same,) = ann.post("/backtests", by_id)["variants"]
    names = ("variant_key", "indicator_variant_key", "total_return_pct", "metrics", "payload")
    assert {name: same[name] for name in names} == {name: best[name] for name in names}

    with running(place.dsn, place.results_dir):
        job = ann.post(JOBS, by_id)["job_id"]
        assert until_ended(ann.client, job)["state"] == "succeeded"
    (row,) = ann.get(f"{JOBS}/{job}/result")["variants"]
    assert {name: row[name] for name in names} == {name: best[name] for name in names}

    run = ann.post(f"{STRATEGIES}/{strategy['strategy_id']}/run")
    assert run["state"] == "starting"
    events = ann.get(f"{STRATEGIES}/{strategy['strategy_id']}/events")["items"]
    assert [one["event_type"] for one in events] == ["strategy_created", "run_started"]
    (session,) = ann.get("/auth/sessions")["items"]
    told = {one["event_id"] for one in events}
    told |= {strategy["name"], strategy["spec_hash"], best["variant_key"], key["api_key"]}
    return Possessions(
        user, key["key_id"], made["token_id"], session["session_id"], strategy["strategy_id"],
        run["run_id"], job, told | {"a label of Ann", "of Ann", repr(best["total_return_pct"])},
    )  # fmt: skip


BY_ID = {"time_range": RANGE, "strategy_id": "{strategy}"}
VARIANT = {
    "indicator_selections": [{"indicator_id": "ma.sma", "params": {"window": 3}}],
    "risk_params": {}, "execution_params": {}, "direction_mode": "long-only",
    "sizing_mode": "all_in",
}  # fmt: skip
ATTEMPTS: list[tuple[str, str, Any, int]] = [
    ("GET", "/strategies/{strategy}", None, 403),
    ("DELETE", "/strategies/{strategy}", None, 403),
    ("POST", "/strategies/{strategy}/run", None, 403),
    ("POST", "/strategies/{strategy}/stop", None, 403),
    ("GET", "/strategies/{strategy}/runs", None, 403),
    ("GET", "/strategies/{strategy}/runs/{run}", None, 403),
    ("GET", "/strategies/{strategy}/runs/{run}/reconciliation", None, 403),
    ("POST", "/strategies/{strategy}/runs/{run}/reconciliation", None, 403),
    ("GET", "/strategies/{strategy}/events", None, 403),
    ("GET", "/strategies/{strategy}/events?run_id={run}", None, 403),
    ("POST", "/strategies/clone", {"source_strategy_id": "{strategy}"}, 403),
    ("POST", "/strategies/from-variant", {"job_id": "{job}", "rank": 1}, 403),
    ("POST", "/strategies/from-variant", {**BY_ID, "variant": VARIANT}, 403),
    ("POST", "/backtests", BY_ID, 403),
    ("POST", "/backtests/jobs", BY_ID, 403),
    ("POST", "/backtests/variant-report", {**BY_ID, "variant": VARIANT}, 403),
    ("GET", "/backtests/jobs/{job}", None, 403),
    ("GET", "/backtests/jobs/{job}/top", None, 403),
    ("GET", "/backtests/jobs/{job}/result", None, 403),
    ("GET", "/backtests/jobs/{job}/report", None, 403),
    ("GET", "/backtests/jobs/{job}/variants", None, 403),
    ("GET", "/backtests/jobs/{job}/heatmap?x=a&y=b", None, 403),
    ("GET", "/backtests/jobs/{job}/plateau?x=a&y=b", None, 403),
    ("GET", "/backtests/jobs/{job}/histogram", None, 403),
    ("GET", "/backtests/jobs/{job}/sample", None, 403),
    ("GET", "/backtests/jobs/{job}/ranked", None, 403),
    ("GET", "/backtests/jobs/{job}/variant?rank=1", None, 403),
    ("GET", "/backtests/jobs/{job}/variant/window?rank=1", None, 403),
    ("GET", "/backtests/jobs/{job}/variant/trades?flat_index=0", None, 403),
    ("GET", "/backtests/jobs/{job}/variant/report?rank=1", None, 403),
    ("GET", "/backtests/jobs/{job}/events", None, 403),
    ("POST", "/backtests/jobs/{job}/cancel", None, 403),
    ("DELETE", "/backtests/jobs/{job}", None, 403),
    ("DELETE", "/exchange-keys/{key}", None, 404),
    ("DELETE", "/auth/sessions/{session}", None, 404),
    ("DELETE", "/access-tokens/{token}", None, 404),
]
LISTS = (
    STRATEGIES, JOBS, "/exchange-keys", "/auth/sessions", "/access-tokens", "/2fa",
    "/account/export",
)  # fmt: skip


def filled(body: Any, theirs: Possessions) -> Any:
    """A body with the ids of what is Ann's."""
    if isinstance(body, dict):
        return {name: filled(value, theirs) for name, value in body.items()}
    return theirs.of(body) if isinstance(body, str) else body


def nothing_of(theirs: Possessions, answer: httpx.Response) -> None:
    """Says of Ann's what was sent along, and no more."""
    sent = str(answer.request.url) + (answer.request.content or b"").decode()
    told = [one for one in {*theirs.ids(), *theirs.private} if one in answer.text]
    assert [one for one in told if one not in sent] == [], (answer.request.url, answer.text)


def reach(bob: Person, theirs: Possessions) -> None:
    """Everything that Bob may try with all ids of Ann's."""
    assert refusal(bob.call("DELETE", theirs.of("/exchange-keys/{key}")), 403)
    bob.add_second_factor()
    for method, path, body, status in ATTEMPTS:
        answer = bob.call(method, theirs.of(path), filled(body, theirs))
        assert answer.status_code == status, (method, path, answer.text)
        assert [*answer.json()] == ["error"]
    for path in sorted({path for _, path, _, _ in ATTEMPTS if "{" in path}):
        for method in METHODS:
            answer = bob.call(method, theirs.of(path))
            assert answer.status_code in (403, 404, 405), (method, path, answer.text)
    own = bob.post(STRATEGIES, SPEC)["strategy_id"]
    lost = bob.call("GET", f"{STRATEGIES}/{own}/runs/{theirs.run}")
    assert lost.status_code == 404
    assert bob.get(f"{STRATEGIES}/{own}/events?run_id={theirs.run}")["items"] == []
    for path in LISTS:
        bob.get(path)
    assert bob.get(JOBS)["items"] == []
    assert bob.get("/exchange-keys") == []
    assert [one["strategy_id"] for one in bob.get(STRATEGIES)["items"]] == [own]
    for answer in bob.answers:
        nothing_of(theirs, answer)


def as_nobody(place: Place, theirs: Possessions, headers: dict[str, str]) -> None:
    """Whoever has no login is refused everywhere, whatever name he gives."""
    with httpx.Client(
        base_url=place.url, headers=headers, timeout=CLIENT_S, trust_env=False
    ) as client:
        for method, path, body, _ in ATTEMPTS:
            answer = client.request(method, theirs.of(path), json=filled(body, theirs))
            assert answer.status_code == 401, (method, path, answer.text)
            nothing_of(theirs, answer)


def test_a_user_goes_all_the_way_and_another_one_gets_nothing(
    place: Place, ann: Person, bob: Person, log: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = walked(ann, place)
    before = place.rows_of(*theirs.ids())
    assert {"identity_exchange_keys", "backtest_jobs", "strategy_runs", "strategy_events",
            "identity_sessions"} <= {str(table) for table, _ in before}  # fmt: skip
    bobs = bob.log_in(TELEGRAM_BOB)
    reach(bob, theirs)
    as_nobody(place, theirs, {})
    as_nobody(place, theirs, {"X-Roehub-User": theirs.user})
    assert place.rows_of(*theirs.ids()) == before

    ended = ann.post(f"{STRATEGIES}/{theirs.strategy}/stop")
    assert (ended["run_id"], ended["state"]) == (theirs.run, "stopped")
    assert ann.client.cookies[COOKIE]
    cookie = {"Cookie": f"{COOKIE}={ann.client.cookies[COOKIE]}"}
    ann.post("/auth/logout")
    assert COOKIE not in ann.client.cookies
    as_nobody(place, theirs, cookie)
    assert bob.get("/auth/current-user")["user_id"] == bobs
    secrets_stay(place, ann, bob, log, capfd)


def secrets_stay(
    place: Place, ann: Person, bob: Person, log: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """No secret of all this is in a log line, on the terminal, in a table or an answer."""
    keys = (SETTINGS.jwt, SETTINGS.two_factor, SETTINGS.exchange_keys)
    secrets = {*PLANTED, BOT_TOKEN, *ann.secrets, *bob.secrets}
    secrets |= {ring.current.value.decode() for ring in keys}
    places = {
        f"table {table}": str(rows(place.dsn, f"SELECT t::text FROM {table} t"))
        for (table,) in rows(place.dsn, TABLES)
    }
    # The clients of this test are in the same process and tell all that they send.
    places["log"] = "\n".join(line for line in log if not line.split()[1].startswith("http"))
    assert "INSERT INTO identity_exchange_keys" in places["log"]
    places["terminal"] = "".join(capfd.readouterr())
    for number, answer in enumerate([*ann.answers, *bob.answers]):
        places[f"answer {number} {answer.request.url}"] = answer.text
    found = {where: leaks(secrets, said) for where, said in places.items()}
    assert {where: leaked for where, leaked in found.items() if leaked} == {}
