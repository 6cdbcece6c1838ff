"""The executor on Ray: spans scored by one-core worker processes of a cluster, on any machine.

The driver puts a stage's arrays once, hands out batches of spans, two per core at a time, and
merges what comes back. A task that dies with its process or node is run again elsewhere; parts are
pure functions of their spans and are merged once, so nothing of that shows in the result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.batches import Batches, Work
from cluster.card_workers import CardWorkers
from cluster.errors import ClusterLost, ClusterMemory, ClusterUnavailable, ForeignNode
from cluster.numerics import build
from cluster.recall import forget, recall, recall_key
from cluster.shelf import Problem, Shelf
from cluster.tasks import Reduced, reduced, warm
from compute.control import Control, Meter
from compute.cuda.memory import CardMemory
from compute.device import AUTO, CPU, DeviceUnavailable
from compute.errors import RoehubError
from compute.executor import LocalExecutor, Query, Sink, Span
from compute.settings import Cpu

P = TypeVar("P")

PENDING_PER_CORE = 2
# A stage below this model cost is done on the driver's threads before a task would have started.
SMALLEST_NS = 3e8
_MAX_RETRIES = 3
_POLL_SECONDS = 0.1
_RECALL_SECONDS = 5.0
_ACCEPT_SECONDS = 120.0
_LOG = logging.getLogger(__name__)
_STORE_SHARE = 0.8  # the rest is for results and for what Ray has not freed yet

_reduced: Any = ray.remote(num_cpus=1, max_retries=_MAX_RETRIES)(reduced)
_warm: Any = ray.remote(num_cpus=1, max_retries=_MAX_RETRIES)(warm)


class RayExecutor:
    """Scores on the cluster that this process is connected to (`cluster.ray_session`).

    Votes are packed by `threads` of the driver (default: its share of this machine), which also
    score stages cheaper than `smallest_ns` of model cost. With `device` cuda stages are searched by
    workers that have a card each. So they are with auto, but for cheap ones, where there are cards
    that can be used and have room: `say` hears why not. Not for several threads at once.
    """

    name = "ray"

    def __init__(
        self,
        threads: int | None = None,
        *,
        smallest_ns: float = SMALLEST_NS,
        device: str = CPU,
        say: Callable[[str], None] = _LOG.warning,
    ) -> None:
        """Asks every node for its build. Raises: ForeignNode, ClusterUnavailable, ClusterLost."""
        if not ray.is_initialized():
            raise ClusterUnavailable("no Ray cluster: enter cluster.ray_session.ray_session first")
        if device == "cuda" and not _cards():
            raise ClusterUnavailable(
                "device cuda: no node of the cluster has a card; start Ray there with the cuda "
                "extra installed (it finds cards itself, or ray start --num-gpus=1), or use "
                "--device cpu, which gives the same result"
            )
        if device == AUTO and not _cards():
            say("device auto: searching on the CPU, no node of the cluster has a card")
            device = CPU
        self._device, self._say, self._said = device, say, set[str]()
        self._card_workers: CardWorkers | None = None
        self._left, self._used = False, 0
        self._build = build()
        self._smallest_ns = smallest_ns
        self._shelf = Shelf()
        self._warm = self._welcome()
        self._local = LocalExecutor(Cpu(threads or _cores_here()).threads())

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops the shared arrays and ends the driver's threads; the cluster stays."""
        self._end_card_workers()
        self._shelf.clear()
        self._local.close()

    @property
    def workers(self) -> int:
        """Cores of the cluster as it is now; nodes may come and go."""
        return max(1, int(ray.cluster_resources().get("CPU", 0)))

    @property
    def device(self) -> str:
        """What has searched the last job: "cpu", or so many cards of the cluster."""
        return f"cuda ({self._used} of the cluster)" if self._used else CPU

    @property
    def shared(self) -> Shelf:
        """The arrays that are in the object store, with counters."""
        return self._shelf

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Runs `work` over `items` on the driver's threads; the first error is raised."""
        self._local.each(work, items)

    @contextmanager
    def job(self, check: Callable[[], None]) -> Iterator[None]:
        """Workers that have a card keep it, and what lies on it, until the job ends."""
        self._left, self._used = False, 0
        try:
            yield
        finally:
            self._end_card_workers()

    def _end_card_workers(self) -> None:
        if self._card_workers is not None:
            with suppress(RayError):  # a cluster that is gone has taken them along
                self._card_workers.end()
            self._card_workers = None

    def fold(
        self, stage: Any, query: Query[P], spans: Sequence[Span], meter: Meter, control: Control,
        sink: Sink | None = None,
    ) -> P:  # fmt: skip
        """Merged parts of `query` over `spans`.

        Raises: Cancelled with no task left behind; ClusterMemory, ClusterLost, ForeignNode; and
        whatever a part raised. With device cuda CardMemory and DeviceUnavailable.
        """
        each_ns = query.nanoseconds(stage)
        small = sum(stop - start for start, stop in spans) * each_ns < self._smallest_ns
        on_cards = self._serves(stage, query)
        if not spans or (small and not (on_cards and self._device != AUTO)):
            return self._local.fold(stage, query, spans, meter, control, sink)
        control.check(stage.name)
        problem = self._shelf.problem(stage, query, _room_bytes())
        key = recall_key()
        slots = PENDING_PER_CORE * (_cards() if on_cards else self.workers)
        work = Work(Batches(spans, each_ns * 1e-9, slots))
        merged: list[P] = []
        try:
            while True:
                cards = self._cards_there(work) if on_cards else None
                on_cards = cards is not None
                room = PENDING_PER_CORE * (self.workers if cards is None else cards.count)
                while len(work.pending) < room and (batch := work.take()):
                    work.pending[self._submitted(cards, problem, key, batch, work)] = batch
                if room and not work.pending:
                    break
                for reference, answer in self._answers(work, cards):
                    positions = sum(stop - start for start, stop in work.pending.pop(reference))
                    work.batches.learn(positions, answer.seconds)
                    if sink is not None:
                        for block in answer.columns:
                            sink(block)
                    merged = [query.merge([*merged, answer.part])]
                    meter.add(positions * stage.units_per_position)
                control.check(stage.name)
        finally:
            _take_back(list(work.pending), key)
        return merged[0] if merged else query.merge([])

    def _serves(self, stage: Any, query: Any) -> bool:
        """Whether cards are to search `stage`."""
        if self._device == CPU or self._left or not query.searches:
            return False
        from compute.cuda.stages import served

        return served(stage)

    def _cards_there(self, work: Work) -> CardWorkers | None:
        """The workers with a card, after a moment where none is there yet; None for cores.

        Raises: DeviceUnavailable where none ever will be and a card was asked for.
        """
        if self._left:
            return None
        if self._card_workers is None:
            self._card_workers = CardWorkers(_cards())
        cards = self._card_workers
        cards.settle(0 if cards.count or work.pending else _POLL_SECONDS)
        for reason in cards.unusable:
            if reason not in self._said:
                self._said.add(reason)
                if cards.hopeful:
                    self._say(f"device {self._device}: a card is not used, {reason}")
        if cards.count or (cards.hopeful and _cards()):
            return cards
        reason = cards.unusable[-1] if cards.unusable else "no node of the cluster has a card left"
        if self._device != AUTO:
            raise DeviceUnavailable(
                f"device cuda: {reason}; or use --device cpu, which gives the same result",
                details={"error": "device_unavailable", "reason": reason},
            )
        self._leave_cards(work, reason)
        return None

    def _leave_cards(self, work: Work, reason: str) -> None:
        """Goes on with cores to the end of the job."""
        self._say(f"device auto: going on with the CPU, {reason}")
        self._left = True
        self._end_card_workers()
        work.again(list(work.pending))

    def _answers(
        self, work: Work, cards: CardWorkers | None
    ) -> Iterator[tuple[ray.ObjectRef[Reduced], Reduced]]:
        """What has come back, soon; spans whose worker lost its card are to be sent again."""
        for reference in _finished(work.pending):
            if reference not in work.pending:
                continue  # sent again, with all that was on its card
            if cards is None:
                yield reference, _answer(reference)
                continue
            try:
                answer = _answer(reference)
            except (ClusterLost, CardMemory) as error:
                if isinstance(error, ClusterLost) and cards.replace(reference):
                    work.again([reference])
                elif self._device == AUTO:
                    self._leave_cards(work, error.message)
                else:
                    raise
                continue
            cards.answered(reference)
            self._used = max(self._used, min(len(cards.used), _cards()))
            yield reference, answer

    def _submitted(
        self, cards: CardWorkers | None, problem: Problem, key: bytes, batch: Sequence[Span],
        work: Work,
    ) -> ray.ObjectRef[Reduced]:  # fmt: skip
        name = f"spans {batch[0][0]}-{batch[-1][1]}"
        if cards is not None:
            return cards.submitted(name, problem, self._build, key, batch, work.pending)
        return _reduced.options(name=name).remote(
            problem.pickled, self._build, key, batch, *problem.arrays
        )

    def _welcome(self) -> list[ray.ObjectRef[str | None]]:
        """Starts a worker per core, without waiting; other nodes must first show their builds."""
        here = ray.get_runtime_context().get_node_id()
        others = [node for node in _nodes() if node["NodeID"] != here]
        asked = [
            _warm.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(self._build)
            for node in others
        ]
        starting = [_warm.remote(self._build) for _ in range(self.workers)]
        ready, late = (
            ray.wait(asked, num_returns=len(asked), timeout=_ACCEPT_SECONDS) if asked else ([], [])
        )
        for reference in ready:
            if refusal := _answer(reference):
                raise ForeignNode(refusal)
        if late:
            raise ClusterLost(
                f"{len(late)} of {len(others)} other nodes started no worker within "
                f"{_ACCEPT_SECONDS:.0f} s; look at `ray status`, or stop the nodes that hang"
            )
        return starting


def _nodes() -> list[dict[str, Any]]:
    """Living nodes that take tasks."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def _cards() -> int:
    """Cards of the cluster as it is now."""
    return int(ray.cluster_resources().get("GPU", 0))


def _cores_here() -> int | None:
    """Cores of the node that the driver runs on; None where it lends none."""
    here = ray.get_runtime_context().get_node_id()
    for node in _nodes():
        if node["NodeID"] == here:
            return int(node["Resources"]["CPU"])
    return None


def _room_bytes() -> int:
    """Bytes a stage may take in the smallest object store. Raises: ClusterLost without a node."""
    rooms = [node["Resources"].get("object_store_memory", 0) for node in _nodes()]
    if not rooms:
        raise ClusterLost("no node of the cluster takes tasks any more; look at `ray status`")
    return int(_STORE_SHARE * min(rooms))


def _finished(
    pending: dict[ray.ObjectRef[Reduced], Sequence[Span]],
) -> list[ray.ObjectRef[Reduced]]:
    """Tasks that have ended, as soon as one has; none after a tenth of a second."""
    if not pending:
        return []
    done, waiting = ray.wait(list(pending), num_returns=1, timeout=_POLL_SECONDS)
    if done and waiting:
        done += ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]
    return done


def _take_back(references: list[ray.ObjectRef[Any]], key: bytes) -> None:
    """Recalls tasks and waits until they are gone: running ones stop at their next block."""
    if not references:
        return
    with suppress(RayError):  # a head that is gone has taken its tasks along
        recall(key)
    gone, late = ray.wait(references, num_returns=len(references), timeout=_RECALL_SECONDS)
    for reference in gone:
        with suppress(Exception):  # looked at, or Ray would print it
            ray.get(reference)
    if not late:
        with suppress(RayError):
            forget(key)


def _answer(reference: ray.ObjectRef[Any]) -> Any:
    """The result of a task; its own error where it raised one, a typed one where Ray did."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RoehubError):
            raise cause from None
        if isinstance(cause, MemoryError):
            raise _out_of_memory(str(cause)) from None
        if isinstance(cause, RayError):
            raise _typed(cause) from None
        if isinstance(cause, Exception):
            cause.add_note(f"in a worker process:\n{error}")
            raise cause from None
        raise
    except RayError as error:
        raise _typed(error) from None


def _typed(error: RayError) -> RoehubError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, OutOfMemoryError):
        return _out_of_memory(reason)
    if isinstance(error, ObjectStoreFullError | OutOfDiskError):
        return ClusterMemory(
            f"the object store of a node is full ({reason}); enlarge /dev/shm there (docker: "
            "--shm-size), or work in smaller blocks by a lower --memory-bytes"
        )
    if isinstance(
        error, NodeDiedError | WorkerCrashedError | ObjectLostError | RaySystemError | RayActorError
    ):
        return ClusterLost(
            f"a task was lost {_MAX_RETRIES + 1} times with its worker process or node ({reason}); "
            "look at `ray status` and at memory on the nodes, or run with --executor local"
        )
    return ClusterLost(f"Ray failed: {type(error).__name__}: {reason}")


def _out_of_memory(reason: str) -> ClusterMemory:
    return ClusterMemory(
        f"workers ran out of memory ({reason}); lower --memory-bytes, so that the plan works in "
        "smaller blocks, or give fewer cores (--threads, or --num-cpus of the node)"
    )
