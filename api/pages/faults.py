"""What the API refuses of a request, in words of the form that made it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from compute.errors import InvalidInput
from compute.indicators.registry import definition
from compute.market.instrument import Instrument

_WORDS: Final = (
    (r"axis start must be <= stop_incl, got (.+) > (.+)",
     r"from must not be above to: \1 is above \2"),
    (r"axis step must be > 0, got .+", "step must be above 0"),
    (r"(?:range axis needs|axis) start\b", "from"),
    (r"(?:range axis needs|axis) stop_incl\b", "to"),
    (r"(?:range axis needs|axis) step\b", "step"),
    (r"axis values must be unique, (.+) comes twice", r"\1 comes twice"),
    (r"axis values must not be empty", "give at least one value"),
    (r"[\w.]+: signal values must be numeric", "the values must be numbers"),
    (r"[\w.]+\.\w+ must be in (\S+)\.\.(\S+), got (.+)",
     r"the values must be from \1 to \2; \3 is not"),
    (r"[\w.]+\.\w+ must be an integer, got (.+)", r"the values must be whole numbers; \1 is none"),
    (r"[\w.]+\.\w+ (step must be a multiple of .+)", r"\1"),
    (r"(the axes have .+ values together), the limit is (.+); widen the steps, or raise .+",
     r"\1, and at most \2 are taken: make the steps wider or the ranges shorter"),
)  # fmt: skip
"""Messages of the contract, and what the form says instead."""
_BARE: Final = ("from", "to", "step")


def in_words(message: str) -> str:
    """A message as the form says it; one that it has no other words for as it is."""
    for pattern, words in _WORDS:
        message = re.sub(f"^{pattern}", words, message)
    return f"{message} is missing" if message in _BARE else message


def out_of_bounds(body: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The ends of ranges that lie outside what their indicators take, as faults of a request.

    A range that is far too long is refused for its length before anything else of it is looked at.
    """
    for at, block in enumerate((body.get("template") or {}).get("indicator_grids") or []):
        try:
            params = definition(block.get("indicator_id", "")).params
        except InvalidInput:
            continue
        for param in params:
            spec = (block.get("params") or {}).get(param.name) or {}
            for part in ("start", "stop_incl"):
                value = spec.get(part)
                if isinstance(value, int | float) and not param.hard_min <= value <= param.hard_max:
                    yield {
                        "path": f"body.template.indicator_grids.{at}.params.{param.name}.{part}",
                        "message": f"must be from {param.hard_min} to {param.hard_max};"
                        f" {value} is not",
                    }


def not_stored(instrument: Instrument, others: list[Instrument], markets: Mapping[int, str]) -> str:
    """That there are no candles of an instrument, and of which there are some."""
    market = markets.get(instrument.market_id, f"Market {instrument.market_id}")
    names = [f"{one.symbol} ({markets.get(one.market_id, one.market_id)})" for one in others]
    stored = f" Choose one that is: {', '.join(names)}." if names else ""
    return f"No candle of {market} {instrument.symbol} is stored here.{stored}"
