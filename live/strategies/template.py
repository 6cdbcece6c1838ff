"""A stored specification as the template of a back-test: every value an axis of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

Record = dict[str, Any]
_NAMES: Final = ("indicator_id", "id", "kind", "name")


def strategy_template(spec: Mapping[str, Any], overrides: Mapping[str, Any]) -> Record:
    """The template of a specification of any version with `overrides`.

    Raises: KeyError, TypeError, AttributeError or ValueError for what is no strategy.
    """
    stored = spec.get("signal_grids") or _signals(spec.get("signals") or {})
    signals = _merged(stored, overrides.get("signal_grids") or {})
    execution = {**_given(spec.get("execution")), **_given(overrides.get("execution"))}
    risk = overrides.get("risk_grid") or spec.get("risk_grid") or _given(spec.get("risk"))
    template: Record = {
        "instrument_id": {name: spec["instrument_id"][name] for name in ("market_id", "symbol")},
        "timeframe": spec["timeframe"],
        "indicator_grids": [_block(entry) for entry in spec["indicators"]],
        "direction_mode": overrides.get("direction_mode")
        or spec.get("direction_mode")
        or "long-short",
        "sizing_mode": overrides.get("sizing_mode") or spec.get("sizing_mode") or "all_in",
    }
    for name, value in (("execution", execution), ("risk_grid", risk), ("signal_grids", signals)):
        if value:
            template[name] = copy.deepcopy(value)
    return template


def _block(entry: Mapping[str, Any]) -> Record:
    name = next((entry[key] for key in _NAMES if str(entry.get(key) or "").strip()), None)
    if name is None:
        raise ValueError("an indicator without a name")
    block: Record = {
        "indicator_id": name,
        "params": {key: _one(value) for key, value in (entry.get("params") or {}).items()},
    }
    source = (entry.get("inputs") or {}).get("source")
    if source is not None:
        block["source"] = _one(source)
    if entry.get("output") is not None:
        block["output"] = entry["output"]
    return block


def _one(value: Any) -> Record:
    return {"mode": "explicit", "values": [value]}


def _signals(stored: Mapping[str, Mapping[str, Any]]) -> Record:
    return {
        name: {param: _one(value) for param, value in values.items()}
        for name, values in stored.items()
    }


def _given(block: Mapping[str, Any] | None) -> Record:
    return {name: value for name, value in (block or {}).items() if value is not None}


def _merged(
    stored: Mapping[str, Mapping[str, Any]], sent: Mapping[str, Mapping[str, Any]]
) -> Record:
    names = {*stored, *sent}
    return {name: {**(stored.get(name) or {}), **(sent.get(name) or {})} for name in sorted(names)}
