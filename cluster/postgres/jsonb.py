"""JSON as PostgreSQL's jsonb gives it back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from cluster.postgres.errors import RejectedRequest

LARGEST_FLOAT: Final = 1e16  # from here on jsonb writes a whole float as an integer


def storable(value: Any, path: str = "body") -> Any:
    """A copy that jsonb gives back as it is, so that stored text and hash agree.

    jsonb has no negative zero and writes large whole floats as integers; it cannot hold infinity,
    the character 0 or half a surrogate pair. Raises: RejectedRequest, which names the place.
    """
    if isinstance(value, Mapping):
        return {_text(k, path): storable(v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [storable(v, f"{path}.{i}") for i, v in enumerate(value)]
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, float) and not math.isfinite(value):
        raise RejectedRequest(f"{path} must be a finite number", path, "finite_number")
    if isinstance(value, float) and (abs(value) >= LARGEST_FLOAT or value == 0):
        return int(value) if value else 0.0
    return value


def _text(value: str, path: str) -> str:
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise RejectedRequest(
            f"{path} holds a character that cannot be stored", path, "string_unicode"
        )
    return value
