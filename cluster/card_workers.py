"""Worker processes that have a card each, for as long as one back-test.

Ray ends a process with its first task that had a card. A context, compiled kernels and planes would
be made anew every half second: so cards are searched on by actors. Ray's own restarts are not used:
an actor without a card to restart on would keep its calls for ever. Calls go to actors that have
their card, and again to others when those die.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from cluster.numerics import Build
from cluster.recall import checker
from cluster.shelf import Problem
from cluster.tasks import Reduced, loaded, reduced_spans
from compute.errors import Cancelled
from compute.executor import Span

RESTARTS = 3
"""Workers of a job that may die and be replaced."""


class CardWorker:
    """A process with a card, which it holds from its first spans to its end."""

    def __init__(self) -> None:
        self._known: dict[str, NDArray[np.generic]] = {}

    def ready(self) -> str | None:
        """Opens the card; why it cannot be used, None where it can."""
        from compute.cuda.card import card_here
        from compute.cuda.residence import Residence
        from compute.device import facts, unusable

        lacking = unusable(facts())
        if lacking is not None:
            return f"node {ray.util.get_node_ip_address()}: {lacking.reason}; {lacking.cure}"
        self._residence = Residence(card_here())
        return None

    def reduced(
        self, problem: bytes, driver: Build, key: bytes, spans: Sequence[Span],
        names: Sequence[str], *arrays: NDArray[np.generic],
    ) -> Reduced | None:  # fmt: skip
        """As `cluster.tasks.reduced`; arrays of names that came before are on the card already.

        Raises: CardMemory as well.
        """
        from compute.cuda.executor import on_card

        # Every call maps the objects of the store anew: what is known by its name stays the same.
        self._known = {
            name: self._known.get(name, array) for name, array in zip(names, arrays, strict=True)
        }
        stage, query = loaded(problem, driver, list(self._known.values()))
        check = checker(key, stage.name)
        try:
            placed = on_card(stage, self._residence, spans, _in_turn, check)
            return reduced_spans(placed, query, spans, check)
        except Cancelled:
            return None


def _in_turn(work: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        work(item)


# No core of its own: a machine of one core has none to lend for a whole job.
card_worker: Any = ray.remote(num_cpus=0, num_gpus=1)(CardWorker)


class CardWorkers:
    """Workers of one job, as many as the cluster has cards; each takes calls in their order.

    One whose card somebody else holds waits for it, and nothing waits with it: calls go to those
    that are there. `unusable` says why others never will be, `used` are those that have answered.
    """

    def __init__(self, count: int) -> None:
        self._deaths = self._next = 0
        self._starting: dict[Any, tuple[int, Any]] = {}
        self._there: dict[int, Any] = {}
        self._of: dict[Any, int] = {}
        self.unusable: list[str] = []
        self.used: set[int] = set()
        for _ in range(max(1, count)):
            self._start()

    def _start(self) -> None:
        worker = card_worker.remote()
        self._starting[worker.ready.remote()] = (self._next, worker)
        self._next += 1

    @property
    def count(self) -> int:
        """Workers that have their card."""
        return len(self._there)

    @property
    def hopeful(self) -> bool:
        """Whether some have a card or may still get one."""
        return bool(self._there or self._starting)

    def settle(self, seconds: float) -> None:
        """Waits at most `seconds` for a worker that has its card by now, or cannot use it."""
        if not self._starting:
            return
        done, _ = ray.wait(list(self._starting), num_returns=1, timeout=seconds)
        for reference in done:
            number, worker = self._starting.pop(reference)
            try:
                reason = ray.get(reference)
            except RayError as error:
                reason = f"a worker with a card did not start ({str(error).strip()[:200]})"
            if reason is None:
                self._there[number] = worker
            else:
                self.unusable.append(reason)
                ray.kill(worker)

    def submitted(
        self, name: str, problem: Problem, build: Build, key: bytes, spans: Sequence[Span],
        pending: Collection[Any],
    ) -> Any:  # fmt: skip
        """Sends spans to the worker, of those that are there, with least of what is `pending`."""
        self._of = {reference: i for reference, i in self._of.items() if reference in pending}
        waiting = Counter(self._of.values())
        i = min(self._there, key=lambda i: waiting[i])
        names = [reference.hex() for reference in problem.arrays]
        reference = (
            self._there[i]
            .reduced.options(name=name)
            .remote(problem.pickled, build, key, spans, names, *problem.arrays)
        )
        self._of[reference] = i
        return reference

    def answered(self, reference: Any) -> None:
        """Notes who answered."""
        self.used.add(self._of[reference])

    def replace(self, reference: Any) -> bool:
        """Starts another worker for the one that died over a call; False after too many."""
        worker = self._there.pop(self._of[reference], None)
        if worker is not None:  # else another of its calls has told already
            self._deaths += 1
            ray.kill(worker)
            self._start()
        return self._deaths <= RESTARTS

    def end(self) -> None:
        """Ends the processes: their cards are free for others, and empty."""
        for worker in [*self._there.values(), *(worker for _, worker in self._starting.values())]:
            ray.kill(worker)
        self._there, self._starting = {}, {}
