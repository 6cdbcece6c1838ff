"""Names and hashes of strategies, made once, when a strategy is; the bytes are a contract."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from compute.keys import canonical_json

Spec = Mapping[str, Any]
_NAMES: Final = ("name", "kind", "id")
MOST_CHARACTERS: Final = 200
"""Of what a name of version 2 tells of its specification."""


def identifier(entry: Mapping[str, Any]) -> str | None:
    """What an indicator entry calls itself: the first text that is not blank."""
    texts = (entry.get(name) for name in _NAMES)
    return next((text.strip() for text in texts if isinstance(text, str) and text.strip()), None)


def signature(entry: Mapping[str, Any]) -> str:
    """An indicator with the values of its parameters, in the order of their names."""
    params: Mapping[str, Any] = entry.get("params") or {}
    values = ",".join(str(params[name]) for name in sorted(params))
    name = (identifier(entry) or "").upper()
    return f"{name}({values})" if values else name


def parts(spec: Spec) -> list[str]:
    """What tells strategies of version 2 apart that are of one search: `ma.ema(close, 20)`,
    `momentum.rsi(close, 14: 50, 40)`, `SL 2 %`; values in the order of their names."""
    risk, signals = spec["risk"], spec["signals"]
    stops = [
        f"{name.upper()} {_text(risk[f'{name}_pct'])} %"
        for name in ("sl", "tp")
        if risk[f"{name}_enabled"]
    ]
    shown = [_settings(entry, signals.get(entry["id"]) or {}) for entry in spec["indicators"]]
    return [*shown, " ".join(stops)] if stops else shown


def strategy_name(spec: Spec, user_id: UUID) -> str:
    """`BTCUSDT 1m [MA(20,50)] #048A5652`, of version 2 `BTCUSDT 1m [ma.ema(close, 20) · SL 2 %]
    #048A5652` with as many parts as fit: the last one tells owner and specification."""
    if spec["schema_version"] == 1:
        shown = ", ".join(signature(entry) for entry in spec["indicators"])
    else:
        shown = " · ".join(parts(spec))
        if len(shown) > MOST_CHARACTERS:
            shown = f"{shown[:MOST_CHARACTERS].rstrip()} …"
    owned = canonical_json({"spec_json": dict(spec), "user_id": str(user_id)})
    short = sha256(owned).hexdigest()[:8].upper()
    return f"{spec['symbol']} {spec['timeframe']} [{shown}] #{short}"


def _settings(entry: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    """An indicator of version 2: its source, parameters and output, then those of its rule."""
    values = [*entry["inputs"].values(), *_ordered(entry["params"])]
    output = f".{entry['output']}" if entry.get("output") else ""
    votes = f": {', '.join(_ordered(rule))}" if rule else ""
    return f"{entry['id']}{output}({', '.join(values)}{votes})"


def _ordered(values: Mapping[str, Any]) -> list[str]:
    return [_text(values[name]) for name in sorted(values)]


def _text(value: float) -> str:
    return f"{value:.12g}"


def spec_hash(spec: Spec) -> str:
    """Hash of a specification alone, whoever owns it."""
    return sha256(canonical_json(dict(spec))).hexdigest()
