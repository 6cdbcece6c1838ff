"""A card as the search needs it: arrays on it, launches, memory. CuPy and numba-cuda, or numbers.

Under Numba's simulator NumPy stands for CuPy, whose calls the search uses are the same.
"""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numba import config
from numpy.typing import NDArray

SIMULATED_BYTES = 1 << 30
THREADS = 128
"""Threads of a block: four warps. The kernels share no memory, so any number gives the same."""


class Card(Protocol):
    """Arrays of a card are opaque; `arrays` is the module that computes with them."""

    name: str
    arrays: Any
    threads: int

    @property
    def lock(self) -> Path:
        """The file that whoever computes on the card holds locked."""
        ...

    def free_bytes(self) -> int:
        """Bytes that can be allocated now, what this process has let go included."""
        ...

    def put(self, array: NDArray[Any]) -> Any:
        """A copy on the card. Raises: MemoryError."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array on the card. Raises: MemoryError."""
        ...

    def host(self, array: Any) -> NDArray[Any]:
        """A copy in this process."""
        ...

    def launch(self, kernel: Any, count: int, inputs: Any, terms: Any, outputs: Any) -> None:
        """Runs `kernel` with at least `count` threads."""
        ...

    def release(self) -> None:
        """Gives back to the driver what is not used."""
        ...


class CudaCard:
    """The first card that the driver shows to this process (CUDA_VISIBLE_DEVICES)."""

    threads = THREADS

    def __init__(self) -> None:
        import compute.cuda.rounding  # noqa: F401  before the first kernel is compiled

        self.arrays = import_module("cupy")
        found = self.arrays.cuda.runtime.getDeviceProperties(0)
        self.name = found["name"].decode()
        self._key = bytes(found["uuid"]).hex()

    @property
    def lock(self) -> Path:
        return _lock(self._key)

    def free_bytes(self) -> int:
        self.release()
        return int(self.arrays.cuda.runtime.memGetInfo()[0])

    def put(self, array: NDArray[Any]) -> Any:
        return self.arrays.asarray(array)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.arrays.empty(shape, dtype)

    def host(self, array: Any) -> NDArray[Any]:
        return self.arrays.asnumpy(array)

    def launch(self, kernel: Any, count: int, inputs: Any, terms: Any, outputs: Any) -> None:
        from numba import cuda

        blocks = -(-count // self.threads)
        kernel[blocks, self.threads](
            tuple(cuda.as_cuda_array(array) for array in inputs),
            terms,
            tuple(cuda.as_cuda_array(array) for array in outputs),
        )

    def release(self) -> None:
        self.arrays.get_default_memory_pool().free_all_blocks()


class SimulatedCard:
    """Numba's simulator: every thread of a launch is a Python thread, for proofs on small data."""

    name = "simulator"
    arrays = np

    def __init__(self, memory_bytes: int = SIMULATED_BYTES, threads: int = 16) -> None:
        self.memory_bytes, self.threads = memory_bytes, threads

    @property
    def lock(self) -> Path:
        return _lock("simulator")

    def free_bytes(self) -> int:
        return self.memory_bytes

    def put(self, array: NDArray[Any]) -> Any:
        return np.array(array)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.empty(shape, dtype)

    def host(self, array: Any) -> NDArray[Any]:
        return np.array(array)

    def launch(self, kernel: Any, count: int, inputs: Any, terms: Any, outputs: Any) -> None:
        kernel[-(-count // self.threads), self.threads](tuple(inputs), terms, tuple(outputs))

    def release(self) -> None: ...


def opened() -> Card:
    """The card of this process; `compute.device` has said that there is one."""
    return SimulatedCard() if config.ENABLE_CUDASIM else CudaCard()  # type: ignore[attr-defined]


def _lock(key: str) -> Path:
    return Path(tempfile.gettempdir()) / f"roehub-cuda-{os.getuid()}-{key}.lock"
