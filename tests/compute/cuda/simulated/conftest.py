"""Tests of a process of their own: Numba decides at its import whether it simulates a card."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else ["*.py"]
