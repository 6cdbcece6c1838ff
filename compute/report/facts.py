"""The summary of a run: labelled texts in sections (instrument, candles, plan, settings, run)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

from compute.report.document import Document
from compute.report.format import date_text, duration_text

MARKETS = {1: "Binance spot", 2: "Binance futures", 3: "Bybit spot", 4: "Bybit futures"}

# Settings of the account that one way of sizing alone looks at.
_SIZED = {"fixed_quote": "fixed_quote", "safe_profit_percent": "strategy_compound_profit_lock"}
_THIN = "\u202f"
_UNITS = (("_pct", " %"), ("_percent", " %"), ("_seconds", " s"), ("_bars", " bars"))


class Fact(TypedDict):
    label: str
    value: str


class Section(TypedDict):
    title: str
    facts: list[Fact]


def heading(document: Document) -> tuple[str, str]:
    """(title, venue): `BTCUSDT 15m` and the market's name."""
    result = document["result"]
    instrument = result["instrument_id"]
    market = instrument["market_id"]
    return f"{instrument['symbol']} {result['timeframe']}", MARKETS.get(market, f"Market {market}")


def sections(document: Document) -> list[Section]:
    """The summary, in reading order; empty sections are left out."""
    result = document["result"]
    built = (
        ("Market", _market(document)),
        ("Candles", _candles(result.get("candles") or {}, document)),
        ("Plan", _plan(result)),
        ("Ranking", _ranking(document)),
        ("Account and costs", _account(document)),
        ("Run", _run(result.get("run") or {}, result.get("engine_version"))),
    )
    found = ((title, [Fact(label=a, value=b) for a, b in facts]) for title, facts in built)
    return [Section(title=title, facts=facts) for title, facts in found if facts]


def _market(document: Document) -> Iterator[tuple[str, str]]:
    title, venue = heading(document)
    start, end = document["period_start_ms"], document["period_end_ms"]
    yield "Instrument", f"{title.split(' ')[0]}, {venue}"
    yield "Timeframe", str(document["result"]["timeframe"])
    yield "From", _minute(start)
    yield "Until", _minute(end)
    yield "Length", duration_text(end - start).split(", ")[0]
    market = document["market"]
    if market is not None:
        yield "Bars traded", _count(market["bars"])
    holdout = document["result"].get("holdout")
    if holdout:
        yield "Held out", f"last {holdout['fraction']:.0%}, not ranked on"


def _candles(candles: Mapping[str, Any], document: Document) -> Iterator[tuple[str, str]]:
    if candles:
        made = "SYNTHETIC, made by a generator; " if document["generated"] else ""
        yield "Source", made + document["source"]
    names = {
        "rows": "Rows",
        "missing": "Missing",
        "synthetic": "Carried forward",
        "first": "First",
        "last": "Last",
        "fingerprint": "Fingerprint",
    }
    for key, label in names.items():
        if (value := candles.get(key)) is None:
            continue
        if key in ("first", "last") and isinstance(value, int):
            yield label, _minute(value)
        else:
            yield label, _text(key, value)


def _plan(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _scalars(result.get("plan") or {})
    for key in ("warmup_bars", "preselect", "top_k"):
        if key in result:
            yield _label(key), _text(key, result[key])


def _ranking(document: Document) -> Iterator[tuple[str, str]]:
    yield from _scalars(document["ranking"])


def _account(document: Document) -> Iterator[tuple[str, str]]:
    yield "Direction", document["direction_mode"]
    sizing = document["sizing_mode"]
    yield "Sizing", sizing.replace("_", " ")
    without = {name for name, mode in _SIZED.items() if mode != sizing}
    yield from _scalars({k: v for k, v in document["execution"].items() if k not in without})


def _run(run: Mapping[str, Any], version: Any) -> Iterator[tuple[str, str]]:
    yield from _scalars(run)
    for name, seconds in (run.get("timings") or {}).items():
        if isinstance(seconds, int | float):
            yield f"{_label(str(name))} time", _seconds(float(seconds))
    if version:
        yield "Engine", str(version)


def _scalars(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if value is not None and isinstance(value, str | int | float):
            yield _label(key), _text(key, value)


def _label(key: str) -> str:
    for suffix in ("_bytes", "_pct", "_percent", "_quote", "_seconds", "_bars", "_total"):
        key = key.removesuffix(suffix)
    text = key.replace("_", " ")
    text = text.replace("stage a", "Stage A").replace("stage b", "Stage B").replace("rss", "RSS")
    return text[:1].upper() + text[1:]


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.replace("_", " ") if key.endswith("_metric") else value
    if key.endswith("_bytes"):
        return _bytes(value)
    text = _count(value) if isinstance(value, int) else f"{value:,.6g}".replace(",", _THIN)
    return text + next((unit for suffix, unit in _UNITS if key.endswith(suffix)), "")


def _count(value: int) -> str:
    return f"{value:,}".replace(",", _THIN)


def _bytes(value: float) -> str:
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1.0 else f"{value * 1000.0:.0f} ms"


def _minute(time_ms: int) -> str:
    """UTC to the minute, or to the millisecond where the minute would hide something."""
    text = date_text(time_ms)
    return f"{text[:16]} UTC" if text[16:23] == ":00.000" else f"{text[:23]} UTC"
