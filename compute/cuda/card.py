"""A card as the search needs it: arrays on it, launches, memory. CuPy and numba-cuda, or numbers.

Under Numba's simulator NumPy stands for CuPy, whose calls the search uses are the same.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numba import config
from numpy.typing import NDArray

SIMULATED_BYTES = 1 << 30
_SINGLE_TO_DOUBLE = 87  # of cudaDeviceAttr
_OUT_OF_MEMORY = 2  # of CUresult
_MANY = 8  # float32 units a float64 unit: 2 on cards of data centres, 32 and 64 on others
THREADS = 128
"""Threads of a block: four warps. The kernels share no memory, so any number gives the same."""


class Card(Protocol):
    """Arrays of a card are opaque; `arrays` is the module that computes with them.

    `few_doubles` says that it has many times more units for float32 than for float64.
    """

    name: str
    arrays: Any
    threads: int
    few_doubles: bool

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

    def launch(self, kernel: Any, count: int, inputs: Any, values: Any, outputs: Any) -> None:
        """Runs `kernel` with at least `count` threads; may return before it has ended.

        `inputs` and `outputs` are arrays of the card, `values` a number or a named tuple of them.
        Raises: MemoryError, for code and stacks need room as well.
        """
        ...

    def apart(self) -> AbstractContextManager[None]:
        """While entered, copies and launches of this thread run beside those of all others.

        They have ended when it is left.
        """
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
        ratio = self.arrays.cuda.runtime.deviceGetAttribute(_SINGLE_TO_DOUBLE, 0)
        self.few_doubles = ratio > _MANY
        self._own = threading.local()

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

    def launch(self, kernel: Any, count: int, inputs: Any, values: Any, outputs: Any) -> None:
        from numba import cuda

        # CuPy has written the arrays on the stream that the kernel runs on: nothing is to wait for.
        stream = cuda.external_stream(self.arrays.cuda.get_current_stream().ptr)
        blocks = -(-count // self.threads)
        with memory_errors():
            kernel[blocks, self.threads, stream](
                tuple(cuda.as_cuda_array(array, sync=False) for array in inputs),
                values,
                tuple(cuda.as_cuda_array(array, sync=False) for array in outputs),
            )

    @contextmanager
    def apart(self) -> Iterator[None]:
        stream = getattr(self._own, "stream", None)
        if stream is None:
            stream = self._own.stream = self.arrays.cuda.Stream(non_blocking=True)
        with stream:
            yield
            stream.synchronize()

    def release(self) -> None:
        self.arrays.get_default_memory_pool().free_all_blocks()


class SimulatedCard:
    """Numba's simulator: every thread of a launch is a Python thread, for proofs on small data.

    Its memory is counted, and is used up like that of a card.
    """

    name = "simulator"
    arrays: Any = np
    few_doubles = True

    def __init__(self, memory_bytes: int = SIMULATED_BYTES, threads: int = 16) -> None:
        self.memory_bytes, self.threads = memory_bytes, threads
        self._alive: list[weakref.ref[Any]] = []
        self._counting = threading.Lock()

    @property
    def lock(self) -> Path:
        return _lock("simulator")

    def taken_bytes(self) -> int:
        """Bytes of all arrays that are there."""
        self._alive = [one for one in self._alive if one() is not None]
        return sum(array.nbytes for one in self._alive if (array := one()) is not None)

    def free_bytes(self) -> int:
        with self._counting:
            return self.memory_bytes - self.taken_bytes()

    def put(self, array: NDArray[Any]) -> Any:
        placed = self.empty(array.shape, array.dtype)
        placed[...] = array
        return placed

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        array = np.empty(shape, dtype)
        with self._counting:
            if self.taken_bytes() + array.nbytes > self.memory_bytes:
                raise MemoryError(f"{array.nbytes} bytes of {self.memory_bytes}")
            self._alive.append(weakref.ref(array))
        return array

    def host(self, array: Any) -> NDArray[Any]:
        return np.array(array)

    def launch(self, kernel: Any, count: int, inputs: Any, values: Any, outputs: Any) -> None:
        kernel[-(-count // self.threads), self.threads](tuple(inputs), values, tuple(outputs))

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None: ...


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raises: MemoryError for what numba-cuda says of a card without room, as CuPy does."""
    from numba.cuda.cudadrv.driver import CudaAPIError

    try:
        yield
    except CudaAPIError as error:
        if error.code != _OUT_OF_MEMORY:
            raise
        raise MemoryError(str(error)) from error


def card_here() -> Card:
    """The card of this process; `compute.device` has said that there is one."""
    return SimulatedCard() if config.ENABLE_CUDASIM else CudaCard()  # type: ignore[attr-defined]


def _lock(key: str) -> Path:
    return Path(tempfile.gettempdir()) / f"roehub-cuda-{os.getuid()}-{key}.lock"
