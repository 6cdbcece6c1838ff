"""What a recursion hands on when its bars are computed piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True, eq=False)
class Carry:
    """Where the next piece of some rows begins, and the values their recursions ended with.

    Pieces of the same rows follow each other without a gap; each is told its `begin` and finds the
    state that the one before it left.
    """

    begin: int = 0
    _states: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def state(self, name: str, *shape: int) -> NDArray[np.float64]:
        """The state called `name`, f8[shape]; NaN before the first piece. Kernels update it."""
        known = self._states.get(name)
        if known is None:
            known = self._states[name] = np.full(shape, np.nan)
        return known
