"""Every exchange and market there is; a new one is a module beside this and a line here."""

from __future__ import annotations

from typing import Final

from compute.errors import InvalidInput
from ingest.exchanges.binance import Binance
from ingest.exchanges.bybit import Bybit
from ingest.exchanges.exchange import Exchange, Market

EXCHANGES: Final[tuple[Exchange, ...]] = (Binance(), Bybit())

MARKETS: Final[dict[int, Market]] = {
    market.market_id: market
    for market in sorted(
        (market for exchange in EXCHANGES for market in exchange.markets),
        key=lambda market: market.market_id,
    )
}
_EXCHANGE_OF: Final = {
    market.market_id: exchange for exchange in EXCHANGES for market in exchange.markets
}


def market(market_id: int) -> Market:
    """The market of an id.

    Raises:
        InvalidInput: no exchange has it.
    """
    found = MARKETS.get(market_id)
    if found is None:
        known = ", ".join(f"{m.market_id} ({m.code})" for m in MARKETS.values())
        raise InvalidInput(f"market {market_id} is unknown; known are {known}")
    return found


def exchange_of(market: Market | int) -> Exchange:
    """The exchange that a market, or the market of an id, belongs to.

    Raises:
        InvalidInput: no exchange has it.
    """
    market_id = market if isinstance(market, int) else market.market_id
    found = _EXCHANGE_OF.get(market_id)
    if found is None:
        known = ", ".join(f"{m.market_id} ({m.code})" for m in MARKETS.values())
        raise InvalidInput(f"market {market_id} is unknown; known are {known}")
    return found
