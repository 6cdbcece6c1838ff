"""What is traded: a symbol on a market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from compute.errors import InvalidInput

MARKETS: Final[dict[int, str]] = {
    1: "binance spot",
    2: "binance futures",
    3: "bybit spot",
    4: "bybit futures",
}


@dataclass(frozen=True, slots=True, order=True)
class Instrument:
    """A symbol on a market; the symbol is trimmed and upper-cased.

    Ids outside `MARKETS` are accepted: a candle file may come from anywhere.

    Raises:
        InvalidInput: `market_id` is not a positive integer, or the symbol is empty.
    """

    market_id: int
    symbol: str

    def __post_init__(self) -> None:
        if type(self.market_id) is not int:  # a boolean is an int to isinstance
            raise InvalidInput(f"market_id must be an integer, got {self.market_id!r}")
        if self.market_id <= 0:
            raise InvalidInput(f"market_id must be > 0, got {self.market_id}")
        if type(self.symbol) is not str or not self.symbol.strip():
            raise InvalidInput(f"symbol must be a non-empty text, got {self.symbol!r}")
        object.__setattr__(self, "symbol", self.symbol.strip().upper())

    def __str__(self) -> str:
        return f"{self.market_id}:{self.symbol}"

    @property
    def market(self) -> str:
        """Name of the market, `market <id>` for one outside `MARKETS`."""
        return MARKETS.get(self.market_id, f"market {self.market_id}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The instrument written as `<market_id>:<SYMBOL>`.

        Raises:
            InvalidInput: `text` is not of that form.
        """
        market_id, colon, symbol = text.partition(":")
        number = market_id.strip()
        if not colon or not (number.isascii() and number.isdigit()):
            raise InvalidInput(
                f"instrument {text!r} is not <market_id>:<SYMBOL>; write it like 1:BTCUSDT"
            )
        return cls(int(number), symbol)
