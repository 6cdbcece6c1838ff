"""The shelf: large arrays of a run in Ray's object store, each put once while it lives here.

A stage is pickled without its large read-only arrays; they travel as objects of their own, which
every worker of a node maps without copying. Stages that share votes therefore share one copy. What
stays in the pickle keeps its flags, so workers compile no kernel for other arrays than the driver.
"""

from __future__ import annotations

import io
import pickle
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import ObjectStoreFullError

from cluster.errors import ClusterMemory

SHARED_BYTES = 1 << 16  # smaller arrays travel in the pickle, cheaper than an object


@dataclass(frozen=True, slots=True)
class Problem:
    """A stage and a query as tasks take them: the pickle's reference and those of its arrays."""

    pickled: ray.ObjectRef[bytes]
    arrays: list[ray.ObjectRef[NDArray[np.generic]]]


class Shelf:
    """References of arrays by identity; one goes when its array does, and its memory with it."""

    def __init__(self) -> None:
        self._references: dict[int, tuple[weakref.ref[Any], ray.ObjectRef[Any]]] = {}
        self.puts = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._references)

    def problem(self, stage: object, query: object, room_bytes: int) -> Problem:
        """The `Problem` of scoring `stage` by `query`.

        Raises: ClusterMemory when its arrays need more than `room_bytes`, the smallest store.
        """
        shared: list[NDArray[np.generic]] = []
        buffer = io.BytesIO()
        _Pickler(buffer, shared).dump((stage, query))
        need = sum(array.nbytes for array in shared) + buffer.tell()
        if need > room_bytes:
            raise _too_large(need, room_bytes)
        try:
            return Problem(ray.put(buffer.getvalue()), [self._reference(array) for array in shared])
        except ObjectStoreFullError:
            raise _too_large(need, room_bytes) from None

    def _reference(self, array: NDArray[np.generic]) -> ray.ObjectRef[Any]:
        key = id(array)
        if key not in self._references:
            references = self._references
            reference = ray.put(array)
            gone = weakref.ref(array, lambda _: references.pop(key, None))
            references[key] = (gone, reference)
            self.puts += 1
            self.bytes += array.nbytes
        return self._references[key][1]

    def clear(self) -> None:
        """Forgets every array."""
        self._references.clear()


def _too_large(need: int, room: int) -> ClusterMemory:
    return ClusterMemory(
        f"planes and candles need {need / 2**20:.0f} MiB of shared memory on every node, the "
        f"smallest object store has room for {room / 2**20:.0f} MiB; enlarge /dev/shm "
        "(docker: --shm-size) and --object-store-memory there, work in smaller blocks by a lower "
        "--memory-bytes, or use --executor local",
        details={"need_bytes": need, "room_bytes": room},
    )


class _Pickler(pickle.Pickler):
    """Leaves large read-only arrays out and lists them in `shared`, each once."""

    def __init__(self, file: io.BytesIO, shared: list[NDArray[np.generic]]) -> None:
        super().__init__(file, 5)
        self._shared = shared
        self._places: dict[int, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if type(obj) is not np.ndarray or obj.nbytes < SHARED_BYTES or obj.dtype.hasobject:
            return None
        if obj.flags.writeable or not obj.flags.c_contiguous:
            return None
        if id(obj) not in self._places:
            self._places[id(obj)] = len(self._shared)
            self._shared.append(obj)
        return self._places[id(obj)]
