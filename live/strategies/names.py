"""Names and hashes of strategies, made once, when a strategy is; the bytes are a contract."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from compute.keys import canonical_json

Spec = Mapping[str, Any]
_NAMES: Final = ("name", "kind", "id")


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


def strategy_name(spec: Spec, user_id: UUID) -> str:
    """`BTCUSDT 1m [MA(20,50)] #048A5652`: the last part tells owner and specification."""
    shown = ", ".join(signature(entry) for entry in spec["indicators"])
    owned = canonical_json({"spec_json": dict(spec), "user_id": str(user_id)})
    short = sha256(owned).hexdigest()[:8].upper()
    return f"{spec['symbol']} {spec['timeframe']} [{shown}] #{short}"


def spec_hash(spec: Spec) -> str:
    """Hash of a specification alone, whoever owns it."""
    return sha256(canonical_json(dict(spec))).hexdigest()
