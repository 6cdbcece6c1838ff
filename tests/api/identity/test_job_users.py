"""Jobs of users: each has his own, by session, token and command line; an account has them all.

Of jobs and of runs events come as long as the login that they were asked for with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from api.app import add_jobs, add_strategies, create_app, end_streams
from api.context import AppContext
from api.events import EventFeed
from api.identity.service import Identity
from api.run_feed import RunFeed
from cluster.postgres.engine import engine
from live.strategies.settings import StrategySettings
from tests.api.identity.people import SETTINGS, TELEGRAM_BOB, browser, refusal, user_id
from tests.api.service.job_service import request
from tests.api.service.market import CLIENT_S, context_of
from tests.api.service.serving import served
from tests.api.service.strategy_service import V2
from tests.cluster.cli import call, write_json
from tests.cluster.jobs.stored import SETTINGS as JOB_SETTINGS
from tests.cluster.jobs.stored import created, run
from tests.postgres import rows

JOBS = "/backtests/jobs"


@pytest.fixture
def url(database: str, tmp_path: Path) -> Iterator[str]:
    """A service with users and jobs; nothing runs them."""
    contexts: list[AppContext] = []

    def context() -> AppContext:
        found = context_of(None, engine=engine(database))
        assert found.engine is not None
        found.use_identity(Identity(found.engine, SETTINGS, found.now_ms))
        add_jobs(found, JOB_SETTINGS, database, tmp_path)
        add_strategies(found, StrategySettings(), database)
        contexts.append(found)
        return found

    with served(lambda: create_app(context()), stopping=lambda: end_streams(contexts[0])) as found:
        yield found


def job_of(database: str, owner: UUID) -> str:
    return str(run(database, lambda found: created(found, owner)).job_id)


def test_programs_reach_the_jobs_of_their_user(
    url: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROEHUB_API_URL", url)
    with browser(url) as ann, browser(url, TELEGRAM_BOB) as bob:
        mine, theirs = job_of(database, user_id(ann)), job_of(database, user_id(bob))
        body = {"name": "n", "scopes": ["read"]}
        token = ann.post("/access-tokens", json=body).json()["token"]
        assert [one["job_id"] for one in ann.get(JOBS).json()["items"]] == [mine]
        assert ann.get(f"{JOBS}/{theirs}").status_code == 403
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    for options in (("--token", token), ("--token", f"@{file}")):
        listed = call("jobs", "list", "--json", *options)
        assert [one["job_id"] for one in json.loads(listed.stdout)["items"]] == [mine]
    monkeypatch.setenv("ROEHUB_TOKEN_FILE", str(file))
    assert call("jobs", "show", mine).status == 0
    foreign = call("jobs", "show", theirs)
    assert (foreign.status, "belongs to another user" in foreign.stderr) == (2, True)
    sent = call("submit", write_json(tmp_path / "request.json", request()))
    assert (sent.status, "lacks the scope run" in sent.stderr) == (2, True)
    cancelled = call("jobs", "cancel", mine)
    assert (cancelled.status, "lacks the scope run" in cancelled.stderr) == (2, True)
    monkeypatch.delenv("ROEHUB_TOKEN_FILE")
    nobody = call("jobs", "list")
    assert (nobody.status, nobody.stdout) == (2, "")
    assert "roehub token create" in nobody.stderr
    assert (
        refusal(httpx.get(f"{url}{JOBS}", trust_env=False, timeout=CLIENT_S), 401)
        == "missing_jwt_cookie"
    )


def test_an_account_has_its_jobs_and_takes_them_along(url: str, database: str) -> None:
    with browser(url) as ann, browser(url, TELEGRAM_BOB) as bob:
        mine, theirs = job_of(database, user_id(ann)), job_of(database, user_id(bob))
        (told,) = ann.get("/account/export").json()["jobs"]
        assert (told["job_id"], told["state"]) == (mine, "queued")
        assert told["request_json"]["template"]
        assert ann.delete("/account").status_code == 204
    assert rows(database, "SELECT job_id::text FROM backtest_jobs") == [(theirs,)]


def ends(events: str, client: httpx.Client, ended: Callable[[], object]) -> None:
    """Events of what goes on come until the reader may not see them any more."""
    with client.stream("GET", events) as answer:
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith(":")) == ": still there"
        ended()
        assert [line for line in lines if line.startswith("event")] == []


@pytest.mark.parametrize("kind", ["job", "run"])
def test_events_end_with_the_login_and_the_token(
    url: str, database: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for feed in (EventFeed, RunFeed):
        monkeypatch.setattr(feed, "stream", partialmethod(feed.stream, heartbeat_seconds=0.1))
    with browser(url) as ann, browser(url, first_name="elsewhere") as elsewhere:
        if kind == "job":
            events = f"{JOBS}/{job_of(database, user_id(ann))}/events"
        else:
            strategy = f"/strategies/{ann.post('/strategies', json=V2).json()['strategy_id']}"
            events = f"{strategy}/runs/{ann.post(f'{strategy}/run').json()['run_id']}/events"
        made = ann.post("/access-tokens", json={"name": "n", "scopes": ["read"]}).json()
        bearer = {"Authorization": f"Bearer {made['token']}"}
        with httpx.Client(base_url=url, headers=bearer, timeout=20, trust_env=False) as program:
            ends(events, program, lambda: ann.delete(f"/access-tokens/{made['token_id']}"))
        ends(events, ann, lambda: elsewhere.post("/auth/logout-everywhere"))


@pytest.mark.parametrize("path", [JOBS, "/backtests"])
def test_nothing_is_read_of_the_body_of_nobody(url: str, path: str) -> None:
    with browser(url, None) as nobody:
        answer = nobody.post(path, content=b"{", headers={"Content-Type": "application/json"})
        assert refusal(answer, 401) == "missing_jwt_cookie"
