"""What searches: the processor, or a CUDA card where there is one and somebody asked for it.

Nothing of CUDA is imported before a card is asked for. What a machine has is `Facts`, found in one
place; what they mean is a pure function of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from compute.errors import InvalidInput
from compute.quantities import size_text
from compute.settings import DEVICES

if TYPE_CHECKING:
    from compute.executor import Executor

CPU, AUTO = "cpu", "auto"
EXTRA = "pip install -e '.[cuda]' in the checkout"
LEAST_CAPABILITY = (7, 5)
"""The oldest cards that CUDA 13 compiles for."""


class DeviceUnavailable(InvalidInput):
    """A card was asked for and none can be used; the message says why, and what helps."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine has of CUDA. Versions as CUDA counts them: 13020 is 13.2, 0 is none.

    `simulated` says that Numba simulates a card (NUMBA_ENABLE_CUDASIM=1). `count` are the cards
    that the driver shows; the other fields tell of the first of them.
    """

    simulated: bool = False
    missing: tuple[str, ...] = ()
    driver: int = 0
    runtime: int = 0
    count: int = 0
    name: str = ""
    capability: tuple[int, int] = (0, 0)
    total_bytes: int = 0
    free_bytes: int = 0
    error: str = ""

    @property
    def text(self) -> str:
        """The card in one line."""
        if self.simulated:
            return "simulated by Numba (NUMBA_ENABLE_CUDASIM=1), for proofs: it is slow"
        several = f", the first of {self.count} cards" if self.count > 1 else ""
        return (
            f"{self.name}, compute capability {_dotted(self.capability)}, "
            f"{size_text(self.free_bytes)} free of {size_text(self.total_bytes)}, driver for CUDA "
            f"{_version(self.driver)}, toolkit {_version(self.runtime)}{several}"
        )


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why no card can be used, and what would help."""

    reason: str
    cure: str


Probe = Callable[[], Facts]


def facts() -> Facts:
    """The `Facts` of this machine; a card that is found gets a context of this process."""
    from numba import config

    if config.ENABLE_CUDASIM:  # type: ignore[attr-defined]
        return Facts(simulated=True, count=1, name="simulator")
    missing = tuple(name for name in ("cupy", "numba_cuda") if not importlib.util.find_spec(name))
    if missing:
        return Facts(missing=missing)
    found: dict[str, Any] = {}
    try:
        runtime = import_module("cupy").cuda.runtime
        found["driver"], found["runtime"] = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        found["count"] = runtime.getDeviceCount()
        card = runtime.getDeviceProperties(0)
        found["name"] = card["name"].decode()
        found["capability"] = (card["major"], card["minor"])
        found["free_bytes"], found["total_bytes"] = runtime.memGetInfo()
    except Exception as error:  # CuPy's own type cannot be named without it, nor a broken import's
        found["error"] = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return Facts(**found)


def unusable(found: Facts) -> Unusable | None:
    """Why a card cannot be used; None where it can."""
    if found.simulated:
        return None
    if found.missing:
        names = " and ".join({"cupy": "CuPy", "numba_cuda": "numba-cuda"}[n] for n in found.missing)
        return Unusable(
            f"{names} {'are' if len(found.missing) > 1 else 'is'} not installed",
            f"install the cuda extra: {EXTRA}",
        )
    if found.driver == 0:
        return Unusable(
            "no NVIDIA driver answers",
            "install the driver of the card, and in a container give it (docker: --gpus all)",
        )
    if found.driver // 1000 < found.runtime // 1000:
        return Unusable(
            f"the driver is too old: it serves CUDA {_version(found.driver)}, the installed "
            f"packages need {_version(found.runtime)}",
            f"update the driver to one for CUDA {found.runtime // 1000}, or install packages for "
            f"CUDA {found.driver // 1000} (cupy-cuda{found.driver // 1000}x and "
            f"numba-cuda[cu{found.driver // 1000}])",
        )
    if found.count == 0:
        return Unusable(
            "the driver shows no card" + (f" ({found.error})" if found.error else ""),
            "look at nvidia-smi and CUDA_VISIBLE_DEVICES",
        )
    if found.error:
        return Unusable(f"the card does not answer ({found.error})", "look at nvidia-smi")
    if found.capability < LEAST_CAPABILITY:
        return Unusable(
            f"{found.name} has compute capability {_dotted(found.capability)}, "
            f"{_dotted(LEAST_CAPABILITY)} is the least",
            "use a card of the Turing generation or a later one",
        )
    return None


def card_wanted(
    wanted: str, say: Callable[[str], None], probe: Probe | None = None
) -> Facts | None:
    """The card to search on, None for the processor; `auto` says once why it takes that.

    Raises: DeviceUnavailable where `cuda` was asked for in vain.
    """
    if wanted not in DEVICES:
        raise InvalidInput(f"device must be one of {', '.join(DEVICES)}, got {wanted!r}")
    if wanted == CPU:
        return None
    found = (probe or facts)()
    lacking = unusable(found)
    if lacking is None:
        return found
    if wanted == "cuda":
        raise DeviceUnavailable(
            f"device cuda: {lacking.reason}; {lacking.cure}, or use --device cpu, which gives the "
            "same result",
            details={"error": "device_unavailable", "reason": lacking.reason},
        )
    say(f"device auto: searching on the CPU, {lacking.reason} (`roehub doctor` says what helps)")
    return None


def on_device(
    executor: Executor,
    card: Facts | None,
    *,
    waits: bool = True,
    say: Callable[[str], None] | None = None,
) -> Executor:
    """`executor`, whose searches run on `card` where there is one.

    A job waits for a card that others hold, or it searches on the processor unless it `waits`.
    One that finds no room there does so as well where `say` hears why, or it is refused.
    """
    if card is None:
        return executor
    from compute.cuda.card import card_here
    from compute.cuda.executor import CudaExecutor

    return CudaExecutor(executor, card_here(), waits=waits, say=say)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
