"""Which blocks serve which windows."""

from __future__ import annotations

import numpy as np

from compute.indicators.kernels.sums import block_groups


def test_one_window_is_served_as_among_others() -> None:
    windows = [*range(1, 200), 255, 256, 257, 1023, 1024, 1025, 4097]
    for window in windows:
        ((block, order),) = block_groups(np.array([window], np.int64))
        ((same, both),) = block_groups(np.array([window, window], np.int64))
        assert block == same >= window
        assert order.tolist() == [0]
        assert both.tolist() == [0, 1]
