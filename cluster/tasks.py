"""What runs inside Ray's worker processes: spans of a stage, reduced before they are returned."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cluster.errors import ForeignNode
from cluster.numerics import Build, build, difference
from cluster.recall import checker
from compute.errors import Cancelled
from compute.executor import Span


@dataclass(frozen=True, slots=True)
class Reduced:
    """Merged parts of some spans, their bulk columns in order, and the seconds they took."""

    part: Any
    columns: list[dict[str, NDArray[np.generic]]]
    seconds: float


def reduced(
    problem: bytes, driver: Build, key: bytes, spans: Sequence[Span], *arrays: NDArray[np.generic]
) -> Reduced | None:
    """`Reduced` spans of `problem`, a stage and a query whose large arrays are `arrays`.

    None once the driver has recalled the tasks of `key`. Raises: ForeignNode before any computing.
    """
    stage, query = loaded(problem, driver, arrays)
    return reduced_spans(stage, query, spans, checker(key, stage.name))


def loaded(problem: bytes, driver: Build, arrays: Sequence[NDArray[np.generic]]) -> Any:
    """(stage, query) of `problem`. Raises: ForeignNode."""
    if refused := refusal(driver):
        raise ForeignNode(refused)
    return _Unpickler(problem, arrays).load()


def reduced_spans(
    stage: Any, query: Any, spans: Sequence[Span], check: Callable[[], None]
) -> Reduced | None:
    """`Reduced` spans; None where `check` raises Cancelled."""
    began = time.perf_counter()
    merged: Any = None
    columns: list[dict[str, NDArray[np.generic]]] = []
    try:
        for i, (start, stop) in enumerate(spans):
            check()
            part = query.part(stage, start, stop, check)
            columns += getattr(part, "columns", None) or []
            merged = query.merge([merged, part] if i else [part])
    except Cancelled:
        return None
    return Reduced(merged, columns, time.perf_counter() - began)


def warm(driver: Build) -> str | None:
    """`refusal`, after importing the engine into this worker."""
    import compute.stage_b  # noqa: F401

    return refusal(driver)


def refusal(driver: Build) -> str | None:
    """Why this node may not compute for a driver of that build; None where it may."""
    here = build()
    if here == driver:
        return None
    return difference(driver, here, f"node {ray.util.get_node_ip_address()}")


class _Unpickler(pickle.Unpickler):
    """Puts shared arrays back in their places. The counterpart is `cluster.shelf.Shelf.problem`."""

    def __init__(self, problem: bytes, arrays: Sequence[NDArray[np.generic]]) -> None:
        super().__init__(io.BytesIO(problem))
        self._arrays = arrays

    def persistent_load(self, pid: int) -> NDArray[np.generic]:
        return self._arrays[pid]
