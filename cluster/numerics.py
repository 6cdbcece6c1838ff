"""What decides the last bit of a result: versions, processor, and the engine's own text."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import compute.errors

_ENGINE = Path(compute.errors.__file__).parent


@dataclass(frozen=True, slots=True)
class Build:
    """Two processes give equal results where both fields are equal.

    `numerics` names NumPy, Numba, llvmlite and the processor's architecture, `engine` is a digest
    of the package `compute`.
    """

    numerics: str
    engine: str


@cache
def numerics_id() -> str:
    """Libraries and architecture that compiled arithmetic depends on, readable."""
    names = ("numpy", "numba", "llvmlite")
    return ", ".join([*(f"{name} {version(name)}" for name in names), platform.machine()])


@cache
def engine_digest() -> str:
    """Sixteen hex digits over the Python files of `compute`."""
    digest = hashlib.sha256()
    for path in sorted(_ENGINE.rglob("*.py")):
        digest.update(path.relative_to(_ENGINE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def build() -> Build:
    """The `Build` of this process."""
    return Build(numerics_id(), engine_digest())


def difference(here: Build, there: Build, where: str) -> str | None:
    """Why results of `where` would not be the driver's, in one sentence; None where they would."""
    if here.numerics != there.numerics:
        return (
            f"{where} computes with {there.numerics}, the driver with {here.numerics}; results are "
            "equal only where these are: install requirements.txt on every node, on one processor "
            "architecture, or leave that node out of the cluster"
        )
    if here.engine != there.engine:
        return (
            f"{where} has another version of the engine ({there.engine}, the driver "
            f"{here.engine}); install the same version on every node and restart Ray there"
        )
    return None
