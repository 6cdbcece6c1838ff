"""The exchanges of section feed, in a process of their own.

    python -m tests.benchmarks.market_source SYMBOLS_A_MARKET

Says on standard output where they are. For every line on standard input, the open of a minute, it
closes that minute of every symbol at once and says when it began and when it had sent the last.
"""

from __future__ import annotations

import json
import sys
import time

from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.server import ExchangeServer

MARKETS = (1, 2, 3, 4)


def now_ms() -> int:
    """The machine's clock, which the processes of a machine share."""
    return time.time_ns() // 1_000_000


def main() -> None:
    count = int(sys.argv[1])
    symbols = [f"BENCH{n:04d}USDT" for n in range(count)]
    with BinanceServer(now_ms) as binance, BybitServer(now_ms) as bybit:
        servers: dict[int, ExchangeServer] = {1: binance, 2: binance, 3: bybit, 4: bybit}
        for market_id, server in servers.items():
            server.tape(market_id).enlist(*symbols, first_ms=0)
        streams = {str(m): server.stream_url(m) for m, server in servers.items()}
        print(json.dumps({"streams": streams, "symbols": symbols}), flush=True)
        for line in sys.stdin:
            minute_ms, closed = json.loads(line)
            if closed:
                # So that making the messages is not measured as the worker's slowness.
                for market_id, server in servers.items():
                    for symbol in symbols:
                        server.tape(market_id).at(symbol, minute_ms)
            began_ms = now_ms()
            sent = sum(
                server.burst(market_id, None, minute_ms, closed=closed)
                for market_id, server in servers.items()
            )
            told = {"began_ms": began_ms, "ended_ms": now_ms(), "sent": sent}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
