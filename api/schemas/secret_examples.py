"""Example bodies whose secrets nobody could take for real ones."""

from __future__ import annotations

from typing import Any, Final

CODES: Final[dict[str, Any]] = {"a code": {"code": "000000"}}

RECOVERY: Final[dict[str, Any]] = {
    "a recovery code": {"recovery_code": "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"}
}

EXCHANGE_KEYS: Final[dict[str, Any]] = {
    "a key that may read": {
        "exchange_name": "binance",
        "market_type": "spot",
        "permissions": "read",
        "label": "spot, read",
        "api_key": "<API KEY>",
        "api_secret": "<API SECRET>",
    }
}
