"""The executor on Ray gives what the local one gives, whatever happens to its workers."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.experimental.internal_kv import _internal_kv_list

from cluster import card_workers
from cluster.batches import Batches
from cluster.card_workers import CardWorker, CardWorkers
from cluster.errors import ClusterMemory, ClusterUnavailable, ForeignNode
from cluster.numerics import Build, build
from cluster.ray_executor import PENDING_PER_CORE, RayExecutor
from cluster.ray_session import RaySession
from cluster.recall import _NAMESPACE  # pyright: ignore[reportPrivateUsage]
from cluster.shelf import Shelf
from compute.account import ALL_IN
from compute.control import Control, Meter, Progress
from compute.cuda.card import SimulatedCard
from compute.cuda.memory import RESERVE_BYTES
from compute.cuda.residence import Residence
from compute.device import DeviceUnavailable
from compute.errors import Cancelled, InvalidCandles
from compute.executor import Executor, LocalExecutor, Span
from compute.ranking import RETURN, order
from compute.selection import Scan, Ties
from tests.cluster.conftest import WORKERS
from tests.cluster.probes import Counting, DeadlyScan, Endless, Failing, Signatures, signatures
from tests.cluster.problems import (
    Problem,
    fine_lattice,
    outcome_bytes,
    request,
    spans_of,
)

Columns = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(request())


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)


def meter(stage: Any) -> Meter:
    return Meter(stage.name, 0)


def in_batches_of(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """Makes every task take `count` spans; the sizes of those taken."""
    taken: list[int] = []

    class Fixed(Batches):
        def take(self) -> Sequence[Span]:
            batch = self._spans[self._at : self._at + count]
            self._at += len(batch)
            taken.append(len(batch))
            return batch

    monkeypatch.setattr("cluster.ray_executor.Batches", Fixed)
    return taken


@pytest.mark.parametrize("per_task", [1, 2, 1000])
def test_the_result_is_the_local_one_to_the_bit(
    problem: Problem,
    cluster: RayExecutor,
    local: LocalExecutor,
    monkeypatch: pytest.MonkeyPatch,
    per_task: int,
) -> None:
    taken = in_batches_of(monkeypatch, per_task)
    found = problem.outcome(cluster)
    assert outcome_bytes(found) == outcome_bytes(problem.outcome(local))
    assert len(found.top) == 20
    assert max(taken) == per_task if per_task < 1000 else max(taken) > 2


@ray.remote(num_cpus=0, num_gpus=1)
class Stranger:
    """Holds a card."""

    def here(self) -> None: ...


@contextmanager
def strangers(cards: int) -> Iterator[None]:
    """While entered, so many cards are held by somebody else."""
    actors: list[Any] = [Stranger.remote() for _ in range(cards)]
    ray.get([actor.here.remote() for actor in actors])
    try:
        yield
    finally:
        for actor in actors:
            ray.kill(actor)
        until_free(cards)


@pytest.fixture
def simulated(session: RaySession, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayExecutor]:
    """An executor whose workers with a card have one that Numba simulates.

    Of two cards somebody else holds one, and keeps it.
    """
    actor = card_workers.card_worker
    simulating = {"env_vars": {"NUMBA_ENABLE_CUDASIM": "1"}}
    monkeypatch.setattr(card_workers, "card_worker", actor.options(runtime_env=simulating))
    with strangers(1), RayExecutor(WORKERS, device="cuda") as executor:
        yield executor


def test_workers_with_a_card_search_and_the_others_score(
    simulated: RayExecutor, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card has one process for the whole job, however many batches; it is given back after.

    The job does not wait for the card that it cannot have, nor send anything there; and what is too
    small for cores of the cluster is not too small for a card that was asked for.
    """
    sent: list[bool] = []
    opened: list[CardWorkers] = []
    submitted, started = RayExecutor._submitted, CardWorkers.__init__

    def noted(self: RayExecutor, cards: Any, *arguments: Any) -> Any:
        sent.append(cards is not None)
        return submitted(self, cards, *arguments)

    def counted(self: CardWorkers, count: int) -> None:
        opened.append(self)
        started(self, count)

    monkeypatch.setattr(RayExecutor, "_submitted", noted)
    monkeypatch.setattr(CardWorkers, "__init__", counted)
    in_batches_of(monkeypatch, 10)
    problem = Problem(request(windows=6, periods=4))
    found = problem.outcome(simulated)
    assert simulated.device == "cuda (1 of the cluster)"
    assert outcome_bytes(found) == outcome_bytes(problem.outcome(local))
    assert sent.count(True) >= 4
    assert sent.count(False) == 0  # the driver's threads rescore so little
    assert len(opened) == 1
    assert simulated._card_workers is None  # pyright: ignore[reportPrivateUsage]
    until_free(1)


def test_a_worker_with_a_card_that_dies_is_replaced(
    simulated: RayExecutor, problem: Problem, local: LocalExecutor, tmp_path: Path
) -> None:
    stage = problem.stage(local)
    scan = Scan(10, RETURN, ALL_IN, 0)
    deadly = DeadlyScan(scan, tmp_path / "killed", os.getpid())
    spans = spans_of(stage.total, 6)
    with simulated.job(lambda: None):
        found = simulated.fold(stage, deadly, spans, meter(stage), Control())
    assert (tmp_path / "killed").exists()
    assert simulated.device == "cuda (1 of the cluster)"
    alone = local.fold(stage, scan, spans, meter(stage), Control())
    assert sorted(zip(found.index.tolist(), found.merit.tolist(), strict=True)) == sorted(
        zip(alone.index.tolist(), alone.merit.tolist(), strict=True)
    )
    assert found.eligible == alone.eligible == stage.total


def test_a_search_that_waits_for_a_card_ends_when_it_is_told_to(
    session: RaySession, problem: Problem, local: LocalExecutor
) -> None:
    stage = problem.stage(local)
    scan = Scan(10, RETURN, ALL_IN, 0)
    spans = spans_of(stage.total, 6)
    with strangers(2), RayExecutor(1, device="cuda") as executor:
        late = Control(deadline=time.monotonic() + 0.3)
        with pytest.raises(Cancelled), executor.job(lambda: None):
            executor.fold(stage, scan, spans, meter(stage), late)
        assert executor.device == "cpu"
    assert _internal_kv_list(b"", namespace=_NAMESPACE) == []


def test_cards_that_cannot_be_used(
    session: RaySession,
    problem: Problem,
    local: LocalExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nodes without the packages: `cuda` is refused with node and reason, `auto` told it once."""
    monkeypatch.setattr("cluster.ray_executor._cards", lambda: 1)
    stage = problem.stage(local)
    scan = Scan(10, RETURN, ALL_IN, 0)
    spans = spans_of(stage.total, 6)
    with (
        RayExecutor(1, device="cuda") as asked,
        pytest.raises(DeviceUnavailable, match=r"node [\d.]+: CuPy .*cuda extra.*--device cpu"),
    ):
        asked.fold(stage, scan, spans, meter(stage), Control())
    said: list[str] = []
    with RayExecutor(1, smallest_ns=0, device="auto", say=said.append) as executor:
        found, again = (
            executor.fold(stage, scan, spans, meter(stage), Control()) for _ in range(2)
        )
        assert executor.device == "cpu"
    alone = local.fold(stage, scan, spans, meter(stage), Control())
    for one in (found, again):
        assert sorted(one.index.tolist()) == sorted(alone.index.tolist())
    [line] = said
    assert "device auto: going on with the CPU, node" in line


class FullCard(CardWorker):
    """Has a card on which nothing finds room."""

    def ready(self) -> str | None:
        self._residence = Residence(SimulatedCard(RESERVE_BYTES + 1_000))
        return None


def test_a_card_without_room(
    session: RaySession, problem: Problem, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` goes on with the cores and gives the card back."""
    full = ray.remote(num_cpus=0, num_gpus=1)(FullCard)
    simulating = {"env_vars": {"NUMBA_ENABLE_CUDASIM": "1"}}
    monkeypatch.setattr(card_workers, "card_worker", full.options(runtime_env=simulating))
    stage = problem.stage(local)
    scan = Scan(10, RETURN, ALL_IN, 0)
    spans = spans_of(stage.total, 6)
    said: list[str] = []
    with (
        RayExecutor(1, smallest_ns=0, device="auto", say=said.append) as executor,
        executor.job(lambda: None),
    ):
        found = executor.fold(stage, scan, spans, meter(stage), Control())
        until_free(2)
        assert executor.device == "cpu"
    alone = local.fold(stage, scan, spans, meter(stage), Control())
    assert sorted(found.index.tolist()) == sorted(alone.index.tolist())
    [line] = said
    assert "device auto: going on with the CPU" in line


def until_free(cards: int) -> None:
    """Waits until so many cards can be had again."""
    end = time.monotonic() + 60
    while ray.available_resources().get("GPU", 0) < cards:
        assert time.monotonic() < end, "a card was not given back"
        time.sleep(0.05)


def test_a_cluster_without_cards(session: RaySession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.ray_executor._cards", lambda: 0)
    with pytest.raises(ClusterUnavailable, match=r"no node .* --num-gpus=1.* --device cpu"):
        RayExecutor(1, device="cuda")
    with RayExecutor(1, device="auto") as executor:
        assert executor.device == "cpu"


def test_holdout_and_two_metrics(cluster: RayExecutor, local: LocalExecutor) -> None:
    body = request(windows=8, periods=5)
    body["validation"] = {"holdout_fraction": 0.3}
    body["ranking"] = {
        "primary_metric": "return_over_max_drawdown",
        "secondary_metric": "profit_factor",
        "min_trades": 3,
    }
    problem = Problem(body)
    found = problem.outcome(cluster)
    assert found.holdout is not None
    assert outcome_bytes(found) == outcome_bytes(problem.outcome(local))


def test_bulk_columns_reach_the_driver_once(
    problem: Problem, cluster: RayExecutor, local: LocalExecutor
) -> None:
    def columns(executor: RayExecutor | LocalExecutor) -> list[bytes]:
        blocks: list[Columns] = []
        problem.outcome(executor, sink=blocks.append)
        index = np.concatenate([block["index"] for block in blocks])
        assert np.array_equal(np.sort(index), np.arange(problem.job.grid.total))
        rows = np.argsort(index)
        return [np.concatenate([b[name] for b in blocks])[rows].tobytes() for name in blocks[0]]

    assert columns(cluster) == columns(local)


@pytest.fixture(scope="module")
def idle() -> Problem:
    """Nobody trades: each of 6 000 variants is as good as the others, their keys decide."""
    nobody = [100 - i / 100 for i in range(10)]
    body = request(windows=30, periods=20, long_thresholds=nobody, preselect=50)
    body["template"]["direction_mode"] = "long-only"
    return Problem(body)


def test_all_variants_tie(idle: Problem, cluster: RayExecutor, local: LocalExecutor) -> None:
    found = idle.outcome(cluster)
    assert set(found.shortlist.trades.tolist()) == {0}
    assert outcome_bytes(found) == outcome_bytes(idle.outcome(local))


def test_a_pass_over_ties(idle: Problem, cluster: RayExecutor, local: LocalExecutor) -> None:
    stage = idle.stage(local)
    ties = Ties(10, 1 - 1e-9, 1 + 1e-9, stage.ranking)

    def best(executor: Executor, spans: int) -> bytes:
        spans_ = spans_of(stage.total, spans)
        scores = executor.fold(stage, ties, spans_, meter(stage), Control()).scores
        return scores.index[order(scores, stage.ranking, stage.namer)[:10]].tobytes()

    assert len({best(local, 1), best(local, 7), best(cluster, 7), best(cluster, 20)}) == 1


def test_progress_counts_every_variant(problem: Problem, cluster: RayExecutor) -> None:
    seen: list[Progress] = []
    problem.outcome(cluster, report=seen.append)
    for name, total in (("stage_a", 300), ("stage_b", 40 * 9)):
        done = [p.done for p in seen if p.stage == name and p.total == total]
        assert done[0] == 0
        assert done[-1] == total
        assert done == sorted(done)


def test_arrays_are_put_once_and_given_back(
    cluster: RayExecutor, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(request(windows=60, periods=60))
    sizes: list[int] = []
    put = ray.put

    def counted(value: Any) -> Any:
        sizes.append(getattr(value, "nbytes", 0))
        return put(value)

    monkeypatch.setattr("cluster.shelf.ray.put", counted)
    taken = in_batches_of(monkeypatch, 1)
    stage = problem.stage(local)
    scan = Scan(10, RETURN, ALL_IN, 0)
    for count in (10, 40):
        cluster.fold(stage, scan, spans_of(stage.total, count), meter(stage), Control())
    assert sum(taken) == 50
    assert sizes.count(stage.votes.planes.nbytes) == 1
    assert sum(sizes) == stage.votes.planes.nbytes  # the closes are small here, and pickled
    assert cluster.shared.bytes == stage.votes.planes.nbytes
    assert len(cluster.shared) == 1
    del stage
    gc.collect()
    assert len(cluster.shared) == 0


def test_stages_share_their_planes(cluster: RayExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(request(windows=60, periods=60))
    problem.outcome(cluster)
    assert cluster.shared.puts == 1


def test_arrays_beyond_the_smallest_store_are_refused() -> None:
    array = np.zeros(1 << 20)
    array.flags.writeable = False
    with pytest.raises(ClusterMemory, match=r"need 8 MiB .* room for 1 MiB"):
        Shelf().problem(array, None, 1 << 20)


def test_a_killed_worker_changes_nothing(
    problem: Problem, cluster: RayExecutor, local: LocalExecutor, tmp_path: Path
) -> None:
    stage = problem.stage(local)
    scan = Scan(10, RETURN, ALL_IN, 0)
    deadly = DeadlyScan(scan, tmp_path / "killed", os.getpid())
    spans = spans_of(stage.total, 12)
    found = cluster.fold(stage, deadly, spans, meter(stage), Control())
    assert (tmp_path / "killed").exists()
    alone = local.fold(stage, scan, spans, meter(stage), Control())
    assert sorted(zip(found.index.tolist(), found.merit.tolist(), strict=True)) == sorted(
        zip(alone.index.tolist(), alone.merit.tolist(), strict=True)
    )
    assert found.eligible == alone.eligible == stage.total


def test_cancelling_stops_running_tasks_and_drops_waiting_ones(
    problem: Problem, cluster: RayExecutor, local: LocalExecutor, tmp_path: Path
) -> None:
    stage = problem.stage(local)
    spans = [(i, i + 1) for i in range(20)]

    class Impatient(Control):
        """Cancels as soon as a worker is busy."""

        def check(self, stage: str) -> None:
            if list(tmp_path.glob("began-*")):
                self.cancel("enough")
            super().check(stage)

    with pytest.raises(Cancelled, match="reason=enough"):
        cluster.fold(stage, Endless(tmp_path), spans, meter(stage), Impatient())
    began = {path.name.removeprefix("began-") for path in tmp_path.glob("began-*")}
    ended = {path.name.removeprefix("ended-") for path in tmp_path.glob("ended-*")}
    assert began == ended
    assert 1 <= len(began) <= WORKERS
    # The cores are free again: nothing that was handed out waits for one.
    assert cluster.fold(stage, Counting(), spans, meter(stage), Control()) == len(spans)
    assert {p.name for p in tmp_path.glob("began-*")} == {f"began-{name}" for name in began}


def test_a_run_asked_to_stop_before_it_starts(problem: Problem, cluster: RayExecutor) -> None:
    control = Control()
    control.cancel("too late")
    with pytest.raises(Cancelled, match="reason=too late"):
        problem.outcome(cluster, control=control)


def test_errors_of_workers_come_back_as_they_are(
    problem: Problem, cluster: RayExecutor, local: LocalExecutor
) -> None:
    stage = problem.stage(local)
    with pytest.raises(InvalidCandles, match="row 7 is odd") as typed:
        cluster.fold(stage, Failing(True), [(0, 1)], meter(stage), Control())
    assert typed.value.rows == [7]
    assert typed.value.__cause__ is None
    with pytest.raises(ValueError, match="a mistake of ours") as plain:
        cluster.fold(stage, Failing(False), [(0, 1)], meter(stage), Control())
    assert "probes.py" in "".join(plain.value.__notes__)


def test_a_node_that_computes_otherwise_is_refused(
    session: RaySession, problem: Problem, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = problem.stage(local)
    other = Build("numpy 0.1, numba 0.1, llvmlite 0.1, abacus", build().engine)
    monkeypatch.setattr("cluster.ray_executor.build", lambda: other)
    with (
        RayExecutor(WORKERS, smallest_ns=0) as cluster,
        pytest.raises(ForeignNode, match=r"the driver with numpy 0\.1, .* abacus"),
    ):
        cluster.fold(stage, Counting(), [(0, 1)], meter(stage), Control())


def test_small_stages_stay_with_the_driver(
    session: RaySession, problem: Problem, local: LocalExecutor
) -> None:
    with RayExecutor(WORKERS) as cluster:
        found = problem.outcome(cluster)
        assert cluster.shared.puts == 0
    assert outcome_bytes(found) == outcome_bytes(problem.outcome(local))


def test_workers_need_no_kernels_but_the_drivers(
    cluster: RayExecutor, local: LocalExecutor
) -> None:
    """Arrays from the object store have the type of local ones: one compilation serves both."""
    problem = Problem(request(windows=60, periods=60, top_k=100))
    problem.outcome(local)
    problem.outcome(cluster)
    stage = problem.stage(local)
    query = Signatures(Scan(10, RETURN, ALL_IN, 0))
    spans = spans_of(stage.total, 8)
    found = cluster.fold(stage, query, spans, meter(stage), Control())
    here = signatures()
    assert {"product_scores", "pair_scores", "exact_scores"} <= set(here)
    assert os.getpid() not in found
    for there in found.values():
        assert "product_scores" in there
        for kernel, compiled in there.items():
            assert compiled <= here.get(kernel, compiled), kernel


def test_tasks_pending_are_bounded(
    problem: Problem, cluster: RayExecutor, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    wait = ray.wait

    def counted(references: list[Any], **options: Any) -> Any:
        waits.append(len(references))
        return wait(references, **options)

    in_batches_of(monkeypatch, 1)
    monkeypatch.setattr("cluster.ray_executor.ray.wait", counted)
    stage = problem.stage(local)
    cluster.fold(stage, Counting(), spans_of(stage.total, 60), meter(stage), Control())
    assert max(waits) == PENDING_PER_CORE * WORKERS


def test_an_empty_stage(problem: Problem, cluster: RayExecutor, local: LocalExecutor) -> None:
    stage = problem.stage(local)
    found = cluster.fold(stage, Scan(10, RETURN, ALL_IN, 0), [], meter(stage), Control())
    assert len(found.index) == 0
