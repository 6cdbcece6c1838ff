"""A live worker in a process of its own, to be killed: `python -m tests.ingest.live.killed JSON`.

Says on standard output, a JSON line at each change, how many candles it has stored, how many wait
and how many fills are done; at the end what the store holds. Its store takes `most_rows` and is
down from then on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import StoreUnavailable
from ingest.signals import stop_event
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.ingest.live.stage import START_MS, Hand, Running, Stage


@dataclass(frozen=True)
class Address:
    """A server of another process."""

    rest_url: str
    url: str

    def stream_url(self, market_id: int) -> str:
        return self.url


@dataclass
class Remote:
    """What `Running` needs of a stage whose servers are elsewhere."""

    store: CandleStore
    clock: Hand
    servers: dict[int, Address]
    instruments: list[Instrument]


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


async def work(given: dict[str, Any], store: CandleStore) -> None:
    clock = Hand()
    clock.now_ms = given["now_ms"]
    address = Address(given["rest_url"], given["stream_url"])
    instruments = [Instrument(given["market_id"], symbol) for symbol in given["symbols"]]
    remote = Remote(store, clock, {given["market_id"]: address}, instruments)
    run = Running(cast(Stage, remote), grace_s=10.0)
    run.stop = stop_event()
    said = (0, 0, 0)
    async with run.at_work():
        while not run.stop.is_set():
            if run.inserted >= given["most_rows"]:
                run.store_error = StoreUnavailable("down")
            if (now := (run.inserted, len(run.worker.buffer), len(run.fetched))) != said:
                said = now
                say(stored=now[0], waiting=now[1], fetched=now[2])
            await asyncio.sleep(0.005)
    period = Period(START_MS, START_MS + 86_400_000)
    rows = {one.symbol: store.arrow(one, period).to_pydict() for one in instruments}
    say(
        left=run.left,
        reasons=[task.reason for task in run.fetched],
        times={s: [int(t.timestamp() * 1000) for t in r["ts_open"]] for s, r in rows.items()},
        closes={s: r["close"] for s, r in rows.items()},
    )


def main() -> None:
    given = json.loads(sys.argv[1])
    with open_clickhouse(ClickHouseSettings(path=Path(given["path"])), owner="the child") as db:
        migrate(db)
        asyncio.run(work(given, CandleStore(db)))


if __name__ == "__main__":
    main()
