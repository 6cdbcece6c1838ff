"""The executor that a command asked for: threads of this process or Ray, a card where one searches.

What cannot be had is refused before a cluster is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from cluster import inputs

if TYPE_CHECKING:
    from compute.executor import Executor


@contextmanager
def opened(
    kind: Literal["ray", "local"],
    address: str | None,
    threads: int | None,
    device: str | None,
    say: Callable[[str], None],
) -> Iterator[Executor]:
    """Threads of this process, a Ray cluster started for the occasion, or one that runs already.

    `device` and `threads` are flags, None for the settings; `say` hears why no card is taken.
    Raises: DeviceUnavailable, ClusterUnavailable.
    """
    from compute.device import AUTO, CPU, card_wanted, on_device

    workers, wanted = inputs.threads(threads), inputs.device(device)
    # The cards of a cluster that runs already are those of its nodes, not of this machine.
    card = None if address else card_wanted(wanted, say)
    if kind == "local":
        from compute.executor import LocalExecutor

        with LocalExecutor(workers) as pool:
            yield on_device(pool, card, say=say if wanted == AUTO else None)
        return
    from cluster.ray_executor import RayExecutor
    from cluster.ray_session import ray_session

    if address is None and card is None:
        wanted = CPU
    with (
        ray_session(address, workers, num_gpus=card and card.count),
        RayExecutor(threads, device=wanted, say=say) as pool,
    ):
        yield pool
