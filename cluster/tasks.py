"""What runs inside Ray's worker processes: spans of a stage, reduced before they are returned."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cluster.errors import ForeignNode
from cluster.numerics import Build, build, difference
from compute.errors import Cancelled
from compute.executor import Span


@dataclass(frozen=True, slots=True)
class Reduced:
    """Merged parts of some spans, their bulk columns in order, and the seconds they took."""

    part: Any
    columns: list[dict[str, NDArray[np.generic]]]
    seconds: float


def reduced(
    problem: bytes, driver: Build, spans: Sequence[Span], *arrays: NDArray[np.generic]
) -> Reduced:
    """`Reduced` spans of `problem`, a stage and a query whose large arrays are `arrays`.

    Raises: ForeignNode before any computing; Cancelled between blocks once the driver gave up.
    """
    accept(driver)
    stage, query = _Unpickler(problem, arrays).load()
    context = ray.get_runtime_context()

    def check() -> None:
        if context.is_canceled():
            raise Cancelled("cancelled by the driver", stage.name)

    began = time.perf_counter()
    merged: Any = None
    columns: list[dict[str, NDArray[np.generic]]] = []
    for i, (start, stop) in enumerate(spans):
        check()
        part = query.part(stage, start, stop, check)
        columns += getattr(part, "columns", None) or []
        merged = query.merge([merged, part] if i else [part])
    return Reduced(merged, columns, time.perf_counter() - began)


def warm(driver: Build) -> None:
    """Nothing; the worker has imported the engine then. Raises: ForeignNode."""
    accept(driver)
    import compute.stage_b  # noqa: F401


def accept(driver: Build) -> None:
    """Raises ForeignNode where this process would not compute what the driver would."""
    here = build()
    if here != driver:
        where = f"node {ray.util.get_node_ip_address()}"
        raise ForeignNode(difference(driver, here, where) or where)


class _Unpickler(pickle.Unpickler):
    """Puts shared arrays back in their places. The counterpart is `cluster.shelf.Shelf.problem`."""

    def __init__(self, problem: bytes, arrays: Sequence[NDArray[np.generic]]) -> None:
        super().__init__(io.BytesIO(problem))
        self._arrays = arrays

    def persistent_load(self, pid: int) -> NDArray[np.generic]:
        return self._arrays[pid]
