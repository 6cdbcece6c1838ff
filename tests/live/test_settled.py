from __future__ import annotations

import numpy as np
import pytest

from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from ingest.rows import MINUTE_MS
from live.settled import given_up_ms, settled_until

DAY_MS = 1_700_006_400_000 // 86_400_000 * 86_400_000


@pytest.mark.parametrize(
    ("there", "absent", "now", "code", "expected"),
    [
        ([], [], 0, "1m", 0),
        ([0, 1, 2], [], 3, "1m", 3),
        ([0, 2], [], 3, "1m", 1),
        ([0, 2], [], 11, "1m", 1),
        ([0, 2], [], 12, "1m", 3),
        ([0, 2], [(1, 2)], 3, "1m", 3),
        ([0], [(1, 4)], 14, "5m", 4),
        ([0], [(1, 4)], 20, "5m", 10),
        ([0], [(1, 40)], 9, "1m", 40),
        ([0, 1, 3, 4], [], 14, "5m", 2),
        ([0, 1, 3, 4], [], 15, "5m", 5),
        ([1, 2], [], 5, "1h", 0),
        ([], [], 75, "1h", 60),
    ],
)
def test_minutes_are_there_or_absent_or_waited_for(
    there: list[int], absent: list[tuple[int, int]], now: int, code: str, expected: int
) -> None:
    found = settled_until(
        DAY_MS + np.array(there, np.int64) * MINUTE_MS,
        [Period(DAY_MS + a * MINUTE_MS, DAY_MS + b * MINUTE_MS) for a, b in absent],
        DAY_MS,
        given_up_ms(TIMEFRAMES[code], DAY_MS + now * MINUTE_MS),
    )
    assert (found - DAY_MS) // MINUTE_MS == expected
