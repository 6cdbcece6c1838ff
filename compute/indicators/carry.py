"""What a recursion hands on when its bars are computed piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidInput


@dataclass(slots=True, eq=False)
class Carry:
    """The values that the recursions of some rows ended with, by name.

    Pieces of the same rows follow each other without a gap; each finds the state that the one
    before it left. `restored` states are all there are.
    """

    states: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    restored: bool = False

    def state(self, name: str, *shape: int, start: float = np.nan) -> NDArray[np.float64]:
        """The state called `name`, f8[shape]; `start` before the first piece. Kernels update it.

        Raises: InvalidInput where restored states are not those that the kernels keep.
        """
        known = self.states.get(name)
        if known is None and not self.restored:
            known = self.states[name] = np.full(shape, start)
        if known is None or known.shape != shape:
            raise InvalidInput(f"no state '{name}' of shape {shape}: it is that of another version")
        return known
