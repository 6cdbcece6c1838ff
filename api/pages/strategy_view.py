"""A strategy and its runs as their pages say them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from api.pages import words
from api.run_candles import is_made_up
from compute.report.facts import MARKETS
from live.strategies.events import Event
from live.strategies.names import identifier, parts
from live.strategies.runs import Run
from live.strategies.store import Strategy

Record = dict[str, Any]
STATES: Final = {
    "starting": "It was asked for. A live runner takes it up within seconds.",
    "warming_up": "It reads history and trades on paper once its indicators have settled.",
    "running": "It trades on paper at the close of each bar.",
    "stopping": "It was asked to stop. The runner ends it at its next step.",
    "stopped": "It was stopped. An open position stays as it was.",
    "failed": "It ended by a failure. Other runs go on.",
}
REASONS: Final = {
    "sl": "stop-loss",
    "tp": "take-profit",
    "signal_exit": "signal",
    "forced_close": "end of data",
}
BADGES: Final = {
    "exact": "Every bar and trade is that of its back-test, to the last bit.",
    "different": "Some bars or trades are others in its back-test; the causes are below.",
    "unchecked": "It was not compared with its back-test yet.",
}


def head(strategy: Strategy) -> Record:
    """What a list says of a strategy."""
    spec = strategy.spec_json
    market = spec["instrument_id"]["market_id"]
    return {
        "strategy_id": str(strategy.strategy_id),
        "name": strategy.name,
        "symbol": spec["instrument_id"]["symbol"],
        "market_id": market,
        "venue": MARKETS.get(market, f"Market {market}"),
        "timeframe": spec["timeframe"],
        "created_at": strategy.created_at,
        "indicators": _shown(spec),
        "synthetic": is_made_up(strategy) or bool((spec.get("source") or {}).get("synthetic")),
    }


def about(strategy: Strategy) -> Record:
    """All that a strategy says, with where it is from."""
    record = strategy.record()
    spec = record["spec"]
    return head(strategy) | {
        "blocks": [_block(entry, spec.get("signals") or {}) for entry in spec["indicators"]],
        "facts": _facts(spec),
        "source": _source(spec.get("source")),
        "as_json": json.dumps(spec, indent=2, ensure_ascii=False),
    }


def run_line(run: Run) -> Record:
    """A run in a list."""
    return {
        "run_id": str(run.run_id),
        "state": run.state,
        "started_at": run.started_at,
        "stopped_at": run.stopped_at,
        "last_error": run.last_error,
    }


def event_line(event: Event) -> Record:
    """An event in words."""
    payload = event.payload_json
    return {
        "at": f"{event.ts:%Y-%m-%d %H:%M:%S}",
        "kind": event.event_type,
        "text": _said(event.event_type, payload),
        "side": payload.get("net_pnl_quote") if event.event_type == "trade_close" else None,
    }


def differences(record: Mapping[str, Any]) -> list[Record]:
    """What differs from the back-test, each side as text."""
    return [
        one | {side: _both(one[side]) for side in ("live", "backtest")}
        for one in record["differences"]
    ]


def price(value: Any) -> str:
    """About six digits of a price of any size."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return words.NONE
    size = math.floor(math.log10(abs(value))) if value else 0
    text = words.number(value, min(8, max(2, 5 - size)))
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest[:2]}{rest[2:].rstrip('0')}"


def _shown(spec: Mapping[str, Any]) -> list[str]:
    return parts(spec) if spec["schema_version"] == 2 else [*map(_setting, spec["indicators"])]


def _setting(entry: Mapping[str, Any]) -> str:
    values = ", ".join(f"{value}" for value in (entry.get("params") or {}).values())
    return f"{identifier(entry)} {values}".strip()


def _block(entry: Mapping[str, Any], signals: Mapping[str, Any]) -> Record:
    name = identifier(entry) or ""
    inputs = {f"{key}": value for key, value in (entry.get("inputs") or {}).items()}
    output = entry.get("output")
    return {
        "id": name,
        "values": [
            *inputs.items(),
            *(entry.get("params") or {}).items(),
            *([("output", output)] if output else []),
        ],
        "rule": list((signals.get(name) or {}).items()),
    }


def _facts(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of all but the indicators; version 1 says nothing of it."""
    if spec["schema_version"] == 1:
        return []
    risk, execution = spec["risk"], spec["execution"]
    sizing = spec["sizing_mode"].replace("_", " ")
    if spec["sizing_mode"] == "fixed_quote":
        sizing += f" of {words.number(execution['fixed_quote'])}"
    return [
        ("Direction", spec["direction_mode"]),
        ("Size of a position", sizing),
        ("Stop-loss", f"{risk['sl_pct']}{words.PERCENT}" if risk["sl_enabled"] else "off"),
        ("Take-profit", f"{risk['tp_pct']}{words.PERCENT}" if risk["tp_enabled"] else "off"),
        ("Cash at the start", words.number(execution["init_cash_quote"])),
        ("Fee of each side", f"{execution['fee_pct']}{words.PERCENT}"),
        ("Slippage", f"{execution['slippage_pct']}{words.PERCENT}"),
        ("Warm-up", words.plural(spec["warmup_bars"], "bar")),
    ]


def _source(source: Mapping[str, Any] | None) -> Record:
    """Where a strategy is from, and the page of it; that of a job is told with its row."""
    kind = (source or {}).get("kind")
    if source is None or kind not in ("job", "variant", "strategy"):
        return {"text": "Written by hand.", "place": None}
    if kind == "job":
        which = "a row" if source.get("flat_index") is None else "a base variant"
        if source.get("rank"):
            which = f"rank {source['rank']}"
        return {"text": f"Saved from {which} of a job.", "place": None}
    if kind == "strategy" and source.get("strategy_id"):
        return {"text": "Cloned from another one.", "place": f"/strategies/{source['strategy_id']}"}
    return {"text": "Saved from a variant of a search.", "place": None}


def _said(kind: str, payload: Mapping[str, Any]) -> str:
    get = payload.get
    match kind:
        case "run_started":
            return "Start requested."
        case "run_state_changed":
            return f"{get('state', '')}".replace("_", " ").capitalize() + "."
        case "run_stop_requested":
            return "Stop requested."
        case "run_stopped":
            return "Stopped."
        case "run_failed":
            return f"Failed: {get('error', '')}"
        case "signal":
            return f"Signal {get('signal', '')} at {price(get('price'))}."
        case "trade_open":
            size = price(get("qty_base"))
            return f"Opened {get('side', '')}, {size} at {price(get('price'))}."
        case "trade_close":
            reason = f"{get('reason', '')}"
            return (
                f"Closed {get('side', '')} at {price(get('price'))},"
                f" {REASONS.get(reason, reason)}: {words.signed(get('net_pnl_quote'))}."
            )
        case "gap":
            first = f"{get('from_ts', '')}"[:16].replace("T", " ")
            return (
                f"{words.plural(get('missing_minutes', 0), 'minute')} missing, the first {first}."
            )
        case "repair":
            lost = get("given_up_minutes", 0)
            return (
                "The gap is filled."
                if not lost
                else f"Went on without {words.plural(lost, 'minute')}."
            )
    return kind.replace("_", " ")


def _both(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return f"{value}"
