"""Indicators by id. An id is a file, `<group>/<name>.py`; there is no list to keep in step."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import cast

from compute.errors import InvalidGrid
from compute.indicators.definition import GROUPS, Definition, Indicator

_PACKAGE = Path(__file__).parent


@cache
def ids() -> tuple[str, ...]:
    """All indicator ids, sorted; reads directory entries, imports nothing."""
    return tuple(
        sorted(
            f"{group}.{entry.name}"
            for group in GROUPS
            for entry in pkgutil.iter_modules([str(_PACKAGE / group)])
            if not entry.name.startswith("_")
        )
    )


@cache
def _load(indicator_id: str) -> Indicator:
    return cast(Indicator, importlib.import_module(f"compute.indicators.{indicator_id}"))


def module(indicator_id: str) -> Indicator:
    """The module of one indicator; only that one is imported.

    Raises InvalidGrid, with the nearest known ids, for an unknown one.
    """
    name = indicator_id.strip().lower()
    if name not in ids():
        near = difflib.get_close_matches(name, ids(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; see `roehub indicators`"
        raise InvalidGrid(
            f"unknown indicator '{indicator_id}'{hint}",
            details={"indicator_id": indicator_id, "near": near},
        )
    return _load(name)


def definition(indicator_id: str) -> Definition:
    """The definition of one indicator. Raises InvalidGrid for an unknown id."""
    return module(indicator_id).DEFINITION
