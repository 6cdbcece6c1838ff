"""The card's search under Numba's simulator, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_the_search_on_a_simulated_card_is_that_of_the_processor(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
            str(HERE / "simulated"),
        ],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "TMPDIR": str(tmp_path)},
        cwd=HERE.parents[2],
        capture_output=True, text=True, check=False, timeout=560,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout.splitlines()[-1]
