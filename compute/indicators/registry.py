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
        near = nearest(name)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; see `roehub indicators`"
        raise InvalidGrid(
            f"unknown indicator '{indicator_id}'{hint}",
            details={"indicator_id": indicator_id, "near": near},
        )
    return _load(name)


def nearest(text: str) -> list[str]:
    """At most three ids that `text` can stand for, best first.

    Ids with its name in any group, else ids and titles with its words in them, else ids like it.
    """
    name = text.strip().lower()
    word = name.rpartition(".")[2]
    named = [known for known in ids() if known.partition(".")[2] == word]
    held = [known for known in ids() if word and not named and word in f"{known} {_title(known)}"]
    like = difflib.get_close_matches(name, ids(), n=3, cutoff=0.5)
    if not like:
        tails = {known.partition(".")[2]: known for known in ids()}
        like = [tails[tail] for tail in difflib.get_close_matches(word, tails, n=3)]
    return (named or held or like)[:3]


def _title(indicator_id: str) -> str:
    return _load(indicator_id).DEFINITION.title.lower()


def definition(indicator_id: str) -> Definition:
    """The definition of one indicator. Raises InvalidGrid for an unknown id."""
    return module(indicator_id).DEFINITION
