"""Jobs and committed spans on a Ray cluster, one for all of them: as on threads of this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.ray_executor import RayExecutor
from compute.control import Control
from compute.errors import Cancelled
from compute.executor import LocalExecutor
from tests.cluster.jobs.ledgers import Recorder
from tests.cluster.jobs.running import Looking, judge, runner_thread, spans_of, submit, until
from tests.cluster.jobs.test_committed import Bench
from tests.cluster.jobs.test_faults import held
from tests.cluster.problems import Problem, fine_lattice, request


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    monkeypatch.setattr("cluster.jobs.committed.LEAST_NS", 0.0)


def test_a_job_and_another_of_its_plan(database: str, tmp_path: Path, cluster: RayExecutor) -> None:
    body = request(windows=8, periods=6)
    ids = submit(database, tmp_path, body, body | {"top_trades_n": 5})
    with runner_thread(database, tmp_path, held(cluster)), Looking(database) as looking:
        until(looking.ended)
    assert judge(database, ids[0], body)["executor"] == "ray"
    told = judge(database, ids[1], body | {"top_trades_n": 5})
    assert told["spans_computed"] == 0  # the same plan over the same candles
    assert told["spans_reused"] == len(spans_of(database))


def test_spans_of_one_executor_are_those_of_another(
    cluster: RayExecutor, local: LocalExecutor, tmp_path: Path
) -> None:
    problem = Problem(request(windows=8, periods=6, preselect=20))
    bench = Bench(problem, tmp_path)
    expected = bench.plain(local)
    control = Control()
    with pytest.raises(Cancelled):
        bench.run(Recorder(cluster, 25, lambda: control.cancel("stop")), control=control)
    some = len(bench.ledger.rows)
    assert some >= 25
    again = Recorder(local)
    assert bench.run(again) == expected
    assert again.spans == len(bench.ledger.rows) - some > 0
    fresh = Bench(problem, tmp_path / "other")
    assert fresh.run(cluster) == expected
    digests = {key: row.digest for key, row in bench.ledger.rows.items()}
    assert {key: row.digest for key, row in fresh.ledger.rows.items()} == digests
