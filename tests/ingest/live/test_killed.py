"""A worker that is killed with candles in its buffer, and the one that comes after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ingest.rows import MINUTE_MS
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.live.stage import START_MS, Hand

SYMBOLS = ["KILLA", "KILLB"]
LINEAR = 4


@contextmanager
def child(server: BybitServer, path: Path, now_ms: int, most_rows: int) -> Iterator[Any]:
    given = {
        "path": str(path),
        "rest_url": server.rest_url,
        "stream_url": server.stream_url(LINEAR),
        "market_id": LINEAR,
        "symbols": SYMBOLS,
        "now_ms": now_ms,
        "most_rows": most_rows,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ingest.live.killed", json.dumps(given)],
        cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = threading.Timer(120, process.kill)  # then `heard` finds the end of its output
    deadline.start()
    try:
        yield process
    finally:
        deadline.cancel()
        process.kill()
        process.wait()


def heard(process: Any, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first line of the child that is wanted; it ends with an error when there is none."""
    for line in process.stdout:
        words = json.loads(line)
        if wanted(words):
            return words
    raise AssertionError(f"the child has ended with {process.wait()}")


def test_a_killed_worker_loses_nothing_that_a_restart_cannot_fetch(tmp_path: Path) -> None:
    clock = Hand()
    with BybitServer(clock) as server:
        tape = server.tape(LINEAR)
        tape.enlist(*SYMBOLS, first_ms=START_MS)

        def closed(minute: int) -> None:
            clock.now_ms = START_MS + (minute + 1) * MINUTE_MS + 40
            server.burst(LINEAR, None, START_MS + minute * MINUTE_MS)

        with child(server, tmp_path / "store", START_MS, most_rows=6) as first:
            server.wait_for_topics(LINEAR, 2, 60)
            for minute in range(3):
                closed(minute)
                heard(first, lambda words, n=minute: words["stored"] == 2 * n + 2)
            for minute in range(3, 7):
                closed(minute)
            heard(first, lambda words: words["waiting"] == 8)
            first.send_signal(signal.SIGKILL)
            assert first.wait() == -signal.SIGKILL
        server.wait_for(lambda: server.sockets == 0, 60)
        closed(7)  # to nobody
        clock.now_ms += 5_000  # and it is settled
        with child(server, tmp_path / "store", clock.now_ms, most_rows=10**6) as second:
            server.wait_for_topics(LINEAR, 2, 60)
            heard(second, lambda words: (words["stored"], words["fetched"]) == (10, 2))  # 3..7
            closed(8)
            heard(second, lambda words: words["stored"] == 12)
            second.send_signal(signal.SIGTERM)
            end = heard(second, lambda words: "left" in words)
            assert second.wait() == 0
        assert end["left"] == 0
        assert end["reasons"] == ["reconnect_tail", "reconnect_tail"]
        for symbol in SYMBOLS:
            told = tape.span(symbol, START_MS, START_MS + 9 * MINUTE_MS)
            assert end["times"][symbol] == [candle.ts_open_ms for candle in told]
            assert end["closes"][symbol] == [candle.close for candle in told]
