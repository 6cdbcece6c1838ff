"""Section peers: vectorbt and backtesting.py on W2's votes, in an environment of their own.

`ROEHUB_PEERS_PYTHON` names its interpreter; what that lacks is skipped with a reason.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.arena import SCORE, Arena, scan, scored
from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.options import Options
from tests.benchmarks.rounds import interleaved
from tests.benchmarks.workloads import w2

VARIABLE = "ROEHUB_PEERS_PYTHON"
SCRIPT = Path(__file__).with_name("peer.py")
# Variants without stops, variants × pairs of stops: what each can do in a second or two.
SAMPLES = {"vectorbt": (125, 5, 25), "backtesting": (3, 1, 3)}
WANTED = {"vectorbt": (1_000.0, 8_000.0)}


def section_peers(options: Options) -> Findings:
    """Variants a second of one core: the engine on all of W2, each peer on a sample."""
    python = os.environ.get(VARIABLE)
    missing = f"set {VARIABLE} to a Python that has vectorbt and backtesting"
    found = Findings("peers")
    answers: dict[str, dict[str, Any]] = {peer: {"skipped": missing} for peer in SAMPLES}
    mine = (math.nan, math.nan)
    rows: list[tuple[object, ...]] = []
    if python is not None:
        options.say("peers: W2 on one core")
        arena = Arena(w2(), 1)
        mine = _engine(arena, options)
        rows = [("this engine", "", a, b, 1.0, 1.0, "") for a, b in [mine]]
        for peer in SAMPLES:
            answers[peer] = _answer(python, arena, peer)
            if "skipped" not in answers[peer]:
                rows.append(_row(peer, answers[peer], mine))
        again = _engine(arena, options)  # machines drift: the engine frames its peers
        mine = max(mine[0], again[0]), max(mine[1], again[1])
    for peer, answer in answers.items():
        why = answer.get("skipped", "")
        if why:
            rows.append((peer, "", None, None, None, None, why))
        for stage, limit in zip("AB", WANTED.get(peer, ()), strict=False):
            speed = answer.get(f"stage_{stage.lower()}", {}).get("variants_per_second")
            ratio = None if speed is None else mine["AB".index(stage)] / speed
            found.goals.append(
                Goal(f"Stage {stage}, one core, over {peer}", "at least", limit, ratio, why=why)
            )
    found.tables.append(
        Table(
            "W2 on one core: variants/s",
            ("engine", "version", "Stage A", "Stage B", "we are × in A", "× in B", "remark"),
            rows,
            "peers read the same votes as entries and exits; the remark says how far their trades "
            "agree with the oracle's",
        )
    )
    return found


def _engine(arena: Arena, options: Options) -> tuple[float, float]:
    """(Stage A, Stage B) variants a second on one thread."""
    best = arena.best(200)
    with ThreadPoolExecutor(1) as pool:
        works = {
            "A": partial(scan, arena.stage_a(), pool, 1),
            "B": lambda: scan(arena.stage_b(best), pool, 1),
        }
        times = interleaved(works, rounds=options.few)
    pairs = arena.job.risk.total
    return arena.variants / times.median("A"), len(best) * pairs / times.median("B")


def _row(peer: str, answer: dict[str, Any], mine: tuple[float, float]) -> tuple[object, ...]:
    a, b = answer["stage_a"], answer["stage_b"]
    remark = (
        f"trades agree in {a['same_trades']} of {a['variants']}, "
        f"{b['same_trades']} of {b['variants']} variants; "
        f"returns differ by {a['largest_difference_pct']:.3g} points at most"
    )
    return (
        peer, answer["version"], a["variants_per_second"], b["variants_per_second"],
        mine[0] / a["variants_per_second"], mine[1] / b["variants_per_second"], remark,
    )  # fmt: skip


def _answer(python: str, arena: Arena, peer: str) -> dict[str, Any]:
    """What a peer measured of itself, and how it agrees with the engine."""
    base, ranks, pairs = SAMPLES[peer]
    flat, few = arena.sample(base), arena.best(ranks)
    risk = np.linspace(0, arena.job.risk.total - 1, pairs).astype(np.int64)
    stops = np.array([arena.job.risk.pair(int(index)) for index in risk]) / 100
    with tempfile.TemporaryDirectory(prefix="roehub-bench-") as scratch:
        problem = Path(scratch, "problem.npz")
        execution = arena.job.execution
        np.savez(
            problem,
            close=arena.close,
            votes_a=_signals(arena, flat),
            votes_b=_signals(arena, few),
            stops=stops,
            terms=np.array([execution.init_cash_quote, execution.fee_pct, execution.slippage_pct]),
        )
        command = [python, str(SCRIPT), peer, str(problem)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"skipped": f"{python}: {error}"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"skipped": lines[-1] if lines else f"{python} failed"}
    answer = json.loads(done.stdout.splitlines()[-1])
    stage_a = scored(arena.stage_a(SCORE), 1)
    stage_b = scored(arena.stage_b(few), 1)
    total = arena.job.risk.total
    of_b = (np.arange(len(few))[:, None] * total + risk[None, :]).ravel()
    for name, scores, rows in (
        ("stage_a", stage_a, np.searchsorted(stage_a.index, flat)),
        ("stage_b", stage_b, of_b),
    ):
        part = answer[name]
        mine = scores.take(rows)
        part["same_trades"] = int(np.count_nonzero(np.array(part.pop("trades")) == mine.trades))
        apart = np.abs(np.array(part.pop("return_pct")) - (mine.equity - 1) * 100)
        part["largest_difference_pct"] = float(apart.max())
    return answer


def _signals(arena: Arena, flat: NDArray[np.int64]) -> NDArray[np.int8]:
    ballots = arena.ballots(flat)
    return np.array([ballots.signal(i) for i in range(len(flat))], np.int8)
