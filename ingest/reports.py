"""Reports of what was done: one record each, as real JSON or as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from compute.market.instrument import Instrument
from compute.market.period import EPOCH, Period
from ingest.progress import duration


def moment(ms: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ`, always with three decimals."""
    text = (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def record(report: Any) -> dict[str, Any]:
    """A report as JSON takes it, its fields in their order.

    A field `name_ms` becomes `name` with the time as text; instruments and periods become
    objects, reports inside it records.
    """
    found: dict[str, Any] = {}
    for field in fields(report):
        value = getattr(report, field.name)
        name = field.name
        if name.endswith("_ms"):
            name = name.removesuffix("_ms")
            value = None if value is None else moment(value)
        found[name] = _plain(value)
    return found


def json_text(report: Any) -> str:
    """The record as a JSON text."""
    return json.dumps(record(report), ensure_ascii=False, allow_nan=False)


def text(report: Any) -> str:
    """The record as lines of `name: value`, without what has no value."""
    return "\n".join(_lines(record(report), ""))


def _plain(value: Any) -> Any:
    if isinstance(value, Instrument):
        return {"market_id": value.market_id, "symbol": value.symbol}
    if isinstance(value, Period):
        return {"start": moment(value.start_ms), "end": moment(value.end_ms)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return record(value) if hasattr(value, "__dataclass_fields__") else value


def _lines(found: Mapping[str, Any], margin: str) -> list[str]:
    lines: list[str] = []
    for name, value in found.items():
        if value is None or value in ("", [], {}):
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{margin}{name}:")
            for item in value:
                block = _lines(item, margin + "    ")
                block[0] = f"{margin}  - {block[0].lstrip()}"
                lines += block
        else:
            lines.append(f"{margin}{name}: {_short(value)}{_long(name, value)}")
    return lines


def _long(name: str, value: Any) -> str:
    """Minutes of more than an hour as people say them."""
    if name.endswith("minutes") and isinstance(value, int) and value > 60:
        return f" ({duration(60 * value)})"
    return ""


def _short(value: Any) -> str:
    """A value on one line."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        if set(value) == {"market_id", "symbol"}:
            return f"{value['market_id']}:{value['symbol']}"
        if set(value) == {"start", "end"}:
            return f"[{value['start']}, {value['end']})"
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_short(item) for item in value) or "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
