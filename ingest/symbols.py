"""Names of instruments as exchanges write them."""

from __future__ import annotations

import re
from typing import Final

from compute.errors import InvalidInput
from compute.market.instrument import Instrument

# Letters of any script: BTCUSDT, 币安人生USDT. A delivery may follow: BTCUSDT_250627, BTC-27JUN25.
_SYMBOL: Final = re.compile(r"[^\W_]+([-_]\d[^\W_]*)?")


class InvalidSymbol(InvalidInput):
    """A text that no exchange has as a symbol; `suggestion` is what it may mean."""

    def __init__(self, symbol: str, suggestion: str) -> None:
        cure = f"write it like {suggestion}" if suggestion else "write it like BTCUSDT"
        super().__init__(
            f"symbol {symbol!r} is not written as the exchanges write it, without separators; "
            f"{cure}",
            details={"symbol": symbol, "suggestion": suggestion},
        )
        self.symbol = symbol
        self.suggestion = suggestion


def listed_instrument(market_id: int, symbol: str) -> Instrument:
    """The instrument, its symbol one that an exchange may have.

    Raises:
        InvalidSymbol: `btc/usdt`, `BTC-USDT`, `BTC/USDT:USDT` and their like.
        InvalidInput: a blank symbol or a bad id.
    """
    found = Instrument(market_id, symbol)
    if _SYMBOL.fullmatch(found.symbol) is None:
        raise InvalidSymbol(found.symbol, re.sub(r"[\W_]", "", found.symbol.split(":")[0]))
    return found
