"""A driver that joins a cluster of two nodes and loses one of them; run as a program.

Arguments: address of the head, a directory for marks and for `found.pickle`.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import ray

import compute.executor
from cluster.ray_executor import RayExecutor
from cluster.ray_session import ray_session
from compute.account import ALL_IN
from compute.control import Control, Meter
from compute.ranking import RETURN
from compute.selection import Scan
from tests.cluster.probes import DeadlyNodeScan, Meeting
from tests.cluster.problems import Problem, fine_lattice, outcome_bytes, request, spans_of


def main(address: str, directory: Path) -> None:
    compute.executor.lattice = fine_lattice
    problem = Problem(request())
    marks = directory / "nodes"
    marks.mkdir()
    found: dict[str, Any] = {}
    with ray_session(address) as session, RayExecutor(1, smallest_ns=0) as executor:
        found["started"] = session.started
        found["workers"] = executor.workers
        stage = problem.stage(executor)
        meter = Meter(stage.name, 0)
        spans = spans_of(stage.total, 12)
        found["nodes"] = executor.fold(stage, Meeting(marks, 2), spans, meter, Control())
        found["both"] = outcome_bytes(problem.outcome(executor))
        scan = Scan(10, RETURN, ALL_IN, 0)
        head = ray.get_runtime_context().get_node_id()
        deadly = DeadlyNodeScan(scan, directory / "killed", head)
        best = executor.fold(stage, deadly, spans, meter, Control())
        found["scanned"] = sorted(zip(best.index.tolist(), best.merit.tolist(), strict=True))
        found["survivor"] = outcome_bytes(problem.outcome(executor))
    (directory / "found.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
