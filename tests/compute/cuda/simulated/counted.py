"""A simulated card that tells what was done with it."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from compute.cuda.card import SimulatedCard
from compute.cuda.memory import RESERVE_BYTES


class Counted(SimulatedCard):
    """Keeps threads of launches, shapes of what was brought, the most bytes that it held at a time.

    `overdrawn` counts allocations beyond the `limit` that it has. It is `told` to have more;
    allocation number `fail` finds no memory.
    """

    def __init__(
        self, limit: int | None = None, told: int | None = None, fail: int = -1, threads: int = 4
    ) -> None:
        super().__init__(limit or 1 << 20, threads=threads)
        self.told, self.fail = (told or self.memory_bytes), fail
        self.launches: list[int] = []
        self.brought: list[tuple[int, ...]] = []
        self.most = self.overdrawn = 0

    def free_bytes(self) -> int:
        return RESERVE_BYTES + super().free_bytes() + self.told - self.memory_bytes

    def put(self, array: NDArray[Any]) -> Any:
        self.brought.append(array.shape)
        return super().put(array)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self.fail -= 1
        if self.fail == 0:
            raise MemoryError("vanished")
        try:
            array = super().empty(shape, dtype)
        except MemoryError:
            self.overdrawn += 1
            raise
        self.most = max(self.most, self.taken_bytes())
        return array

    def launch(self, kernel: Any, count: int, inputs: Any, values: Any, outputs: Any) -> None:
        self.launches.append(count)
        super().launch(kernel, count, inputs, values, outputs)
