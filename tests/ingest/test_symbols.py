"""Symbols: those that exchanges have are taken, those of other notations are told how to be."""

from __future__ import annotations

import pytest

from compute.errors import InvalidInput
from ingest.symbols import InvalidSymbol, listed_instrument


@pytest.mark.parametrize(
    "symbol",
    [
        "BTCUSDT",
        " btcusdt ",
        "1000PEPEUSDT",
        "BTCUSDT_250627",
        "BTC-27JUN25",
        "BTCPERP",
        "币安人生USDT",
    ],
)
def test_symbols_of_exchanges(symbol: str) -> None:
    assert listed_instrument(1, symbol).symbol == symbol.strip().upper()


@pytest.mark.parametrize(
    "symbol",
    ["btc/usdt", "BTC-USDT", "BTC_USDT", "BTC USDT", "BTC/USDT:USDT", "BTC.USDT", "BTC,USDT"],
)
def test_other_notations_are_refused_with_the_exchanges_own(symbol: str) -> None:
    with pytest.raises(InvalidSymbol, match="write it like BTCUSDT") as caught:
        listed_instrument(1, symbol)
    assert caught.value.suggestion == "BTCUSDT"
    assert caught.value.details == {"suggestion": "BTCUSDT", "symbol": symbol.upper()}


def test_nothing_to_suggest() -> None:
    with pytest.raises(InvalidSymbol, match="write it like BTCUSDT") as caught:
        listed_instrument(1, "//")
    assert caught.value.suggestion == ""
    with pytest.raises(InvalidInput, match="non-empty"):
        listed_instrument(1, " ")
