"""What runs beside the API: a loop of its own, started again when it ends, stopped when asked."""

from __future__ import annotations

import asyncio
import threading

from api.beside import Beside, Work
from api.children import Backoff

QUICK = Backoff(first_seconds=0.01, longest_seconds=0.04)


async def kept(ingest: Work, *, until: asyncio.Event | None = None) -> list[str]:
    """What is said while `ingest` is kept running; stopped at `until`, or after the fourth line."""
    said: list[str] = []
    stop = until or asyncio.Event()

    def say(line: str) -> None:
        said.append(line)
        if until is None and len(said) == 4:
            stop.set()

    async with asyncio.timeout(30):
        await Beside(ingest, say, backoff=QUICK).kept(stop)
    return said


def test_it_blocks_nobody_and_stops_when_asked() -> None:
    blocked, began = threading.Event(), threading.Event()
    ends: list[bool] = []

    async def ingest(stop: asyncio.Event) -> int:
        assert threading.current_thread() is not threading.main_thread()
        began.set()
        assert blocked.wait(30)  # as a store does that has to be waited for
        await stop.wait()
        ends.append(True)
        return 0

    async def run() -> list[str]:
        stop = asyncio.Event()
        keeping = asyncio.create_task(kept(ingest, until=stop))
        while not began.is_set():
            await asyncio.sleep(0.01)
        blocked.set()  # this loop has gone on meanwhile
        stop.set()
        return await keeping

    assert asyncio.run(run()) == []
    assert ends == [True]


def test_what_fails_is_started_again_after_longer_and_longer_pauses() -> None:
    async def ingest(stop: asyncio.Event) -> int:
        stop.set()  # as a worker does whose scheduler has failed: its own event, nobody else's
        raise RuntimeError("no whitelist")

    said = asyncio.run(kept(ingest))
    pauses = ("0.01", "0.02", "0.04", "0.04")
    assert said == [
        f"ingestion failed: no whitelist; starting it again in {pause} s" for pause in pauses
    ]


def test_candles_that_were_left_are_told() -> None:
    lives: list[int] = []

    async def ingest(stop: asyncio.Event) -> int:
        lives.append(1)
        return 3 * (len(lives) == 1)

    said = asyncio.run(kept(ingest))
    assert said[:2] == [
        "ingestion could not store 3 candles", "ingestion ended; starting it again in 0.01 s",
    ]  # fmt: skip
    assert said[2].startswith("ingestion ended")
