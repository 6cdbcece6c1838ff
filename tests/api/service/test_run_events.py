"""Events of a run as a stream, from its start to its end, for its owner alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from api.settings import ApiSettings
from tests.api.service.strategy_service import PATH, made, own_database, strategy_service, user
from tests.api.service.test_strategy_runs import items
from tests.postgres import execute


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with own_database(postgres, "test_run_events") as found:
        yield found


@pytest.fixture(scope="module")
def client(dsn: str) -> Iterator[httpx.Client]:
    with strategy_service(dsn) as found:
        yield found


class Started:
    """A strategy that runs, and what its runner would write."""

    def __init__(self, client: httpx.Client, dsn: str) -> None:
        self.client, self.dsn, self.who = client, dsn, user()
        strategy = made(client, self.who)["strategy_id"]
        run = client.post(f"{PATH}/{strategy}/run", headers=self.who).json()
        self.run_id, self.path = run["run_id"], f"{PATH}/{strategy}/runs/{run['run_id']}/events"

    def tells(self, kind: str, payload: str = "{}") -> None:
        execute(
            self.dsn,
            "insert into strategy_events select gen_random_uuid(), user_id, strategy_id, run_id,"
            f" clock_timestamp(), '{kind}', '{payload}' from strategy_runs"
            f" where run_id = '{self.run_id}'",
        )

    def ends(self) -> None:
        execute(
            self.dsn,
            "update strategy_runs set state = 'stopped', stopped_at = clock_timestamp(),"
            f" updated_at = clock_timestamp() where run_id = '{self.run_id}'",
        )
        self.tells("run_stopped")

    def events(self, after: str = "", cursor: str = "") -> Iterator[tuple[str, str, Any]]:
        headers = self.who | ({"Last-Event-ID": after} if after else {})
        query = {"cursor": cursor} if cursor else {}
        with self.client.stream("GET", self.path, headers=headers, params=query) as answer:
            assert answer.status_code == 200, answer.read()
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                fields |= {name: value} if name else {}
                if not line and "data" in fields:
                    yield fields["id"], fields["event"], json.loads(fields["data"])
                    fields = {}


def test_a_run_is_followed_to_its_end_and_resumed(client: httpx.Client, dsn: str) -> None:
    started = Started(client, dsn)
    events = started.events()
    _, kind, data = next(events)
    assert kind == "run_started"
    assert (data["run_id"], data["state"]) == (started.run_id, "starting")
    assert data["at"].endswith("Z")
    started.tells("signal", '{"signal": "long"}')  # while the reader waits
    last, kind, data = next(events)
    assert (kind, data["signal"]) == ("signal", "long")
    started.ends()
    assert [kind for _, kind, _ in events] == ["run_stopped"]
    # From where it was left, and again when there is no more.
    again = list(started.events(after=last))
    assert [kind for _, kind, _ in again] == ["run_stopped"]
    # A page says it in the address; once it has come back by itself the header is newer.
    assert list(started.events(cursor=last)) == again
    old = next(started.events())[0]
    assert list(started.events(after=last, cursor=old)) == again
    seen = client.get(started.path, headers=started.who | {"Last-Event-ID": again[0][0]})
    assert seen.status_code == 204


def test_whoever_follows_a_run_that_is_stopped_before_its_start_is_told(
    client: httpx.Client, dsn: str
) -> None:
    started = Started(client, dsn)
    events = started.events()
    assert next(events)[1] == "run_started"
    there = f"/strategies/{started.path.split('/')[2]}"
    ended = client.post(f"{there}/stop", headers=started.who).json()
    told = list(events)
    assert [(kind, data["from"], data["at"]) for _, kind, data in told] == [
        ("run_stopped", "starting", ended["stopped_at"])
    ]


def test_others_and_what_is_no_place_are_refused(client: httpx.Client, dsn: str) -> None:
    started = Started(client, dsn)
    assert client.get(started.path, headers=user()).status_code == 403
    other = started.path.replace(started.run_id, "00000000-0000-0000-0000-000000000009")
    assert client.get(other, headers=started.who).status_code == 404
    wrong = client.get(started.path, headers=started.who | {"Last-Event-ID": "x"})
    assert items(wrong) == {"header.Last-Event-ID": "invalid_cursor"}
    wrong = client.get(started.path, headers=started.who, params={"cursor": "x"})
    assert items(wrong) == {"query.cursor": "invalid_cursor"}


def test_a_user_has_so_many_streams_at_a_time(client: httpx.Client, dsn: str) -> None:
    ann, bob = Started(client, dsn), Started(client, dsn)
    with ExitStack() as held:
        streams = [
            held.enter_context(client.stream("GET", ann.path, headers=ann.who))
            for _ in range(ApiSettings().max_event_streams_per_user)
        ]
        assert {answer.status_code for answer in streams} == {200}
        refused = client.get(ann.path, headers=ann.who)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert error["details"]["error"] == "max_event_streams_exceeded"
        assert next(bob.events())[1] == "run_started"  # of others nothing is taken
        ann.ends()
        for answer in streams:
            answer.read()
    # All have ended with the run, and one may follow again.
    assert [kind for _, kind, _ in ann.events()][-1] == "run_stopped"


def test_account_and_trades_of_a_run(client: httpx.Client, dsn: str) -> None:
    started = Started(client, dsn)
    base = started.path.removesuffix("/events")
    assert client.get(f"{base}/account", headers=started.who).status_code == 404
    position = (
        '{"side": 1, "bar_ms": 60000, "fill": 2.0, "quantity": 3.0, "quote": 6.0, "fee": 0.1}'
    )
    account = f'{{"balance": {{"available": 1.5, "safe": 0.5}}, "position": {position}, "vote": 1,'
    execute(
        dsn,
        f"insert into live_accounts values ('{started.run_id}', '{account} \"trades\": 3}}', 9.5,"
        " '2026-01-01T00:00:00Z')",
        "insert into live_trades select "
        f"'{started.run_id}', i, -1, '2026-01-01T00:00:00Z', '2026-01-01T00:05:00Z', 'sl',"
        " 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 from generate_series(1, 3) i",
    )
    found = client.get(f"{base}/account", headers=started.who).json()
    assert (found["equity_quote"], found["num_trades"]) == (9.5, 3)
    assert found["position"]["side"] == "long"
    assert found["position"]["entry_bar_ts"] == "1970-01-01T00:01:00Z"
    page = client.get(f"{base}/trades", params={"limit": 2}, headers=started.who).json()
    rest = client.get(
        f"{base}/trades", params={"cursor": page["next_cursor"]}, headers=started.who
    ).json()
    assert [one["trade_id"] for one in page["items"] + rest["items"]] == [1, 2, 3]
    assert rest["next_cursor"] is None
    assert page["items"][0]["exit_reason"] == "sl"
    for path in ("account", "trades"):
        assert client.get(f"{base}/{path}", headers=user()).status_code == 403
    wrong = client.get(f"{base}/trades", params={"cursor": "x"}, headers=started.who)
    assert wrong.status_code == 422
