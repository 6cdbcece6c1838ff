"""From a back-test to a strategy that trades: a day that an exchange tells, as a user sees it.

A start takes long: the browser and the kills share one, each with a strategy of its own.

Exchange and product share a clock that the test moves, so a day takes seconds; the processes, the
stores and everything between them are those of `roehub up`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from compute.market.period import instant
from ingest.candle_files import read_candles
from ingest.rows import MINUTE_MS
from tests.api.pages.conftest import visiting
from tests.api.service.up_day import (
    AT_A_TIME,
    HISTORY,
    Place,
    begun,
    made_up,
    reaches,
    saved,
    search,
    stored,
)  # fmt: skip
from tests.api.service.up_process import Running, environment, fetched, until
from tests.api.service.up_walk import walked
from tests.cluster.cli import call

COMPARED = (
    "direction", "exit_reason", "entry_fill_price", "exit_fill_price", "qty_base", "net_pnl_quote",
)  # fmt: skip


class Reader:
    """Reads the events of a run on a thread; comes back where a connection broke."""

    def __init__(self, up: Running, path: str) -> None:
        self.up, self.path = up, path
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.failed: Exception | None = None
        self._last = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def kinds(self, *wanted: str) -> list[dict[str, Any]]:
        """The payloads of events of some kinds, so far."""
        return [data for kind, data in list(self.events) if kind in wanted]

    def joined(self) -> None:
        """Returns when the stream has ended by itself."""
        self._thread.join(30)
        assert not self._thread.is_alive(), self.events[-3:]
        assert self.failed is None

    def _read(self) -> None:
        try:
            while not self._connected():
                time.sleep(0.1)
        except Exception as error:
            self.failed = error

    def _connected(self) -> bool:
        """Whether a connection was read to the end of the run."""
        try:
            headers = {"Authorization": f"Bearer {self.up.token()}"}
            headers |= {"Last-Event-ID": self._last} if self._last else {}
            url = f"{self.up.url()}{self.path}"
            with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
                fields: dict[str, str] = {}
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    fields |= {name: value} if name else {}
                    if not line and "data" in fields:
                        self._last = fields["id"]
                        self.events.append((fields["event"], json.loads(fields["data"])))
                        fields = {}
        except (httpx.TransportError, AssertionError):  # killed; the next one is not up yet
            return False
        return bool(self.kinds("run_stopped", "run_failed"))


def lived(place: Place, kills: tuple[int, ...]) -> None:
    """The rest of the day; everything is killed so many minutes after its beginning."""
    up, day = place.up, place.day
    up.options = (*up.options, "--runners", 0)  # the ones that come after need no Ray
    strategy = saved(up, search(day))
    path = f"/strategies/{strategy}"
    run_id = up.post(f"{path}/run")["run_id"]
    there = f"{path}/runs/{run_id}"
    reader = Reader(up, f"{there}/events")
    assert up.get(f"{there}/reconciliation")["badge"] == "unchecked"

    began = day.next
    while day.next < day.minutes:
        day.goes_on(min(AT_A_TIME, day.minutes - day.next))
        if any(day.next - AT_A_TIME < began + at <= day.next for at in kills):
            up.end(signal.SIGKILL)
            day.goes_on(3)  # told to nobody
            day.settles()
            up = place.up = reader.up = up.again()
            day.server.wait_for_topics(1, 1, 120)
        reaches(up, there, day)

    judged(place, path, run_id, reader, day.minutes - began)
    assert up.end(signal.SIGTERM) == 0


def judged(place: Place, path: str, run_id: str, reader: Reader, minutes: int) -> None:
    """What the run did in `minutes` is what it should have done, and everybody says so."""
    up, day, there = place.up, place.day, f"{path}/runs/{run_id}"
    until(lambda: stored(up) == HISTORY + day.minutes, lambda: stored(up))
    found = reconciled(place.directory, run_id)
    assert found["badge"] == "exact", (found, up.said)
    kept = up.get(f"{there}/reconciliation")
    assert {**kept, "checked_at": None} == {**found, "checked_at": None}

    run = up.get(there)
    assert (run["state"], run["last_error"]) == ("running", None)
    first_ms = run["metadata"]["live"]["trading_from_ms"]
    last_ms = day.start_ms + day.minutes * MINUTE_MS
    bars = (last_ms - first_ms) // MINUTE_MS + 1
    assert found["bars"] == bars > minutes - 5  # each once: they are rows by their time
    assert found["until"].startswith(day.moment(day.minutes).removesuffix("Z"))

    trades = pages(up, f"{there}/trades")
    assert len(trades) == found["trades"] > minutes / 60
    # Another way to the same trades: the strategy back-tested over the day, with a last close.
    body = {
        "strategy_id": path.rpartition("/")[2],
        "time_range": {"start": instant(first_ms), "end": instant(last_ms + MINUTE_MS)},
    }
    (row,) = up.post("/backtests", body)["variants"]
    asked = {**body, "variant": row["payload"], "include_trades": True}
    expected = up.post("/backtests/variant-report", asked)["trades"]
    some = [{name: one[name] for name in COMPARED} for one in expected[: len(trades)]]
    assert [{name: one[name] for name in COMPARED} for one in trades] == some
    assert len(expected) - len(trades) in (0, 1)

    assert "strategy_live_runner_runs 1.0" in fetched(up.place("live")).text
    up.post(f"{path}/stop")
    reader.joined()
    closed = reader.kinds("trade_close")
    assert [one["trade_id"] for one in closed] == [one["trade_id"] for one in trades]
    assert [one["net_pnl_quote"] for one in closed] == [one["net_pnl_quote"] for one in trades]
    opened = reader.kinds("trade_open")
    assert [one["price"] for one in opened][: len(trades)] == [
        one["entry_fill_price"] for one in trades
    ]
    assert len(opened) - len(closed) in (0, 1)
    states = [one["state"] for one in reader.kinds("run_started", "run_state_changed")]
    assert states == ["starting", "warming_up", "running"]


def reconciled(directory: Path, run_id: str) -> dict[str, Any]:
    """What `roehub live reconcile` says while the service has the candles."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(directory).items():
            patch.setenv(name, value)
        said = call("live", "reconcile", run_id, "--json")
    assert said.status == 0, (said.stdout, said.stderr)
    return json.loads(said.stdout)


def pages(up: Running, path: str) -> list[dict[str, Any]]:
    """All items of a list."""
    found, cursor = [], ""
    while cursor is not None:
        page = up.get(path, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with begun(tmp_path_factory.mktemp("day"), made_up(190), runners=1) as found:
        yield found


@pytest.mark.browser
@pytest.mark.slow
def test_a_person_gets_there_in_a_browser(place: Place) -> None:
    with visiting() as window:
        walked(place.up, window, place.goes_on)


@pytest.mark.slow
def test_a_strategy_of_a_back_test_trades_as_it_says(place: Place) -> None:
    lived(place, kills=(50,))


@pytest.mark.soak
def test_a_whole_day(tmp_path: Path) -> None:
    recorded = os.environ.get("ROEHUB_CANDLES_DIR", "")
    files = sorted(Path(recorded).glob("*-1m-*.parquet")) if recorded else []
    whole = HISTORY + 1440
    market = read_candles(files[0]).candles.slice(0, whole) if files else made_up(1440)
    assert (np.diff(market.ts_open_ms) == MINUTE_MS).all()
    with begun(tmp_path, market, runners=0) as place:
        lived(place, kills=(301, 777, 1200))
